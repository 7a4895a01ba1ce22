# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""Carrying the plan out, step by step: each with its record, or the note that it was begun, so that a run that dies is finished by the
next."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import islice

from ..._cryptoki import making
from ..._cryptoki import objects as cryptoki
from ..._cryptoki.objects import Inventory
from ..._cryptoki.roundtrip import use_once
from ..._cryptoki.rungs import NOT_AS_ASKED, REFUSALS
from ..._cryptoki.second_look import CHANGED, cannot_tell
from ..._cryptoki.session import Session
from ..._model.errors import Cryptoki, KeyfleetError, PinError, RegistryError
from ..._model.keys.material import KeyMaterial, WrappedMaterial
from ..._model.keys.objects import Key, KeyObject, group_keys, recall
from ..._model.keys.spec import KeySpec
from ..._model.keys.states import COMPROMISED, DEACTIVATED
from ..._model.keys.types import PRIVATE, PUBLIC, SECRET
from ..._model.plan import CHANGE, CREATE, DELETE, KEEP, REPLACE
from ..._model.records import PendingKey
from ..._model.scope import Scope
from ..._registry import events, pending_keys, virtual_keys
from ..._registry.database import Database, recording
from ..tokens.connection import Target
from ..tokens.refused_pins import note_login
from . import unwrapping
from .done import Done, Failure, LeftOver, Work
from .look import TokenLook
from .planning.plan import (
    DEACTIVATE,
    FORGET,
    RECORD,
    REMOVE_PRIVATE,
    REPAIR,
    SET_STATE,
    KeyPlan,
    mended_operations,
)
from .records import Recorder


class Applier:
    """The writing half of one run."""

    def __init__(
        self,
        session: Session,
        inventory: Inventory,
        database: Database | None,
        target: Target,
        look: TokenLook,
        pending: Mapping[str, PendingKey],
        scope: Scope,
    ) -> None:
        self.session = session
        self.inventory = inventory
        self.database = database
        self.target = target
        self.look = look
        self.scope = scope
        self.pending = pending
        self.records = Recorder(session, database, target, look, scope, pending)
        # By CKA_LABEL: what is on the token after a step, what is gone from it, what was finished and what failed.
        self._after: dict[str, Key | None] = {}
        self._destroyed: set[str] = set()
        self._finished: set[str] = set()
        self._failures: dict[str, Failure] = {}

    def apply(self, plans: Sequence[KeyPlan], left_overs: Sequence[LeftOver]) -> Work:
        """Carry out ``plans`` in order. What fails is told in the result; after a fault of the device nothing more is tried."""
        self._record_known(plans)
        cleared: set[int] = set()
        complaints: list[str] = []
        try:
            self.records.begin(plans, len(self.inventory.cut_off))
            self._clear([item for item, removed in left_overs if removed], cleared, complaints)
        except KeyfleetError as error:
            error.changed = error.changed or bool(cleared) or bool(self._finished)
            raise
        broken: set[tuple[int, str]] = set()
        for plan in plans:
            # What an entry brings along comes after its own key, and only when that is in place.
            if plan.action in (KEEP, RECORD) or (plan.spec.entry in broken and not plan.spec.lead):
                continue
            # Only keys that nothing else depends on wait for their records.
            if (plan.action != CREATE or self.records.full) and not self._record_made():
                break
            try:
                self._apply_one(plan)
                if plan.action != CREATE:
                    self._finished.add(plan.spec.label)
            except KeyfleetError as error:
                broken.add(plan.spec.entry)
                self._failures[plan.spec.label] = self._failure(plan, error)
                if not isinstance(error, Cryptoki) or error.device:
                    break  # the device or the registry is in trouble: the rest is not attempted
        self._record_made()
        left = {label for label, failure in self._failures.items() if failure.changed_hsm}
        self.records.end(self._finished, left, self.inventory.objects)
        removed = tuple((item, item.handle in cleared) for item, _planned in left_overs)
        return Work(tuple(self._done(plan) for plan in plans), removed, tuple(complaints))

    def _done(self, plan: KeyPlan) -> Done:
        label = plan.spec.label
        destroyed = label in self._destroyed
        key = self._after.get(label, None if plan.makes_key and destroyed else plan.key)
        fingerprint = self.look.fingerprint(key) if key is not None else None
        return Done(key, fingerprint, label in self._finished, destroyed, self._failures.get(label))

    def _clear(self, left_overs: Iterable[KeyObject], cleared: set[int], complaints: list[str]) -> None:
        for item in left_overs:
            try:
                cryptoki.destroy(self.session, self.inventory, item)
            except Cryptoki as error:
                if error.details.get(CHANGED):
                    error.changed = True
                    raise
                complaints.append(f"a left-over without a name stays on the token: {error.message}")
                continue
            cleared.add(item.handle)
            with recording(self.database) as database:
                if database is not None:
                    events.record(database, "destroy_left_over", str(self.session.token), kind=item.kind, type=item.type)

    def _failure(self, plan: KeyPlan, error: KeyfleetError) -> Failure:
        unrecorded = isinstance(error, RegistryError)
        text = f"{error.message}; the work in the HSM is done, and the next run records it" if unrecorded else error.message
        return Failure(error.code, text, unrecorded or plan.spec.label in self._destroyed or bool(error.details.get(CHANGED)))

    # Records

    def _record_known(self, plans: Sequence[KeyPlan]) -> None:
        found = [(plan, key) for plan in plans if plan.action == RECORD and (key := plan.recorded_as or plan.key) is not None]
        if not found:
            return
        with recording(self.database):
            for plan, key in found:
                self.records.write(plan, key)
        self._finished |= {plan.spec.label for plan, _key in found}

    def _record_made(self) -> bool:
        """Record the new keys that wait for it. Whether the registry took them: each is told otherwise."""
        made = self.records.waiting
        try:
            self.records.write_waiting()
        except RegistryError as error:
            self._failures |= {plan.spec.label: self._failure(plan, error) for plan, _key in made}
            return False
        self._finished |= {plan.spec.label for plan, _key in made}
        return True

    # The steps

    def _apply_one(self, plan: KeyPlan) -> None:
        if plan.action in (DELETE, REPLACE) and plan.key is not None:
            self._destroy(plan, plan.key)
        if plan.action == REPAIR:
            self._repair(plan)
        elif plan.action in (CREATE, REPLACE):
            self._make(plan)
        elif plan.action in (CHANGE, DEACTIVATE, SET_STATE):
            self._change(plan, plan.key)
        elif plan.action == REMOVE_PRIVATE and plan.key is not None:
            self._remove_private(plan, plan.key)
        elif plan.action == FORGET:
            with recording(self.database) as database:
                if database is not None:
                    self._forget(plan, database)

    def _forget(self, plan: KeyPlan, database: Database) -> None:
        for record in plan.stale:
            virtual_keys.remove(database, self.records.uid_of(record), record, "forget_key")

    def _make(self, plan: KeyPlan) -> None:
        try:
            key = self._create(plan)
        except Cryptoki as error:
            if plan.spec.label in self._destroyed:
                error.message += "; the key that was to be replaced is destroyed"
            raise
        if plan.action == CREATE:
            self.records.later(plan, key)
            return
        with recording(self.database):
            self.records.write(plan, key, made=True)

    def _repair(self, plan: KeyPlan) -> None:
        key, spec = plan.key, plan.spec
        if key is None:
            return
        if plan.clear:
            self._destroy_objects(plan, key)
            with recording(self.database) as database:
                if database is not None:
                    events.record(database, "destroy_left_over", self.records.uid(key), label=key.main.label)
            self._make(plan)
            return
        key, session, inventory = self._with_changes(plan, key), self.session, self.inventory
        mate, value, material = spec.beside(key.main), plan.mend, spec.material
        if value is not None:
            mate = replace(mate, operations=mended_operations(spec, key), modifiable=None, destroyable=None)
            made = self._made(mate.label, (PUBLIC,), lambda: Key(public=making.create_public(session, inventory, mate, value)))
        elif isinstance(material, KeyMaterial):
            made = self._made(mate.label, (PRIVATE,), lambda: making.create(session, inventory, mate, material, [PRIVATE]))
        else:
            return
        mended = plan.recalled(Key(private=made.private or key.private, public=made.public or key.public))
        self._after[spec.label] = mended
        self._use_once(mended)
        with recording(self.database):
            self.records.write(plan, mended)

    def _destroy_objects(self, plan: KeyPlan, key: Key) -> None:
        """Destroy a key's objects one after the other. What is left of it is known after each."""
        label = plan.spec.label
        for done, item in enumerate(key.objects):
            try:
                cryptoki.destroy(self.session, self.inventory, item)
            except Cryptoki as error:
                error.message += "; its other half is destroyed already" if done else ""
                raise
            self._destroyed.add(label)
            left = key.objects[done + 1 :]
            self._after[label] = cryptoki.key_of(left) if left else None
        self.look.forget(key)

    def _destroy(self, plan: KeyPlan, key: Key) -> None:
        self._destroy_objects(plan, key)
        with recording(self.database) as database:
            if database is None:
                return
            if plan.new_state is not None and plan.virtual is not None and self.scope.owns(plan.virtual):
                # The key is gone, what is known of it stays.
                record = replace(plan.virtual, state=plan.new_state, generation=plan.generation)
                virtual_keys.update(database, self.records.uid(key), record, before=plan.virtual.state)
            elif plan.new_state is not None:
                self.records.write(plan, key)
            if plan.new_state is not None:
                events.record(database, "destroy_key", self.records.uid(key), label=key.main.label, state=plan.new_state)
            elif plan.virtual is not None:
                virtual_keys.remove(database, self.records.uid(key), plan.virtual, "destroy_key")
            else:
                events.record(database, "destroy_key", self.records.uid(key), label=key.main.label)
            self._forget(plan, database)
            if self.target.token_id is not None and plan.spec.label not in self.records.begun:
                pending_keys.remove(database, self.target.token_id, [plan.spec.label])

    def _change(self, plan: KeyPlan, key: Key | None) -> None:
        after = self._with_changes(plan, key) if key is not None else None
        if after is not None:
            self._after[plan.spec.label] = after
        old = plan.virtual
        with recording(self.database) as database:
            if database is None:
                return
            if old is not None and self.scope.owns(old):
                address = self.records.uid(after) if after is not None else self.records.uid_of(old)
                virtual_keys.update(database, address, plan.changed_record(old, after, self.scope), before=old.state)
            elif after is not None and (old is None or self.scope.group is not None):
                self.records.write(plan, after)
            elif after is not None:  # a group's key, changed in the HSM by who names the HSM: the group will report the difference
                self._remember(plan, after, database)
                events.record(database, "change_key", self.records.uid(after), operations=list(after.operations))

    def _remember(self, plan: KeyPlan, after: Key, database: Database) -> None:
        """Of a group's key, what its token will not report."""
        old, memory = plan.virtual, tuple(plan.memory(after).items())
        if old is not None and self.scope.is_here(old) and old.unreported != memory:
            virtual_keys.update(database, self.records.uid(after), replace(old, unreported=memory))

    def _with_changes(self, plan: KeyPlan, key: Key) -> Key:
        """Write the attributes that differ, and read the key back, also after a failure."""
        done = 0
        try:
            for change in plan.changes:
                cryptoki.set_attribute(self.inventory, change.item, change.name, change.value)
                done += 1
            return self._verified(plan, cryptoki.read_back(self.inventory, key)) if plan.changes else key
        except Cryptoki as error:
            if done:
                error.details[CHANGED] = True
                with suppress(Cryptoki):
                    self._after[plan.spec.label] = cryptoki.read_back(self.inventory, key)
            raise

    def _verified(self, plan: KeyPlan, after: Key) -> Key:
        """The key after its changes, if it has them. Of what the token does not report, what a key out of use loses is tried."""
        halves = {item.handle: item for item in after.objects}
        for change in plan.changes:
            item, name = halves[change.item.handle], change.name.lower()
            has = item.has(name)
            if has is None and plan.spec.state in (DEACTIVATED, COMPROMISED):
                has = self.look.does(item, name)
            if has not in (change.value, None):
                value = str(change.value).lower()
                text = f"the token accepted CKA_{change.name} = {value} for the {item.named()}, and the key did not change"
                raise Cryptoki(text, rv="CKR_FUNCTION_FAILED", device=False)
        return plan.recalled(after)

    def _remove_private(self, plan: KeyPlan, key: Key) -> None:
        if key.private is None:
            return
        cryptoki.destroy(self.session, self.inventory, key.private)
        self._destroyed.add(plan.spec.label)
        left = Key(public=key.public)
        self._after[plan.spec.label] = left
        with recording(self.database) as database:
            if database is not None:
                events.record(database, "remove_private", self.records.uid(key), label=key.main.label)
                self.records.write(plan, left)

    def _create(self, plan: KeyPlan) -> Key:
        """Make the key, and use it once before it counts."""
        spec = plan.spec
        made = self._made(spec.label, spec.key_type.halves, lambda: self._make_object(spec))
        key = recall(plan.recalled(made, made=True), {}, self.look.sizes.get(spec.label))
        self._after[spec.label] = key
        try:
            self._use_once(key)
        except Cryptoki as error:
            if isinstance(spec.material, WrappedMaterial) and not self.look.blames_device(error):
                unwrapping.destroy_again(self.session, self.inventory, key, error.message)
                del self._after[spec.label], error.details[CHANGED]
                error.message += f"; {unwrapping.NOTHING_KEPT}"
            raise
        return key

    def _made(self, label: str, halves: Collection[str], make: Callable[[], Key]) -> Key:
        """What ``make`` makes. After an error the token is searched: these halves may be there all the same, or a part of them."""
        known = len(self.inventory.raw)
        try:
            return make()
        except Cryptoki as error:
            # What was made in between was put at the end.
            return self._made_all_the_same(label, halves, set(islice(self.inventory.raw, known)), error)

    def _make_object(self, spec: KeySpec) -> Key:
        material = spec.material
        if material is None:
            return making.generate(self.session, self.inventory, spec)
        if isinstance(material, KeyMaterial):
            kinds = [PUBLIC, PRIVATE] if spec.key_type.is_pair else [SECRET]
            return making.create(self.session, self.inventory, spec, material, kinds)
        return unwrapping.unwrapped(self.session, self.inventory, self.look, spec, material)

    def _use_once(self, key: Key) -> None:
        try:
            use_once(self.session, self.inventory, key)
        except (Cryptoki, PinError) as error:
            if isinstance(error, PinError):  # it goes into the results, and never reaches who opened the session
                note_login(self.database, self.target.token, self.target.tried, error)
            error.details[CHANGED] = True
            error.message = f"the key was made but cannot be used: {error.message} ({key.main.named()})"
            raise

    def _made_all_the_same(self, label: str, halves: Collection[str], before: Collection[int], error: Cryptoki) -> Key:
        try:
            labelled, unlabelled = cryptoki.search_label(self.session, self.inventory, label, before)
        except Cryptoki as failure:
            cannot_tell(error, failure)
            raise error from None
        keys = group_keys(labelled)
        if len(keys) == 1 and {item.kind for item in keys[0].objects} == set(halves) and not error.details.get(NOT_AS_ASKED):
            return keys[0]
        left = [*labelled, *unlabelled]
        if left:
            error.details[CHANGED] = True
            error.message += ". Left over on the token: " + "; ".join(item.named() for item in left)
        elif error.rv in REFUSALS:
            error.device = self.look.blames_device(error)
        raise error
