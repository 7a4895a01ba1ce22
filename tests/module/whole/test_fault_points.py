# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A sample of ``make faults``: in twenty states one call that writes and one that does not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parents[2]


def test_a_sample_of_all_points_is_without_violations() -> None:
    paths = os.pathsep.join([os.environ["PYTHONPATH"], str(TESTS), str(TESTS / "support")])
    command = [sys.executable, "-m", "faults", "--sample", "gate"]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-2].startswith("| all |"), done.stdout
