# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""Open the registry: one SQLite file, mode 0600, one writer at a time."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path

from .._model.errors import RegistryError
from .schema import MIGRATIONS

_BUSY_SECONDS = 60.0
# Of a damaged registry.
WAY_OUT = "restore a backup (playbook keyfleet.hsm.registry_restore), or make it anew from the declaration (keyfleet.hsm.registry_rebuild)"


def now() -> str:
    """This moment as ISO 8601, UTC, whole seconds."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


class Database:
    """An open registry, or a copy of it. ``run`` marks this run's events."""

    def __init__(self, connection: sqlite3.Connection, path: str, run: str, *, is_copy: bool = False) -> None:
        self.connection = connection
        self.path = path
        self.run = run
        self.is_copy = is_copy

    @contextmanager
    def lasting(self) -> Iterator[Database]:
        """The registry itself, where there is one: for what was learned of a token and holds whatever is planned, in check mode too."""
        if self.is_copy and registry_exists(self.path):
            with open_database(self.path, run=self.run) as lasting:
                yield lasting
        else:
            yield self

    @contextmanager
    def transaction(self, *, durable: bool = False) -> Iterator[sqlite3.Connection]:
        """All or nothing, with the write lock from the start, so that what is read inside still holds when it is written.

        ``durable``: on the disk before this returns, so that a power cut does not undo it.
        """
        try:
            if durable:
                self.connection.execute("PRAGMA synchronous = FULL")
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                yield self.connection
                self.connection.execute("COMMIT")
            except BaseException:
                if self.connection.in_transaction:  # SQLite may have rolled back by itself, on a full disk for example
                    self.connection.execute("ROLLBACK")
                raise
            if durable:
                with suppress(sqlite3.Error):  # it is written; the next write is a slower one at the worst
                    self.connection.execute("PRAGMA synchronous = NORMAL")
        except sqlite3.Error as error:
            raise RegistryError(f"registry {self.path}: a write failed: {error}", code="registry_write_failed") from error


@contextmanager
def recording(database: Database | None) -> Iterator[Database | None]:
    """One transaction of a registry; nothing where a run has none. Raises :class:`RegistryError`."""
    if database is None:
        yield None
    else:
        with database.transaction():
            yield database


def version_of(connection: sqlite3.Connection) -> int:
    """The version of the tables, 0 for none."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def migrate(connection: sqlite3.Connection, path: str) -> None:
    """Bring the tables to this version's schema. Raises :class:`RegistryError`; ``path`` is named in it."""
    if version_of(connection) == len(MIGRATIONS):
        return
    # The version is read again under the write lock: two first runs may meet here.
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = version_of(connection)
        if version > len(MIGRATIONS):
            raise RegistryError(
                f"registry {path}: was written by a newer keyfleet.hsm (schema {version}, this one knows {len(MIGRATIONS)}). "
                "Upgrade the collection.",
                code="registry_too_new",
            )
        if version == 0 and connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            raise RegistryError(f"registry {path}: is a SQLite file of another program", code="registry_invalid")
        for script in MIGRATIONS[version:]:
            for statement in script.split(";"):
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _create_file(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # O_EXCL creates nothing through a link. Two first runs may meet here.
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))


def _beside(path: Path, ending: str) -> Path:
    """A file that SQLite keeps beside the registry."""
    return path.with_name(path.name + ending)


def _writable(path: Path) -> bool:
    return os.access(path, os.W_OK, effective_ids=True)


def _check_writable(path: Path) -> None:
    """SQLite finds out at the first write, when the HSM was changed already; and what it makes beside a read-only file is read-only, too,
    and stays so when the file is repaired. Raises :class:`RegistryError`."""
    kept = [_beside(path, "-wal"), _beside(path, "-shm")]
    locked = [file for file in (path, *kept) if file.exists() and not _writable(file)]
    if not _writable(path.parent) and not all(file.exists() for file in kept):
        locked.insert(0, path.parent)  # SQLite has to make the files beside it
    if locked:
        names = " ".join(str(file) for file in locked)
        raise RegistryError(
            f"registry {path}: user id {os.geteuid()} cannot write {names}. Nothing was done. Run as the owner (become: true); if this "
            f"user is the owner, run: chmod u+w {names}",
            code="registry_unavailable",
        )


def check_nobody_prepared(path: Path) -> None:
    """The registry names the library that is loaded, so what another user could have put there is refused.

    It, the files that SQLite keeps beside it and its folder must belong to this user or to root, and must not be writable by others; the
    folder may be where it is sticky, as /tmp. Raises :class:`RegistryError`, OSError.
    """
    beside = [_beside(path, ending) for ending in ("-wal", "-shm", "-journal")]
    for file in (path.parent, path, *beside):
        folder = file == path.parent
        try:
            status = os.stat(file) if folder else os.lstat(file)
        except FileNotFoundError:
            if file in beside:
                continue  # another run may remove it at any moment, when it has written
            raise
        mode = stat.S_IMODE(status.st_mode)
        problem = None
        if stat.S_ISLNK(status.st_mode):
            problem = "is a symbolic link: give the path of the file itself"
        elif not folder and not stat.S_ISREG(status.st_mode):
            problem = "is no regular file: give another path"
        elif status.st_uid not in (0, os.geteuid()):
            problem = (
                f"belongs to user id {status.st_uid}, neither to this user nor to root: run as its owner, or give this user's own registry"
            )
        elif mode & 0o022 and not (folder and mode & stat.S_ISVTX):
            problem = f"has mode {mode:04o}, so others can write it: look at what is in it, and then run chmod go-w on it"
        if problem is not None:
            raise RegistryError(f"registry {path}: {file if file != path else 'it'} {problem}.", code="registry_unsafe")


def _connect(target: str) -> sqlite3.Connection:
    connection = sqlite3.connect(target, timeout=_BUSY_SECONDS, isolation_level=None)
    connection.row_factory = sqlite3.Row
    return connection


def _copy(path: Path, connection: sqlite3.Connection) -> None:
    """The registry as it is at one moment. Beside one that its owner cannot write SQLite would leave files that are read-only for good.
    Raises sqlite3.Error, OSError."""
    wal, target = _beside(path, "-wal"), str(path)
    if not _writable(path) and path.stat().st_uid == os.geteuid() and not (wal.exists() and wal.stat().st_size):
        target = f"{path.as_uri()}?mode=ro&immutable=1"
    with closing(sqlite3.connect(target, uri=target != str(path), timeout=_BUSY_SECONDS)) as source:
        source.backup(connection)


def _failed(path: str, error: sqlite3.Error) -> RegistryError:
    """What SQLite says of a registry that it does not open or read."""
    text = f"registry {path}: {error}"
    if isinstance(error, sqlite3.OperationalError) and not str(error).startswith("no such"):
        way = "Run as its owner (become: true), look at the disk, or run again when no other task is using it."
        return RegistryError(f"{text}. {way}", code="registry_unavailable")
    return RegistryError(f"{text}. The file is damaged, or not a registry: give the right path, {WAY_OUT}.", code="registry_invalid")


def registry_exists(path: str) -> bool:
    """Whether there is a registry. One that may not be looked at is an error, not an absent one. Raises :class:`RegistryError`."""
    if not os.path.isabs(path):
        raise RegistryError("registry: is not an absolute path on the target", code="invalid_input")
    try:
        os.lstat(path)  # a link to nothing is no absent registry
    except FileNotFoundError:
        return False
    except OSError as error:
        raise RegistryError(
            f"registry: {path} cannot be read: {error.strerror}. Run as its owner (become: true), or give this user's own registry.",
            code="registry_unavailable",
        ) from None
    return True


@contextmanager
def open_database(path: str, *, run: str, check_mode: bool = False, create: bool = False, for_writing: bool = False) -> Iterator[Database]:
    """The registry at ``path``, migrated to this version's schema.

    With ``create`` a missing one is made (and its folder, 0700); without, it is an error. In check mode the work goes on in
    a copy in memory, so that nothing can be written. ``for_writing``: also in check mode one is refused that a run could not write.
    Raises :class:`RegistryError`.
    """
    try:
        connection = _opened(path, check_mode=check_mode, create=create, for_writing=for_writing or not check_mode)
    except OSError as error:
        raise RegistryError(f"registry {path}: {error.strerror}", code="registry_unavailable") from error
    except sqlite3.Error as error:
        raise _failed(path, error) from error
    with closing(connection):
        try:
            # An OSError from here on is of the work, and not of the registry.
            yield Database(connection, path, run, is_copy=check_mode)
        except sqlite3.Error as error:
            raise _failed(path, error) from error


def _opened(path: str, *, check_mode: bool, create: bool, for_writing: bool) -> sqlite3.Connection:
    file = Path(path)
    exists = registry_exists(path)
    if not exists and not create:
        raise RegistryError(
            f"registry: there is none at {path}. Register an instance with hsm_instance first, or give the registry's path.",
            code="registry_missing",
        )
    if not exists and not check_mode:
        _create_file(file)
    if exists or not check_mode:
        check_nobody_prepared(file)
        if for_writing:
            _check_writable(file)
    with ExitStack() as unless_ready:
        connection = unless_ready.enter_context(closing(_connect(":memory:" if check_mode else path)))
        if check_mode and exists:
            _copy(file, connection)
        connection.execute("PRAGMA foreign_keys = ON")
        migrate(connection, path)
        if not check_mode:  # after the look: a file that turns out to be another program's is left as it was
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
        unless_ready.pop_all()
    return connection
