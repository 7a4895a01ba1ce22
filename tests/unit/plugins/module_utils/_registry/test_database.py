# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An open registry: whose fault an error is, and what a write that failed leaves."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.errors import RegistryError
from ansible_collections.keyfleet.hsm.plugins.module_utils._registry.database import open_database


def test_what_the_system_refuses_to_the_work_is_not_laid_on_the_registry(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="Too many open files"), open_database(str(tmp_path / "r.db"), run="r", create=True):
        raise OSError(24, "Too many open files")
    with pytest.raises(RegistryError, match="Not a directory"):
        (tmp_path / "none").touch()
        with open_database(str(tmp_path / "none/r.db"), run="r", create=True):
            raise AssertionError("this is no registry")


def test_a_commit_that_fails_leaves_no_transaction_open(tmp_path: Path) -> None:
    with open_database(str(tmp_path / "r.db"), run="r", create=True) as database:
        database.connection.execute("PRAGMA foreign_keys = ON")
        database.connection.execute("CREATE TABLE a (id INTEGER PRIMARY KEY)")
        database.connection.execute("CREATE TABLE b (a INTEGER REFERENCES a (id) DEFERRABLE INITIALLY DEFERRED)")
        # Checked by the commit, which SQLite then leaves to be made again.
        with pytest.raises(RegistryError, match="a write failed: FOREIGN KEY"), database.transaction() as connection:
            connection.execute("INSERT INTO b VALUES (7)")
        assert not database.connection.in_transaction
        with database.transaction() as connection:
            connection.execute("INSERT INTO a VALUES (7)")
