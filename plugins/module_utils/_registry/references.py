# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""Which configuration files name which instances, so that an instance in use is not removed."""

from __future__ import annotations

from collections.abc import Iterable

from .database import Database


def of_instance(database: Database, instance_id: str) -> list[str]:
    """Paths of the files that named this instance when they were written; they may be gone by now."""
    query = "SELECT path FROM config_reference WHERE instance_id = ? ORDER BY path"
    return [row["path"] for row in database.connection.execute(query, (instance_id,))]


def of_path(database: Database, path: str) -> set[str]:
    """Ids of the instances that the file at ``path`` names."""
    query = "SELECT instance_id FROM config_reference WHERE path = ?"
    return {row["instance_id"] for row in database.connection.execute(query, (path,))}


def replace(database: Database, path: str, instance_ids: Iterable[str]) -> None:
    """``path`` now names exactly these instances. In the caller's transaction."""
    database.connection.execute("DELETE FROM config_reference WHERE path = ?", (path,))
    database.connection.executemany(
        "INSERT INTO config_reference (path, instance_id) VALUES (?, ?)", [(path, identity) for identity in sorted(set(instance_ids))]
    )


def forget_instance(database: Database, instance_id: str) -> None:
    """Drop the references of an instance whose files are gone. In the caller's transaction."""
    database.connection.execute("DELETE FROM config_reference WHERE instance_id = ?", (instance_id,))
