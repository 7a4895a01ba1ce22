# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A registry without an HSM behind it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.records import InstanceRecord, TokenRecord
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.tokens.selectors import TokenSelector
from ansible_collections.keyfleet.hsm.plugins.module_utils._registry import instances
from ansible_collections.keyfleet.hsm.plugins.module_utils._registry.database import Database, open_database


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """Instances ``primary``, ``standby`` and ``third`` of one model, with the tokens 1, 2 and 3 in their slots 11, 12 and 13."""
    with open_database(str(tmp_path / "registry.db"), run="test", create=True) as database:
        with database.transaction():
            for number, name in enumerate(("primary", "standby", "third"), 1):
                token = TokenRecord(TokenSelector("label", name), name, f"serial-{number}", 10 + number)
                instances.save(database, InstanceRecord(name, "softhsm2", f"/lib/{name}.so", tokens=(token,)), "create_instance")
        yield database
