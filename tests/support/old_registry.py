# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A registry as an earlier release has left it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from ansible_collections.keyfleet.hsm.plugins.module_utils._registry.schema import MIGRATIONS


def downgrade(registry: str, version: int) -> None:
    """Write the registry anew as the schema of ``version`` would have held it."""
    old = Path(f"{registry}.old")
    with closing(sqlite3.connect(registry)) as new, closing(sqlite3.connect(old)) as target:
        for script in MIGRATIONS[:version]:
            target.executescript(script)
        for (table,) in target.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            columns = [row[1] for row in target.execute(f"PRAGMA table_info({table})")]
            rows = new.execute(" ".join(["SELECT", ", ".join(columns), "FROM", table])).fetchall()
            target.executemany(" ".join(["INSERT INTO", table, "VALUES (", ", ".join("?" * len(columns)), ")"]), rows)
        target.execute(f"PRAGMA user_version = {version}")
        target.commit()
    for suffix in ("", "-wal", "-shm"):
        Path(registry + suffix).unlink(missing_ok=True)
    old.rename(registry)
