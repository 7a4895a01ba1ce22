# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""Files that hold secrets: read only when nobody else can, written whole and for the owner alone."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from .._model.errors import PinError
from .._model.secret import Secret

_MAX_BYTES = 4096


def read_pin(path: str, option: str) -> Secret:
    """The PIN in ``path``. One trailing newline is dropped, nothing else.

    Refuses a file that anyone but its owner can read or write, or that belongs to a third user. ``option`` is named in
    errors. Raises :class:`PinError`.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        ways = {
            errno.ENOENT: "Create it (mode 0600), or give the PIN beside it once, and it is written.",
            errno.EACCES: "Run as its owner, or give this user's own file.",
        }
        way_out = ways.get(error.errno or 0, "Check the path.")
        code = "pin_file_missing" if error.errno == errno.ENOENT else "pin_file_unreadable"
        raise PinError(f"{option}: {path} cannot be read: {error.strerror}. {way_out}", code=code) from None
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise PinError(f"{option}: {path} is not a regular file.", code="pin_file_unsafe")
        mode = stat.S_IMODE(status.st_mode)
        if mode & 0o077:
            raise PinError(
                f"{option}: {path} has mode {mode:04o}, so others can get at the PIN. Run chmod 0600 on it, and change the PIN if "
                "others may have read it.",
                code="pin_file_unsafe",
            )
        if status.st_uid not in (os.geteuid(), 0):
            raise PinError(
                f"{option}: {path} belongs to user id {status.st_uid}, neither to this user nor to root.", code="pin_file_unsafe"
            )
        raw = file.read(_MAX_BYTES + 1)
    if raw.endswith(b"\n"):
        raw = raw[:-1]
    if not raw:
        raise PinError(f"{option}: {path} is empty.", code="pin_file_empty")
    if len(raw) > _MAX_BYTES:
        raise PinError(f"{option}: {path} is larger than a PIN can be.", code="pin_file_invalid")
    try:
        return Secret(raw.decode("utf-8"))
    except UnicodeDecodeError:
        raise PinError(f"{option}: {path} is not UTF-8 text.", code="pin_file_invalid") from None


def make_folder(path: str) -> None:
    """The folder of ``path``, with those above it, mode 0700 where they are made now."""
    missing = [folder for folder in Path(path).parents if not folder.exists()]
    for folder in reversed(missing):
        with suppress(FileExistsError):
            folder.mkdir(mode=0o700)


def write_private(path: str, content: bytes, mode: int = 0o600) -> None:
    """Replace ``path`` by a file with this content and mode, in one step, on the disk before it is named.

    A reader sees the old file or the new one. Raises OSError.
    """
    make_folder(path)
    descriptor, temporary = tempfile.mkstemp(dir=os.path.dirname(path), prefix=".keyfleet-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise


def write_pin(path: str, pin: Secret, option: str) -> None:
    """Make ``path`` hold ``pin``, mode 0600. Raises :class:`PinError`."""
    try:
        write_private(path, pin.reveal().encode("utf-8") + b"\n")
    except OSError as error:
        raise PinError(f"{option}: {path} cannot be written: {error.strerror}", code="pin_file_unwritable") from None


def holds_pin(path: str, pin: Secret) -> bool:
    """Whether ``path`` is a safe file that holds just this PIN. A missing one does not; an unsafe one is made anew."""
    try:
        return read_pin(path, "pin_file") == pin
    except PinError:
        return False
