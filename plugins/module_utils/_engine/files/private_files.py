# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""Files that hold secrets are read only when nobody else can read them."""

from __future__ import annotations

import errno
import os
import shlex
import stat

from ..._model.errors import PinError
from ..._model.tokens.secret import Secret, pin_problem

_MAX_BYTES = 4096


class NotPrivate(Exception):
    """Others can get at a file. ``mode`` where that is why."""

    def __init__(self, why: str, mode: int | None = None) -> None:
        super().__init__(why)
        self.mode = mode


def read_private(path: str, most: int, *, any_mode: bool = False) -> bytes:
    """The first ``most`` bytes of a file that its owner alone can get at, who is this user or root. ``any_mode``: others may, too.

    Raises OSError, for a symbolic link with ``ELOOP``, and :class:`NotPrivate`.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise NotPrivate("is not a regular file")
    with os.fdopen(descriptor, "rb") as file:
        mode = stat.S_IMODE(status.st_mode)
        if not any_mode and mode & (0o037 if _is_credential(path, status) else 0o077):
            raise NotPrivate(f"has mode {mode:04o}", mode)
        if status.st_uid not in (os.geteuid(), 0):
            raise NotPrivate(f"belongs to user id {status.st_uid}, neither to this user nor to root")
        return file.read(most)


def read_pin(path: str, option: str, *, any_mode: bool = False) -> Secret:
    """The PIN in ``path``. One trailing newline is dropped; what else an editor may have put there is refused.

    Refuses a file that anyone but its owner can read or write, or that belongs to a third user. ``option`` is named in
    errors. Raises :class:`PinError`.
    """
    try:
        raw = read_private(path, _MAX_BYTES + 1, any_mode=any_mode)
    except NotPrivate as error:
        others, details = "", {}
        if error.mode is not None:
            others = ", so others can get at the PIN. Run chmod 0600 on it, and change the PIN if others may have read it"
            details = {"mode": f"{error.mode:04o}"}
        raise PinError(f"{option}: {path} {error}{others}.", code="pin_file_unsafe", details=details) from None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise PinError(
                f"{option}: {path} is a symbolic link, and who can change the link chooses the PIN. Give the path of the file itself.",
                code="pin_file_unsafe",
            ) from None
        ways = {
            errno.ENOENT: "Create it (mode 0600), or give hsm_instance the PIN beside pin_file once, and it writes it.",
            errno.EACCES: "Run as its owner, or give this user's own file.",
        }
        way_out = ways.get(error.errno or 0, "Check the path.")
        code = "pin_file_missing" if error.errno == errno.ENOENT else "pin_file_unreadable"
        raise PinError(f"{option}: {path} cannot be read: {error.strerror}. {way_out}", code=code) from None
    if raw.endswith(b"\n"):
        raw = raw[:-1]
    if not raw:
        raise PinError(f"{option}: {path} is empty.", code="pin_file_empty")
    if len(raw) > _MAX_BYTES:
        raise PinError(f"{option}: {path} is larger than a PIN can be.", code="pin_file_invalid")
    try:
        pin = Secret(raw.decode("utf-8"))
    except UnicodeDecodeError:
        raise PinError(f"{option}: {path} is not UTF-8 text.", code="pin_file_invalid") from None
    if problem := pin_problem(pin):
        raise PinError(f"{option}: the PIN in {path} {problem}, and is not tried. {_way_out(pin, path)}", code="pin_file_invalid")
    return pin


def _is_credential(path: str, status: os.stat_result) -> bool:
    """Whether systemd gave this file to this service. It may be root's, with an access list for the service's user, whose mask is what the
    mode shows as the group's bits."""
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    return bool(folder) and os.path.dirname(path) == folder and status.st_uid == 0


def _way_out(pin: Secret, path: str) -> str:
    """How a file is mended that holds more than the PIN."""
    if len(pin.reveal().replace("\ufeff", " ").replace("\0", " ").split()) != 1:
        return "Put the PIN alone into the file, on one line."
    script = r"-e '1s/^\xEF\xBB\xBF//' -e 's/\x00//g' -e 's/^[[:space:]]*//' -e 's/[[:space:]]*$//' -e '/^$/d'"
    return f"Run: sed -i {script} {shlex.quote(path)}"


def pin_of(path: str, option: str) -> Secret | None:
    """:func:`read_pin`, with None for a file that is not there, and for nothing else."""
    try:
        return read_pin(path, option)
    except PinError as error:
        if error.code != "pin_file_missing":
            raise
        return None


def usable_pin_of(path: str, option: str) -> Secret | None:
    """The PIN in a file that its owner alone can read; None for one that others can read, or that :func:`pin_in_the_way` calls none.

    Raises :class:`PinError`.
    """
    try:
        return read_pin(path, option)
    except PinError as error:
        if error.code == "pin_file_missing" or "mode" in error.details:
            return None
        return pin_in_the_way(path, option)


def pin_in_the_way(path: str, option: str) -> Secret | None:
    """The PIN in a file where one is to be written, whoever can read it. None where there is no file, or nothing in it.

    What is no PIN is an error, as what belongs to somebody else and what cannot be looked at: it may be the only one of its kind, and is
    not overwritten. Raises :class:`PinError`.
    """
    try:
        return read_pin(path, option, any_mode=True)
    except PinError as error:
        if error.code in ("pin_file_missing", "pin_file_empty"):
            return None
        if error.code == "pin_file_invalid":
            error.message += " It is not overwritten: give another path, or move that file away."
        raise
