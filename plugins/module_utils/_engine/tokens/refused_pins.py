# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""Remember that a PIN was refused, so that no later task, run or probe tries it again.

Not every token flags a wrong PIN, and a play may go on after a failed task. Of a file its state is kept, of an option only that it was
refused: no content, and no digest of it. A PIN is short. Where a digest takes a tenth of a second, one core tries all of six digits in
28 hours, and the registry lies in backups. So another PIN in an option is taken for the same one until the operator says
allow_low_pin_count, as with a token that flags it. A file that was written again is a new try.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace

from ..._cryptoki.provider import Token
from ..._model.errors import KeyfleetError, PinError, RegistryError
from ..._model.records import TokenRecord
from ..._registry import instances as table
from ..._registry import strange_tokens
from ..._registry.database import Database, open_database

_OPTION, _SO = "option", "so:"
# By the path of a copy, the state of the file that it was made of.
_origins: dict[str, str] = {}


def name_origins(origins: Mapping[str, str]) -> None:
    """Say of which files PIN files are copies: each start of a service gives it its credentials anew, and that is no new try.

    ``origins`` is by the path of the copy what changes when its original is written again (one word).
    """
    _origins.clear()
    _origins.update(origins)


@dataclass(frozen=True)
class Tried:
    """A PIN that is tried: where it comes from, None for an option, and whether it is the security officer's."""

    path: str | None = None
    so: bool = False

    def mark(self) -> str | None:
        """What the registry remembers of it; None when that cannot be told."""
        place = _OPTION if self.path is None else _file_state(self.path)
        return place and (f"{_SO}{place}" if self.so else place)

    def is_cleared(self, mark: str) -> bool:
        """Whether a good login with this PIN is the end of ``mark``."""
        so, option = mark.startswith(_SO), mark.endswith(_OPTION)
        return so is self.so and option is (self.path is None)


def _file_state(path: str) -> str | None:
    """What changes when the file is written again; None when that cannot be told."""
    if path in _origins:
        return _origins[path]
    try:
        status = os.stat(path)
    except OSError:
        return None
    return f"{status.st_dev}:{status.st_ino}:{status.st_mtime_ns}:{status.st_size}"


def check_not_refused(token: TokenRecord, tried: Tried, *, allow_low_pin_count: bool) -> None:
    """Raise :class:`PinError` when the token refused this PIN before."""
    if allow_low_pin_count or tried.mark() not in token.refusals:
        return
    whose = "SO PIN" if tried.so else "PIN"
    if tried.path is None:
        text = (
            f"a {whose} that an option gave was refused before, and no record tells whether this is another one: it is not tried. "
            "Make sure which PIN is right. Then run once with allow_low_pin_count: true."
        )
    else:
        text = (
            f"the {whose} in {tried.path} was refused before, and the file has not changed since: it is not tried again. "
            "Put the right PIN into the file, or run once with allow_low_pin_count: true."
        )
    raise PinError(f"token '{token.named()}': {text}", code="pin_not_tried")


def is_new_try(token: TokenRecord, tried: Tried) -> bool:
    """Whether the token refused a PIN before, and this is another one: its file was written again."""
    mark = tried.mark()
    return bool(token.refusals) and mark is not None and mark not in token.refusals


def note_login(database: Database | None, token: TokenRecord | None, tried: Tried | None, outcome: KeyfleetError | str | None) -> None:
    """After a login or C_SetPIN with the PIN ``tried``: remember a refusal, forget old ones after success.

    ``outcome`` is the error or its code, None for a good login. Any other error says nothing about the PIN. It holds in check mode,
    too: the try was real.
    """
    if database is None or token is None or token.id is None or tried is None:
        return
    if _marks_after(token.refusals, tried, outcome) != token.refusals:
        with database.lasting() as lasting, lasting.transaction():
            table.note_refusals(lasting, token.id, _marks_after(table.refusals(lasting, token.id), tried, outcome))


def with_refusals(database: Database, row: TokenRecord, token: Token | None) -> TokenRecord:
    """The row, or an empty one, with what ``token`` refused before it was registered."""
    if token is None:
        return row
    return replace(row, refusals=row.refusals | strange_tokens.refusals(database, token.identity, token.model))


def note_any_login(database: Database, row: TokenRecord, token: Token | None, tried: Tried | None, outcome: KeyfleetError | None) -> None:
    """:func:`note_login`, also for a token whose ``row`` is not in the registry: then a refusal is all that it gets of this run.

    A registry that is not there yet is made for it.
    """
    note_login(database, row, tried, outcome)
    if token is None or tried is None:
        return
    known = strange_tokens.refusals(database, token.identity, token.model)
    if (row.id is not None and not known) or _marks_after(known, tried, outcome) == known:
        return
    try:
        with open_database(database.path, run=database.run, create=True) as writable, writable.transaction():
            known = strange_tokens.refusals(writable, token.identity, token.model)
            strange_tokens.note_refusals(writable, token.identity, token.model, _marks_after(known, tried, outcome))
    except RegistryError as error:
        if outcome is None:
            raise
        outcome.message += f" That could not be remembered, so do not run again before the PIN is right: {error.message}"


def _marks_after(known: frozenset[str], tried: Tried, outcome: KeyfleetError | str | None) -> frozenset[str]:
    code = outcome.code if isinstance(outcome, KeyfleetError) else outcome
    if code == "pin_incorrect":
        mark = tried.mark()
        return known if mark is None else known | {mark}
    return known if code is not None else frozenset(mark for mark in known if not tried.is_cleared(mark))
