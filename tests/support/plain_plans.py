# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A token, the records and a group as plain values: what is planned for entries of ``keys:``, and what a run would make of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from functools import reduce
from itertools import count
from typing import Any

from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.keys.planning.circumstances import Circumstances
from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.keys.planning.looking import Untold
from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.keys.planning.member_answers import OtherMembers
from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.keys.planning.neighbours import Neighbours
from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.keys.planning.plan import (
    DEACTIVATE,
    FORGET,
    RECORD,
    REMOVE_PRIVATE,
    REPAIR,
    SET_STATE,
    KeyPlan,
    mended_operations,
)
from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.keys.planning.planner import plan_keys
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.errors import Cryptoki
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.keys.in_use import InUse
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.keys.layout import PKCS11
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.keys.material import KeyMaterial, WrappedMaterial
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.keys.objects import Key, KeyObject
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.keys.spec import KeySpec, parse_keys
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.keys.types import PRIVATE, PUBLIC, SECRET, class_operations, ordered
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.plan import CHANGE, CREATE, DELETE, KEEP, REPLACE
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.records import GroupRecord, PendingKey, VirtualKey
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.scope import Scope
from plain_keys import HERE, der, scope_of

NOW = datetime(2026, 6, 1, tzinfo=timezone.utc)
ALONE = OtherMembers()  # all members were asked, and have nothing
ACTIONS = {KEEP, CREATE, CHANGE, DELETE, REPLACE, RECORD, FORGET, DEACTIVATE, REMOVE_PRIVATE, REPAIR, SET_STATE}
_numbers = count(1)


@dataclass(frozen=True)
class PlainLook:
    """What the token answers. Keys work and belong together unless something else is said here, of some by their CKA_LABEL.

    ``unusable`` has the return value of a use, ``hollow`` the keys without a value. ``same_key``, ``halves`` and ``opens`` are what
    is found of a source, of two halves and of a wrapped source; ``holds`` is why what is in a wrapped one is not as declared, and
    ``refuses`` why a source is not taken.
    """

    unusable: Mapping[str, str | None] = field(default_factory=dict)
    hollow: Collection[str] = ()
    same_key: bool | None = True
    halves: bool | None = True
    opens: str | None = None
    holds: str | None = None
    untold_of_source: Untold = ()
    refuses: str | None = None
    computed: Mapping[str, str] = field(default_factory=dict)
    tried: Mapping[str, bool] = field(default_factory=dict)  # what trying an operation gives; of others nothing can be told

    def does(self, item: KeyObject, operation: str) -> bool | None:
        return self.tried.get(operation)

    def use(self, key: Key) -> Cryptoki | None:
        rv = self.unusable.get(key.main.label, "CKR_GENERAL_ERROR" if self.empty(key) else None)
        return Cryptoki(f"it answers {rv}", rv=rv, device=False) if rv is not None else None

    def same(self, spec: KeySpec, key: Key) -> bool | None:
        return self.same_key

    def belongs(self, private: KeyObject, public: Mapping[str, bytes]) -> bool | None:
        return self.halves

    def public_value(self, public_key: bytes) -> Mapping[str, bytes]:
        return {"DER": public_key}

    def empty(self, key: Key) -> bool:
        return key.main.label in self.hollow

    def openable(self, spec: KeySpec) -> str | None:
        return self.opens

    def unwraps(self, spec: KeySpec) -> tuple[str | None, Untold]:
        return self.holds, self.untold_of_source

    def importable(self, spec: KeySpec) -> Cryptoki | None:
        return Cryptoki(self.refuses, rv="CKR_TEMPLATE_INCONSISTENT", device=False) if self.refuses is not None else None

    def fingerprint(self, key: Key) -> str | None:
        return key.fingerprint or self.computed.get(key.main.label)

    def healthy(self) -> bool:
        return True


@dataclass(frozen=True)
class Answer:
    """``plans`` in order, and every problem."""

    plans: list[KeyPlan]
    problems: list[str]

    @property
    def said(self) -> str:
        """The problems; without any, the actions in order."""
        return "; ".join(self.problems) or " ".join(plan.action for plan in self.plans)

    @property
    def actions(self) -> list[tuple[str, str]]:
        assert not self.problems, self.problems
        return [(plan.spec.label, plan.action) for plan in self.plans]

    def only(self) -> KeyPlan:
        assert not self.problems, self.problems
        (plan,) = self.plans
        return plan


def note(label: str = "k", *, imported: bool = False, replaces: bool = False) -> PendingKey:
    """What a run leaves that died while it made this key."""
    return PendingKey(HERE, label, label.encode(), imported, replaces, 0)


def entries(*wishes: Mapping[str, Any]) -> list[KeySpec]:
    """Entries of ``keys:`` as they are parsed. ``material`` is what their source held."""
    options = [{name: value for name, value in {"label": "k", **wish}.items() if name != "material"} for wish in wishes]
    specs, problems = parse_keys(options)
    assert problems == []
    return [replace(spec, material=wish.get("material")) for spec, wish in zip(specs, wishes, strict=True)]


@dataclass(frozen=True)
class World:
    """A token with ``keys``, the ``records`` that count for a group or for the token, what ``others`` (groups) have recorded, the
    notes of runs that died, and what the other ``members`` of the group hold (None where they were not asked)."""

    keys: tuple[Key, ...] = ()
    records: tuple[VirtualKey, ...] = ()
    group: GroupRecord | None = None
    others: tuple[tuple[GroupRecord, VirtualKey], ...] = ()
    notes: tuple[PendingKey, ...] = ()
    unfinished: Mapping[str, str] = field(default_factory=dict)
    look: PlainLook = PlainLook()
    recorded: bool = True
    repair: bool = False
    certified: Collection[bytes] = ()
    stray: tuple[KeyObject, ...] = ()  # objects that belong to none of the keys
    members: OtherMembers | None = ALONE
    on_elsewhere: str = "fail"
    on_unreachable: str = "fail"
    layout: str = PKCS11
    in_use: Mapping[str, Any] = field(default_factory=dict)  # as the option

    @property
    def scope(self) -> Scope:
        of: dict[Any, dict[str, VirtualKey]] = {}
        for group, record in self.others:
            of.setdefault(record.name, {})[group.name] = record
        held_back = frozenset(group.name for group, _record in self.others if not group.apply_changes)
        pending = [pending.label for pending in self.notes]
        more = {"groups_of": of, "held_back": held_back, "unfinished": self.unfinished, "pending": pending}
        mine = self.group.id if self.group is not None else None
        known = [*sorted(self.records, key=lambda record: record.group_id != mine)]
        known += [record for _group, record in self.others if self.group is None]  # what groups have of this token counts here, too
        first: dict[Any, VirtualKey] = {}
        for record in known:
            first.setdefault(record.name, record)
        return scope_of(*first.values(), group=self.group, **more)

    @property
    def objects(self) -> list[KeyObject]:
        return [item for key in self.keys for item in key.objects] + list(self.stray)

    def plan(self, *wishes: Mapping[str, Any], check: bool = False) -> Answer:
        """What is planned for these entries; the label is ``k`` unless it is given."""
        neighbours, notes = Neighbours(self.objects, self.certified), {pending.label: pending for pending in self.notes}
        used, wrong = InUse.parse(self.in_use)
        assert wrong == []
        more: dict[str, Any] = {"in_use": used, "token": None if self.group else "here"}
        more |= {"others": self.members, "on_elsewhere": self.on_elsewhere, "on_unreachable": self.on_unreachable}
        circumstances = Circumstances(self.recorded, self.repair, notes, self.look, neighbours, self.scope, check, **more)
        specs = [replace(spec, layout=self.layout) for spec in entries(*wishes)]
        return Answer(*plan_keys(specs, self.objects, circumstances, NOW))

    def after(self, answer: Answer) -> World:
        """What a run makes of it: the token and the records as they are then."""
        assert not answer.problems, answer.problems
        return reduce(_carried_out, answer.plans, replace(self, notes=()))

    def own(self, label: str = "k") -> list[VirtualKey]:
        """The scope's own records of a label."""
        return [record for record in self.records if record.label == label and self.scope.owns(record)]


def made(spec: KeySpec) -> Key:
    """The key that is generated or imported for ``spec``."""
    material, number = spec.material, next(_numbers)
    clear = isinstance(material, KeyMaterial)
    common: dict[str, Any] = {"type": spec.type, "size": spec.new_size, "curve": spec.new_curve}
    common |= {"sensitive": spec.sensitive is not False, "extractable": bool(spec.extractable), "local": material is None}
    common |= {"modifiable": spec.modifiable is not False, "destroyable": spec.destroyable is not False}
    halves: dict[str, KeyObject] = {}
    for kind in (PRIVATE, PUBLIC) if spec.key_type.is_pair else (SECRET,):
        fields = {**common, "operations": ordered(set(spec.new_operations) & set(class_operations(spec.type or "", kind)))}
        fields |= {"label": spec.label_of(kind), "key_id": spec.id_of(kind)}
        if kind == SECRET:
            fields["check_value"] = material.check_value if isinstance(material, KeyMaterial) else number.to_bytes(3, "big")
        elif kind == PUBLIC:
            fields["public_key"] = material.public_key if clear and material else der(spec.type or "", f"made {number}")
        if kind != PUBLIC:
            fields["allowed_mechanisms"] = spec.allowed_mechanisms
        halves[kind] = KeyObject(handle=100_000 + 2 * number + len(halves), kind=kind, **fields)
    return Key(**halves)


def key(label: str = "k", type: str = "AES", *, layout: str = PKCS11, **options: Any) -> Key:
    """A key on the token as hsm_key makes it."""
    (spec,) = entries({"label": label, "type": type, **options})
    return made(replace(spec, layout=layout))


def _carried_out(world: World, plan: KeyPlan) -> World:
    """One plan, as ``keys.apply`` does it."""
    action, old, owned = plan.action, plan.virtual, world.scope.owns(plan.virtual)
    if action == KEEP:
        return world
    if action == FORGET:
        return replace(world, records=tuple(record for record in world.records if record not in plan.stale))
    if action == RECORD:
        return _recorded(world, plan, plan.recorded_as or plan.key)
    if action == DELETE:
        assert plan.key is not None
        gone = _exchanged(world, plan.key, None)
        if plan.new_state is None:
            return replace(gone, records=tuple(record for record in world.records if record != old and record not in plan.stale))
        return _with(gone, old, replace(old, state=plan.new_state)) if old and owned else _recorded(gone, plan, plan.key)
    if action in (CREATE, REPLACE) or plan.clear:
        records = tuple(record for record in world.records if record != old)
        new, look = made(plan.spec), world.look
        look = replace(look, hollow={*look.hollow} - {plan.spec.label}, unusable={**look.unusable, plan.spec.label: None}, same_key=True)
        return _recorded(_exchanged(replace(world, records=records, look=look), plan.key, new), plan, new, anew=True)
    if action == REMOVE_PRIVATE:
        assert plan.key is not None
        left = Key(public=plan.key.public)
        return _recorded(_exchanged(world, plan.key, left), plan, left)
    left_key = _changed(plan) if plan.key is not None else None
    if action == REPAIR:
        assert left_key is not None
        mended, look = _mended(plan, left_key), replace(world.look, same_key=True if plan.spec.material else world.look.same_key)
        return _recorded(_exchanged(replace(world, look=look), plan.key, mended), plan, mended)
    after = _exchanged(world, plan.key, left_key) if left_key is not None else world
    if old is not None and owned:
        return _with(after, old, plan.changed_record(old, left_key, world.scope))
    if left_key is not None and (old is None or world.group is not None):
        return _recorded(after, plan, left_key)
    return after


def _exchanged(world: World, before: Key | None, after: Key | None) -> World:
    gone = {item.handle for item in before.objects} if before is not None else set()
    keys = [other for other in world.keys if other.main.handle not in gone]
    return replace(world, keys=(*keys, after) if after is not None else tuple(keys))


def _with(world: World, old: VirtualKey | None, new: VirtualKey) -> World:
    return replace(world, records=(new, *(record for record in world.records if record != old)))


def _recorded(world: World, plan: KeyPlan, found: Key | None, *, anew: bool = False) -> World:
    assert found is not None
    if not world.recorded:
        return world
    record = replace(plan.record_of(found, HERE, made=anew), group_id=world.scope.group_id, id=f"new-{next(_numbers)}")
    kept = [r for r in world.records if r != plan.virtual and not (world.scope.owns(r) and r.name == record.name)]
    return replace(world, records=(record, *kept))


def _changed(plan: KeyPlan) -> Key:
    """The key with the attributes that the plan writes."""
    assert plan.key is not None
    halves = {item.kind: item for item in plan.key.objects}
    for change in plan.changes:
        item, name = halves[change.item.kind], change.name.lower()
        assert item.modifiable is not False, change
        operations = {*item.operations, name} if change.value else {*item.operations} - {name}
        written: dict[str, Any] = {name: change.value} if name in ("sensitive", "extractable") else {"operations": ordered(operations)}
        halves[item.kind] = replace(item, **written)
    return Key(**halves)


def _mended(plan: KeyPlan, there: Key) -> Key:
    """The pair with the half that was missing."""
    spec, main = plan.spec, there.main
    whole = made(replace(spec.beside(main), size=main.size if spec.type == "RSA" else None, curve=main.curve))
    if plan.mend is None:
        return Key(private=whole.private, public=there.public)
    assert whole.public is not None
    public_key = plan.mend.get("DER") or der(spec.type or "", "p")
    public = replace(whole.public, operations=mended_operations(spec, there), public_key=public_key)
    return Key(private=there.private, public=public)


def clear(type: str = "EC", value: str = "p") -> KeyMaterial:
    """What a source held in the clear. ``value`` tells keys apart."""
    if type == "AES":
        return KeyMaterial("AES", 256, None, {"VALUE": value.encode()}, check_value=value.encode()[:3].ljust(3))
    return KeyMaterial(type, 256, "P-256", {"VALUE": b"1"}, {"DER": der(type, value)}, der(type, value))


def wrapped(type: str = "AES", wrapping_key: str = "kek") -> WrappedMaterial:
    return WrappedMaterial(b"blob", type, None, None, wrapping_key)
