# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""The append-only log: what was done, by which run, to what. No secret ever."""

from __future__ import annotations

import json
from typing import Any

from .._model import underway
from .database import Database, now


def record(database: Database, action: str, subject: str, **details: Any) -> None:
    """Add one event. Called inside the transaction of what it tells of."""
    database.connection.execute(
        "INSERT INTO event (at, run, action, subject, details) VALUES (?, ?, ?, ?, ?)",
        (now(), database.run, action, subject, json.dumps(details, sort_keys=True)),
    )
    underway.done(f"recording {action} of {subject}")


def has_stored(database: Database, fingerprint: str) -> bool:
    """Whether a run has stored the certificate with this SHA-256 fingerprint."""
    query = "SELECT 1 FROM event WHERE action = 'add_certificate' AND instr(details, ?) LIMIT 1"
    return database.connection.execute(query, (fingerprint,)).fetchone() is not None
