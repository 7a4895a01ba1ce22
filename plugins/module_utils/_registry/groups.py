# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""Groups and their members in the registry."""

from __future__ import annotations

import uuid
from collections.abc import Collection
from dataclasses import fields

from .._model.records import GroupRecord
from . import columns, events
from .database import Database, now

_COLUMNS = [field.name for field in fields(GroupRecord) if field.name != "members"]
# The name and the scan mode of a group that is there stay as they are.
_BORN_WITH = ("id", "name", "key_scan", "created_at")
_INSERT = columns.insert("hsm_group", _COLUMNS)
_UPDATE = columns.update("hsm_group", [name for name in _COLUMNS if name not in _BORN_WITH])


def all_groups(database: Database) -> list[GroupRecord]:
    """Every group with its members in priority order, by name."""
    members: dict[str, list[int]] = {}
    for row in database.connection.execute("SELECT group_id, token_id FROM group_member ORDER BY group_id, priority"):
        members.setdefault(row["group_id"], []).append(row["token_id"])
    rows = database.connection.execute("SELECT * FROM hsm_group ORDER BY name")
    return [
        GroupRecord(
            **{name: row[name] for name in _COLUMNS} | {"apply_changes": bool(row["apply_changes"])},
            members=tuple(members.get(row["id"], ())),
        )
        for row in rows
    ]


def named(database: Database, name: str) -> GroupRecord | None:
    return next((group for group in all_groups(database) if group.name == name), None)


def of_tokens(database: Database, token_ids: Collection[int]) -> list[str]:
    """Names of the groups that one of these tokens is a member of, sorted."""
    return [group.name for group in all_groups(database) if set(group.members) & set(token_ids)]


def save(database: Database, record: GroupRecord) -> None:
    """Insert or update a group (by its ``id``) in the caller's transaction; priorities are 1 to n."""
    moment = now()
    identity = record.id or str(uuid.uuid4())
    values = {**vars(record), "id": identity, "created_at": moment, "updated_at": moment}
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
