# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""The states of a virtual key (NIST SP 800-57 part 1 rev. 5, section 7): which move an entry of ``keys:`` asks for, and whether it may."""

from __future__ import annotations

from dataclasses import replace

from ...._model.keys.generations import MAX_GENERATION, split_label
from ...._model.keys.objects import Key, KeyObject
from ...._model.keys.ranges import is_range
from ...._model.keys.spec import KeySpec
from ...._model.keys.states import ACTIVE, DEACTIVATED, DESTROYED, RETIRED, move_problem
from ...._model.plan import CHANGE, KEEP
from ...._model.records import VirtualKey
from .plan import DEACTIVATE, RECORD, SET_STATE, AttributeChange, KeyPlan, Refusal
from .unverified import judged
from .view import View

# What a key that is out of use may no longer do: it may still open and check what it protected (section 7.4).
PROTECTING = ("encrypt", "sign", "wrap", "derive", "encapsulate")


def _next(spec: KeySpec, view: View) -> str:
    """What to declare for a new key in place of one that is out of use."""
    base, number = split_label(spec.base)
    labels = {*view.labels, *(record.label for record in view.scope.records)}
    others = [other or 1 for name, other in map(split_label, labels) if name == base]
    following = max([number or 1, spec.generation or 1, *others]) + 1
    if not base or following > MAX_GENERATION or (spec.id_given and is_range(base)):
        return "declare another label for a new key"
    of = f"label: {base} with " if number is not None else ""
    without = ", without id," if spec.id_given else ""
    return f"declare {of}generation: {following}{without} for a new key"


def stays(spec: KeySpec, state: str, view: View, *, gone: bool = False) -> str:
    """Why a key that is out of use is not taken into use again by ``state: present``. ``gone``: the token does not have it."""
    not_there = "not on the token, and " if gone and state != DESTROYED else ""
    return (
        f"{spec.where}: '{spec.label}' is {not_there}{state}, and a {state} key does not become active again (NIST SP 800-57 part 1, "
        f"section 7): {_next(spec, view)}, or state: {state} to leave this one."
    )


def with_state(plan: KeyPlan, known: VirtualKey | None) -> KeyPlan | Refusal:
    """``state: active`` or ``pre-active`` on top of the plan for a key that is to be there."""
    spec = plan.spec
    if plan.makes_key:
        return replace(plan, new_state=spec.state)
    before = known.state if known is not None else ACTIVE
    if problem := move_problem(before, spec.state):
        return Refusal(f"{spec.where}.state: '{spec.label}' {problem}")
    if before == spec.state:
        return plan if known is not None else replace(plan, new_state=spec.state)
    return replace(plan, new_state=spec.state, action=SET_STATE if plan.action in (KEEP, RECORD) else plan.action)


def plan_move(spec: KeySpec, key: Key | None, view: View) -> KeyPlan | Refusal:
    """``state: suspended``, ``deactivated`` or ``compromised``. The key stays in the HSM; ``enforce`` takes operations away there."""
    scope, circumstances, known = view.scope, view.circumstances, view.known(spec, key)
    if isinstance(known, Refusal):
        return known
    plan = KeyPlan(spec, KEEP, key, virtual=known)
    action = DEACTIVATE if spec.state == DEACTIVATED else SET_STATE
    if key is None and known is None and circumstances.check_mode:
        return predicted(spec, action)
    if key is None and (known is None or not scope.owns(known) or spec.enforce):
        return Refusal(not_there(spec, spec.state))
    if key is not None and spec.type not in (None, key.main.type):
        return Refusal(f"{spec.where}.type: the key is of type {key.main.type}: give that, or leave type out")
    before = known.state if known is not None else ACTIVE
    beyond = not spec.lead and before in RETIRED and before != spec.state  # brought along by another entry, and out of use already
    if not beyond and (problem := move_problem(before, spec.state)):
        option = "state" if spec.lead else "previous"
        return Refusal(f"{spec.where}.{option}: '{spec.label}' {problem}")
    if spec.enforce and key is not None:
        if not scope.applies_changes:
            return Refusal(
                f"{spec.where}.enforce: group '{scope.group_name}' does not apply changes to the HSM (apply_changes: false): leave "
                "enforce out, or change the group first"
            )
        protecting = [(item, name, _does(item, name, view)) for item in key.objects for name in PROTECTING]
        changes = [AttributeChange(item, name.upper(), False) for item, name, does in protecting if does is not False]
        frozen = [change for change in changes if change.item.modifiable is False]
        if frozen:
            return Refusal(f"{spec.where}.enforce: the {frozen[0].item.kind} key is not modifiable, so it keeps {frozen[0].name.lower()}")
        plan = replace(plan, action=CHANGE if changes else KEEP, changes=tuple(changes))
        verified = judged(plan, [("enforce", name.upper()) for _item, name, does in protecting if does is None])
        if isinstance(verified, Refusal):
            return verified
        plan = verified
    if circumstances.recorded and not beyond and (known is None or known.state != spec.state):
        return replace(plan, action=action, new_state=spec.state)
    return plan


def _does(item: KeyObject, name: str, view: View) -> bool | None:
    """Whether a half of a key does an operation. What its token does not report is tried; what cannot be tried is not known, unless the
    registry has that it was made without."""
    has = item.has(name)
    return has if has is False or name not in item.untold else view.look.does(item, name)


def predicted(spec: KeySpec, action: str) -> KeyPlan:
    """In check mode a key that is not there may be what an earlier task of the play would make."""
    text = f"there is no key '{spec.label}' on the token. In check mode it is taken for one that an earlier task of this play would make."
    return KeyPlan(spec, action, new_state=spec.state, warnings=(text,))


def not_there(spec: KeySpec, wanted: str) -> str:
    return (
        f"{spec.where}.state: there is no key '{spec.label}' on the token, so it cannot be {wanted}. If it is gone for good, "
        "say state: absent."
    )
