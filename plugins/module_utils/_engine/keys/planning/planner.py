# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""Desired keys against the keys that are there: what to do for each, and every reason not to, before any write."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
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
from .plan import FORGET, RECORD, REMOVE_PRIVATE, REPLACE, KeyPlan
from .policy import Claims, divide, elsewhere, exchanged, gave_up_private, lost, unfinished
from .record_index import RecordIndex
from .repair import plan_half, plan_unusable
from .states import check_destroyed, not_there, plan_move, stays, with_state


def _several(spec: KeySpec, objects: Iterable[KeyObject]) -> str:
    listed = "; ".join(item.named() for item in objects)
    return (
        f"{spec.where}: several objects on the token have the label '{spec.label}': {listed}. Nothing is guessed: name the right one by "
        "id, or remove the others with the vendor's tools."
    )


def match(spec: KeySpec, candidates: list[KeyObject], keys: Mapping[int, Key]) -> tuple[Key | None, str | None]:
    """The key on the token that ``spec`` means, or None, or the reason why that cannot be said.

    ``candidates`` are the objects with its label; ``keys`` finds the key that an object belongs to. An ``id`` narrows
    several candidates down.
    """
    found = {id(keys[item.handle]): keys[item.handle] for item in candidates}
    if spec.state not in MADE and spec.id_given:
        # What is destroyed or taken out of use must bear both names that were given.
        found = {number: key for number, key in found.items() if key.main.key_id == spec.key_id}
    elif len(found) > 1 and spec.id_given:
        narrowed = {number: key for number, key in found.items() if key.main.key_id == spec.key_id}
        found = narrowed or found
    if not found:
        return None, None
    if len(found) > 1:
        return None, _several(spec, candidates)
    return found.popitem()[1], None


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
        self.families: Mapping[str, Sequence[int]] = {}
        self.keys = {item.handle: key for key in group_keys(objects) for item in key.objects}
        self.by_label: dict[str, list[KeyObject]] = defaultdict(list)
        self.by_id: dict[bytes, list[KeyObject]] = defaultdict(list)
        for item in objects:
            # A public half may carry a name of its own (label_pk); it is no candidate for the label of its pair.
            if self.keys[item.handle].main.label == item.label:
                self.by_label[item.label].append(item)
            self.by_id[item.key_id].append(item)
        self.records = RecordIndex(self.scope, {key.name for key in self.keys.values()})
        self.leaving: set[str] = set()
        self.claims = Claims(self.scope, circumstances.look)
        self.asked: set[str] = set()

    def family(self, base: str) -> list[str]:
        """The labels of all known generations of a key, by rising number. ``families`` is set by who expands the specs."""
        return [stored_label(base, number) for number in self.families.get(base, ())]

    def key_of(self, label: str) -> Key | None:
        """The one key with this label; None where there is none, or more than one."""
        found = {id(self.keys[item.handle]): self.keys[item.handle] for item in self.by_label.get(label, ())}
        return found.popitem()[1] if len(found) == 1 else None

    def plan(self, specs: Sequence[KeySpec]) -> tuple[list[KeyPlan], list[str]]:
        """A plan for each spec, and every problem found."""
        self.asked = {spec.base for spec in specs}
        self.leaving = {spec.label for spec in specs if spec.state in (ABSENT, DESTROYED)}
        ways: dict[str, Callable[[KeySpec, Key | None], tuple[KeyPlan, str | None]]] = {
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
        plans: list[KeyPlan] = []
        problems: list[str] = []
        for spec in specs:
            key, problem = match(spec, self.by_label.get(spec.label, []), self.keys)
            if problem is None:
                plan, problem = ways[spec.state](spec, key)
                problem = problem or self.claims.problem(plan)
            if problem is not None:
                problems.append(problem)
            else:
                plans.append(plan)
        return plans, problems

    def _present(self, spec: KeySpec, key: Key | None) -> tuple[KeyPlan, str | None]:
        known = self.records.any_of(key) if key is not None else None
        plan, problem = self._as_declared(spec, key, known)
        if problem is None and spec.state != PRESENT:
            problem = with_state(plan, known)
        return plan, problem

    def _as_declared(self, spec: KeySpec, key: Key | None, known: VirtualKey | None) -> tuple[KeyPlan, str | None]:
        if key is None:
            return self._missing(spec)
        if known is not None and known.state in RETIRED and spec.state == PRESENT:
            return KeyPlan(spec, KEEP, key), stays(spec, known.state)
        if (
            known is not None
            and known.kind == PUBLIC
            and self.scope.owns(known)
            and key.private is not None
            and self.scope.group is not None
        ):
            return KeyPlan(spec, KEEP, key), gave_up_private(spec, self.scope)
        if key.is_half:
            return self._half(spec, key, known)
        plan, problem = self._compared(spec, key, known)
        plan.virtual = self.records.of_key(key) or (known if self.scope.group is not None else None)
        vouched = plan.virtual is not None and spec.label not in self.circumstances.pending
        if problem is None and not vouched and plan.action in (KEEP, CHANGE):
            # A key that no run has vouched for yet may be what a crash left of one: use it once before it counts.
            failure = self.circumstances.look.use(key)
            if failure is not None:
                plan, problem = plan_unusable(spec, key, failure, self.circumstances)
                return plan, problem or self._kept(plan)
        if self.circumstances.recorded and plan.action == KEEP and not plan.mismatches and self._record_differs(plan):
            plan.action = RECORD
        return plan, problem

    def _missing(self, spec: KeySpec) -> tuple[KeyPlan, str | None]:
        plan = KeyPlan(self._like_the_one_before(spec), CREATE)
        gone = self.records.labelled(spec.label)
        if retired := next((record for record in gone if record.state in RETIRED), None):
            return plan, stays(spec, retired.state) if spec.state == PRESENT else with_state(KeyPlan(spec, KEEP), retired)
        # Under a note a run of ours was at work here, and died before the new key was there.
        if gone and self.scope.group is not None and spec.label not in self.circumstances.pending:
            return plan, lost(spec, self.scope)
        if spec.label in self.scope.unfinished:
            return plan, unfinished(spec, self.scope)
        if problem := self._mistaken_neighbour(spec):
            return plan, problem
        if gone:
            plan.vanished = True
            plan.warnings.append(f"key '{spec.label}' was recorded and is not on the token any more: another key is made in its place.")
        return plan, self._id_taken(spec)

    def _half(self, spec: KeySpec, key: Key, known: VirtualKey | None) -> tuple[KeyPlan, str | None]:
        plan, problem = plan_half(spec, key, known, self.circumstances)
        if problem is not None or plan.clear:
            return plan, problem or self._kept(plan) or self._id_taken(spec)
        # The half that is there stays, so it must be what was asked for.
        mismatches = fixed_mismatches(spec, key, known)
        division = divide(spec, attribute_changes(spec, key), self.scope)
        plan.changes, plan.operations = division.changes, division.operations
        mismatches += division.mismatches
        mismatches += [
            f"{change.name.lower()} differs, and the key is not modifiable" for change in plan.changes if change.item.modifiable is False
        ]
        if mismatches:
            return plan, f"{spec.where}: half of this key is on the token and differs: {', '.join(mismatches)}. Nothing was changed."
        return plan, None

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

    def _compared(self, spec: KeySpec, key: Key, known: VirtualKey | None) -> tuple[KeyPlan, str | None]:
        if problem := untold(spec, key, known):
            return KeyPlan(spec, KEEP, key), problem
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
        changes = division.changes
        mismatches += division.mismatches
        warnings += division.warnings
        frozen = [change for change in changes if change.item.modifiable is False]
        if frozen:
            mismatches.append(f"{frozen[0].name.lower()} differs, and the key is not modifiable")
        if not mismatches:
            action = CHANGE if changes else KEEP
            return KeyPlan(spec, action, key, changes, warnings=warnings, operations=division.operations), None
        if spec.on_mismatch == "keep":
            return KeyPlan(spec, KEEP, key, mismatches=mismatches), None
        if spec.on_mismatch == "replace":
            problem = self._held_back(spec) or _not_destroyable(spec, key.objects) or self._id_taken(spec) or self._refused(spec)
            return KeyPlan(spec, REPLACE, key), problem
        return KeyPlan(spec, KEEP, key), (
            f"{spec.where}: a key with this label exists and differs: {', '.join(mismatches)}. Nothing was changed. Use another label, "
            "on_mismatch: keep to leave it, or on_mismatch: replace to destroy it and make another."
        )

    def _exchanged(self, key: Key, known: VirtualKey) -> str | None:
        """Whether another key stands under a recorded name. A check value is computed only where another member was recorded."""
        needed = known.token_id != self.scope.token_id and key.fingerprint is None
        return exchanged(key, known, self.circumstances.look.fingerprint(key) if needed else None)

    def _kept(self, plan: KeyPlan) -> str | None:
        """Whether a left-over that no dead run of ours explains must stay, because the group does not change what is in the HSM."""
        if self.scope.applies_changes or not plan.clear or plan.spec.label in self.circumstances.pending:
            return None
        return (
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
        wanted = plan.operations if plan.operations is not None else plan.key.operations
        return plan.spec.operations is not None and plan.virtual.operations != wanted

    def _absent(self, spec: KeySpec, key: Key | None) -> tuple[KeyPlan, str | None]:
        own = self.records.named(spec)
        if not spec.lead:
            own = [record for record in own if record.state != DESTROYED]  # what is told of it is not taken back by another entry
        if self.scope.group is not None:
            own = [record for record in own if self.scope.owns(record)]
            if not self.scope.applies_changes:
                key = None  # the HSM's key is out of reach of this group: only what is recorded of it goes
        if key is None:
            away = [record for record in own if not self.scope.is_here(record)]
            if away and self.scope.group is not None and self.scope.applies_changes and any(r.state != DESTROYED for r in away):
                return KeyPlan(spec, KEEP), elsewhere(spec, self.scope)
            return (KeyPlan(spec, FORGET, stale=own) if own else KeyPlan(spec, KEEP)), None
        plan = KeyPlan(spec, DELETE, key, virtual=self.records.any_of(key))
        if self.scope.only_own and not self.scope.owns(plan.virtual):
            text = f"key '{spec.label}' is on the token and does not belong to group '{self.scope.group_name}': it is left there."
            return KeyPlan(spec, KEEP, warnings=[text]), None
        return plan, _not_destroyable(spec, key.objects)

    def _destroyed(self, spec: KeySpec, key: Key | None) -> tuple[KeyPlan, str | None]:
        known, problem = self._known(spec, key)
        plan = KeyPlan(spec, DELETE if key is not None else FORGET, key, virtual=known)
        if self.scope.only_own and key is not None and not self.scope.owns(known):
            return plan, not_there(spec, "destroyed")
        problem = problem or check_destroyed(plan, known, self.circumstances)
        return plan, problem or (_not_destroyable(spec, key.objects) if key is not None else None)

    def _moved(self, spec: KeySpec, key: Key | None) -> tuple[KeyPlan, str | None]:
        known, problem = self._known(spec, key)
        plan, other = plan_move(spec, key, known, self.circumstances)
        return plan, problem or other

    def _known(self, spec: KeySpec, key: Key | None) -> tuple[VirtualKey | None, str | None]:
        """The record that an entry means, or why that cannot be said."""
        if key is not None:
            return self.records.any_of(key), None
        named = self.records.named(spec)
        if len(named) > 1:
            ids = ", ".join(record.key_id.hex() or "(none)" for record in named)
            return None, f"{spec.where}: there are several records of '{spec.label}' (CKA_ID {ids}): name the right one by id"
        return next(iter(named), None), None

    def _public_only(self, spec: KeySpec, key: Key | None) -> tuple[KeyPlan, str | None]:
        if key is None:
            return KeyPlan(spec, KEEP), not_there(spec, "left with its public half")
        plan = KeyPlan(spec, KEEP, key, virtual=self.records.any_of(key))
        if key.secret is not None:
            return plan, f"{spec.where}.state: is a secret key of type {key.main.type}, which has no public half"
        if spec.type not in (None, key.main.type):
            return plan, f"{spec.where}.type: the key is of type {key.main.type}: give that, or leave type out"
        if key.private is not None and self.scope.group is not None and not self.scope.applies_changes and key.public is not None:
            # The private half stays in the HSM; the virtual key is that of the public half from now on.
            if plan.virtual is None or not self.scope.owns(plan.virtual) or plan.virtual.kind != PUBLIC:
                plan.action, plan.recorded_as = RECORD, Key(public=key.public)
            return plan, None
        if key.private is None:
            if self.circumstances.recorded and (plan.virtual is None or plan.virtual.kind != PUBLIC):
                plan.action = RECORD
            return plan, None
        if key.public is None:
            return plan, (
                f"{spec.where}.state: the public half is not on the token ({key.private.named()}), and nothing would be left of the key. "
                "repair: true makes it again with state: present; state: absent destroys the key."
            )
        public = key.public.public_key
        belongs = self.circumstances.look.belongs(key.private, self.circumstances.look.public_value(public)) if public else False
        if not belongs:
            known = "do not belong together" if belongs is False else "cannot be shown to belong together"
            return plan, f"{spec.where}.state: the two halves on the token {known}; nothing was destroyed"
        plan.action = REMOVE_PRIVATE
        return plan, _not_destroyable(spec, [key.private])
