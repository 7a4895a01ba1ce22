# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""A registry as one file that can be kept elsewhere, and back: always a copy in memory in between, which was checked.

A backup is a registry with one table more, which says whose it is. It holds no moment and no path, so that one content is one content.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from hashlib import sha256
from itertools import chain, count
from pathlib import Path

from .._model.errors import RegistryError
from .database import WAY_OUT, check_nobody_prepared, migrate, open_database, version_of

_OWNER = "backup_of"
_BESIDE = ("-wal", "-shm", "-journal")
_TEMPORARY, _RANDOM = ".keyfleet-backup-", 8  # what mkstemp adds to the prefix has 8 characters
_HEADER = b"SQLite format 3\0"


@dataclass(frozen=True)
class Contents:
    """What a registry or a backup holds. ``host`` is None for a registry.

    ``digest`` is SHA-256 of all rows, by today's schema: the same rows give the same one, wherever and whenever they were written.
    ``schema`` is the version that the file has. ``rows`` counts them by table. ``newest_event`` is ISO 8601, None without events.
    """

    digest: str
    schema: int
    rows: dict[str, int]
    instances: list[str]
    groups: list[str]
    newest_event: str | None
    host: str | None


def contents_of(connection: sqlite3.Connection, schema: int) -> Contents:
    """Of an open registry that has today's schema."""
    whole, rows = sha256(), {}
    for table in _tables(connection):
        if table != _OWNER:
            found = sorted(repr(tuple(row)) for row in connection.execute(" ".join(["SELECT * FROM", table])))
            rows[table] = len(found)
            whole.update("\n".join([table, *found, ""]).encode("utf-8", "backslashreplace"))
    host = connection.execute(" ".join(["SELECT host FROM", _OWNER])).fetchone() if _OWNER in _tables(connection) else None
    return Contents(
        digest=whole.hexdigest(),
        schema=schema,
        rows=rows,
        instances=[row[0] for row in connection.execute("SELECT name FROM instance ORDER BY position")],
        groups=[row[0] for row in connection.execute("SELECT name FROM hsm_group ORDER BY name")],
        newest_event=connection.execute("SELECT max(at) FROM event").fetchone()[0],
        host=None if host is None else str(host[0]),
    )


def _tables(connection: sqlite3.Connection) -> list[str]:
    query = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name"
    return [str(row[0]) for row in connection.execute(query)]


@contextmanager
def registry_copy(path: str, *, run: str) -> Iterator[tuple[sqlite3.Connection, Contents]]:
    """A copy in memory of the registry at ``path``, as it was at one moment. Raises :class:`RegistryError`."""
    with open_database(path, run=run, check_mode=True) as database:
        _check_whole(database.connection, path, "registry_invalid")
        yield database.connection, contents_of(database.connection, version_of(database.connection))


@contextmanager
def backup_copy(path: str) -> Iterator[tuple[sqlite3.Connection, Contents]]:
    """A copy in memory of the backup at ``path``. Nothing is written beside it. Raises :class:`RegistryError`, FileNotFoundError."""
    try:
        with open(path, "rb") as file:
            if file.read(len(_HEADER)) != _HEADER:
                raise RegistryError(f"backup {path}: is no SQLite file, or was cut off. It was not used.", code="backup_invalid")
        with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
            with closing(sqlite3.connect(f"{Path(path).as_uri()}?mode=ro&immutable=1", uri=True)) as source:
                source.backup(connection)
            _check_whole(connection, path, "backup_invalid")
            schema = version_of(connection)
            if _OWNER not in _tables(connection):
                raise RegistryError(f"backup {path}: does not say of which host it is: it was not made as a backup.", code="backup_invalid")
            migrate(connection, path)
            yield connection, contents_of(connection, schema)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise RegistryError(f"backup {path}: {error.strerror}", code="backup_unavailable") from error
    except sqlite3.Error as error:
        raise RegistryError(f"backup {path}: is damaged: {error}. It was not used.", code="backup_invalid") from error


def _check_whole(connection: sqlite3.Connection, path: str, code: str) -> None:
    problems = [str(row[0]) for row in connection.execute("PRAGMA integrity_check(5)")]
    what = "" if problems == ["ok"] else "; ".join(problems)
    if not what and connection.execute("PRAGMA foreign_key_check").fetchone():
        what = "a row refers to one that is not there"
    if what:
        way = f". To go on, {WAY_OUT}." if code == "registry_invalid" else ""
        raise RegistryError(f"{path}: is damaged: {what}{way}", code=code)


def mark(connection: sqlite3.Connection, host: str) -> None:
    """Make the copy a backup of ``host``."""
    connection.execute(" ".join(["CREATE TABLE", _OWNER, "(host TEXT NOT NULL)"]))
    connection.execute(" ".join(["INSERT INTO", _OWNER, "VALUES (?)"]), (host,))


def unmark(connection: sqlite3.Connection) -> None:
    """Make the copy a registry again. Notes of runs that were at work then are left out: those have ended since."""
    connection.execute(" ".join(["DROP TABLE", _OWNER]))
    for table in _tables(connection):
        if table.startswith("pending_"):
            connection.execute(" ".join(["DELETE FROM", table]))


@contextmanager
def writing(connection: sqlite3.Connection, path: str) -> Iterator[None]:
    """The copy as one file, mode 0600, on the disk before the body begins and named ``path`` when it has ended well, in one step.

    Raises :class:`RegistryError`.
    """
    temporary, descriptor = "", -1
    try:
        folder, name = os.path.split(path)
        os.makedirs(folder, mode=0o700, exist_ok=True)
        _remove_left_overs(folder, f"{_TEMPORARY}{name}-")
        descriptor, temporary = tempfile.mkstemp(dir=folder, prefix=f"{_TEMPORARY}{name}-")
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if not os.fstat(descriptor).st_nlink:
            raise RegistryError(f"{path}: another task began to write it at the same moment. Run again.", code="registry_unavailable")
        with closing(sqlite3.connect(temporary, isolation_level=None)) as file:
            connection.backup(file)
            file.execute("PRAGMA journal_mode = DELETE")  # one file: who reads it makes none beside it
            _check_whole(file, temporary, "registry_write_failed")
        _sync(temporary)
        yield
        os.replace(temporary, path)
        _sync(folder)
    except BaseException as error:
        with suppress(OSError):
            os.unlink(temporary)
        if isinstance(error, (OSError, sqlite3.Error)):
            raise RegistryError(f"{path}: cannot be written: {error}", code="registry_write_failed") from error
        raise
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def _remove_left_overs(folder: str, prefix: str) -> None:
    """What writes of the same file have left that were killed. One that is at work has its file locked."""
    for name in os.listdir(folder):
        if name.startswith(prefix) and len(name) == len(prefix) + _RANDOM:
            with open(os.path.join(folder, name), "rb") as file, suppress(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                for ending in ("-journal", ""):
                    with suppress(FileNotFoundError):
                        os.unlink(os.path.join(folder, name + ending))


def _sync(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def set_aside(path: str) -> str | None:
    """Give a registry, and what SQLite has left beside it, another name. The new path; None where nothing was there.

    One that a task has open is refused, one that is damaged is not. Raises :class:`RegistryError`.
    """
    found = [ending for ending in ("", *_BESIDE) if os.path.lexists(path + ending)]
    if not found:
        return None
    try:
        if "" in found:
            check_nobody_prepared(Path(path))
            _close(path)
        moment = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%SZ")
        # Two in one second, or one that a clock set back comes to again.
        names = chain([f"{path}.replaced-{moment}"], (f"{path}.replaced-{moment}-{number}" for number in count(2)))
        aside = next(name for name in names if not any(os.path.lexists(name + ending) for ending in ("", *_BESIDE)))
        for ending in reversed(found):
            with suppress(FileNotFoundError):  # SQLite has removed what was beside it
                os.rename(path + ending, aside + ending)
    except OSError as error:
        raise RegistryError(f"registry {path}: cannot be set aside: {error.strerror}", code="registry_write_failed") from error
    return aside


def _close(path: str) -> None:
    """Write what is beside the registry into it. SQLite does so only when nobody else has it open."""
    with closing(sqlite3.connect(path, isolation_level=None, timeout=10)) as connection:
        try:
            connection.execute("PRAGMA journal_mode = DELETE")
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                raise RegistryError(
                    f"registry {path}: another task is using it. Wait for its end, and run again.", code="registry_unavailable"
                ) from None
        except sqlite3.DatabaseError:
            return  # damaged: it is kept as it is
