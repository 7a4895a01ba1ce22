# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""The registry's record of a key, written with each step of a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import replace

from ..._cryptoki.session import Session
from ..._model.errors import RegistryError
from ..._model.keys.layout import pair_label
from ..._model.keys.objects import Key, KeyObject
from ..._model.plan import REPLACE
from ..._model.records import PendingKey, VirtualKey
from ..._model.scope import Scope
from ..._model.uids import uid as uid_of_key
from ..._registry import pending_keys, virtual_keys
from ..._registry.database import Database, now, recording
from ..tokens.connection import Target
from .look import TokenLook
from .planning.plan import KeyPlan, predicted_fingerprint

_TOGETHER = 64  # new keys whose records are written in one transaction


class Recorder:
    """``begun`` are the labels that the registry has a note of from this run. ``waiting`` are new keys without a record: of a run that dies
    now, the next one finds them by their notes."""

    def __init__(
        self,
        session: Session,
        database: Database | None,
        target: Target,
        look: TokenLook,
        scope: Scope,
        pending: Mapping[str, PendingKey],
    ) -> None:
        self.session = session
        self.database = database
        self.target = target
        self.look = look
        self.scope = scope
        self.pending = pending
        self.begun: set[str] = set()
        self.waiting: list[tuple[KeyPlan, Key]] = []

    def uid(self, key: Key) -> str:
        return uid_of_key(self.target.prefix or "", self.session.token.slot_id, key.key_id_text)

    def uid_of(self, record: VirtualKey) -> str:
        return uid_of_key(self.target.prefix or "", self.session.token.slot_id, record.key_id_text)

    def begin(self, plans: Sequence[KeyPlan], before: int) -> None:
        """Note what is about to be made, in one transaction, before the first call. ``before``: objects on the token that were cut off."""
        token_id, making_now = self.target.token_id, [plan for plan in plans if plan.makes_key]
        if not making_now or self.database is None or token_id is None:
            return
        with self.database.transaction(durable=True):
            pending_keys.add(self.database, [_note(plan, token_id, before) for plan in making_now])
        self.begun = {plan.spec.label for plan in making_now}

    def end(self, finished: Set[str], left: Set[str], objects: Iterable[KeyObject]) -> None:
        """Take back the notes that no key stands behind: this run lives, and knows what it has ``left`` on the token."""
        token_id = self.target.token_id
        if self.database is None or token_id is None:
            return
        there = {label for item in objects for label in (item.label, pair_label(item.label))}
        settled = self.begun - finished - left - self.pending.keys()
        settled |= {label for label in self.pending if label not in there and label not in self.begun}
        if settled:
            # A note too many costs the next run a look. What was done on the token is told in any case.
            with suppress(RegistryError), self.database.transaction():
                pending_keys.remove(self.database, token_id, settled)

    @property
    def full(self) -> bool:
        """Whether no other key should wait."""
        return len(self.waiting) >= _TOGETHER

    def later(self, plan: KeyPlan, key: Key) -> None:
        """A new key, whose record is written with others."""
        self.look.fingerprint(key)  # asked for now, and not while the registry is locked
        self.waiting.append((plan, key))

    def write_waiting(self) -> None:
        """Raises :class:`RegistryError`, and then nobody waits any more either."""
        waiting, self.waiting = self.waiting, []
        if waiting:
            with recording(self.database):
                for plan, key in waiting:
                    self.write(plan, key, made=True)

    def write(self, plan: KeyPlan, key: Key, *, made: bool = False) -> None:
        """Write the record of ``key`` in the caller's transaction, and take the note back. ``made``: it is another key than before."""
        token_id, database = self.target.token_id, self.database
        if database is None or token_id is None:
            return
        address = self.uid(key) if plan.adopted is None else plan.adopted.uid
        old = None if made else plan.virtual
        owned = self.scope.owns(old)
        adopted = old is not None and not owned and old.group_id is None
        if old is not None and not adopted and (old.name != key.name or not owned):
            same_name = (old.key_id, old.label) == (key.main.key_id, key.main.label)
            virtual_keys.remove(database, address, old, "adopt_key" if not owned else "change_key" if same_name else "rename_key")
        made_at = now() if made or key.main.label in self.pending else (old.made_at if old is not None else None)
        # A key of another token is not asked about here: its handle is somebody else's.
        known = self.look.fingerprint(key) if plan.adopted is None else key.fingerprint
        fingerprint = known or (predicted_fingerprint(plan.spec) if made else None)
        record = replace(plan.record_of(key, token_id, made=made), fingerprint=fingerprint, made_at=made_at, group_id=self.scope.group_id)
        if adopted and old is not None:  # it stays the same record: since when the key is known does not begin anew
            virtual_keys.update(database, address, replace(record, id=old.id), "adopt_key")
        else:
            virtual_keys.add(database, [(address, record)], overwrite=True)
        if key.main.label in self.begun or key.main.label in self.pending:
            pending_keys.remove(database, token_id, [key.main.label])


def _note(plan: KeyPlan, token_id: int, before: int) -> PendingKey:
    spec, replaces = plan.spec, plan.action == REPLACE or bool(plan.clear)
    return PendingKey(token_id, spec.label, spec.key_id, spec.material is not None, replaces, before)
