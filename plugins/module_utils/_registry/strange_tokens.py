# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""Marks of PINs that were refused by tokens which are not registered: a declaration with a wrong PIN registers nothing."""

from __future__ import annotations

import json
from collections.abc import Collection

from .._model.tokens.identity import TokenIdentity
from .database import Database


def _key(token: TokenIdentity, model: str) -> str:
    return json.dumps(token.lock_parts(model))


def refusals(database: Database, token: TokenIdentity, model: str) -> frozenset[str]:
    """The marks of the PINs that this token refused. ``model`` is its own word for it."""
    row = database.connection.execute("SELECT refused FROM strange_token WHERE token = ?", (_key(token, model),)).fetchone()
    return frozenset() if row is None else frozenset(row["refused"].split())


def note_refusals(database: Database, token: TokenIdentity, model: str, marks: Collection[str]) -> None:
    """Keep these marks and no others. In the caller's transaction."""
    key = _key(token, model)
    database.connection.execute("DELETE FROM strange_token WHERE token = ?", (key,))
    if marks:
        database.connection.execute("INSERT INTO strange_token (token, refused) VALUES (?, ?)", (key, " ".join(sorted(marks))))
