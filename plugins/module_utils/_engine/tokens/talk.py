# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""A child process that is asked one thing after another."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any

from ..._model import underway
from ..._model.errors import KeyfleetError
from .child import how_it_ended, parsed, read_all, run_here, write_line

_GOODBYE = 10.0  # seconds to close a session after the last request


class Talk:
    """A child that answers requests, one line of JSON each way (bytes are hex), until it is closed or this process is gone.

    ``serve`` gets the requests and gives one answer to each; it must not raise. What it holds in memory before the fork, PINs for
    example, passes through no argument, environment or pipe. It ends by itself when this process dies: the pipes that the children
    before it hold are named by ``others``, so that no child keeps another's open.
    """

    def __init__(self, serve: Callable[[Iterator[Any]], Iterable[Any]], what: str, others: Sequence[Talk] = ()) -> None:
        self.what = what
        requests, self._requests = os.pipe()
        self._answers, answers = os.pipe()
        self._alive, self._status = True, 0
        self._page = underway.Page()
        self._child = os.fork()
        if self._child == 0:
            for descriptor in (self._requests, self._answers, *(pipe for talk in others for pipe in (talk._requests, talk._answers))):
                os.close(descriptor)
            run_here(lambda: serve(_requests_of(requests)), answers, self._page)
        os.close(requests)
        os.close(answers)

    def ask(self, request: Any, seconds: float | None) -> Any:
        """The answer to a request; ``seconds`` None waits as long as it takes.

        Raises :class:`KeyfleetError` with code ``exchange_timeout`` or ``exchange_crashed``, and then the child is dead.
        """
        deadline = None if seconds is None else time.monotonic() + seconds
        parts: list[bytes] = []
        try:
            write_line(self._requests, request)
            while not (parts and b"\n" in parts[-1]):
                left = None if deadline is None else max(0.0, deadline - time.monotonic())
                if not select.select([self._answers], [], [], left)[0]:
                    self._kill()
                    text = f"{self.what} gave no answer within {seconds:g} seconds (timeout): it hung{self._page.read()}."
                    raise KeyfleetError(text, code="exchange_timeout")
                part = os.read(self._answers, 65536)
                if not part:
                    raise BrokenPipeError
                parts.append(part)
        except BrokenPipeError:
            text = f"{self.what}: {how_it_ended(self._kill(), self._page)}. Look at the vendor's log."
            raise KeyfleetError(text, code="exchange_crashed") from None
        return parsed(b"".join(parts).partition(b"\n")[0])  # a child that is done says so behind its last answer

    def _kill(self) -> int:
        """Its wait status: where it had ended before, how it did."""
        if self._alive:
            self._alive = False
            os.kill(self._child, signal.SIGKILL)
            _child, self._status = os.waitpid(self._child, 0)
        return self._status

    def __enter__(self) -> Talk:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """No more requests: the child closes its session and ends. One that does not is killed."""
        os.close(self._requests)
        try:
            if self._alive:
                read_all(self._answers, _GOODBYE)
        finally:
            os.close(self._answers)
            self._kill()


def _requests_of(pipe: int) -> Iterator[Any]:
    with os.fdopen(pipe, "rb") as lines:
        for line in lines:
            yield parsed(line)
