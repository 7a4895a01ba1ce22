# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""Run what asks an HSM in a child process.

A PKCS#11 call that hangs cannot be interrupted from Python, and a provider that crashes takes its process with it. In a
child both are one instance's trouble only, and the parent reports in which call it was. The parent must not have loaded a provider before.
"""

from __future__ import annotations

import json
import os
import select
import signal
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ..._model import underway
from ..._model.errors import Cryptoki, KeyfleetError, PinError, ProviderError, TokenError

END = b"end"  # what a child writes behind its last answer
_BYTES = "\0hex"  # with NUL, as no label of a mapping by labels and no variable's name: a mapping with this one key stands for bytes


def write_line(pipe: int, value: Any) -> None:
    """One line of JSON, with bytes as hex."""
    data = json.dumps(value, default=lambda content: {_BYTES: content.hex()}).encode("utf-8") + b"\n"
    while data:
        data = data[os.write(pipe, data) :]


def parsed(line: bytes) -> Any:
    return json.loads(line, object_hook=lambda found: bytes.fromhex(found[_BYTES]) if found.keys() == {_BYTES} else found)


# Kinds that somebody looks for; any other is one that is only shown.
_KINDS: dict[str, type[KeyfleetError]] = {kind.__name__: kind for kind in (PinError, ProviderError, TokenError)}


def error_fields(error: KeyfleetError) -> dict[str, Any]:
    """An error as plain values, for :func:`error_of` in the parent."""
    device = error.device if isinstance(error, Cryptoki) else None
    values = {name: getattr(error, name) for name in ("message", "code", "details", "changed")}
    return {"type": type(error).__name__, "device": device, **values}


def error_of(fields: Mapping[str, Any]) -> KeyfleetError:
    """The child's error, to be raised here."""
    message, code, details = fields["message"], fields["code"], fields["details"]
    error: KeyfleetError
    if fields["device"] is not None:
        error = Cryptoki(message, rv=code, device=fields["device"], details=details)
    else:
        error = _KINDS.get(fields["type"], KeyfleetError)(message, code=code, details=details)
    error.changed = fields["changed"]
    return error


def run_here(work: Callable[[], Iterable[Any]], pipe: int, page: underway.Page, tell: Callable[[str], None] = lambda text: None) -> None:
    """Never returns: no clean-up of the parent's runs here, and what a provider prints is no part of a module's answer."""
    status = 1
    try:
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        underway.watch(page, tell)
        # A line an answer, as soon as it is there: what was found before a hang is not lost.
        for answer in work():
            write_line(pipe, answer)
        os.write(pipe, END)
        status = 0
    finally:
        os._exit(status)


def how_it_ended(status: int, page: underway.Page) -> str:
    """Of a child that ended before its work did, by its wait status: a sentence without its full stop."""
    code, call = os.waitstatus_to_exitcode(status), page.read()
    if code >= 0:
        return f"the PKCS#11 library ended the process{call} (exit code {code})"
    crash = -code in (signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGILL, signal.SIGFPE, signal.SIGTRAP)
    what = "the PKCS#11 library crashed" if crash else "the process that uses the PKCS#11 library was killed"
    return f"{what}{call} (signal {-code})"


def read_all(pipe: int, seconds: float) -> tuple[bytes, bool]:
    """What the child wrote, and whether the time ran out."""
    deadline = time.monotonic() + seconds
    parts: list[bytes] = []
    while True:
        ready, _write, _error = select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            return b"".join(parts), True
        part = os.read(pipe, 65536)
        if not part:
            return b"".join(parts), False
        parts.append(part)


def run_in_child(work: Callable[[], Iterable[Any]], seconds: float, what: str) -> tuple[list[Any], KeyfleetError | None]:
    """The JSON-able answers of ``work``, computed in a child that has ``seconds`` for all of them.

    With them, why there are no more: an error with code ``probe_timeout`` or ``probe_crashed``, or None when ``work`` came to
    its end. ``work`` itself must not raise.
    """
    page = underway.Page()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        run_here(work, writing, page)
    os.close(writing)
    try:
        data, late = read_all(reading, seconds)
    finally:
        os.close(reading)
        # It is done, or its time is up, or we are being interrupted: in no case does it live on.
        os.kill(child, signal.SIGKILL)
        _child, status = os.waitpid(child, 0)
    lines = data.split(b"\n")
    answers = [json.loads(line) for line in lines[:-1]]
    if lines[-1] == END:
        return answers, None
    if late:
        text = f"{what} gave no answer within {seconds:g} seconds (timeout): it hung{page.read()}."
        return answers, KeyfleetError(text, code="probe_timeout")
    return answers, KeyfleetError(f"{what}: {how_it_ended(status, page)}. Look at the vendor's log.", code="probe_crashed")
