# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""``state: present``, ``pre-active`` and ``active``: a key that is to be there as it is declared."""

from __future__ import annotations

from dataclasses import replace

from ...._model.keys.generations import split_label, stored_label
from ...._model.keys.objects import Key, describe_key
from ...._model.keys.spec import PRESENT, KeySpec
from ...._model.keys.states import RETIRED
from ...._model.keys.types import PUBLIC, UNKNOWN
from ...._model.plan import CHANGE, CREATE, KEEP, REPLACE
from ...._model.records import VirtualKey
from .ending import not_destroyable
from .mismatches import attribute_changes, fixed_mismatches
from .plan import RECORD, KeyPlan, Refusal, unless
from .policy import Division, divide, exchanged, gave_up_private, lost, unfinished, vanished
from .repair import is_unfinished, plan_half, plan_unusable
from .states import stays, with_state
from .unverified import judged, untold
from .view import View


def plan_present(spec: KeySpec, key: Key | None, view: View) -> KeyPlan | Refusal:
    known = view.records.any_of(key) if key is not None else None
    plan = _as_declared(spec, key, known, view)
    return plan if spec.state == PRESENT or isinstance(plan, Refusal) else with_state(plan, known)


def _as_declared(spec: KeySpec, key: Key | None, known: VirtualKey | None, view: View) -> KeyPlan | Refusal:
    if key is None:
        return _missing(spec, view)
    if known is not None and known.state in RETIRED and spec.state == PRESENT:
        return Refusal(stays(spec, known.state, view))
    in_group = view.scope.group is not None
    if known is not None and known.kind == PUBLIC and view.scope.owns(known) and key.private is not None and in_group:
        return Refusal(gave_up_private(spec, view.scope))
    if key.is_half:
        return _half(spec, key, known, view)
    plan = _compared(spec, key, known, view)
    if isinstance(plan, Refusal):
        return plan
    vouched = plan.virtual is not None and spec.label not in view.circumstances.pending
    if not vouched and plan.action in (KEEP, CHANGE) and (failure := view.look.use(key)) is not None:
        # A key that no run has vouched for yet may be what a crash left of one: it is used once before it counts.
        return _kept(plan_unusable(spec, key, known, failure, view.circumstances), view)
    if plan.action in (KEEP, CHANGE) and not plan.mismatches:
        plan = judged(plan, untold(spec, key))
    if isinstance(plan, Refusal):
        return plan
    if view.circumstances.recorded and plan.action == KEEP and not plan.mismatches and _record_differs(plan, view):
        return replace(plan, action=RECORD)
    return plan


def _missing(spec: KeySpec, view: View) -> KeyPlan | Refusal:
    if not spec.label:
        text = "is empty: there is no key with this id and no label on the token, and one that is to be made needs a label"
        return Refusal(f"{spec.where}.label: {text}")
    scope, gone = view.scope, view.records.labelled(spec.label)
    if retired := next((record for record in gone if record.state in RETIRED), None):
        return Refusal(stays(spec, retired.state, view, gone=True))
    if scope.group is None:
        gone = [record for record in gone if scope.is_here(record)]  # what a group has on another member is not lost here
    # Under a note a run of ours was at work here, and died before the new key was there.
    if gone and spec.on_vanished == "fail" and spec.label not in view.circumstances.pending:
        if scope.group is None:
            return Refusal(vanished(spec, gone, scope))
        if view.circumstances.on_elsewhere == "fail" or spec.material is not None:
            return Refusal(lost(spec))
    problem = unfinished(spec, scope) if spec.label in scope.unfinished else _mistaken_neighbour(spec, view) or view.id_taken(spec)
    if problem is not None:
        return Refusal(f"{spec.where}: '{spec.label}' is gone from the token. {problem}" if gone else problem)
    text = f"key '{spec.label}' was recorded and is not on the token any more: another key is made in its place."
    return KeyPlan(_like_the_one_before(spec, view), CREATE, vanished=bool(gone), warnings=(text,) if gone else ())


def _mistaken_neighbour(spec: KeySpec, view: View) -> str | None:
    """A key of somebody else that would count as the second generation as soon as there is a first."""
    second = stored_label(spec.base, 2)
    if spec.label != spec.base or split_label(spec.base)[1] is not None or 2 in view.families.get(spec.base, ()):
        return None
    if second not in view.labels and second not in view.asked:
        return None
    return (
        f"{spec.where}.label: '{second}' would count as the second generation of this key once it is there: choose another label for "
        f"one of them, or declare generation: 2{' without id' if spec.id_given else ''}"
    )


def _like_the_one_before(spec: KeySpec, view: View) -> KeySpec:
    """What is not said of a new generation is as it is on the one before it, so that its users can go on with it."""
    number = spec.generation or 1
    earlier = [other for other in view.families.get(spec.base, ()) if other < number]
    if not earlier or spec.material is not None:
        return spec
    label = stored_label(spec.base, earlier[-1])
    before = view.keys.only(label)
    known = view.records.any_of(before) if before is not None else view.records.elsewhere(label)
    if before is not None and not before.is_half:
        was = {**describe_key(view.remembered(before)), "allowed_mechanisms": before.main.allowed_mechanisms}
    elif before is None and known is not None:
        was = {name: getattr(known, name) for name in ("type", "size", "curve", "operations", "allowed_mechanisms")}
    else:
        return spec
    if was["type"] != spec.type:
        return spec
    operations = tuple(was["operations"])
    if known is not None and known.state in RETIRED:
        operations = ()  # it may have lost operations for good
    elif known is not None and view.scope.group is not None and view.scope.owns(known):
        operations = known.operations
    return replace(
        spec,
        size=spec.size or (was["size"] if len(spec.key_type.sizes) > 1 else None),
        curve=spec.curve or was["curve"],
        operations=spec.operations or operations or None,
        allowed_mechanisms=spec.allowed_mechanisms or was["allowed_mechanisms"] or None,
    )


def _half(spec: KeySpec, key: Key, known: VirtualKey | None, view: View) -> KeyPlan | Refusal:
    plan = _kept(plan_half(spec, key, known, view.circumstances), view)
    if isinstance(plan, Refusal):
        return plan
    if plan.clear:
        return unless(view.id_taken(spec), plan)
    # The half that is there stays, so it must be what was asked for.
    division = divide(spec, attribute_changes(spec, key), view.scope)
    frozen = [change.name.lower() for change in division.changes if change.item.modifiable is False]
    mismatches = [*fixed_mismatches(spec, key), *division.mismatches]
    mismatches += [f"{name} differs, and the key is not modifiable" for name in frozen]
    if mismatches:
        return Refusal(f"{spec.where}: half of this key is on the token and differs: {', '.join(mismatches)}. Nothing was changed.")
    return judged(replace(plan, changes=division.changes, operations=division.operations), untold(spec, key))


def _kept(plan: KeyPlan | Refusal, view: View) -> KeyPlan | Refusal:
    """What no dead run of ours explains stays as it is where the group does not change what is in the HSM."""
    scope = view.scope
    if isinstance(plan, Refusal) or scope.applies_changes or not plan.clear or plan.spec.label in view.circumstances.pending:
        return plan
    return Refusal(
        f"{plan.spec.where}: what is on the token under this name would be destroyed, and group '{scope.group_name}' does not apply "
        "changes to the HSM (apply_changes: false)"
    )


def _compared(spec: KeySpec, key: Key, known: VirtualKey | None, view: View) -> KeyPlan | Refusal:
    mismatches = fixed_mismatches(spec, key)
    warnings: list[str] = []
    if spec.material is not None and not any(text.startswith("type is") for text in mismatches):
        same = view.look.same(spec, key)
        if same is False:
            mismatches.append("it is another key than the one in source")
        elif same is None:
            warnings.append(f"key '{spec.label}' cannot be compared with its source: the token does not let its value be told.")
    if known is not None and view.scope.group is not None and (other := _exchanged(key, known, view)):
        mismatches.append(other)
    division = divide(spec, [] if mismatches else attribute_changes(spec, key), view.scope)
    if known is None and not mismatches and is_unfinished(spec, key, view.circumstances):
        # The token may have given it more than was asked for (_cryptoki.rungs): what is not declared counts, too, and so it is finished.
        # One that cannot be changed any more is like any other that is there.
        asked = replace(spec, operations=_like_the_one_before(spec, view).new_operations, extractable=bool(spec.extractable))
        missing = tuple(attribute_changes(asked, key))
        if not any(change.item.modifiable is False for change in missing):
            division = Division(missing)
    mismatches += division.mismatches
    frozen = [change for change in division.changes if change.item.modifiable is False]
    if frozen:
        mismatches.append(f"{frozen[0].name.lower()} differs, and the key is not modifiable")
    plan = KeyPlan(spec, KEEP, key, virtual=view.records.of_key(key) or (known if view.scope.group is not None else None))
    if not mismatches:
        action, told = CHANGE if division.changes else KEEP, (*warnings, *division.warnings)
        return replace(plan, action=action, changes=division.changes, operations=division.operations, warnings=told)
    if spec.on_mismatch == "keep":
        return replace(plan, mismatches=tuple(mismatches))
    if spec.on_mismatch == "replace":
        problem = (
            _type_untold(spec, key)
            or _held_back(spec, view)
            or not_destroyable(spec, key.objects)
            or view.id_taken(spec)
            or _refused(spec, view)
        )
        return unless(problem, replace(plan, action=REPLACE))
    return Refusal(
        f"{spec.where}: a key with this label exists and differs: {', '.join(mismatches)}. Nothing was changed. Use another label, "
        "on_mismatch: keep to leave it, or on_mismatch: replace to destroy it and make another."
    )


def _exchanged(key: Key, known: VirtualKey, view: View) -> str | None:
    """Whether another key stands under a recorded name. A check value is computed only where another member was recorded."""
    needed = known.token_id != view.scope.token_id and key.fingerprint is None
    return exchanged(key, known, view.look.fingerprint(key) if needed else None)


def _type_untold(spec: KeySpec, key: Key) -> str | None:
    """A key of which nobody can say that it differs is no key to destroy for it."""
    if all(item.type != UNKNOWN for item in key.objects):
        return None
    return (
        f"{spec.where}.on_mismatch: the token does not report CKA_KEY_TYPE of '{spec.label}', so it may be the key that was asked for, and "
        "replace would destroy it. Nothing was changed. Find out what it is, and destroy it with state: absent, or give another label"
    )


def _held_back(spec: KeySpec, view: View) -> str | None:
    if view.scope.applies_changes:
        return None
    return (
        f"{spec.where}.on_mismatch: replace destroys the key that is there, and group '{view.scope.group_name}' does not apply changes to "
        "the HSM (apply_changes: false)"
    )


def _refused(spec: KeySpec, view: View) -> str | None:
    """Why the token would not take the key that is to replace another. Known before that one is destroyed."""
    failure = view.look.importable(spec)
    option = "curve" if spec.material is None else "source"
    return None if failure is None else f"{spec.where}.{option}: {failure.message}. The key that is there was left as it is"


def _record_differs(plan: KeyPlan, view: View) -> bool:
    """No record in this scope yet, or one with another id, token, generation, or other operations or mechanisms than were asked for."""
    known, scope = plan.virtual, view.scope
    if known is None or plan.key is None:
        return True
    if not scope.owns(known):
        return scope.group is not None  # what a group has recorded is known to the token's own scope too
    if known.name != plan.key.name or not scope.is_home(known) or known.generation != plan.generation:
        return True
    if plan.spec.allowed_mechanisms is not None and plan.key.main.allowed_mechanisms not in (known.allowed_mechanisms, None):
        return True
    return plan.spec.operations is not None and known.operations != plan.virtual_operations(plan.key.operations)
