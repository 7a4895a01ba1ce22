# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""What one entry of ``keys:`` needs, and how it is shown in the diff: as it was and as it will be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ...._model.keys.material import KeyMaterial, WrappedMaterial
from ...._model.keys.objects import Key, KeyObject, describe_key, fingerprint_of, recall, reported
from ...._model.keys.spec import MADE, KeySpec
from ...._model.keys.states import ACTIVE
from ...._model.keys.types import PUBLIC, class_operations, ordered
from ...._model.plan import CHANGE, CREATE, DELETE, KEEP, REPLACE, Step
from ...._model.records import VirtualKey, virtual_of
from ...._model.scope import Scope
from .member_answers import MemberAnswer

RECORD, FORGET = "record", "forget"
DEACTIVATE, REMOVE_PRIVATE, REPAIR, SET_STATE = "deactivate", "remove_private", "repair", "set_state"


@dataclass(frozen=True)
class AttributeChange:
    """One boolean attribute of one object, by its name without ``CKA_``."""

    item: KeyObject
    name: str
    value: bool


@dataclass(frozen=True)
class Sibling:
    """Another generation of a plan's key. ``key`` is None where the token has none, and where another plan of the batch is about it."""

    label: str
    number: int
    key: Key | None = None
    state: str = ACTIVE


@dataclass(frozen=True)
class Refusal:
    """Why an entry of ``keys:`` cannot be carried out, for a person."""

    problem: str


@dataclass(frozen=True)
class KeyPlan:
    """What one key needs. The planner makes it, and nobody changes it afterwards.

    ``mismatches`` is filled where on_mismatch says keep. ``operations`` are what the virtual key may do at most where a group has
    narrowed it, ``new_state`` is the state that it gets, and ``recorded_as`` what is recorded in place of the whole key. ``clear``
    are left-overs that are destroyed before the key is made; ``mend`` is the value of a missing public half, as attributes without
    ``CKA_``. ``vanished``: the registry has a key that is not on the token any more. ``adopted`` is
    another member's key, which is recorded where it is.
    """

    spec: KeySpec
    action: str
    key: Key | None = None
    changes: tuple[AttributeChange, ...] = ()
    virtual: VirtualKey | None = None
    stale: tuple[VirtualKey, ...] = ()
    mismatches: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    clear: tuple[KeyObject, ...] = ()
    mend: Mapping[str, bytes] | None = None
    vanished: bool = False
    operations: tuple[str, ...] | None = None
    new_state: str | None = None
    recorded_as: Key | None = None
    adopted: MemberAnswer | None = None
    siblings: tuple[Sibling, ...] = ()

    @property
    def generation(self) -> int:
        """The number that is recorded. One that is known is not taken back by an entry that names the label as it is."""
        return max(self.spec.generation or 1, self.virtual.generation if self.virtual is not None else 1)

    def virtual_operations(self, allowed: Iterable[str]) -> tuple[str, ...]:
        """What the virtual key may do of what the HSM allows."""
        limits = (self.operations, self.recorded_as.operations if self.recorded_as is not None else None)
        return tuple(name for name in allowed if all(limit is None or name in limit for limit in limits))

    def memory(self, key: Key, *, made: bool = False) -> dict[str, bool]:
        """What is known of ``key``, as it was read back, because we set it. ``made``: it is another key than before."""
        before = self.key or self.recorded_as
        parts = before.objects if before is not None and not made else ()
        known = {name: has for item in parts for name in item.recalled if (has := item.has(name)) is not None}
        if self.makes_key:
            known |= self.spec.new_attributes
        elif self.mend is not None:
            known |= {name: name in mended_operations(self.spec, self.key) for name in class_operations(self.spec.type or "", PUBLIC)}
        known |= {change.name.lower(): change.value for change in self.changes}
        return {name: value for name, value in sorted(known.items()) if not reported(key, name)}

    def recalled(self, key: Key, *, made: bool = False) -> Key:
        """``key``, as it was read back, with what its token does not say as we set it."""
        before = self.key or self.recorded_as
        size, curve = None, None
        if self.makes_key and not isinstance(self.spec.material, WrappedMaterial):
            size, curve = self.spec.new_size, self.spec.new_curve
        elif before is not None and not made:
            was = describe_key(before)
            size, curve = was["size"], was["curve"]
        return recall(key, self.memory(key, made=made), size, curve)

    def record_of(self, key: Key, token_id: int, *, made: bool = False) -> VirtualKey:
        """The record of ``key``, which is what the plan has made or found. ``made``: it is another key than before."""
        old, key = None if made else self.virtual, self.recalled(key, made=made)
        record = virtual_of(key, self.adopted.token_id if self.adopted else token_id, "hsm_key", generation=self.generation)
        if record.allowed_mechanisms is None and old is not None and old.kind == record.kind:
            record = replace(record, allowed_mechanisms=old.allowed_mechanisms)
        return replace(
            record,
            state=self.new_state or (old.state if old is not None else record.state),
            operations=self.virtual_operations(record.operations),
            size=record.size or (old.size if old is not None else None),  # not every token says it of a copy
            unreported=tuple(self.memory(key, made=made).items()),
        )

    def changed_record(self, old: VirtualKey, after: Key | None, scope: Scope) -> VirtualKey:
        """The scope's own record of the key after a change, which is ``after`` where it is on the token."""
        operations = self.virtual_operations(after.operations) if after is not None else old.operations
        record = replace(old, operations=operations, state=self.new_state or old.state, generation=self.generation)
        if after is not None:
            record = replace(record, unreported=tuple(self.memory(after).items()))
            if after.main.allowed_mechanisms is not None:
                record = replace(record, allowed_mechanisms=after.main.allowed_mechanisms)
        if after is None or self.spec.state not in MADE:
            return record
        # What is declared is recorded as it was found, also where its id was edited or its member has left the group.
        token_id = old.token_id if scope.is_home(old) else scope.token_id or old.token_id
        return replace(record, key_id=after.main.key_id, token_id=token_id)

    @property
    def makes_key(self) -> bool:
        """Whether a whole key is made, generated or imported, or the private half of one."""
        return self.action in (CREATE, REPLACE) or (self.action == REPAIR and self.mend is None)

    @property
    def step(self) -> Step:
        """The plan's line in the diff: the same before the work and after it."""
        subject = f"key {self.spec.label}"
        before = describe_key(self.key) if self.key else None
        if self.action == REPAIR:
            return Step(CHANGE, subject, {**(before or {}), "defect": self._defect()}, self._mended(before))
        if self.makes_key:
            return Step(CREATE if before is None else REPLACE, subject, before, describe_new(self.spec))
        if self.action == CHANGE:
            return Step(CHANGE, subject, before, {**(before or {}), **self._changed_fields()})
        if self.action == DELETE:
            return Step(DELETE, subject, before, None)
        if self.action in (DEACTIVATE, SET_STATE):
            was, becomes = {"state": self.virtual.state if self.virtual else ACTIVE}, {"state": self.new_state}
            return Step(
                CHANGE, subject, {**(before or {}), **was}, {**(before or {}), **(self._changed_fields() if before else {}), **becomes}
            )
        if self.action == REMOVE_PRIVATE:
            return Step(CHANGE, subject, before, describe_key(Key(public=self.key.public)) if self.key else None)
        if self.action == RECORD:
            was, becomes = self._recorded_fields()
            return Step(CHANGE, subject, {**(before or {}), "virtual_key": was}, {**(before or {}), "virtual_key": becomes})
        if self.action == FORGET:
            return Step(DELETE, subject, {"virtual_key": "recorded, and forgotten; nothing is destroyed in the HSM"}, None)
        return Step(KEEP, subject, before, before)

    def _recorded_fields(self) -> tuple[Any, Any]:
        """The record before and after, as far as it differs."""
        key = self.recorded_as or self.key
        if self.virtual is None or key is None:
            return None, "recorded"
        operations = self.virtual_operations(key.operations)
        known = self.virtual
        was = {"kind": known.kind, "id": known.key_id.hex(), "operations": list(known.operations), "generation": known.generation}
        becomes = {"kind": key.main.kind, "id": key.main.key_id.hex(), "operations": list(operations), "generation": self.generation}
        allowed = key.main.allowed_mechanisms
        if allowed not in (known.allowed_mechanisms, None) and self.spec.allowed_mechanisms is not None:
            was["allowed_mechanisms"], becomes["allowed_mechanisms"] = list(known.allowed_mechanisms or ()), list(allowed)
        differing = [name for name in was if was[name] != becomes[name]]
        if not differing:
            return "recorded elsewhere", "recorded"
        return {name: was[name] for name in differing}, {name: becomes[name] for name in differing}

    def _defect(self) -> str:
        if self.mend is not None:
            return "the public half is missing"
        if self.key is not None and self.key.is_half:
            return f"the {'private' if self.key.private is None else 'public'} half is missing"
        return "it cannot be used"

    def _mended(self, before: Mapping[str, Any] | None) -> dict[str, Any]:
        if self.clear:
            return describe_new(self.spec)
        fields = self._changed_fields()
        new_half = mended_operations(self.spec, self.key) if self.mend is not None else self.spec.new_operations
        return {**(before or {}), **fields, "operations": list(ordered({*fields["operations"], *new_half}))}

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


def unless(problem: str | None, plan: KeyPlan) -> KeyPlan | Refusal:
    """The plan, where nothing speaks against it."""
    return plan if problem is None else Refusal(problem)


def mended_operations(spec: KeySpec, key: Key | None) -> tuple[str, ...]:
    """What a public half that is made again may do: what was asked for, else the counterparts of what the private half may."""
    if spec.operations is not None:
        wanted = spec.operations
    else:
        counterparts = {"sign": "verify", "decrypt": "encrypt", "unwrap": "wrap", "decapsulate": "encapsulate"}
        wanted = tuple(counterparts[name] for name in (key.operations if key else ()) if name in counterparts)
    return tuple(name for name in wanted if name in ("encrypt", "verify", "wrap", "encapsulate"))


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


def predicted_public_key(spec: KeySpec) -> bytes | None:
    """DER of the public key that an import will have; None for a key that is generated."""
    return spec.material.public_key if spec.material is not None else None


def predicted_fingerprint(spec: KeySpec) -> str | None:
    """The fingerprint that an import will have."""
    material = spec.material
    if material is None:
        return None
    if material.public_key:
        return fingerprint_of(material.public_key)
    return material.check_value.hex() if isinstance(material, KeyMaterial) and material.check_value else None
