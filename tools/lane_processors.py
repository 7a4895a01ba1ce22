# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Give a process, and all that it starts from now on, its part of the processors, and these for longer at a time.

    lane_processors.py PROCESS-NUMBER first|second|all

Of the lanes of a gate. They start thousands of programs, which take the processor from each other as soon as one has something to do, and
each then finds the caches full of the others' memory: six plays side by side on two processors took 80 seconds of the processor, and
62 in SCHED_BATCH (see sched(7)) with slices of 20 ms. Behind such slices a chain of small programs, each of which waits for the next one
on a test host, would be the last by far: so those lanes have one half of the processors among themselves, and the tests the other half.

The length of a slice counts from Linux 6.12 on; before that, that of the class does. What cannot be set stays as it is.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from contextlib import suppress

# Of sched_setattr(2): the C library has no function for it in Debian 12.
NUMBERS = {"x86_64": 314, "aarch64": 274}
SLICE = 20_000_000  # nanoseconds


def take_longer(process: int) -> None:
    number = NUMBERS.get(os.uname().machine)
    if number is None:
        return
    # size, policy, flags, nice, priority, runtime, deadline, period, and the two clamps
    nice = os.getpriority(os.PRIO_PROCESS, process)
    attributes = struct.pack("=IIQiIQQQII", 56, os.SCHED_BATCH, 0, nice, 0, SLICE, 0, 0, 0, 0)
    ctypes.CDLL(None).syscall(number, process, attributes, 0)


def part(processors: list[int], name: str) -> list[int]:
    """Of two or more the first or the second half."""
    half = len(processors) // 2
    if name == "all" or not half:
        return processors
    return processors[:half] if name == "first" else processors[half:]


if __name__ == "__main__":
    lane = int(sys.argv[1])
    take_longer(lane)
    with suppress(OSError):
        os.sched_setaffinity(lane, part(sorted(os.sched_getaffinity(lane)), sys.argv[2]))
