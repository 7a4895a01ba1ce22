# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""Desired keys against the keys that are there: what to do for each, and every reason not to, before any write."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import replace

from ...._model.keys.generations import split_label, stored_label
from ...._model.keys.objects import Key, KeyObject, group_keys
from ...._model.keys.spec import ABSENT, MADE, PRESENT, PUBLIC_ONLY, KeySpec
from ...._model.keys.states import ACTIVE, COMPROMISED, DEACTIVATED, DESTROYED, PRE_ACTIVE, RETIRED, SUSPENDED
from ...._model.keys.types import PUBLIC
from ...._model.plan import CHANGE, CREATE, DELETE, KEEP
from ...._model.records import VirtualKey
from .circumstances import Circumstances
from .mismatches import as_known, attribute_changes, fixed_mismatches, untold
from .plan import FORGET, RECORD, REMOVE_PRIVATE, REPLACE, KeyPlan, Refusal, Sibling, unless
from .policy import Claims, divide, elsewhere, exchanged, gave_up_private, lost, unfinished
from .record_index import RecordIndex
from .repair import plan_half, plan_unusable
from .states import not_there, plan_destroyed, plan_move, stays, with_state


def _several(spec: KeySpec, objects: Iterable[KeyObject]) -> str:
    listed = "; ".join(item.named() for item in objects)
    return (
        f"{spec.where}: several objects on the token have the label '{spec.label}': {listed}. Nothing is guessed: name the right one by "
        "id, or remove the others with the vendor's tools."
    )


def match(spec: KeySpec, candidates: list[KeyObject], keys: Mapping[int, Key]) -> Key | Refusal | None:
    """The key on the token that ``spec`` means, or None, or why that cannot be said.

    ``candidates`` are the objects with its label; ``keys`` finds the key that an object belongs to. An ``id`` narrows
    several candidates down.
    """
    found = {id(keys[item.handle]): keys[item.handle] for item in candidates}
    if spec.id_given and (spec.state not in MADE or len(found) > 1):
        narrowed = {number: key for number, key in found.items() if key.main.key_id == spec.key_id}
        # What is destroyed or taken out of use must bear both names that were given.
        found = narrowed or ({} if spec.state not in MADE else found)
    if len(found) > 1:
        return Refusal(_several(spec, candidates))
    return next(iter(found.values()), None)


def _not_destroyable(spec: KeySpec, items: Iterable[KeyObject]) -> str | None:
    for item in items:
        if item.destroyable is False:
            return f"{spec.where}: the {item.kind} key (handle {item.handle}) was made with destroyable: false and cannot be destroyed"
    return None


class Planner:
    """One pass over the token's objects; then each spec is a dictionary look-up."""

    def __init__(self, objects: Sequence[KeyObject], circumstances: Circumstances) -> None:
        self.circumstances = circumstances
        self.scope = circumstances.scope
        self.keys = {item.handle: key for key in group_keys(objects) for item in key.objects}
        self.by_label: dict[str, list[KeyObject]] = defaultdict(list)
        self.by_id: dict[bytes, list[KeyObject]] = defaultdict(list)
        for item in objects:
            # A public half may carry a name of its own (label_pk); it is no candidate for the label of its pair.
            if self.keys[item.handle].main.label == item.label:
                self.by_label[item.label].append(item)
            self.by_id[item.key_id].append(item)
        self.records = RecordIndex(self.scope, {key.name for key in self.keys.values()})
        self.claims = Claims(self.scope, circumstances.look)
        self.families: Mapping[str, Sequence[int]] = {}
        self.asked: set[str] = set()
        self.leaving: set[str] = set()

    def key_of(self, label: str) -> Key | None:
        """The one key with this label; None where there is none, or more than one."""
        found = {id(self.keys[item.handle]): self.keys[item.handle] for item in self.by_label.get(label, ())}
        return found.popitem()[1] if len(found) == 1 else None

    def plan(self, specs: Sequence[KeySpec], families: Mapping[str, Sequence[int]]) -> tuple[list[KeyPlan], list[str]]:
        """A plan for each spec, and every problem found. ``families`` are the known generations of each base label."""
        self.families = families
        self.asked = {spec.base for spec in specs}
        self.leaving = {spec.label for spec in specs if spec.state in (ABSENT, DESTROYED)}
        found = [self._planned(spec) for spec in specs]
        plans = [plan for plan in found if isinstance(plan, KeyPlan)]
        planned = {plan.spec.label for plan in plans}
        plans = [replace(plan, siblings=self._siblings(plan, planned)) if plan.spec.lead else plan for plan in plans]
        return plans, [refusal.problem for refusal in found if isinstance(refusal, Refusal)]

    def _planned(self, spec: KeySpec) -> KeyPlan | Refusal:
        ways: dict[str, Callable[[KeySpec, Key | None], KeyPlan | Refusal]] = {
            PRESENT: self._present,
            PRE_ACTIVE: self._present,
            ACTIVE: self._present,
            ABSENT: self._absent,
            DESTROYED: self._destroyed,
            SUSPENDED: self._moved,
            DEACTIVATED: self._moved,
            COMPROMISED: self._moved,
            PUBLIC_ONLY: self._public_only,
        }
        key = match(spec, self.by_label.get(spec.label, []), self.keys)
        plan = key if isinstance(key, Refusal) else ways[spec.state](spec, key)
        return plan if isinstance(plan, Refusal) else self.claims.judged(self._narrowed(plan))

    def _narrowed(self, plan: KeyPlan) -> KeyPlan:
        """What a group has narrowed on its virtual key stays so, unless other operations are declared or another key is made."""
        known, spec = plan.virtual, plan.spec
        declared = plan.operations is not None or (spec.operations is not None and spec.state in MADE)
        if known is None or self.scope.group is None or not self.scope.owns(known) or declared or plan.action == REPLACE:
            return plan
        return replace(plan, operations=known.operations)

    def _siblings(self, plan: KeyPlan, planned: Container[str]) -> tuple[Sibling, ...]:
        """The other generations that are on the token, or that the batch is about, by rising number."""
        found = []
        for number in self.families.get(plan.spec.base, ()):
            label = stored_label(plan.spec.base, number)
            key = self.key_of(label) if label not in planned else None
            known = self.records.of_key(key) if key is not None else None
            if label != plan.spec.label and (key is not None or label in planned):
                found.append(Sibling(label, number, key, known.state if known is not None else ACTIVE))
        return tuple(found)

    def _present(self, spec: KeySpec, key: Key | None) -> KeyPlan | Refusal:
        known = self.records.any_of(key) if key is not None else None
        plan = self._as_declared(spec, key, known)
        return plan if spec.state == PRESENT or isinstance(plan, Refusal) else with_state(plan, known)

    def _as_declared(self, spec: KeySpec, key: Key | None, known: VirtualKey | None) -> KeyPlan | Refusal:
        if key is None:
            return self._missing(spec)
        if known is not None and known.state in RETIRED and spec.state == PRESENT:
            return Refusal(stays(spec, known.state))
        in_group = self.scope.group is not None
        if known is not None and known.kind == PUBLIC and self.scope.owns(known) and key.private is not None and in_group:
            return Refusal(gave_up_private(spec, self.scope))
        if key.is_half:
            return self._half(spec, key, known)
        plan = self._compared(spec, key, known)
        if isinstance(plan, Refusal):
            return plan
        vouched = plan.virtual is not None and spec.label not in self.circumstances.pending
        if not vouched and plan.action in (KEEP, CHANGE) and (failure := self.circumstances.look.use(key)) is not None:
            # A key that no run has vouched for yet may be what a crash left of one: it is used once before it counts.
            return self._kept(plan_unusable(spec, key, failure, self.circumstances))
        if self.circumstances.recorded and plan.action == KEEP and not plan.mismatches and self._record_differs(plan):
            return replace(plan, action=RECORD)
        return plan

    def _missing(self, spec: KeySpec) -> KeyPlan | Refusal:
        gone = self.records.labelled(spec.label)
        if retired := next((record for record in gone if record.state in RETIRED), None):
            return Refusal(stays(spec, retired.state)) if spec.state == PRESENT else with_state(KeyPlan(spec, KEEP), retired)
        # Under a note a run of ours was at work here, and died before the new key was there.
        if gone and self.scope.group is not None and spec.label not in self.circumstances.pending:
            return Refusal(lost(spec, self.scope))
        if spec.label in self.scope.unfinished:
            return Refusal(unfinished(spec, self.scope))
        if problem := self._mistaken_neighbour(spec):
            return Refusal(problem)
        text = f"key '{spec.label}' was recorded and is not on the token any more: another key is made in its place."
        plan = KeyPlan(self._like_the_one_before(spec), CREATE, vanished=bool(gone), warnings=(text,) if gone else ())
        return unless(self._id_taken(spec), plan)

    def _half(self, spec: KeySpec, key: Key, known: VirtualKey | None) -> KeyPlan | Refusal:
        plan = self._kept(plan_half(spec, key, known, self.circumstances))
        if isinstance(plan, Refusal):
            return plan
        if plan.clear:
            return unless(self._id_taken(spec), plan)
        # The half that is there stays, so it must be what was asked for.
        division = divide(spec, attribute_changes(spec, key), self.scope)
        frozen = [change.name.lower() for change in division.changes if change.item.modifiable is False]
        mismatches = [*fixed_mismatches(spec, key, known), *division.mismatches]
        mismatches += [f"{name} differs, and the key is not modifiable" for name in frozen]
        if mismatches:
            return Refusal(f"{spec.where}: half of this key is on the token and differs: {', '.join(mismatches)}. Nothing was changed.")
        return replace(plan, changes=division.changes, operations=division.operations)

    def _like_the_one_before(self, spec: KeySpec) -> KeySpec:
        """What is not said of a new generation is as it is on the one before it, so that its users can go on with it."""
        number = spec.generation or 1
        earlier = [other for other in self.families.get(spec.base, ()) if other < number]
        if not earlier or spec.material is not None:
            return spec
        label = stored_label(spec.base, earlier[-1])
        before = self.key_of(label)
        known = self.records.any_of(before) if before is not None else self.records.elsewhere(label)
        if before is not None and not before.is_half:
            was = as_known(before, known) | {"type": before.main.type}
        elif before is None and known is not None:
            was = {"type": known.type, "size": known.size, "curve": known.curve, "operations": known.operations}
        else:
            return spec
        if was["type"] != spec.type:
            return spec
        operations = tuple(was["operations"])
        if known is not None and known.state in RETIRED:
            operations = ()  # it may have lost operations for good
        elif known is not None and self.scope.group is not None and self.scope.owns(known):
            operations = known.operations
        return replace(
            spec,
            size=spec.size or (was["size"] if spec.type in ("AES", "RSA") else None),
            curve=spec.curve or was["curve"],
            operations=spec.operations or operations or None,
        )

    def _id_taken(self, spec: KeySpec) -> str | None:
        taken = [item for item in self.by_id.get(spec.key_id, ()) if item.label != spec.label and item.label not in self.leaving]
        if not taken:
            return self.records.id_taken(spec, self.leaving)
        return f"{spec.where}.id: CKA_ID {spec.key_id.hex()} belongs to '{taken[0].label}' already ({taken[0].named()}): give another id"

    def _compared(self, spec: KeySpec, key: Key, known: VirtualKey | None) -> KeyPlan | Refusal:
        if problem := untold(spec, key, known):
            return Refusal(problem)
        mismatches = fixed_mismatches(spec, key, known)
        warnings: list[str] = []
        if spec.material is not None and not any(text.startswith("type is") for text in mismatches):
            same = self.circumstances.look.same(spec, key)
            if same is False:
                mismatches.append("it is another key than the one in source")
            elif same is None:
                warnings.append(f"key '{spec.label}' cannot be compared with its source: the token does not let its value be told.")
        if known is not None and self.scope.group is not None and (other := self._exchanged(key, known)):
            mismatches.append(other)
        division = divide(spec, [] if mismatches else attribute_changes(spec, key), self.scope)
        mismatches += division.mismatches
        frozen = [change for change in division.changes if change.item.modifiable is False]
        if frozen:
            mismatches.append(f"{frozen[0].name.lower()} differs, and the key is not modifiable")
        virtual = self.records.of_key(key) or (known if self.scope.group is not None else None)
        plan = KeyPlan(spec, KEEP, key, virtual=virtual)
        if not mismatches:
            action, told = CHANGE if division.changes else KEEP, (*warnings, *division.warnings)
            return replace(plan, action=action, changes=division.changes, operations=division.operations, warnings=told)
        if spec.on_mismatch == "keep":
            return replace(plan, mismatches=tuple(mismatches))
        if spec.on_mismatch == "replace":
            problem = self._held_back(spec) or _not_destroyable(spec, key.objects) or self._id_taken(spec) or self._refused(spec)
            return unless(problem, replace(plan, action=REPLACE))
        return Refusal(
            f"{spec.where}: a key with this label exists and differs: {', '.join(mismatches)}. Nothing was changed. Use another label, "
            "on_mismatch: keep to leave it, or on_mismatch: replace to destroy it and make another."
        )

    def _exchanged(self, key: Key, known: VirtualKey) -> str | None:
        """Whether another key stands under a recorded name. A check value is computed only where another member was recorded."""
        needed = known.token_id != self.scope.token_id and key.fingerprint is None
        return exchanged(key, known, self.circumstances.look.fingerprint(key) if needed else None)

    def _kept(self, plan: KeyPlan | Refusal) -> KeyPlan | Refusal:
        """What no dead run of ours explains stays as it is where the group does not change what is in the HSM."""
        if isinstance(plan, Refusal) or self.scope.applies_changes or not plan.clear or plan.spec.label in self.circumstances.pending:
            return plan
        return Refusal(
            f"{plan.spec.where}: what is on the token under this name would be destroyed, and group '{self.scope.group_name}' does not "
            "apply changes to the HSM (apply_changes: false)"
        )

    def _mistaken_neighbour(self, spec: KeySpec) -> str | None:
        """A key of somebody else that would count as the second generation as soon as there is a first."""
        second = stored_label(spec.base, 2)
        if spec.label != spec.base or split_label(spec.base)[1] is not None or 2 in self.families.get(spec.base, ()):
            return None
        if second not in self.by_label and second not in self.asked:
            return None
        return (
            f"{spec.where}.label: '{second}' would count as the second generation of this key once it is there: choose another label for "
            "one of them, or declare generation: 2"
        )

    def _held_back(self, spec: KeySpec) -> str | None:
        if self.scope.applies_changes:
            return None
        return (
            f"{spec.where}.on_mismatch: replace destroys the key that is there, and group '{self.scope.group_name}' does not apply "
            "changes to the HSM (apply_changes: false)"
        )

    def _refused(self, spec: KeySpec) -> str | None:
        """Why the token would not take the key that is to replace another. Known before that one is destroyed."""
        failure = self.circumstances.look.importable(spec)
        return None if failure is None else f"{spec.where}.source: {failure.message}. The key that is there was left as it is"

    def _record_differs(self, plan: KeyPlan) -> bool:
        """No record in this scope yet, or one with another id, token, generation or other operations than those that were asked for."""
        if plan.virtual is None or plan.key is None:
            return True
        if not self.scope.owns(plan.virtual):
            return self.scope.group is not None  # what a group has recorded is known to the token's own scope too
        if plan.virtual.name != plan.key.name or not self.scope.is_home(plan.virtual) or plan.virtual.generation != plan.generation:
            return True
        return plan.spec.operations is not None and plan.virtual.operations != plan.virtual_operations(plan.key.operations)

    def _absent(self, spec: KeySpec, key: Key | None) -> KeyPlan | Refusal:
        own = self.records.named(spec)
        if not spec.lead:
            own = [record for record in own if record.state != DESTROYED]  # what is told of it is not taken back by another entry
        if self.scope.group is not None:
            own = [record for record in own if self.scope.owns(record)]
            if not self.scope.applies_changes:
                key = None  # the HSM's key is out of reach of this group: only what is recorded of it goes
        if key is None:
            away = [record for record in own if not self.scope.is_here(record) and record.state != DESTROYED]
            if away and self.scope.group is not None and self.scope.applies_changes:
                return Refusal(elsewhere(spec, self.scope))
            return KeyPlan(spec, FORGET if own else KEEP, stale=tuple(own))
        plan = KeyPlan(spec, DELETE, key, virtual=self.records.any_of(key))
        if self.scope.only_own and not self.scope.owns(plan.virtual):
            text = f"key '{spec.label}' is on the token and does not belong to group '{self.scope.group_name}': it is left there."
            return KeyPlan(spec, KEEP, warnings=(text,))
        return unless(_not_destroyable(spec, key.objects), plan)

    def _destroyed(self, spec: KeySpec, key: Key | None) -> KeyPlan | Refusal:
        known = self._known(spec, key)
        if isinstance(known, Refusal):
            return known
        if self.scope.only_own and key is not None and not self.scope.owns(known):
            return Refusal(not_there(spec, "destroyed"))
        plan = plan_destroyed(spec, key, known, self.circumstances)
        return plan if isinstance(plan, Refusal) else unless(_not_destroyable(spec, key.objects if key is not None else ()), plan)

    def _moved(self, spec: KeySpec, key: Key | None) -> KeyPlan | Refusal:
        known = self._known(spec, key)
        return known if isinstance(known, Refusal) else plan_move(spec, key, known, self.circumstances)

    def _known(self, spec: KeySpec, key: Key | None) -> VirtualKey | Refusal | None:
        """The record that an entry means, or why that cannot be said."""
        if key is not None:
            return self.records.any_of(key)
        named = self.records.named(spec)
        if len(named) > 1:
            ids = ", ".join(record.key_id.hex() or "(none)" for record in named)
            return Refusal(f"{spec.where}: there are several records of '{spec.label}' (CKA_ID {ids}): name the right one by id")
        return next(iter(named), None)

    def _public_only(self, spec: KeySpec, key: Key | None) -> KeyPlan | Refusal:
        if key is None:
            return Refusal(not_there(spec, "left with its public half"))
        known = self.records.any_of(key)
        plan = KeyPlan(spec, KEEP, key, virtual=known)
        if key.secret is not None:
            return Refusal(f"{spec.where}.state: is a secret key of type {key.main.type}, which has no public half")
        if spec.type not in (None, key.main.type):
            return Refusal(f"{spec.where}.type: the key is of type {key.main.type}: give that, or leave type out")
        if key.private is not None and not self.scope.applies_changes and key.public is not None:
            # The private half stays in the HSM; the virtual key is that of the public half from now on.
            if known is not None and self.scope.owns(known) and known.kind == PUBLIC:
                return plan
            return replace(plan, action=RECORD, recorded_as=Key(public=key.public))
        if key.private is None:
            differs = self.circumstances.recorded and (known is None or known.kind != PUBLIC)
            return replace(plan, action=RECORD) if differs else plan
        if key.public is None:
            return Refusal(
                f"{spec.where}.state: the public half is not on the token ({key.private.named()}), and nothing would be left of the key. "
                "repair: true makes it again with state: present; state: absent destroys the key."
            )
        public = key.public.public_key
        belongs = self.circumstances.look.belongs(key.private, self.circumstances.look.public_value(public)) if public else False
        if not belongs:
            reason = "do not belong together" if belongs is False else "cannot be shown to belong together"
            return Refusal(f"{spec.where}.state: the two halves on the token {reason}; nothing was destroyed")
        return unless(_not_destroyable(spec, [key.private]), replace(plan, action=REMOVE_PRIVATE))
