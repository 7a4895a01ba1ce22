# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Give a process, and all that it starts from now on, its part of the processors, and these for longer at a time.

    lane_processors.py PROCESS-NUMBER first|second|all
    lane_processors.py release

Of the lanes of a gate. They start thousands of programs, which take the processor from each other as soon as one has something to do, and
each then finds the caches full of the others' memory: six plays side by side on two processors took 80 seconds of the processor, and
62 in SCHED_BATCH (see sched(7)) with slices of 20 ms. Behind such slices a chain of small programs, each of which waits for the next one
on a test host, would be the last by far: so those lanes have one half of the processors among themselves, in shorter slices, and the tests
the other half. When one half has nothing left to do, what runs on the other is given both.

The length of a slice counts from Linux 6.12 on; before that, that of the class does. What cannot be set stays as it is.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from contextlib import suppress
from pathlib import Path

# Of sched_setattr(2): the C library has no function for it in Debian 12.
NUMBERS = {"x86_64": 314, "aarch64": 274}
# Nanoseconds. Where a program waits for the next one each of them waits for the slices of others.
SLICE, SHORT_SLICE = 20_000_000, 5_000_000


def take_longer(process: int, length: int) -> None:
    number = NUMBERS.get(os.uname().machine)
    if number is None:
        return
    # size, policy, flags, nice, priority, runtime, deadline, period, and the two clamps
    nice = os.getpriority(os.PRIO_PROCESS, process)
    attributes = struct.pack("=IIQiIQQQII", 56, os.SCHED_BATCH, 0, nice, 0, length, 0, 0, 0, 0)
    ctypes.CDLL(None).syscall(number, process, attributes, 0)


def part(processors: set[int], name: str) -> set[int]:
    """All, or of two or more the first or the second half."""
    half = len(processors) // 2
    ordered = sorted(processors)
    return {"first": set(ordered[:half]), "second": set(ordered[half:])}.get(name) or processors


def release(all_of_them: set[int]) -> None:
    """Those that have slices as here and one half of these processors, whoever started them: those of test hosts are no children."""
    halves = [part(all_of_them, name) for name in ("first", "second")]
    given: set[int] = set()
    found = True
    # What was forked meanwhile by one that had not been given them yet is seen then.
    while found:
        found = False
        for task in {int(folder.name) for folder in Path("/proc").glob("[0-9]*/task/[0-9]*")} - given:
            with suppress(OSError):
                if os.sched_getscheduler(task) == os.SCHED_BATCH and os.sched_getaffinity(task) in halves:
                    os.sched_setaffinity(task, all_of_them)
                    given.add(task)
                    found = True


def main(command: list[str]) -> None:
    processors = os.sched_getaffinity(0)
    if command == ["release"]:
        if len(processors) > 1:
            release(processors)
        return
    lane, name = int(command[0]), command[1]
    take_longer(lane, SHORT_SLICE if name == "first" else SLICE)
    with suppress(OSError):
        os.sched_setaffinity(lane, part(processors, name))


if __name__ == "__main__":
    main(sys.argv[1:])
