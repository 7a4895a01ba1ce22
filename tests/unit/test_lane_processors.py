# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which processors a lane of the gate gets, and that what it starts has them, too."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[2] / "tools/lane_processors.py"


@pytest.mark.parametrize(
    ("processors", "first", "second"),
    [({0}, {0}, {0}), ({0, 1}, {0}, {1}), ({0, 1, 2}, {0}, {1, 2}), ({2, 3, 5, 7}, {2, 3}, {5, 7})],
)
def test_halves(processors: set[int], first: set[int], second: set[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(TOOL.parent)
    from lane_processors import part

    assert [part(processors, name) for name in ("first", "second", "all")] == [first, second, processors]


def test_what_a_lane_starts_has_its_part_in_long_slices() -> None:
    started = "import os; print(os.sched_getscheduler(0), *os.sched_getaffinity(0))"
    starts = f"import subprocess, sys; input(); subprocess.run([sys.executable, '-c', {started!r}])"
    lane = subprocess.Popen([sys.executable, "-c", starts], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    subprocess.run([sys.executable, TOOL, str(lane.pid), "first"], check=True)
    said, _nothing = lane.communicate("\n")
    own = sorted(os.sched_getaffinity(0))
    assert [int(number) for number in said.split()] == [os.SCHED_BATCH, *(own[: len(own) // 2] or own)]
