# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What of a group's gaps is told, and what fails a run."""

from __future__ import annotations

import pytest
from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.members.coverage import Gap, judge

LACKS, FIXED = Gap("pan-1", "2 (b)", "lacks {}"), Gap("dek-1", "2 (b)", "lacks {}, which cannot be copied", closable=False)
MORE, OTHER = Gap("pan-2", "2 (b)", "lacks {}"), Gap("pan-1", "3 (c)", "has another key under the name {}")
UNREAD = [{"priority": 3, "instance": "c"}]
HINT = "Copy what a member lacks with repair: wrap."


@pytest.mark.parametrize(
    ("gaps", "unread", "require", "failure", "warnings"),
    [
        ([], [], "covered", None, []),
        ([LACKS, OTHER], UNREAD, "none", None, []),
        # By member, one after the other.
        (
            [LACKS, OTHER, MORE],
            [],
            "covered",
            "group 'g' is not covered: connection 2 (b) lacks 'pan-1', 'pan-2'; connection 3 (c) has another key under the name 'pan-1'. ",
            [],
        ),
        ([FIXED], [], "covered", None, ["group 'g': 2 (b) lacks 'dek-1', which cannot be copied."]),
        ([LACKS, FIXED], [], "reported", None, ["group 'g': 2 (b) lacks 'pan-1'; 2 (b) lacks 'dek-1', which cannot be copied."]),
        # A member that was not read has nothing for sure.
        ([], UNREAD, "covered", "group 'g' is not covered: connection 3 (instance 'c') could not be read. ", []),
        ([], UNREAD, "reported", None, []),
    ],
)
def test_what_fails_and_what_is_told(
    gaps: list[Gap], unread: list[dict[str, object]], require: str, failure: str | None, warnings: list[str]
) -> None:
    told: list[str] = []
    assert judge("g", gaps, unread, require, told.append) == (f"{failure}{HINT}" if failure else None)
    assert told == warnings
