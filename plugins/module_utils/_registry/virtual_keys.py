# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""Virtual keys in the registry: records that point at keys in an HSM."""

from __future__ import annotations

import json
import sqlite3
import uuid
from collections.abc import Collection, Iterable
from dataclasses import fields
from typing import Any

from .._model.records import VirtualKey
from . import columns, events
from .database import Database, now

_COLUMNS = tuple(field.name for field in fields(VirtualKey))
_BORN_WITH = ("id", "origin", "created_at")
_CHANGING = [name for name in _COLUMNS if name not in _BORN_WITH] + ["updated_at"]

_INSERT = columns.insert("virtual_key", [*_COLUMNS, "updated_at"])
_UPDATE = columns.update("virtual_key", _CHANGING)
_IN_NO_GROUP = " ON CONFLICT (token_id, kind, key_id, label) WHERE group_id IS NULL "
_IN_GROUP = " ON CONFLICT (group_id, kind, key_id, label) WHERE group_id IS NOT NULL "
_KEEP = "DO NOTHING"
# A number or a moment that another run has noted is not lost by one that does not know it.
_MERGED = {"made_at": "coalesce(excluded.made_at, made_at)", "generation": "max(generation, excluded.generation)"}
_OVERWRITE = "DO UPDATE SET " + ", ".join(f"{name} = {_MERGED.get(name, f'excluded.{name}')}" for name in _CHANGING)


def _virtual_key(row: sqlite3.Row) -> VirtualKey:
    allowed = row["allowed_mechanisms"]
    written = {
        "operations": tuple(json.loads(row["operations"])),
        "unreported": tuple(json.loads(row["unreported"]).items()),
        "allowed_mechanisms": None if allowed is None else tuple(json.loads(allowed)),
    }
    return VirtualKey(**{name: row[name] for name in _COLUMNS} | written)


def _values(key: VirtualKey, moment: str) -> dict[str, Any]:
    written = {
        "operations": json.dumps(list(key.operations)),
        "unreported": json.dumps(dict(key.unreported)),
        "allowed_mechanisms": None if key.allowed_mechanisms is None else json.dumps(list(key.allowed_mechanisms)),
    }
    return {**{name: getattr(key, name) for name in _COLUMNS}, **written, "updated_at": moment}


def of_tokens(database: Database, token_ids: Collection[int]) -> list[VirtualKey]:
    """The virtual keys that were found or made on these tokens, in groups or in none: token by token, in the order they were added."""
    query = "SELECT * FROM virtual_key WHERE token_id = ? ORDER BY rowid"
    return [_virtual_key(row) for token_id in token_ids for row in database.connection.execute(query, (token_id,))]


def of_group(database: Database, group_id: str) -> list[VirtualKey]:
    """The virtual keys of a group, in the order they were added."""
    query = "SELECT * FROM virtual_key WHERE group_id = ? ORDER BY rowid"
    return [_virtual_key(row) for row in database.connection.execute(query, (group_id,))]


def untouched(database: Database) -> set[str]:
    """The ids of active records of keys that a sync has found, and that nobody has changed since."""
    query = "SELECT id FROM virtual_key WHERE origin = 'hsm_sync' AND state = 'active' AND updated_at = created_at"
    return {str(row[0]) for row in database.connection.execute(query)}


def add(database: Database, keys: Iterable[tuple[str, VirtualKey]], *, overwrite: bool = False) -> list[bool]:
    """Add virtual keys, each with the UID to log, in the caller's transaction. Whether each was written.

    Another run may have recorded the same key since ours looked. Then its record stays, or with ``overwrite`` (a key that
    was just made or asked for by name) is brought up to date.
    """
    moment = now()
    written: list[bool] = []
    for uid, key in keys:
        cursor = database.connection.execute(
            _INSERT + (_IN_NO_GROUP if key.group_id is None else _IN_GROUP) + (_OVERWRITE if overwrite else _KEEP),
            {**_values(key, moment), "id": str(uuid.uuid4()), "created_at": moment},
        )
        written.append(bool(cursor.rowcount))
        if cursor.rowcount:
            events.record(database, "add_key", uid, origin=key.origin, type=key.type, state=key.state)
    return written


def update(database: Database, uid: str, key: VirtualKey, action: str = "change_key", **details: Any) -> None:
    """Write what a run changed on purpose in the caller's transaction: the record that has the ``id`` of ``key`` becomes ``key``.

    Where it came from and when it was made stay as they are.
    """
    database.connection.execute(_UPDATE, _values(key, now()))
    events.record(database, action, uid, operations=list(key.operations), state=key.state, **details)


def remove(database: Database, uid: str, key: VirtualKey, action: str) -> None:
    """Delete one record in the caller's transaction. The HSM is not touched."""
    database.connection.execute("DELETE FROM virtual_key WHERE id = ?", (key.id,))
    events.record(database, action, uid, label=key.label)


def forget_tokens(database: Database, token_ids: Collection[int]) -> None:
    """Delete every record of these tokens in the caller's transaction. The HSM is not touched."""
    _note_forgotten(database, of_tokens(database, token_ids))
    database.connection.executemany("DELETE FROM virtual_key WHERE token_id = ?", [(token_id,) for token_id in token_ids])


def forget_group(database: Database, group_id: str) -> None:
    """Delete every record of a group in the caller's transaction. The HSM is not touched."""
    _note_forgotten(database, of_group(database, group_id))
    database.connection.execute("DELETE FROM virtual_key WHERE group_id = ?", (group_id,))


def _note_forgotten(database: Database, keys: Iterable[VirtualKey]) -> None:
    for key in keys:
        events.record(database, "forget_key", key.label, id=key.key_id.hex(), type=key.type)
