# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""Public halves that a run set out to call otherwise: written before the first call, deleted when it is done.

A token may lose the object when a write is cut off. Rows that are there when the token's lock is held tell of a run that died.
"""

from __future__ import annotations

import json
from dataclasses import fields

from .._model.keys.misfits import LayoutNote
from . import columns
from .database import Database, now

_COLUMNS = [field.name for field in fields(LayoutNote)]
_ADD = columns.insert("pending_layout", [*_COLUMNS, "run", "at"]) + " ON CONFLICT (token_id, key_id, label) DO NOTHING"


def of_token(database: Database, token_id: int) -> list[LayoutNote]:
    """What dead runs left on this token."""
    rows = database.connection.execute("SELECT * FROM pending_layout WHERE token_id = ? ORDER BY label, key_id", (token_id,))
    return [
        LayoutNote(
            **{name: row[name] for name in _COLUMNS}
            | {"operations": tuple(json.loads(row["operations"]))}
            | {name: None if row[name] is None else bool(row[name]) for name in ("modifiable", "destroyable")}
        )
        for row in rows
    ]


def add(database: Database, note: LayoutNote) -> None:
    """Note it in the caller's transaction. A row of a dead run stays: it was taken while all was there."""
    values = {**vars(note), "operations": json.dumps(list(note.operations)), "run": database.run, "at": now()}
    database.connection.execute(_ADD, values)


def remove(database: Database, note: LayoutNote) -> None:
    """Delete the row in the caller's transaction."""
    database.connection.execute(
        "DELETE FROM pending_layout WHERE token_id = ? AND key_id = ? AND label = ?", (note.token_id, note.key_id, note.label)
    )
