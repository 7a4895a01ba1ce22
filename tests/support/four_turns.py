# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the four turns of a step come to: ok, told or a fault."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# Codes that no provider's limits explain.
FAULTS = ("unexpected", "probe_crashed", "probe_timeout", "CKR_GENERAL_ERROR", "CKR_DEVICE_ERROR", "CKR_CRYPTOKI_NOT_INITIALIZED")
_KEPT = ("pin_not_tried", "pin_count_low")  # no try was made
SHOWN = 220  # characters of a message


@dataclass(frozen=True)
class Verdict:
    """``what``: ok, told (refused with a code and a way out) or fault. ``why``: code and text of the answer, or what contradicts."""

    what: str
    why: str = ""


def judge(step: str, turns: Sequence[Mapping[str, Any]]) -> Verdict:
    """``turns``: the answers to check, apply, check, apply."""
    failed = [turn for turn in turns if "failure" in turn or "exception" in turn or "changed" not in turn]
    if step == "wrong_pin":
        codes = [turn.get("failure", {}).get("code") for turn in turns]
        # Check mode remembers nothing; what a token's flags say counts all the same. After a run nothing is tried.
        if set(codes[:2]) <= {"pin_incorrect", *_KEPT} and set(codes[2:]) <= set(_KEPT):
            return Verdict("ok")
        return Verdict("fault", f"the answers to a wrong PIN were {', '.join(map(str, codes))}")
    if not failed:
        changed = [bool(turn["changed"]) for turn in turns]
        if changed[0] != changed[1]:
            return Verdict("fault", f"check mode says changed: {str(changed[0]).lower()}, and the run says {str(changed[1]).lower()}")
        if any(changed[2:]):
            return Verdict("fault", "the second run changes something again")
        return Verdict("ok")
    first = failed[0]
    code = first.get("failure", {}).get("code", "no code")
    text = " ".join(str(first.get("msg", "")).split())
    why = f"`{code}`: {text[:SHOWN]}{'…' if len(text) > SHOWN else ''}"
    return Verdict("fault" if code in (*FAULTS, "no code") else "told", why)
