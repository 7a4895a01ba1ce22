# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""Desired keys against the keys that are there: what to do for each, and every reason not to, before any write."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from .._model.generations import stored_label
from .._model.key_objects import Key, KeyObject, group_keys
from .._model.key_spec import ABSENT, DEACTIVATED, PRESENT, PUBLIC_ONLY, KeySpec
from .._model.key_states import DEACTIVATED as DEACTIVATED_RECORD
from .._model.key_types import CLASS_OPERATIONS, PUBLIC
from .._model.records import VirtualKey
from .circumstances import Circumstances
from .key_plan import DEACTIVATE, FORGET, RECORD, REMOVE_PRIVATE, REPLACE, AttributeChange, KeyPlan, describe_key
from .plan import CHANGE, CREATE, DELETE, KEEP
from .repair import plan_half, plan_unusable

_Name = tuple[str, bytes, str]  # kind, CKA_ID, CKA_LABEL

# What a deactivated key may no longer do: it may still open and check what it protected (NIST SP 800-57 part 1 rev. 5, section 7.4).
PROTECTING = ("encrypt", "sign", "wrap", "derive")


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
    if spec.state != PRESENT and spec.id_given:
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


def _untold(spec: KeySpec, key: Key) -> str | None:
    """What was asked for and the token does not say: no ground to call it different, let alone to replace it."""
    is_now = describe_key(key)
    names = [name for name in ("size", "curve") if getattr(spec, name) is not None and is_now[name] is None and spec.type == key.main.type]
    if not names or spec.material is not None:  # an import is compared by its value
        return None
    return f"{spec.where}.{names[0]}: the token does not say the {names[0]} of this key, so it cannot be compared: leave it out."


def _fixed_mismatches(spec: KeySpec, key: Key) -> list[str]:
    """Differences that no attribute write can mend (PKCS#11 3.1, sections 4.4, 4.8 to 4.10)."""
    main, is_now = key.main, describe_key(key)
    if spec.type not in (None, main.type):
        return [f"type is {main.type}, asked for {spec.type}"]
    found = [
        f"{name} is {is_now[name]}, asked for {wanted}"
        for name, wanted in (("size", spec.size), ("curve", spec.curve))
        if wanted is not None and is_now[name] not in (wanted, None)
    ]
    if spec.id_given and main.key_id != spec.key_id:
        found.append(f"id is {main.key_id.hex() or 'empty'}, asked for {spec.key_id.hex()}")
    if spec.sensitive is False and main.sensitive:
        found.append("sensitive is true and cannot be taken back")
    if spec.extractable is True and main.extractable is False:
        found.append("extractable is false and cannot be taken back")
    for name, wanted in (("modifiable", spec.modifiable), ("destroyable", spec.destroyable)):
        actual = getattr(main, name)
        if wanted is not None and actual is not None and actual != wanted:
            found.append(f"{name} is {str(actual).lower()}, asked for {str(wanted).lower()}")
    return found


def _attribute_changes(spec: KeySpec, key: Key) -> list[AttributeChange]:
    changes: list[AttributeChange] = []
    if spec.operations is not None:
        for item in key.objects:
            for operation in CLASS_OPERATIONS[item.kind]:
                wanted = operation in spec.operations
                if wanted != (operation in item.operations):
                    changes.append(AttributeChange(item, operation.upper(), wanted))
    if key.main.kind != PUBLIC:
        if spec.sensitive is True and key.main.sensitive is False:
            changes.append(AttributeChange(key.main, "SENSITIVE", True))
        if spec.extractable is False and key.main.extractable:
            changes.append(AttributeChange(key.main, "EXTRACTABLE", False))
    return changes


def _not_destroyable(spec: KeySpec, items: Iterable[KeyObject]) -> str | None:
    for item in items:
        if item.destroyable is False:
            return f"{spec.where}: the {item.kind} key (handle {item.handle}) was made with destroyable: false and cannot be destroyed"
    return None


class Planner:
    """One pass over the token's objects; then each spec is a dictionary look-up."""

    def __init__(self, objects: Sequence[KeyObject], virtual: Iterable[VirtualKey], circumstances: Circumstances) -> None:
        self.circumstances = circumstances
        self.families: Mapping[str, Sequence[int]] = {}
        self.keys = {item.handle: key for key in group_keys(objects) for item in key.objects}
        self.by_label: dict[str, list[KeyObject]] = defaultdict(list)
        self.by_id: dict[bytes, list[KeyObject]] = defaultdict(list)
        for item in objects:
            # A public half may carry a name of its own (label_pk); it is no candidate for the label of its pair.
            if self.keys[item.handle].main.label == item.label:
                self.by_label[item.label].append(item)
            self.by_id[item.key_id].append(item)
        self.records: dict[_Name, VirtualKey] = {(v.kind, v.key_id, v.label): v for v in virtual}
        self.records_by_label: dict[str, list[VirtualKey]] = defaultdict(list)
        for record in self.records.values():
            self.records_by_label[record.label].append(record)
        self.names = {(key.main.kind, key.main.key_id, key.main.label) for key in self.keys.values()}
        self.leaving: set[str] = set()

    def family(self, base: str) -> list[str]:
        """The labels of all known generations of a key, by rising number. ``families`` is set by who expands the specs."""
        return [stored_label(base, number) for number in self.families.get(base, ())]

    def key_of(self, label: str) -> Key | None:
        """The one key with this label; None where there is none, or more than one."""
        found = {id(self.keys[item.handle]): self.keys[item.handle] for item in self.by_label.get(label, ())}
        return found.popitem()[1] if len(found) == 1 else None

    def plan(self, specs: Sequence[KeySpec]) -> tuple[list[KeyPlan], list[str]]:
        """A plan for each spec, and every problem found."""
        self.leaving = {spec.label for spec in specs if spec.state == ABSENT}
        ways: dict[str, Callable[[KeySpec, Key | None], tuple[KeyPlan, str | None]]] = {
            PRESENT: self._present,
            ABSENT: self._absent,
            DEACTIVATED: self._deactivated,
            PUBLIC_ONLY: self._public_only,
        }
        plans: list[KeyPlan] = []
        problems: list[str] = []
        for spec in specs:
            key, problem = match(spec, self.by_label.get(spec.label, []), self.keys)
            if problem is None:
                plan, problem = ways[spec.state](spec, key)
            if problem is not None:
                problems.append(problem)
            else:
                plans.append(plan)
        return plans, problems

    def record_of(self, key: Key) -> VirtualKey | None:
        """The record of this key; failing that, the one record of its kind and label that no key on the token answers to: its
        CKA_ID was edited since."""
        exact = self.records.get((key.main.kind, key.main.key_id, key.main.label))
        if exact is not None:
            return exact
        same_label = self.records_by_label[key.main.label]
        left = [v for v in same_label if v.kind == key.main.kind and (v.kind, v.key_id, v.label) not in self.names]
        return left[0] if len(left) == 1 else None

    def _any_record_of(self, key: Key) -> VirtualKey | None:
        """The record of a key that may have lost a half since: it is still the pair that was recorded."""
        same = [v for v in self.records_by_label.get(key.main.label, []) if v.key_id == key.main.key_id]
        return next((v for v in same if v.kind == key.main.kind), same[0] if len(same) == 1 else None)

    def _present(self, spec: KeySpec, key: Key | None) -> tuple[KeyPlan, str | None]:
        if key is None:
            return self._missing(spec)
        known = self._any_record_of(key) or self.record_of(key)
        if known is not None and known.state == DEACTIVATED_RECORD:
            return KeyPlan(spec, KEEP, key), self._stays_deactivated(spec)
        if key.is_half:
            return self._half(spec, key, known)
        plan, problem = self._compared(spec, key)
        plan.virtual = self.record_of(key)
        vouched = plan.virtual is not None and spec.label not in self.circumstances.pending
        if problem is None and not vouched and plan.action in (KEEP, CHANGE):
            # A key that no run has vouched for yet may be what a crash left of one: use it once before it counts.
            failure = self.circumstances.look.use(key)
            if failure is not None:
                return plan_unusable(spec, key, failure, self.circumstances)
        if self.circumstances.recorded and plan.action == KEEP and not plan.mismatches and self._record_differs(plan):
            plan.action = RECORD
        return plan, problem

    def _stays_deactivated(self, spec: KeySpec) -> str:
        return (
            f"{spec.where}: '{spec.label}' is deactivated, and a deactivated key does not become active again (NIST SP 800-57 part 1, "
            f"section 7): declare generation: {(spec.generation or 1) + 1} for a new key, or state: deactivated to leave this one."
        )

    def _missing(self, spec: KeySpec) -> tuple[KeyPlan, str | None]:
        plan = KeyPlan(self._like_the_one_before(spec), CREATE)
        lost = self.records_by_label.get(spec.label, [])
        if any(record.state == DEACTIVATED_RECORD for record in lost):
            return plan, self._stays_deactivated(spec)
        if lost:
            plan.vanished = True
            plan.warnings.append(f"key '{spec.label}' was recorded and is not on the token any more: another key is made in its place.")
        return plan, self._id_taken(spec)

    def _half(self, spec: KeySpec, key: Key, known: VirtualKey | None) -> tuple[KeyPlan, str | None]:
        plan, problem = plan_half(spec, key, known, self.circumstances)
        if problem is not None or plan.clear:
            return plan, problem or self._id_taken(spec)
        # The half that is there stays, so it must be what was asked for.
        mismatches = _fixed_mismatches(spec, key)
        plan.changes = _attribute_changes(spec, key)
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
        before = self.key_of(stored_label(spec.base, earlier[-1])) if earlier else None
        if before is None or before.main.type != spec.type or before.is_half or spec.material is not None:
            return spec
        is_now = describe_key(before)
        known = self._any_record_of(before)
        # A key that was deactivated for good may have lost operations; what it was recorded with is what it was made for.
        operations = spec.operations or (tuple(is_now["operations"]) if known is None or known.state != DEACTIVATED_RECORD else None)
        return replace(
            spec,
            size=spec.size or (is_now["size"] if spec.type in ("AES", "RSA") else None),
            curve=spec.curve or is_now["curve"],
            operations=operations,
        )

    def _id_taken(self, spec: KeySpec) -> str | None:
        taken = [item for item in self.by_id.get(spec.key_id, ()) if item.label != spec.label and item.label not in self.leaving]
        if not taken:
            return None
        return f"{spec.where}.id: CKA_ID {spec.key_id.hex()} belongs to '{taken[0].label}' already ({taken[0].named()}): give another id"

    def _compared(self, spec: KeySpec, key: Key) -> tuple[KeyPlan, str | None]:
        if problem := _untold(spec, key):
            return KeyPlan(spec, KEEP, key), problem
        mismatches = _fixed_mismatches(spec, key)
        warnings: list[str] = []
        if spec.material is not None and not any(text.startswith("type is") for text in mismatches):
            same = self.circumstances.look.same(spec, key)
            if same is False:
                mismatches.append("it is another key than the one in source")
            elif same is None:
                warnings.append(f"key '{spec.label}' cannot be compared with its source: the token does not let its value be told.")
        changes = [] if mismatches else _attribute_changes(spec, key)
        frozen = [change for change in changes if change.item.modifiable is False]
        if frozen:
            mismatches.append(f"{frozen[0].name.lower()} differs, and the key is not modifiable")
        if not mismatches:
            return KeyPlan(spec, CHANGE if changes else KEEP, key, changes, warnings=warnings), None
        if spec.on_mismatch == "keep":
            return KeyPlan(spec, KEEP, key, mismatches=mismatches), None
        if spec.on_mismatch == "replace":
            return KeyPlan(spec, REPLACE, key), _not_destroyable(spec, key.objects) or self._id_taken(spec) or self._refused(spec)
        return KeyPlan(spec, KEEP, key), (
            f"{spec.where}: a key with this label exists and differs: {', '.join(mismatches)}. Nothing was changed. Use another label, "
            "on_mismatch: keep to leave it, or on_mismatch: replace to destroy it and make another."
        )

    def _refused(self, spec: KeySpec) -> str | None:
        """Why the token would not take the key that is to replace another. Known before that one is destroyed."""
        failure = self.circumstances.look.importable(spec)
        return None if failure is None else f"{spec.where}.source: {failure.message}. The key that is there was left as it is"

    def _record_differs(self, plan: KeyPlan) -> bool:
        """No record yet, or one with other operations than those that were asked for and that the token has."""
        if plan.virtual is None or plan.key is None:
            return True
        if plan.virtual.key_id != plan.key.main.key_id:
            return True
        return plan.spec.operations is not None and plan.virtual.operations != plan.key.operations

    def _absent(self, spec: KeySpec, key: Key | None) -> tuple[KeyPlan, str | None]:
        if key is None:
            stale = [v for v in self.records_by_label.get(spec.label, []) if not spec.id_given or v.key_id == spec.key_id]
            return (KeyPlan(spec, FORGET, stale=stale) if stale else KeyPlan(spec, KEEP)), None
        plan = KeyPlan(spec, DELETE, key, virtual=self._any_record_of(key))
        return plan, _not_destroyable(spec, key.objects)

    def _not_there(self, spec: KeySpec, wanted: str) -> str:
        return (
            f"{spec.where}.state: there is no key '{spec.label}' on the token, so it cannot be {wanted}. If it is gone for good, "
            "say state: absent."
        )

    def _deactivated(self, spec: KeySpec, key: Key | None) -> tuple[KeyPlan, str | None]:
        if key is None:
            return KeyPlan(spec, KEEP), self._not_there(spec, "deactivated")
        if spec.type not in (None, key.main.type):
            return KeyPlan(spec, KEEP, key), f"{spec.where}.type: the key is of type {key.main.type}: give that, or leave type out"
        plan = KeyPlan(spec, KEEP, key, virtual=self._any_record_of(key))
        if spec.enforce:
            plan.changes = [
                AttributeChange(item, name.upper(), False) for item in key.objects for name in PROTECTING if name in item.operations
            ]
            frozen = [change for change in plan.changes if change.item.modifiable is False]
            if frozen:
                return plan, f"{spec.where}.enforce: the {frozen[0].item.kind} key is not modifiable, so it keeps {frozen[0].name.lower()}"
        if self.circumstances.recorded and (plan.virtual is None or plan.virtual.state != DEACTIVATED_RECORD):
            plan.action = DEACTIVATE
        elif plan.changes:
            plan.action = CHANGE
        return plan, None

    def _public_only(self, spec: KeySpec, key: Key | None) -> tuple[KeyPlan, str | None]:
        if key is None:
            return KeyPlan(spec, KEEP), self._not_there(spec, "left with its public half")
        plan = KeyPlan(spec, KEEP, key, virtual=self._any_record_of(key))
        if key.secret is not None:
            return plan, f"{spec.where}.state: is a secret key of type {key.main.type}, which has no public half"
        if spec.type not in (None, key.main.type):
            return plan, f"{spec.where}.type: the key is of type {key.main.type}: give that, or leave type out"
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
