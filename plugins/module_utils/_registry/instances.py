# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""Instances and their tokens in the registry."""

from __future__ import annotations

import json
import sqlite3
import uuid
from collections.abc import Collection
from dataclasses import fields

from .._model.records import InstanceRecord, TokenRecord
from .._model.tokens.selectors import TokenSelector
from . import columns, events
from .database import Database, now

_COLUMNS = [field.name for field in fields(InstanceRecord) if field.name != "tokens"]
_BORN_WITH = ("id", "position", "created_at")
_INSERT = columns.insert("instance", _COLUMNS)
_UPDATE = columns.update("instance", [name for name in _COLUMNS if name not in _BORN_WITH])
# What the record of a token and its row call alike. The marks of refused PINs are written by ``note_refusals`` alone.
_TOKEN_COLUMNS = [field.name for field in fields(TokenRecord) if field.name not in ("id", "selector", "refusals")]
_TOKEN_CHANGING = ["position", "selector_kind", "selector_value", *_TOKEN_COLUMNS]
_ADD_ROW = columns.insert("token", ["instance_id", *_TOKEN_CHANGING])
_CHANGE_ROW = columns.update("token", _TOKEN_CHANGING)


def _selector(kind: str, value: str) -> TokenSelector:
    return TokenSelector(kind, int(value) if kind == "slot" else value)


def _token(row: sqlite3.Row) -> TokenRecord:
    return TokenRecord(
        **{name: row[name] for name in _TOKEN_COLUMNS}
        | {"slot": None if row["slot"] is None else int(row["slot"]), "login": bool(row["login"]), "pinpad": bool(row["pinpad"])},
        id=row["id"],
        selector=_selector(row["selector_kind"], row["selector_value"]),
        refusals=_refusals(row),
    )


def all_instances(database: Database) -> list[InstanceRecord]:
    """Every instance with its tokens, in the order of registration."""
    tokens: dict[str, list[TokenRecord]] = {}
    for row in database.connection.execute("SELECT * FROM token ORDER BY instance_id, position"):
        tokens.setdefault(row["instance_id"], []).append(_token(row))
    rows = database.connection.execute("SELECT * FROM instance ORDER BY position")
    return [
        InstanceRecord(
            **{name: row[name] for name in _COLUMNS}
            | {"admins": tuple(json.loads(row["admins"])), "environment": json.loads(row["environment"])}
            | {"os_locking": bool(row["os_locking"])},
            tokens=tuple(tokens.get(row["id"], ())),
        )
        for row in rows
    ]


def save(database: Database, record: InstanceRecord, action: str) -> None:
    """Insert or update an instance (by its ``id``) and its tokens (by theirs) in the caller's transaction."""
    connection, moment = database.connection, now()
    values = {
        **vars(record),
        "id": record.id or str(uuid.uuid4()),
        "position": connection.execute("SELECT coalesce(max(position), 0) + 1 FROM instance").fetchone()[0],
        "admins": json.dumps(list(record.admins)),
        "environment": json.dumps(dict(record.environment), sort_keys=True),
        "created_at": moment,
        "updated_at": moment,
    }
    connection.execute(_INSERT if record.id is None else _UPDATE, values)
    _save_tokens(connection, values["id"], record.tokens)
    events.record(database, action, record.name, model=record.model, library=record.library)


def _save_tokens(connection: sqlite3.Connection, instance_id: str, tokens: tuple[TokenRecord, ...]) -> None:
    kept = {token.id for token in tokens}
    for row in connection.execute("SELECT id FROM token WHERE instance_id = ?", (instance_id,)).fetchall():
        if row["id"] not in kept:
            connection.execute("DELETE FROM token WHERE id = ?", (row["id"],))
    for position, token in enumerate(tokens):
        values = {
            **vars(token),
            "instance_id": instance_id,
            "position": position,
            "selector_kind": token.selector.kind,
            "selector_value": str(token.selector.value),
            "slot": None if token.slot is None else str(token.slot),
        }
        connection.execute(_ADD_ROW if token.id is None else _CHANGE_ROW, values)


def _refusals(row: sqlite3.Row) -> frozenset[str]:
    """The column has the name of its first use. The marks are separated by blanks."""
    return frozenset((row["refused_pin_file"] or "").split())


def refusals(database: Database, token_id: int) -> frozenset[str]:
    """The marks of the PINs that the token refused."""
    row = database.connection.execute("SELECT refused_pin_file FROM token WHERE id = ?", (token_id,)).fetchone()
    return frozenset() if row is None else _refusals(row)


def note_refusals(database: Database, token_id: int, marks: Collection[str]) -> None:
    """Keep these marks of refused PINs and no others. In the caller's transaction."""
    database.connection.execute("UPDATE token SET refused_pin_file = ? WHERE id = ?", (" ".join(sorted(marks)) or None, token_id))


def remove(database: Database, record: InstanceRecord) -> None:
    """Delete an instance and its tokens in the caller's transaction. Nothing may refer to it any more."""
    database.connection.execute("DELETE FROM instance WHERE id = ?", (record.id,))
    events.record(database, "remove_instance", record.name)
