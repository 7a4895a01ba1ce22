# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""Keys that a run set out to make: written before the first call, deleted with each key's record.

A run deletes its rows before it ends. Rows that are there when the token's lock is held tell of a run that died.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields

from .._model.records import PendingKey
from . import columns
from .database import Database, now

_COLUMNS = [field.name for field in fields(PendingKey)]
_ADD = columns.insert("pending_key", [*_COLUMNS, "run", "at"]) + (
    " ON CONFLICT (token_id, label) DO UPDATE SET key_id = excluded.key_id, imported = excluded.imported, "
    "replaces = max(replaces, excluded.replaces), run = excluded.run"
)


def of_token(database: Database, token_id: int) -> dict[str, PendingKey]:
    """What dead runs left on this token, by CKA_LABEL."""
    rows = database.connection.execute("SELECT * FROM pending_key WHERE token_id = ?", (token_id,))
    return {
        row["label"]: PendingKey(
            **{name: row[name] for name in _COLUMNS} | {"imported": bool(row["imported"]), "replaces": bool(row["replaces"])}
        )
        for row in rows
    }


def add(database: Database, keys: Iterable[PendingKey]) -> None:
    """Note the keys in the caller's transaction. A row of a dead run keeps its count of nameless objects: ours was taken later."""
    run = {"run": database.run, "at": now()}
    database.connection.executemany(_ADD, [{**vars(key), **run} for key in keys])


def remove(database: Database, token_id: int, labels: Iterable[str]) -> None:
    """Delete rows in the caller's transaction: the key is made and recorded, or nothing of it is on the token."""
    database.connection.executemany("DELETE FROM pending_key WHERE token_id = ? AND label = ?", [(token_id, label) for label in labels])
