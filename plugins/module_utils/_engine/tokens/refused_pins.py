# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""Remember that a PIN file was refused, so that no later task, run or probe tries the same file again.

Not every token flags a wrong PIN, and a play may go on after a failed task. What is kept is the file's state, not its
content and no digest of it: a PIN is short, and a digest would give it away. A file that was written again is a new try;
so is a run with allow_low_pin_count.
"""

from __future__ import annotations

import os

from ..._model.errors import KeyfleetError, PinError
from ..._model.records import TokenRecord
from ..._registry import instances as table
from ..._registry.database import Database


def file_state(path: str) -> str | None:
    """What changes when the file is written again; None when that cannot be told."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return f"{status.st_dev}:{status.st_ino}:{status.st_mtime_ns}:{status.st_size}"


def check_not_refused(token: TokenRecord, path: str, *, allow_low_pin_count: bool) -> None:
    """Raise :class:`PinError` when the token refused the PIN in this very file before."""
    if token.refused is not None and token.refused == file_state(path) and not allow_low_pin_count:
        raise PinError(
            f"token '{token.named()}': the PIN in {path} was refused before, and the file has not changed since: it is not tried again. "
            "Put the right PIN into the file, or run once with allow_low_pin_count: true.",
            code="pin_not_tried",
        )


def note_login(database: Database | None, token: TokenRecord | None, path: str | None, outcome: KeyfleetError | str | None) -> None:
    """After a login with the PIN in ``path``: remember a refusal, forget an old one after success.

    ``outcome`` is the error or its code, None for a good login. Any other error says nothing about the PIN.
    """
    if database is None or token is None or token.id is None or path is None:
        return
    code = outcome.code if isinstance(outcome, KeyfleetError) else outcome
    state = file_state(path) if code == "pin_incorrect" else None
    if code not in (None, "pin_incorrect") or state == token.refused:
        return
    with database.transaction():
        table.note_refusal(database, token.id, state)
