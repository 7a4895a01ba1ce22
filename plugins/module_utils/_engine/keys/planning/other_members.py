# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""A group never makes a second key: what is to be generated, in the light of what its other members have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ...._model.keys.spec import PRESENT, KeySpec
from ...._model.keys.states import ACTIVE, move_problem
from ...._model.plan import CREATE, KEEP
from ...._model.records import VirtualKey, virtual_of
from ...virtual_keys.identity import is_another
from .circumstances import Circumstances
from .member_answers import MemberAnswer
from .mismatches import attribute_changes, fixed_mismatches
from .plan import RECORD, REPAIR, KeyPlan, Refusal
from .policy import lost
from .unverified import judged as verified
from .unverified import remembered, untold
from .view import View


def generates(plan: KeyPlan, circumstances: Circumstances) -> bool:
    """Whether the plan makes a key that may be there already, on another member. An import brings its own value along. Under a note
    of this token the members were asked before that was written."""
    made = plan.action == CREATE or (plan.action == REPAIR and bool(plan.clear))
    return made and circumstances.scope.group is not None and plan.spec.material is None and plan.spec.label not in circumstances.pending


def judged(plan: KeyPlan, view: View) -> KeyPlan | Refusal:
    """The plan of a key that is generated, in the light of what the others have. Where nobody was asked yet, as it is."""
    spec, circumstances, others = plan.spec, view.circumstances, view.circumstances.others
    if others is None or not generates(plan, circumstances):
        return plan
    if found := others.of(spec):
        return _adopted(plan, found, view) if circumstances.on_elsewhere == "adopt" and plan.key is None else _elsewhere(spec, found)
    if plan.vanished and spec.on_vanished == "fail":
        return Refusal(lost(spec))
    if others.unreached and circumstances.on_unreachable == "fail":
        return Refusal(
            f"{spec.where}: nobody can tell whether '{spec.label}' is there already: {'; '.join(others.unreached)}. Run again when all "
            "members answer, or say on_unreachable: generate to make the key without them."
        )
    return plan


def _elsewhere(spec: KeySpec, found: Sequence[MemberAnswer]) -> Refusal:
    where = "; ".join(f"connection {answer.member}: label '{answer.key.main.label}', {answer.key.main.named()}" for answer in found)
    return Refusal(
        f"{spec.where}: '{spec.label}' is on another member of the group and not on the one that serves ({where}). Another key under its "
        "name would be a different one, so none is made. Say on_elsewhere: adopt to record that one, then copy it (hsm_sync with "
        "repair: wrap)."
    )


def _adopted(plan: KeyPlan, found: Sequence[MemberAnswer], view: View) -> KeyPlan | Refusal:
    """The plan that records the key of another member as the group's."""
    spec, first = plan.spec, found[0]
    key = first.key
    own = [record for record in view.records.labelled(spec.label) if view.scope.owns(record)]
    own = [record for record in own if record.name == key.name] or own
    known = next(iter(own), None)
    key = remembered(key, known, same_token=known is not None and known.token_id == first.token_id)
    found = [replace(first, key=key), *found[1:]]
    problem = "there are several records of it" if len(own) > 1 else _not_adoptable(spec, found, known)
    if problem is not None:
        return Refusal(f"{spec.where}: '{spec.label}' on connection {first.member} cannot be adopted: {problem}. Nothing was changed.")
    action = KEEP if own and own[0].name == key.name else RECORD
    text = f"key '{spec.label}' is on connection {first.member} and not on the one that serves: copy it (hsm_sync with repair: wrap)."
    plan = KeyPlan(spec, action, virtual=known, recorded_as=key, adopted=first, warnings=(text,))
    return verified(plan, untold(spec, key))


def _not_adoptable(spec: KeySpec, found: Sequence[MemberAnswer], known: VirtualKey | None) -> str | None:
    key = found[0].key
    if len({answer.token_id for answer in found}) != len(found) or any(answer.key.main.label != spec.label for answer in found):
        return "it is not the only key that goes by its label or its CKA_ID there"
    if key.is_half:
        return "only half of the pair is there"
    for answer in found[1:]:
        if other := is_another(answer.key, virtual_of(key, 0, ""), check_values=False, sizes=True):
            return f"connection {answer.member} has another key under its name ({other.field} {other.found})"
    if known is not None and (other := is_another(key, known, check_values=False, sizes=True)):
        return f"it is another key than the one that was recorded ({other.field} {other.found}, recorded {other.recorded})"
    differing = [*fixed_mismatches(spec, key), *(f"{change.name.lower()} differs" for change in attribute_changes(spec, key))]
    return ", ".join(differing) or (move_problem(ACTIVE, spec.state) if spec.state != PRESENT else None)
