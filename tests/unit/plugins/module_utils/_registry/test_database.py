# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An open registry: whose fault an error is, and what a write that failed leaves."""

from __future__ import annotations

import os
import subprocess
import sys
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


# By root without the right to write what is read-only, as any other user is: the registry, its folder, and what SQLite keeps beside it.
READ_ONLY = """
import os, sys
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.errors import RegistryError
from ansible_collections.keyfleet.hsm.plugins.module_utils._registry.database import open_database
path = sys.argv[1]
folder = os.path.dirname(path)

def attempt(**how):
    try:
        with open_database(path, run="r", **how) as database, database.transaction() as connection:
            connection.execute("INSERT INTO event (at, run, action, subject, details) VALUES ('', '', '', '', '')")
    except RegistryError as error:
        print(error.code, error.message)
    else:
        print("written")
    print(*sorted(os.listdir(folder)))

os.chmod(path, 0o400)
attempt()
attempt(check_mode=True, for_writing=True)
attempt(check_mode=True)  # who only reads
os.chmod(path, 0o600)
os.chmod(folder, 0o500)
attempt()
os.chmod(folder, 0o700)
open(path + "-shm", "wb").close()
os.chmod(path + "-shm", 0o400)
attempt()
os.chmod(path + "-shm", 0o600)  # as it was told
attempt()
"""


def test_a_registry_that_cannot_be_written_is_refused_first_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "r.db"
    with open_database(str(path), run="r", create=True):
        pass
    command = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", sys.executable, "-c", READ_ONLY, str(path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)

    def refused(*files: Path) -> str:
        names = " ".join(map(str, files))
        return (
            f"registry_unavailable registry {path}: user id 0 cannot write {names}. Nothing was done. Run as the owner (become: true); "
            f"if this user is the owner, run: chmod u+w {names}"
        )

    shm = Path(f"{path}-shm")
    expected = [refused(path), "r.db"] * 2 + ["written", "r.db", refused(tmp_path), "r.db"]
    expected += [refused(shm), "r.db r.db-shm", "written", "r.db"]
    assert done.stdout.splitlines() == expected


def test_a_damaged_registry_names_the_way_out(tmp_path: Path) -> None:
    path = tmp_path / "r.db"
    with open_database(str(path), run="r", create=True):
        pass
    whole = path.read_bytes()
    for damaged in (whole[:4096] + bytes(len(whole) - 4096), b"no registry at all, and long enough to be looked at as one" * 20):
        path.write_bytes(damaged)
        with pytest.raises(RegistryError, match="registry_restore") as told, open_database(str(path), run="r") as database:
            database.connection.execute("SELECT * FROM event ORDER BY action").fetchall()
        assert told.value.code == "registry_invalid"
