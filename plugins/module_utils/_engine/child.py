# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""Run a probe in a child process with a deadline.

A PKCS#11 call that hangs cannot be interrupted from Python, and a provider that crashes takes its process with it. In a
child both are one instance's trouble only. The parent must not have loaded a provider before.
"""

from __future__ import annotations

import json
import os
import select
import signal
import time
from collections.abc import Callable, Iterable
from typing import Any

from .._model.errors import KeyfleetError

_END = b"end"


def _child(work: Callable[[], Iterable[Any]], pipe: int) -> None:
    """Never returns: no clean-up of the parent's runs here, and what a provider prints is no part of a module's answer."""
    status = 1
    try:
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        # A line an answer, as soon as it is there: what was found before a hang is not lost.
        for answer in work():
            data = json.dumps(answer).encode("utf-8") + b"\n"
            while data:
                data = data[os.write(pipe, data) :]
        os.write(pipe, _END)
        status = 0
    finally:
        os._exit(status)


def _read(pipe: int, seconds: float) -> tuple[bytes, bool]:
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
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _child(work, writing)
    os.close(writing)
    try:
        data, late = _read(reading, seconds)
    finally:
        os.close(reading)
        # It is done, or its time is up, or we are being interrupted: in no case does it live on.
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    lines = data.split(b"\n")
    answers = [json.loads(line) for line in lines[:-1]]
    if lines[-1] == _END:
        return answers, None
    if late:
        return answers, KeyfleetError(f"{what} gave no answer within {seconds:g} seconds (timeout).", code="probe_timeout")
    text = f"{what}: its PKCS#11 library ended the process that probed it. Look at the vendor's log."
    return answers, KeyfleetError(text, code="probe_crashed")
