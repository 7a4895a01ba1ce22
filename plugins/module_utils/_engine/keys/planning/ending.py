# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""What ends a key, or half of it: ``state: absent``, ``destroyed`` and ``public_only``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from ...._model.keys.objects import Key, KeyObject
from ...._model.keys.spec import KeySpec
from ...._model.keys.states import ACTIVE, DESTROYED, move_problem
from ...._model.keys.types import PUBLIC
from ...._model.plan import DELETE, KEEP
from .plan import FORGET, RECORD, REMOVE_PRIVATE, SET_STATE, KeyPlan, Refusal, unless
from .policy import elsewhere
from .states import not_there, predicted
from .view import View


def not_destroyable(spec: KeySpec, items: Iterable[KeyObject]) -> str | None:
    for item in items:
        if item.destroyable is False:
            return f"{spec.where}: the {item.kind} key (handle {item.handle}) was made with destroyable: false and cannot be destroyed"
    return None


def plan_absent(spec: KeySpec, key: Key | None, view: View) -> KeyPlan | Refusal:
    scope = view.scope
    own = [record for record in view.records.named(spec) if scope.owns(record)]
    if not spec.lead:
        own = [record for record in own if record.state != DESTROYED]  # what is told of it is not taken back by another entry
    if not scope.applies_changes:
        key = None  # the HSM's key is out of reach of this group: only what is recorded of it goes
    known = view.records.any_of(key) if key is not None else None
    stale = tuple(record for record in own if record != known)
    away = [record for record in stale if not scope.is_here(record) and record.state != DESTROYED]
    if away and scope.group is not None and scope.applies_changes:
        return Refusal(elsewhere(spec, scope))
    if key is None:
        return KeyPlan(spec, FORGET if stale else KEEP, stale=stale)
    if scope.only_own and not scope.owns(known):
        text = f"key '{spec.label}' is on the token and does not belong to group '{scope.group_name}': it is left there."
        return KeyPlan(spec, KEEP, warnings=(text,))
    return unless(not_destroyable(spec, key.objects), KeyPlan(spec, DELETE, key, virtual=known, stale=stale))


def plan_destroyed(spec: KeySpec, key: Key | None, view: View) -> KeyPlan | Refusal:
    """The key goes, its record stays."""
    scope, known = view.scope, view.known(spec, key)
    if isinstance(known, Refusal):
        return known
    if key is None:
        if known is not None and known.state == DESTROYED:
            return KeyPlan(spec, KEEP, virtual=known)
        if known is None and view.circumstances.check_mode:
            return predicted(spec, SET_STATE)
        if known is None or not scope.owns(known):
            return Refusal(not_there(spec, "destroyed"))
        if scope.group is not None and not scope.is_here(known):
            return Refusal(elsewhere(spec, scope))
    elif scope.only_own and not scope.owns(known):
        return Refusal(not_there(spec, "destroyed"))
    elif not scope.applies_changes:
        return Refusal(
            f"{spec.where}.state: group '{scope.group_name}' does not apply changes to the HSM (apply_changes: false), so the key cannot "
            "be destroyed: say absent to forget the virtual key, or change the group first"
        )
    if problem := move_problem(known.state if known is not None else ACTIVE, DESTROYED):
        return Refusal(f"{spec.where}.state: '{spec.label}' {problem}")
    plan = KeyPlan(spec, SET_STATE if key is None else DELETE, key, virtual=known, new_state=DESTROYED)
    return unless(not_destroyable(spec, key.objects if key is not None else ()), plan)


def plan_public_only(spec: KeySpec, key: Key | None, view: View) -> KeyPlan | Refusal:
    """The private half goes; in a group that does not apply changes, from the virtual key only."""
    if key is None:
        return Refusal(not_there(spec, "left with its public half"))
    scope, known = view.scope, view.records.any_of(key)
    plan = KeyPlan(spec, KEEP, key, virtual=known)
    if key.secret is not None:
        return Refusal(f"{spec.where}.state: is a secret key of type {key.main.type}, which has no public half")
    if spec.type not in (None, key.main.type):
        return Refusal(f"{spec.where}.type: the key is of type {key.main.type}: give that, or leave type out")
    if key.private is None:
        differs = view.circumstances.recorded and (known is None or known.kind != PUBLIC)
        return replace(plan, action=RECORD) if differs else plan
    if key.public is None:
        return Refusal(
            f"{spec.where}.state: the public half is not on the token ({key.private.named()}), and nothing would be left of the key. "
            "repair: true makes it again with state: present; state: absent destroys the key."
        )
    if not scope.applies_changes:
        if known is not None and scope.owns(known) and known.kind == PUBLIC:
            return plan
        return replace(plan, action=RECORD, recorded_as=Key(public=key.public))
    public = key.public.public_key
    belongs = view.look.belongs(key.private, view.look.public_value(public)) if public else False
    if not belongs:
        reason = "do not belong together" if belongs is False else "cannot be shown to belong together"
        return Refusal(f"{spec.where}.state: the two halves on the token {reason}; nothing was destroyed")
    return unless(not_destroyable(spec, [key.private]), replace(plan, action=REMOVE_PRIVATE))
