# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""Files that may hold secrets are written whole and for the owner alone."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path

from ..._model import underway
from ..._model.errors import PinError
from ..._model.tokens.secret import Secret

_LEFT_OVER_SECONDS = 60


def make_folder(path: str) -> None:
    """The folder of ``path``, with those above it, mode 0700 where they are made now."""
    missing = [folder for folder in Path(path).parents if not folder.exists()]
    for folder in reversed(missing):
        with suppress(FileExistsError):
            folder.mkdir(mode=0o700)


def write_private(path: str, content: bytes, mode: int = 0o600) -> None:
    """Replace ``path`` by a file with this content and mode, in one step, on the disk before it is named. Raises OSError."""
    with replacing(path, content, mode):
        pass


@contextmanager
def replacing(path: str, content: bytes, mode: int = 0o600) -> Iterator[None]:
    """Write a file with this content and mode beside ``path``, to the disk, and give it that name when the body has ended well.

    A reader sees the old file or the new one. Its first name is a short one, so that its own may be as long as the file system
    allows. Raises OSError.
    """
    make_folder(path)
    prefix = f".keyfleet-{sha256(os.fsencode(os.path.basename(path))).hexdigest()[:16]}-"
    _remove_left_overs(os.path.dirname(path), prefix)
    owner = _owner_of(path)
    descriptor, temporary = tempfile.mkstemp(dir=os.path.dirname(path), prefix=prefix)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)
            if owner is not None and os.geteuid() == 0:
                os.fchown(file.fileno(), *owner)  # a service's own file stays its own
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        yield
        os.replace(temporary, path)
        underway.done(f"writing {path}")
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise


def _owner_of(path: str) -> tuple[int, int] | None:
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return None
    return status.st_uid, status.st_gid


def _remove_left_overs(folder: str, prefix: str) -> None:
    """Temporary files of runs that were killed: they may hold a PIN. Younger ones may be another run's at work."""
    for entry in Path(folder).glob(f"{prefix}*"):
        with suppress(OSError):
            if time.time() - entry.lstat().st_mtime > _LEFT_OVER_SECONDS:
                entry.unlink()


def write_pin(path: str, pin: Secret, option: str) -> None:
    """Make ``path`` hold ``pin``, mode 0600. Raises :class:`PinError`."""
    try:
        write_private(path, pin.reveal().encode("utf-8") + b"\n")
    except OSError as error:
        raise PinError(f"{option}: {path} cannot be written: {error.strerror}", code="pin_file_unwritable") from None
