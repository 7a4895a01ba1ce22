# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""The states of a key and the moves between them: NIST SP 800-57 part 1 rev. 5, section 7 (figure 3, transitions 2 to 15)."""

from __future__ import annotations

PRE_ACTIVE, ACTIVE, SUSPENDED, DEACTIVATED, COMPROMISED, DESTROYED = (
    "pre-active",
    "active",
    "suspended",
    "deactivated",
    "compromised",
    "destroyed",
)
STATES = (PRE_ACTIVE, ACTIVE, SUSPENDED, DEACTIVATED, COMPROMISED, DESTROYED)

LEGAL_MOVES = {
    PRE_ACTIVE: (ACTIVE, COMPROMISED, DESTROYED),
    ACTIVE: (SUSPENDED, DEACTIVATED, COMPROMISED, DESTROYED),
    SUSPENDED: (ACTIVE, DEACTIVATED, COMPROMISED, DESTROYED),
    DEACTIVATED: (COMPROMISED, DESTROYED),
    COMPROMISED: (DESTROYED,),
    DESTROYED: (),
}

# A key in one of these is not coming back: another one takes its place.
RETIRED = (DEACTIVATED, COMPROMISED, DESTROYED)


def move_problem(before: str, after: str) -> str | None:
    """Why a key may not go from one state to another, with the moves it may make; None where it may, or stays."""
    if before == after or after in LEGAL_MOVES[before]:
        return None
    legal = ", ".join(LEGAL_MOVES[before])
    return f"is {before} and cannot become {after} (NIST SP 800-57 part 1, section 7); from {before} it can become: {legal or 'nothing'}"
