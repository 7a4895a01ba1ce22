# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""Instances and their tokens in the registry."""

from __future__ import annotations

import json
import sqlite3
import uuid

from .._model.records import InstanceRecord, TokenRecord
from .._model.tokens.selectors import TokenSelector
from . import events
from .database import Database, now


def _selector(kind: str, value: str) -> TokenSelector:
    return TokenSelector(kind, int(value) if kind == "slot" else value)


def _token(row: sqlite3.Row) -> TokenRecord:
    return TokenRecord(
        id=row["id"],
        selector=_selector(row["selector_kind"], row["selector_value"]),
        label=row["label"],
        serial=row["serial"],
        slot=None if row["slot"] is None else int(row["slot"]),
        login=bool(row["login"]),
        user_type=row["user_type"],
        pin_file=row["pin_file"],
        refused=row["refused_pin_file"],
    )


def all_instances(database: Database) -> list[InstanceRecord]:
    """Every instance with its tokens, in the order of registration."""
    tokens: dict[str, list[TokenRecord]] = {}
    for row in database.connection.execute("SELECT * FROM token ORDER BY instance_id, position"):
        tokens.setdefault(row["instance_id"], []).append(_token(row))
    return [
        InstanceRecord(
            id=row["id"],
            position=row["position"],
            name=row["name"],
            description=row["description"],
            model=row["model"],
            library=row["library"],
            admins=tuple(json.loads(row["admins"])),
            max_sessions=row["max_sessions"],
            connection_timeout=row["connection_timeout"],
            environment=json.loads(row["environment"]),
            tokens=tuple(tokens.get(row["id"], ())),
            created_at=row["created_at"],
            updated_at=row["updated_at"],
        )
        for row in database.connection.execute("SELECT * FROM instance ORDER BY position")
    ]


_INSERT = (
    "INSERT INTO instance (id, position, name, description, model, library, admins, max_sessions, connection_timeout, environment, "
    "created_at, updated_at) VALUES (:id, (SELECT coalesce(max(position), 0) + 1 FROM instance), :name, :description, :model, "
    ":library, :admins, :max_sessions, :connection_timeout, :environment, :moment, :moment)"
)
_UPDATE = (
    "UPDATE instance SET name = :name, description = :description, model = :model, library = :library, admins = :admins, "
    "max_sessions = :max_sessions, connection_timeout = :connection_timeout, environment = :environment, updated_at = :moment "
    "WHERE id = :id"
)
_ADD_ROW = (
    "INSERT INTO token (instance_id, position, selector_kind, selector_value, label, serial, slot, login, user_type, pin_file) "
    "VALUES (:instance_id, :position, :selector_kind, :selector_value, :label, :serial, :slot, :login, :user_type, :pin_file)"
)
_CHANGE_ROW = (
    "UPDATE token SET position = :position, selector_kind = :selector_kind, selector_value = :selector_value, label = :label, "
    "serial = :serial, slot = :slot, login = :login, user_type = :user_type, pin_file = :pin_file WHERE id = :id"
)


def save(database: Database, record: InstanceRecord, action: str) -> None:
    """Insert or update an instance (by its ``id``) and its tokens (by theirs) in the caller's transaction."""
    identity = record.id or str(uuid.uuid4())
    values = {
        "id": identity,
        "name": record.name,
        "description": record.description,
        "model": record.model,
        "library": record.library,
        "admins": json.dumps(list(record.admins)),
        "max_sessions": record.max_sessions,
        "connection_timeout": record.connection_timeout,
        "environment": json.dumps(dict(record.environment), sort_keys=True),
        "moment": now(),
    }
    database.connection.execute(_INSERT if record.id is None else _UPDATE, values)
    _save_tokens(database.connection, identity, record.tokens)
    events.record(database, action, record.name, model=record.model, library=record.library)


def _save_tokens(connection: sqlite3.Connection, instance_id: str, tokens: tuple[TokenRecord, ...]) -> None:
    kept = {token.id for token in tokens}
    for row in connection.execute("SELECT id FROM token WHERE instance_id = ?", (instance_id,)).fetchall():
        if row["id"] not in kept:
            connection.execute("DELETE FROM token WHERE id = ?", (row["id"],))
    for position, token in enumerate(tokens):
        values = {
            "id": token.id,
            "instance_id": instance_id,
            "position": position,
            "selector_kind": token.selector.kind,
            "selector_value": str(token.selector.value),
            "label": token.label,
            "serial": token.serial,
            "slot": None if token.slot is None else str(token.slot),
            "login": int(token.login),
            "user_type": token.user_type,
            "pin_file": token.pin_file,
        }
        connection.execute(_ADD_ROW if token.id is None else _CHANGE_ROW, values)


def note_refusal(database: Database, token_id: int, state: str | None) -> None:
    """Keep, or with None forget, which state of a PIN file the token refused. In the caller's transaction."""
    database.connection.execute("UPDATE token SET refused_pin_file = ? WHERE id = ?", (state, token_id))


def remove(database: Database, record: InstanceRecord) -> None:
    """Delete an instance and its tokens in the caller's transaction. Nothing may refer to it any more."""
    database.connection.execute("DELETE FROM instance WHERE id = ?", (record.id,))
    events.record(database, "remove_instance", record.name)
