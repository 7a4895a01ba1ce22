# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""The registry's record of a key, written with each step of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ..._cryptoki.session import Session
from ..._model.keys.objects import Key
from ..._model.records import PendingKey, VirtualKey
from ..._model.scope import Scope
from ..._model.uids import uid as uid_of_key
from ..._registry import pending_keys, virtual_keys
from ..._registry.database import Database, now
from ..tokens.connection import Target
from .look import TokenLook
from .planning.plan import KeyPlan, predicted_fingerprint


class Recorder:
    """``begun`` are the labels that the registry has a note of from this run."""

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

    def uid(self, key: Key) -> str:
        return uid_of_key(self.target.prefix or "", self.session.token.slot_id, key.key_id_text)

    def uid_of(self, record: VirtualKey) -> str:
        return uid_of_key(self.target.prefix or "", self.session.token.slot_id, record.key_id_text)

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
