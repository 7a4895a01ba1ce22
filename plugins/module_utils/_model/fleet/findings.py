# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""What the fleet report finds: of each kind how bad it is, what it is called, and what to do."""

from __future__ import annotations

from dataclasses import dataclass

BAD, WARN, NOTE = "bad", "warn", "note"


@dataclass(frozen=True)
class Kind:
    """``tone``: BAD is broken or over, WARN is due, NOTE is a difference that somebody should look at."""

    tone: str
    title: str
    advice: str


# The most urgent first: the page and the JSON have them in this order.
KINDS = {
    "unreachable": Kind(BAD, "Hosts that cannot be reached", "Look at network, SSH and sudo. Nothing is known of these hosts today."),
    "not_looked": Kind(BAD, "Hosts that could not be looked at", "The error names the way out. Nothing is known of these hosts today."),
    "pin": Kind(BAD, "PINs that are refused, or whose count is low", "Find out which PIN is right before anybody tries again."),
    "token": Kind(BAD, "Tokens that cannot be used", "Look at the device and its library. The error names the way out."),
    "certificate_ended": Kind(BAD, "Certificates that have ended", "Have the request signed, and run site."),
    "missing": Kind(BAD, "Recorded keys that no HSM has", "Find out who destroyed them. hsm_key forgets or makes anew, by name."),
    "exchanged": Kind(
        BAD, "Keys that are others than recorded", "Another key has the name. Find out who made it before anything is repaired."
    ),
    "not_covered": Kind(
        BAD, "Keys on which members of a group disagree", "hsm_sync with repair: wrap copies those that may leave their HSM."
    ),
    "rotation_overdue": Kind(BAD, "Rotations that are overdue", "Run site: max_age makes the next generation."),
    "certificate_due": Kind(WARN, "Certificates that end soon", "Run site: it writes the request. Have it signed."),
    "rotation_due": Kind(WARN, "Rotations that are due soon", "Site rotates in the first run after the day. Tell who uses the keys."),
    "not_compared": Kind(WARN, "What could not be compared", "Repair what is above first. The error names the way out."),
    "declaration": Kind(WARN, "Declarations with mistakes", "Correct the inventory. Site refuses to run with it."),
    "weak": Kind(
        WARN, "Keys that may wrap and decrypt", "Take one of the two operations away, or replace what is extractable beside them."
    ),
    "absent": Kind(NOTE, "Declared, and not there", "Run site with --check --diff to see what it would make."),
    "undeclared": Kind(NOTE, "Registered, and not declared", "Declare it, or remove it with state: absent."),
    "unrecorded": Kind(NOTE, "Keys in HSMs that nobody has recorded", "Find out who made them. Site records them (hsm_sync)."),
    "differs": Kind(NOTE, "Keys that differ from their record", "hsm_key puts the HSM right, hsm_sync with refresh the record."),
}


@dataclass(frozen=True, order=True)
class Finding:
    """One thing on one host. ``what`` names it, ``text`` says what is the matter; both may be empty."""

    kind: str
    host: str
    what: str = ""
    text: str = ""

    @property
    def tone(self) -> str:
        return KINDS[self.kind].tone
