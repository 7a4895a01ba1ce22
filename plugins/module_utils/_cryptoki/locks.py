# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""Locks between processes of this host, by flock.

Three of them, always taken in this order:

* one per provider, shared by everyone who uses the library, exclusive while a token is created;
* one per token, held from before its login until its session closes: search and create are one step for other runs;
* a gate per provider (:class:`Gate`), shared for the moment of looking at tokens, exclusive for the moment of a login or a
  PIN change. SoftHSM rewrites the token's record in place then, and whoever looks meanwhile finds no token there.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import stat
import syslog
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType

from .._model.errors import TokenError

_POLL_SECONDS = 0.05
_GATE_SECONDS = 300.0  # far more than a login takes; whoever is inside for longer hangs
_TOLD_SECONDS = 10.0
_STRANGER_SECONDS = 300.0  # also where connection_timeout is 0: anyone on this host can open a lock file and keep the lock

_RUN = Path("/run/keyfleet")


def lock_folder() -> Path:
    """A folder that every user of this host may create lock files in, and the same one for all of them, also for a service with a /tmp
    of its own. Never chosen by what this user may write.

    ``/run/keyfleet/locks``, which role runtime makes and which root makes where it is missing; ``/dev/shm`` where that cannot be.

    S108 warns of predictable names in such folders: a lock needs one, and the file is opened with O_NOFOLLOW and O_EXCL and
    holds nothing.
    """
    own = _RUN / "locks"
    if _belongs_to_root(_RUN, 0o755, make=False) and _belongs_to_root(own, 0o1777, make=False):
        return own
    if os.geteuid() == 0 and _belongs_to_root(_RUN, 0o755, make=True) and _belongs_to_root(own, 0o1777, make=True):
        return own
    shared = Path("/dev/shm")  # noqa: S108
    return shared if shared.is_dir() else Path("/tmp")  # noqa: S108


def _belongs_to_root(folder: Path, mode: int, *, make: bool) -> bool:
    """Whether it is a folder of root's, no link, with this mode. ``make``: make it so."""
    try:
        if make:
            with suppress(FileExistsError):
                folder.mkdir()
        status = folder.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != 0:
            return False
        if make and stat.S_IMODE(status.st_mode) != mode:
            folder.chmod(mode)
            status = folder.lstat()
    except OSError:
        return False
    return stat.S_IMODE(status.st_mode) == mode


def _holders(descriptor: int) -> list[tuple[int, int]]:
    """Process and user ids of those who have a lock on this file, as far as the kernel tells them (proc_locks(5))."""
    status = os.fstat(descriptor)
    place = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    found = []
    with suppress(OSError, ValueError):
        for line in Path("/proc/locks").read_text(encoding="ascii").splitlines():
            words = line.split()
            if "->" not in words and words[1] == "FLOCK" and words[5] == place:
                process = int(words[4])
                with suppress(OSError):  # it has ended
                    found.append((process, os.stat(f"/proc/{process}").st_uid))
    return found


def _open(path: Path) -> int:
    # flock needs no write access. Without O_CREAT a file that another user made can be opened in a sticky folder
    # (fs.protected_regular); O_NOFOLLOW and O_EXCL keep a planted link from leading anywhere.
    # O_NONBLOCK: a planted FIFO must not hold us up.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    while True:
        try:
            descriptor = os.open(path, flags)
        except FileNotFoundError:
            mask = os.umask(0o022)  # others must be able to open it from its first moment
            try:
                descriptor = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o644)
            except FileExistsError:
                continue
            finally:
                os.umask(mask)
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return descriptor
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is not a regular file: remove it")


class HostLock:
    """One named lock. ``parts`` say what it guards; ``name`` is what a person reads when waiting takes too long."""

    def __init__(self, name: str, *parts: str) -> None:
        digest = hashlib.sha256("\0".join(parts).encode("utf-8", "surrogateescape")).hexdigest()[:20]
        self.name = name
        self.path = lock_folder() / f"keyfleet-{digest}.lock"
        self._descriptor: int | None = None

    def acquire(self, *, shared: bool = False, timeout: float = 0) -> bool:
        """Take the lock, or change between shared and exclusive. ``timeout`` in seconds; 0 waits as long as it takes.

        Returns whether another process had it first. Raises :class:`TokenError` with code ``lock_timeout``, or
        ``lock_unavailable`` when there is no place for the file.
        """
        operation = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        try:
            if self._descriptor is None:
                self._descriptor = _open(self.path)
            if self._try(operation):
                return False
            self._wait(operation, timeout)
            return True
        except OSError as error:
            raise TokenError(f"{self.name}: its lock file {self.path} cannot be used: {error.strerror}", code="lock_unavailable") from error

    def _wait(self, operation: int, timeout: float) -> None:
        begun = time.monotonic()
        told = False
        while not self._try(operation):
            waited = time.monotonic() - begun
            if waited >= _TOLD_SECONDS and not told:
                told = True
                # Ansible shows nothing of a module before its end.
                syslog.syslog(syslog.LOG_WARNING, f"keyfleet.hsm waits for {self.name}, which is in use{self._by_whom()}")
            if timeout and waited >= timeout:
                raise TokenError(
                    f"{self.name} stayed in use by another run for {timeout:g} seconds{self._by_whom()}. Wait for that run, or end it if "
                    "it hangs; connection_timeout sets how long to wait for a session (0: without limit).",
                    code="lock_timeout",
                )
            if not timeout and waited >= _STRANGER_SECONDS and self._held_by_a_stranger() and not self._try(operation):
                raise TokenError(
                    f"{self.name} was kept in use for {waited:.0f} seconds by another user{self._by_whom()}. End that process if it should "
                    "not use the HSM; connection_timeout sets how long to wait.",
                    code="lock_timeout",
                )
            time.sleep(_POLL_SECONDS)

    def _by_whom(self) -> str:
        found = self._holders()
        return ", by " + ", ".join(f"process {process} of user id {user}" for process, user in found) if found else ""

    def _held_by_a_stranger(self) -> bool:
        """Whether no holder is known to be a run of this user or of root."""
        return all(user not in (0, os.geteuid()) for _process, user in self._holders())

    def _holders(self) -> list[tuple[int, int]]:
        return [] if self._descriptor is None else _holders(self._descriptor)

    def _try(self, operation: int) -> bool:
        try:
            fcntl.flock(self._descriptor or -1, operation | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EACCES):
                return False
            raise
        return True

    def release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> HostLock:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.release()


class Gate:
    """Lookers pass together, one who rewrites a token's record passes alone. May be entered again by the one inside."""

    def __init__(self, lock: HostLock) -> None:
        self._lock = lock
        self._depth = 0

    @contextmanager
    def looking(self) -> Iterator[None]:
        """While tokens are initialised, listed or read."""
        with self._inside(shared=True):
            yield

    @contextmanager
    def rewriting(self) -> Iterator[None]:
        """While a login, C_InitPIN or C_SetPIN rewrites a token's record."""
        with self._inside(shared=False):
            yield

    @contextmanager
    def _inside(self, *, shared: bool) -> Iterator[None]:
        if self._depth == 0:
            self._lock.acquire(shared=shared, timeout=_GATE_SECONDS)
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
            if self._depth == 0:
                self._lock.release()

    def __enter__(self) -> Gate:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._lock.release()
