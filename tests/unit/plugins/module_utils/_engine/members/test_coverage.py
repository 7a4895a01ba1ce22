# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What of a group's gaps is told, and what fails a run."""

from __future__ import annotations

import pytest
from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.members.coverage import Gap, judge

RENAMED = Gap("pan-3", "2 (b)", "has {} under another name")

LACKS, FIXED = Gap("pan-1", "2 (b)", "lacks {}"), Gap("dek-1", "2 (b)", "lacks {}, which cannot be copied", closable=False)
MORE, OTHER = Gap("pan-2", "2 (b)", "lacks {}"), Gap("pan-1", "3 (c)", "has another key under the name {}")
UNREAD = [{"priority": 3, "instance": "c"}]
# What can be done about each kind, and only about those that there are.
COPY = "Copy what a member lacks with repair: wrap."
WHICH = "Of two keys under one name, find out which one is the group's, and rename or destroy the other in its HSM."
NAME = "Give a key that is under another name the group's CKA_LABEL and CKA_ID in its HSM."
READ = "See why a member cannot be read (unread), and run again."


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
            "group 'g' is not covered: connection 2 (b) lacks 'pan-1', 'pan-2'; connection 3 (c) has another key under the name 'pan-1'. "
            f"{COPY} {WHICH}",
            [],
        ),
        ([OTHER], [], "covered", f"group 'g' is not covered: connection 3 (c) has another key under the name 'pan-1'. {WHICH}", []),
        ([RENAMED], [], "covered", f"group 'g' is not covered: connection 2 (b) has 'pan-3' under another name. {NAME}", []),
        ([FIXED], [], "covered", None, ["group 'g': 2 (b) lacks 'dek-1', which cannot be copied."]),
        ([LACKS, FIXED], [], "reported", None, ["group 'g': 2 (b) lacks 'pan-1'; 2 (b) lacks 'dek-1', which cannot be copied."]),
        # A member that was not read has nothing for sure.
        ([], UNREAD, "covered", f"group 'g' is not covered: connection 3 (instance 'c') could not be read. {READ}", []),
        ([], UNREAD, "reported", None, []),
    ],
)
def test_what_fails_and_what_is_told(
    gaps: list[Gap], unread: list[dict[str, object]], require: str, failure: str | None, warnings: list[str]
) -> None:
    told: list[str] = []
    assert judge("g", gaps, unread, require, told.append) == failure
    assert told == warnings
