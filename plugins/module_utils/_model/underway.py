# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""What this process has done and is doing, for the one that started it: a vendor's library may end it in the middle of a call.

The call stands in memory that both processes share, since nobody is left to say it afterwards. No text here is a secret.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from mmap import mmap

_BYTES = 4096
_TRIES = 100


@dataclass(frozen=True)
class Call:
    """``doing`` in plain words, ``function`` the C function where it is one. ``writes``: to the token."""

    doing: str = ""
    function: str = ""
    writes: bool = False

    def __str__(self) -> str:
        where = f" in {self.function}" if self.function else ""
        return f"{where}{' while ' if self.doing else ''}{self.doing}"


class Page:
    """The call of one process, in memory that it shares with the one that made the page before the fork.

    Read while it is being written, and after a process that died in the middle of that: there are two places, and the first byte says
    in which the call stands. A new call goes to the other one.
    """

    def __init__(self) -> None:
        self._memory = mmap(-1, 1 + 2 * _BYTES)

    def write(self, call: Call) -> None:
        data = json.dumps([call.doing[: _BYTES // 16], call.function, call.writes]).encode("ascii")
        other = 1 - self._memory[0]
        start = 1 + other * _BYTES
        self._memory[start : start + len(data) + 1] = data + b"\0"
        self._memory[0] = other

    def read(self) -> Call:
        """The call of this moment; one that says nothing where calls follow each other too fast."""
        for _try in range(_TRIES):
            number = self._memory[0]
            data = self._memory[1 + number * _BYTES : 1 + (number + 1) * _BYTES].partition(b"\0")[0]
            if number == self._memory[0]:
                with suppress(ValueError):
                    return Call(*json.loads(data)) if data else Call()
        return Call()


@dataclass
class _Watch:
    page: Page = field(default_factory=Page)
    call: Call = field(default_factory=Call)
    tell: Callable[[str], None] = field(default=lambda text: None)


_watch = _Watch()


def watch(page: Page, tell: Callable[[str], None]) -> None:
    """From here on ``page`` has the call of this process, and ``tell`` gets in words what is done."""
    _watch.page, _watch.call, _watch.tell = page, Call(), tell


@contextmanager
def calling(call: Call) -> Iterator[None]:
    """While the body makes this call. One that writes is done when the body ends well."""
    before = _watch.call
    _watch.call = call
    _watch.page.write(call)
    try:
        yield
    finally:
        _watch.call = before
        _watch.page.write(before)
    if call.writes:
        done(call.doing)


def done(text: str) -> None:
    """Say that something outside of this process was changed."""
    _watch.tell(text)
