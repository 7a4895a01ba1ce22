# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.keys.states import (
    ACTIVE,
    COMPROMISED,
    DEACTIVATED,
    DESTROYED,
    PRE_ACTIVE,
    STATES,
    SUSPENDED,
    move_problem,
)

# NIST SP 800-57 part 1 rev. 5, section 7, by the numbers of its transitions.
TRANSITIONS = {
    2: (PRE_ACTIVE, DESTROYED),
    3: (PRE_ACTIVE, COMPROMISED),
    4: (PRE_ACTIVE, ACTIVE),
    5: (ACTIVE, DESTROYED),
    6: (ACTIVE, COMPROMISED),
    7: (ACTIVE, SUSPENDED),
    8: (ACTIVE, DEACTIVATED),
    9: (SUSPENDED, DESTROYED),
    10: (SUSPENDED, ACTIVE),
    11: (SUSPENDED, COMPROMISED),
    12: (SUSPENDED, DEACTIVATED),
    13: (DEACTIVATED, DESTROYED),
    14: (DEACTIVATED, COMPROMISED),
    15: (COMPROMISED, DESTROYED),
}


@pytest.mark.parametrize("before", STATES)
@pytest.mark.parametrize("after", STATES)
def test_the_moves_are_the_standards(before: str, after: str) -> None:
    legal = before == after or (before, after) in TRANSITIONS.values()
    assert (move_problem(before, after) is None) is legal


@pytest.mark.parametrize("before", STATES)
@pytest.mark.parametrize("after", STATES)
def test_an_illegal_move_names_the_legal_ones(before: str, after: str) -> None:
    text = move_problem(before, after)
    if text is None:
        return
    words = text.rsplit(": ", 1)[1].split(", ")
    assert words == ([state for state in STATES if (before, state) in TRANSITIONS.values()] or ["nothing"])
    assert before in text and after in text
