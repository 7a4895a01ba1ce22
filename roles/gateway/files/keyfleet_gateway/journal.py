# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Lines for people and for machines: to systemd's journal with fields, elsewhere to standard error as ``key=value``."""

from __future__ import annotations

import logging
import os
import socket
import sys
import traceback
from contextlib import suppress

ERROR, WARNING, NOTICE, INFO = 3, 4, 5, 6  # syslog(3)
_SOCKET = "/run/systemd/journal/socket"


def _to_journal() -> bool:
    """Whether standard error leads to the journal (systemd.exec(5), JOURNAL_STREAM)."""
    with suppress(OSError, ValueError):
        device, inode = map(int, os.environ.get("JOURNAL_STREAM", "").split(":"))
        status = os.fstat(2)
        return (status.st_dev, status.st_ino) == (device, inode)
    return False


def native(fields: dict[str, str]) -> bytes:
    """systemd's own form (Journal Native Protocol): a value with a line break goes with its length."""
    parts = []
    for name, value in fields.items():
        data = value.encode("utf-8", "replace")
        if b"\n" in data:
            parts.append(name.encode() + b"\n" + len(data).to_bytes(8, "little") + data + b"\n")
        else:
            parts.append(name.encode() + b"=" + data + b"\n")
    return b"".join(parts)


def log(priority: int, message: str, **fields: object) -> None:
    """One line. ``fields`` are in lower case; the journal gets them as ``KEYFLEET_…``. No PIN may be in either."""
    told = {name: str(value) for name, value in fields.items() if value is not None}
    if _to_journal():
        entry = {"MESSAGE": message, "PRIORITY": str(priority), "SYSLOG_IDENTIFIER": "keyfleet-gateway"}
        entry |= {f"KEYFLEET_{name.upper()}": value for name, value in told.items()}
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
            journal.sendto(native(entry), _SOCKET)
            return
    text = " ".join([message, *(f"{name}={value!r}" for name, value in told.items())])
    print(text.encode("unicode_escape").decode("ascii"), file=sys.stderr, flush=True)


class Libraries(logging.Handler):
    """What aiohttp and asyncio report. A request that is none is the client's trouble, and may hold its secrets: it is not logged."""

    def emit(self, record: logging.LogRecord) -> None:
        from aiohttp.http_exceptions import HttpProcessingError

        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, HttpProcessingError):
            return
        trace = "".join(traceback.format_tb(error.__traceback__)) if error else None
        log(ERROR, f"{record.name}: {type(error).__name__ if error else record.getMessage()}", trace=trace)


def take_over() -> None:
    """Have all that libraries report go through here."""
    logging.basicConfig(handlers=[Libraries(logging.WARNING)], force=True)
