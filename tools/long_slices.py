# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Give a process, and all that it starts from now on, the processor for longer at a time: SCHED_BATCH, see sched(7).

    long_slices.py PROCESS-NUMBER

Of the lanes of a gate, those that seldom wait. They start thousands of programs, which take the processor from each other as soon as one
has something to do, and each then finds the caches full of the others' memory: six plays side by side on two processors took 80 seconds of
the processor, and 62 so. The length of a slice counts from Linux 6.12 on; before that, that of the class does. Where neither can be
set, all stays as it is.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys

# Of sched_setattr(2): the C library has no function for it in Debian 12.
NUMBERS = {"x86_64": 314, "aarch64": 274}
SLICE = 20_000_000  # nanoseconds


def main(process: int) -> None:
    number = NUMBERS.get(os.uname().machine)
    if number is None:
        return
    # size, policy, flags, nice, priority, runtime, deadline, period, and the two clamps
    nice = os.getpriority(os.PRIO_PROCESS, process)
    attributes = struct.pack("=IIQiIQQQII", 56, os.SCHED_BATCH, 0, nice, 0, SLICE, 0, 0, 0, 0)
    ctypes.CDLL(None).syscall(number, process, attributes, 0)


if __name__ == "__main__":
    main(int(sys.argv[1]))
