# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""Desired keys against the keys that are there: what to do for each, and every reason not to, before any write."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .._cryptoki.public_key import to_pem
from .._model.key_objects import Key, KeyObject, group_keys
from .._model.key_spec import KeySpec
from .._model.key_types import CLASS_OPERATIONS, PUBLIC, ordered
from .._model.records import VirtualKey
from .plan import CHANGE, CREATE, DELETE, KEEP, Step

_Name = tuple[str, bytes, str]  # kind, CKA_ID, CKA_LABEL
REPLACE, RECORD, FORGET = "replace", "record", "forget"


@dataclass(frozen=True)
class AttributeChange:
    """One boolean attribute of one object, by its name without ``CKA_``."""

    item: KeyObject
    name: str
    value: bool


@dataclass
class KeyPlan:
    """What one entry of ``keys:`` needs. ``mismatches`` is filled where on_mismatch says keep."""

    spec: KeySpec
    action: str
    key: Key | None = None
    changes: list[AttributeChange] = field(default_factory=list)
    virtual: VirtualKey | None = None
    stale: list[VirtualKey] = field(default_factory=list)
    mismatches: list[str] = field(default_factory=list)
    done: bool = False
    destroyed: bool = False

    @property
    def touches_hsm(self) -> bool:
        return self.action in (CREATE, CHANGE, REPLACE, DELETE)

    @property
    def step(self) -> Step:
        """The plan's line in the diff: the same before the work and after it."""
        subject = f"key {self.spec.label}"
        before = describe_key(self.key) if self.key else None
        if self.destroyed and self.action == REPLACE and not self.done:
            return Step(DELETE, subject, before, None)
        if self.action in (CREATE, REPLACE):
            return Step(CREATE if before is None else CHANGE, subject, before, describe_new(self.spec))
        if self.action == CHANGE:
            return Step(CHANGE, subject, before, {**(before or {}), **self._changed_fields()})
        if self.action == DELETE:
            return Step(DELETE, subject, before, None)
        if self.action == RECORD:
            if self.virtual is not None:
                was = {**(before or {}), "virtual_key": {"operations": list(self.virtual.operations)}}
                return Step(CHANGE, subject, was, {**(before or {}), "virtual_key": {"operations": (before or {})["operations"]}})
            return Step(CHANGE, subject, {**(before or {}), "virtual_key": None}, {**(before or {}), "virtual_key": "recorded"})
        if self.action == FORGET:
            return Step(DELETE, subject, {"virtual_key": "recorded, but the key is not in the HSM"}, None)
        return Step(KEEP, subject, before, before)

    def _changed_fields(self) -> dict[str, Any]:
        operations = set(self.key.operations if self.key else ())
        fields: dict[str, Any] = {}
        for change in self.changes:
            name = change.name.lower()
            if name in ("sensitive", "extractable"):
                fields[name] = change.value
            elif change.value:
                operations.add(name)
            else:
                operations.discard(name)
        fields["operations"] = list(ordered(operations))
        return fields


def describe_key(key: Key) -> dict[str, Any]:
    """A key's attributes as they are on the token: for the diff, and part of what hsm_key returns."""
    main = key.main
    return {
        "id": main.key_id.hex(),
        "type": main.type,
        "size": main.size or (key.public.size if key.public else None),
        "curve": main.curve,
        "operations": list(key.operations),
        "sensitive": main.sensitive,
        "extractable": main.extractable,
    }


def describe_new(spec: KeySpec) -> dict[str, Any]:
    """What a new key of this spec will be: the prediction that check mode gives."""
    return {
        "id": spec.key_id.hex(),
        "type": spec.type,
        "size": spec.new_size,
        "curve": spec.new_curve,
        "operations": list(spec.new_operations),
        "sensitive": spec.sensitive is not False,
        "extractable": bool(spec.extractable),
    }


def public_pem(key: Key) -> str | None:
    der = key.public.public_key if key.public else None
    return to_pem(der) if der else None


def _several(spec: KeySpec, objects: Iterable[KeyObject]) -> str:
    listed = "; ".join(item.named() for item in objects)
    return (
        f"{_where(spec)}: several objects on the token have this label: {listed}. Nothing is guessed: name the right one by id, "
        "or remove the others with the vendor's tools."
    )


def _where(spec: KeySpec) -> str:
    return f"keys[{spec.index}] ({spec.label})"


def match(spec: KeySpec, candidates: list[KeyObject], keys: Mapping[int, Key]) -> tuple[Key | None, str | None]:
    """The key on the token that ``spec`` means, or None, or the reason why that cannot be said.

    ``candidates`` are the objects with its label; ``keys`` finds the key that an object belongs to. An ``id`` narrows
    several candidates down.
    """
    found = {id(keys[item.handle]): keys[item.handle] for item in candidates}
    if spec.state == "absent" and spec.id_given:
        # What is destroyed must bear both names that were given.
        found = {number: key for number, key in found.items() if key.main.key_id == spec.key_id}
    elif len(found) > 1 and spec.id_given:
        narrowed = {number: key for number, key in found.items() if key.main.key_id == spec.key_id}
        found = narrowed or found
    if not found:
        return None, None
    if len(found) > 1:
        return None, _several(spec, candidates)
    key = next(iter(found.values()))
    if key.is_half and spec.state == "present":
        other = "public" if key.public is None else "private"
        return None, (
            f"{_where(spec)}: only half of this key pair is on the token ({key.main.named()}); its {other} key is missing. "
            "Nothing was changed. Import the missing half with the vendor's tools, or make the key absent first."
        )
    return key, None


def _untold(spec: KeySpec, key: Key) -> str | None:
    """What was asked for and the token does not say: no ground to call it different, let alone to replace it."""
    is_now = describe_key(key)
    names = [name for name in ("size", "curve") if getattr(spec, name) is not None and is_now[name] is None and spec.type == key.main.type]
    if not names:
        return None
    return f"{_where(spec)}.{names[0]}: the token does not say the {names[0]} of this key, so it cannot be compared: leave it out."


def _fixed_mismatches(spec: KeySpec, key: Key) -> list[str]:
    """Differences that no attribute write can mend (PKCS#11 3.1, sections 4.4, 4.8 to 4.10)."""
    main, is_now = key.main, describe_key(key)
    if spec.type != main.type:
        return [f"type is {main.type}, asked for {spec.type}"]
    found = [
        f"{name} is {is_now[name]}, asked for {wanted}"
        for name, wanted in (("size", spec.size), ("curve", spec.curve))
        if wanted is not None and is_now[name] != wanted
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


def _plan_present(spec: KeySpec, key: Key) -> tuple[KeyPlan, str | None]:
    if problem := _untold(spec, key):
        return KeyPlan(spec, KEEP, key), problem
    mismatches = _fixed_mismatches(spec, key)
    changes = [] if mismatches else _attribute_changes(spec, key)
    frozen = [change for change in changes if change.item.modifiable is False]
    if frozen:
        mismatches.append(f"{frozen[0].name.lower()} differs, and the key is not modifiable")
    if not mismatches:
        return KeyPlan(spec, CHANGE if changes else KEEP, key, changes), None
    if spec.on_mismatch == "keep":
        return KeyPlan(spec, KEEP, key, mismatches=mismatches), None
    if spec.on_mismatch == "replace":
        return KeyPlan(spec, REPLACE, key), _not_destroyable(spec, key)
    return KeyPlan(spec, KEEP, key), (
        f"{_where(spec)}: a key with this label exists and differs: {', '.join(mismatches)}. Nothing was changed. Use another label, "
        "on_mismatch: keep to leave it, or on_mismatch: replace to destroy it and make another."
    )


def _record_of(
    key: Key, records: Mapping[_Name, VirtualKey], same_label: Iterable[VirtualKey], names: Container[_Name]
) -> VirtualKey | None:
    """The record of this key; failing that, the one record of its kind and label that no key on the token answers to: its
    CKA_ID was edited since."""
    exact = records.get((key.main.kind, key.main.key_id, key.main.label))
    if exact is not None:
        return exact
    left = [v for v in same_label if v.kind == key.main.kind and (v.kind, v.key_id, v.label) not in names]
    return left[0] if len(left) == 1 else None


def _record_differs(plan: KeyPlan) -> bool:
    """No record yet, or one with other operations than those that were asked for and that the token has."""
    if plan.virtual is None or plan.key is None:
        return True
    if plan.virtual.key_id != plan.key.main.key_id:
        return True
    return plan.spec.operations is not None and plan.virtual.operations != plan.key.operations


def _not_destroyable(spec: KeySpec, key: Key) -> str | None:
    for item in key.objects:
        if item.destroyable is False:
            return f"{_where(spec)}: the {item.kind} key (handle {item.handle}) was made with destroyable: false and cannot be destroyed"
    return None


def plan_keys(
    specs: Iterable[KeySpec], objects: list[KeyObject], virtual: Iterable[VirtualKey], *, recorded: bool
) -> tuple[list[KeyPlan], list[str]]:
    """A plan for each spec, and every problem found. ``recorded``: there is a registry, so keys become virtual keys.

    One pass over ``objects``; each spec is a dictionary look-up.
    """
    keys = {item.handle: key for key in group_keys(objects) for item in key.objects}
    by_label: dict[str, list[KeyObject]] = defaultdict(list)
    by_id: dict[bytes, list[KeyObject]] = defaultdict(list)
    for item in objects:
        by_label[item.label].append(item)
        by_id[item.key_id].append(item)
    records: dict[_Name, VirtualKey] = {(v.kind, v.key_id, v.label): v for v in virtual}
    records_by_label: dict[str, list[VirtualKey]] = defaultdict(list)
    for record in records.values():
        records_by_label[record.label].append(record)
    names = {(key.main.kind, key.main.key_id, key.main.label) for key in keys.values()}
    specs = list(specs)
    leaving = {spec.label for spec in specs if spec.state == "absent"}

    plans: list[KeyPlan] = []
    problems: list[str] = []
    for spec in specs:
        # A public half may carry a name of its own (label_pk); it is no candidate for the label of its pair.
        candidates = [item for item in by_label.get(spec.label, ()) if keys[item.handle].main.label == spec.label]
        key, problem = match(spec, candidates, keys)
        if problem is None and spec.state == "present":
            if key is None:
                taken = [item for item in by_id.get(spec.key_id, ()) if item.label != spec.label and item.label not in leaving]
                if taken:
                    problem = (
                        f"{_where(spec)}.id: CKA_ID {spec.key_id.hex()} belongs to '{taken[0].label}' already ({taken[0].named()}): "
                        "give another id"
                    )
                plan = KeyPlan(spec, CREATE)
            else:
                plan, problem = _plan_present(spec, key)
                plan.virtual = _record_of(key, records, records_by_label[key.main.label], names)
                if recorded and plan.action == KEEP and not plan.mismatches and _record_differs(plan):
                    plan.action = RECORD
        elif problem is None:
            plan = KeyPlan(spec, DELETE, key) if key else KeyPlan(spec, KEEP)
            if key is not None:
                problem = _not_destroyable(spec, key)
                same = [v for v in records_by_label.get(key.main.label, []) if v.key_id == key.main.key_id]
                # A pair that lost its private half is still the pair that was recorded.
                plan.virtual = next((v for v in same if v.kind == key.main.kind), same[0] if len(same) == 1 else None)
            else:
                stale = [v for v in records_by_label.get(spec.label, []) if not spec.id_given or v.key_id == spec.key_id]
                if stale:
                    plan = KeyPlan(spec, FORGET, stale=stale)
        if problem is not None:
            problems.append(problem)
        else:
            plans.append(plan)
    return plans, problems


def virtual_of(key: Key, token_id: int, origin: str) -> VirtualKey:
    """The record that points at ``key``."""
    main = key.main
    described = describe_key(key)
    return VirtualKey(
        token_id=token_id,
        kind=main.kind,
        key_id=main.key_id,
        label=main.label,
        type=main.type,
        size=described["size"],
        curve=main.curve,
        operations=key.operations,
        origin=origin,
    )
