# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A registry of an earlier schema is brought up to date by the first run that writes, and loses nothing."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest
from ansible_collections.keyfleet.hsm.plugins.module_utils._registry.schema import MIGRATIONS
from hsm_fixture import Hsm, ok
from old_registry import downgrade

KEYS = [{"label": "dek", "type": "AES"}, {"label": "web", "type": "EC"}]


def version_of(registry: str) -> int:
    with closing(sqlite3.connect(registry)) as opened:
        return int(opened.execute("PRAGMA user_version").fetchone()[0])


@pytest.mark.parametrize("version", range(1, len(MIGRATIONS)))
def test_an_earlier_schema(primary: Hsm, version: int) -> None:
    before = ok(primary.keys(*KEYS))["keys"]
    downgrade(primary.registry, version)
    assert ok(primary.keys(*KEYS, check=True))["changed"] is False
    assert version_of(primary.registry) == version  # check mode writes nothing
    again = ok(primary.keys(*KEYS))
    assert again["changed"] is False and again["keys"] == before
    assert version_of(primary.registry) == len(MIGRATIONS)
    assert ok(primary.run("hsm_sync", instance="primary"))["summary"] == {"added": 0, "known": 2, "missing": 0, "drifted": 0}
    assert ok(primary.keys({**KEYS[0], "generation": 2, "previous": "deactivate"}))["changed"] is True
