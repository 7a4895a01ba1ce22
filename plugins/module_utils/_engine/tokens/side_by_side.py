# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""Children that ask HSMs side by side. Each has a limit of time for its next answer, and one that hangs costs the others nothing."""

from __future__ import annotations

import json
import os
import select
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from ..._model import underway
from ..._model.errors import KeyfleetError
from .child import END, how_it_ended, run_here


class Asking:
    """A child with ``work``, whose JSON-able answers are in ``answers`` as they come. It has ``seconds`` for each of them.

    ``error`` says why there are no more, with code ``probe_timeout`` or ``probe_crashed``; it is None where ``work`` came to its end.
    ``work`` itself must not raise. The parent must not have loaded a provider before.
    """

    def __init__(self, work: Callable[[], Iterable[Any]], seconds: float, what: str) -> None:
        self.answers: list[Any] = []
        self.error: KeyfleetError | None = None
        self._seconds, self._what = seconds, what
        self._page = underway.Page()
        self._pipe, writing = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._pipe)
            run_here(work, writing, self._page)
        os.close(writing)
        self._rest = b""
        self.deadline = time.monotonic() + seconds

    def fileno(self) -> int:
        return self._pipe

    def hear(self) -> bool:
        """Take what the child has written, and say whether that was the last of it. Waits where it has written nothing."""
        part = os.read(self._pipe, 65536)
        *lines, self._rest = (self._rest + part).split(b"\n")
        if lines:
            self.answers += [json.loads(line) for line in lines]
            self.deadline = time.monotonic() + self._seconds
        return not part or self._rest == END

    def close(self, *, late: bool = False) -> None:
        """End the child: it is done, or its time is up, or we are being interrupted. In no case does it live on."""
        os.close(self._pipe)
        os.kill(self.pid, signal.SIGKILL)
        _child, status = os.waitpid(self.pid, 0)
        if self._rest == END:
            return
        if late:
            text = f"{self._what} gave no answer within {self._seconds:g} seconds (timeout): it hung{self._page.read()}."
            self.error = KeyfleetError(text, code="probe_timeout")
        else:
            text = f"{self._what}: {how_it_ended(status, self._page)}. Look at the vendor's log."
            self.error = KeyfleetError(text, code="probe_crashed")


def side_by_side(jobs: Iterable[Iterator[Asking]]) -> None:
    """Run all jobs to their end. A job yields one child after the other, and goes on when that one is closed."""
    running: dict[Asking, Iterator[Asking]] = {}

    def go_on(job: Iterator[Asking]) -> None:
        child = next(job, None)
        if child is not None:
            running[child] = job

    try:
        for job in jobs:
            go_on(job)
        while running:
            left = min(child.deadline for child in running) - time.monotonic()
            ready, _write, _error = select.select([*running], [], [], max(0.0, left))
            for child in list(running):
                ended = child in ready and child.hear()
                late = not ended and time.monotonic() >= child.deadline
                if ended or late:
                    job = running.pop(child)
                    child.close(late=late)
                    go_on(job)
    finally:
        for child in running:
            child.close()
