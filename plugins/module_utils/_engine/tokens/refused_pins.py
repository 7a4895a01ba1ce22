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
from dataclasses import dataclass

from ..._model.errors import KeyfleetError, PinError
from ..._model.records import TokenRecord
from ..._registry import instances as table
from ..._registry.database import Database

_OPTION, _SO = "option", "so:"


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


def note_login(database: Database | None, token: TokenRecord | None, tried: Tried | None, outcome: KeyfleetError | str | None) -> None:
    """After a login or C_SetPIN with the PIN ``tried``: remember a refusal, forget old ones after success.

    ``outcome`` is the error or its code, None for a good login. Any other error says nothing about the PIN.
    """
    if database is None or token is None or token.id is None or tried is None:
        return
    code = outcome.code if isinstance(outcome, KeyfleetError) else outcome
    mark = tried.mark()
    if code == "pin_incorrect" and mark is not None:
        with database.transaction():
            table.note_refusals(database, token.id, table.refusals(database, token.id) | {mark})
    elif code is None and any(map(tried.is_cleared, token.refusals)):
        with database.transaction():
            kept = {mark for mark in table.refusals(database, token.id) if not tried.is_cleared(mark)}
            table.note_refusals(database, token.id, kept)
