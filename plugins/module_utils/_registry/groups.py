# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""Groups and their members in the registry."""

from __future__ import annotations

import uuid
from collections.abc import Collection

from .._model.records import GroupRecord
from . import events
from .database import Database, now


def all_groups(database: Database) -> list[GroupRecord]:
    """Every group with its members in priority order, by name."""
    members: dict[str, list[int]] = {}
    for row in database.connection.execute("SELECT group_id, token_id FROM group_member ORDER BY group_id, priority"):
        members.setdefault(row["group_id"], []).append(row["token_id"])
    return [
        GroupRecord(
            id=row["id"],
            name=row["name"],
            description=row["description"],
            apply_changes=bool(row["apply_changes"]),
            key_scan=row["key_scan"],
            members=tuple(members.get(row["id"], ())),
            created_at=row["created_at"],
            updated_at=row["updated_at"],
        )
        for row in database.connection.execute("SELECT * FROM hsm_group ORDER BY name")
    ]


def named(database: Database, name: str) -> GroupRecord | None:
    return next((group for group in all_groups(database) if group.name == name), None)


def of_tokens(database: Database, token_ids: Collection[int]) -> list[str]:
    """Names of the groups that one of these tokens is a member of, sorted."""
    return [group.name for group in all_groups(database) if set(group.members) & set(token_ids)]


_INSERT = (
    "INSERT INTO hsm_group (id, name, description, apply_changes, key_scan, created_at, updated_at) "
    "VALUES (:id, :name, :description, :apply_changes, :key_scan, :moment, :moment)"
)
_UPDATE = "UPDATE hsm_group SET description = :description, apply_changes = :apply_changes, updated_at = :moment WHERE id = :id"


def save(database: Database, record: GroupRecord) -> None:
    """Insert or update a group (by its ``id``) in the caller's transaction; priorities are 1 to n. The scan mode of a group that is
    there stays as it is."""
    identity = record.id or str(uuid.uuid4())
    values = {
        "id": identity,
        "name": record.name,
        "description": record.description,
        "apply_changes": record.apply_changes,
        "key_scan": record.key_scan,
        "moment": now(),
    }
    connection = database.connection
    connection.execute(_INSERT if record.id is None else _UPDATE, values)
    connection.execute("DELETE FROM group_member WHERE group_id = ?", (identity,))
    rows = [(identity, priority, token_id) for priority, token_id in enumerate(record.members, 1)]
    connection.executemany("INSERT INTO group_member (group_id, priority, token_id) VALUES (?, ?, ?)", rows)
    action = "create_group" if record.id is None else "change_group"
    events.record(database, action, record.name, apply_changes=record.apply_changes, key_scan=record.key_scan, members=list(record.members))


def remove(database: Database, record: GroupRecord) -> None:
    """Delete a group in the caller's transaction. Its virtual keys are removed before (``virtual_keys.forget_group``)."""
    database.connection.execute("DELETE FROM hsm_group WHERE id = ?", (record.id,))
    events.record(database, "remove_group", record.name)
