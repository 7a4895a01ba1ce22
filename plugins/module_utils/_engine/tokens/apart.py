# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""Run an engine in a child process: a vendor's library that crashes ends the child, and the module reports what was done until then.

The child is forked before anything loads a library, and has the request in its memory: a PIN passes through no argument, environment or
pipe. It takes the locks and opens the registry. It has no deadline: a call may take minutes (an RSA-4096 pair in a smart card), and to
end one in the middle may cost the token. A task with Ansible's ``async`` ends at its limit; the system log says which call takes long.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import syslog
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from ..._model import underway
from ..._model.errors import Defect, KeyfleetError
from ..._model.plan import Context, Outcome
from .child import error_fields, error_of, how_it_ended, parsed, run_here, write_line

Request = TypeVar("Request")
Engine = Callable[[Request, Context], Outcome]

_PR_SET_PDEATHSIG = 1
_LONG_SECONDS = 60.0  # a call that takes longer is reported in the system log
_SHOWN = 5
_PASSED_ON = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)


def apart(engine: Engine[Request], without_library: Callable[[Request, KeyfleetError], Request | None] | None = None) -> Engine[Request]:
    """``engine`` in a child process. Raises what it raises; :class:`KeyfleetError` with code ``library_crashed`` where the child died.

    ``without_library`` makes of the request and that error another one that does not use the library, and is carried out then.
    """

    def run(request: Request, context: Context) -> Outcome:
        page, parent = underway.Page(), os.getpid()
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            _end_with(parent)
            run_here(lambda: [_answer(engine, request, context, writing)], writing, page, lambda text: write_line(writing, {"done": text}))
        os.close(writing)
        heard = _Heard()
        with _passing_on(child):
            try:
                heard.listen(reading, context, page)
            except BaseException:
                os.kill(child, signal.SIGKILL)
                raise
            finally:
                os.close(reading)
                _child, status = os.waitpid(child, 0)
        if heard.answer is None:
            error = _crashed(how_it_ended(status, page), page.read(), [] if context.check_mode else heard.done)
            other = without_library and without_library(request, error)
            if not other:
                raise error
            context.warn(error.message)
            outcome = engine(other, context)
            outcome.changed = outcome.changed or error.changed
            return outcome
        return _opened(heard.answer)

    return run


def _end_with(parent: int) -> None:
    """In the child: end when the parent is killed, which no handler sees. A terminal's signals come through the parent, once."""
    os.setpgid(0, 0)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


@contextmanager
def _passing_on(child: int) -> Iterator[None]:
    """Signals that end a process go to the child, which holds them back where it must, and to this process when the child has ended."""
    came: list[int] = []

    def pass_on(number: int, _frame: Any) -> None:
        came.append(number)
        with suppress(ProcessLookupError):
            os.kill(child, number)

    before = {number: signal.signal(number, pass_on) for number in _PASSED_ON if signal.getsignal(number) is not signal.SIG_IGN}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if came:
            os.kill(os.getpid(), came[0])


def _answer(engine: Engine[Request], request: Request, context: Context, pipe: int) -> dict[str, Any]:
    """In the child: what became of it, as plain values."""
    try:
        outcome = engine(request, replace(context, warn=lambda text: write_line(pipe, {"warn": text})))
    except KeyfleetError as error:
        return {"error": error_fields(error)}
    except Exception as error:  # pylint: disable=broad-exception-caught
        return {"defect": Defect.of(error).told}
    return {"outcome": vars(outcome)}


@dataclass
class _Heard:
    """What the child said until it ended."""

    done: list[str] = field(default_factory=list)
    answer: dict[str, Any] | None = None

    def listen(self, pipe: int, context: Context, page: underway.Page) -> None:
        rest, reported = b"", underway.Call()
        while True:
            call = page.read()
            if not select.select([pipe], [], [], _LONG_SECONDS)[0]:
                if page.read() == call != reported and call != underway.Call():
                    reported = call
                    syslog.syslog(syslog.LOG_WARNING, f"keyfleet.hsm has been{call} for {_LONG_SECONDS:g} seconds and waits on")
                continue
            part = os.read(pipe, 65536)
            if not part:
                return
            *lines, rest = (rest + part).split(b"\n")
            for line in map(parsed, lines):
                if "warn" in line:
                    context.warn(line["warn"])
                elif "done" in line:
                    self.done.append(line["done"])
                else:
                    self.answer = line


def _opened(answer: dict[str, Any]) -> Outcome:
    if "defect" in answer:
        raise Defect(*answer["defect"])
    if "error" in answer:
        raise error_of(answer["error"])
    return Outcome(**answer["outcome"])


def _crashed(ended: str, call: underway.Call, done: list[str]) -> KeyfleetError:
    text = f"{ended[0].upper()}{ended[1:]}."
    if call.writes:
        text += " Whether that call took effect is not known."
    if done:
        more = f" and {len(done) - _SHOWN} more, all in failure.details.applied" if len(done) > _SHOWN else ""
        text += f" Before that: {'; '.join(done[:_SHOWN])}{more}."
    details = {"function": call.function or None, "doing": call.doing or None, "applied": done}
    error = KeyfleetError(
        f"{text} Look at the vendor's log and run again: the next run looks at what is there, and finishes it.",
        code="library_crashed",
        details=details,
    )
    error.changed = bool(done) or call.writes
    return error
