# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs the command that it is given and prints what it cost: the peak of its memory in KiB, seconds of CPU time, seconds.

The command's output goes to standard error.

A process of its own for each measurement: what a process used before it became the command counts for it, so the one that
starts it must be small.
"""

import resource
import subprocess
import sys
import time

begun = time.perf_counter()
code = subprocess.run(sys.argv[1:], stdout=sys.stderr, check=False).returncode
seconds = time.perf_counter() - begun
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_maxrss, used.ru_utime + used.ru_stime, seconds)
sys.exit(code)
