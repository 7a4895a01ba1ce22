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
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from .._model.errors import TokenError

_POLL_SECONDS = 0.05
_GATE_SECONDS = 300.0  # far more than a login takes; whoever is inside for longer hangs


def lock_folder() -> Path:
    """A folder that every user of this host may create lock files in, and the same one for all of them, also for a
    service with a /tmp of its own. Never chosen by what this user may write.

    S108 warns of predictable names in such folders: a lock needs one, and the file is opened with O_NOFOLLOW and O_EXCL and
    holds nothing.
    """
    shared = Path("/dev/shm")  # noqa: S108
    return shared if shared.is_dir() else Path("/tmp")  # noqa: S108


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
            if not timeout:
                fcntl.flock(self._descriptor, operation)
                return True
            deadline = time.monotonic() + timeout
            while not self._try(operation):
                if time.monotonic() >= deadline:
                    raise TokenError(
                        f"{self.name} stayed in use by another run for {timeout:g} seconds. Wait for that run, or end it if it "
                        "hangs; connection_timeout sets how long to wait for a session (0: without limit).",
                        code="lock_timeout",
                    )
                time.sleep(_POLL_SECONDS)
            return True
        except OSError as error:
            raise TokenError(f"{self.name}: its lock file {self.path} cannot be used: {error.strerror}", code="lock_unavailable") from error

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
