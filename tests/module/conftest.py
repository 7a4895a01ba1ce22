# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Fixtures of the module tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import swtok
from faulty import Faulty, build_fault_library
from hsm_fixture import Hsm, Pair, ok
from prepared import Prepared, bare


@pytest.fixture
def hsm(tmp_path: Path) -> Hsm:
    return bare(tmp_path)


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return Prepared(tmp_path_factory)


@pytest.fixture
def primary(hsm: Hsm, prepared: Prepared) -> Hsm:
    """An HSM with the instance ``primary`` and its token ``payments`` registered."""
    prepared.give(hsm, "primary", Hsm.register)
    return hsm


@pytest.fixture
def pair(hsm: Hsm, prepared: Prepared) -> Pair:
    """Two HSMs that know nothing of each other, ``primary`` and ``standby``, and the group ``payments`` with both in that order."""
    prepared.give(hsm, "pair", Pair.made)
    return Pair(hsm, Hsm(hsm.scratch / "other"))


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The library that makes faults, built once."""
    return build_fault_library(tmp_path_factory.mktemp("fault"))


@pytest.fixture
def faulty(hsm: Hsm, library: str, prepared: Prepared) -> Faulty:
    """The instance ``primary`` behind that library, without a fault yet."""
    prepared.give(hsm, "faulty", lambda hsm: ok(Faulty(hsm, library).register()))
    return Faulty(hsm, library)


@pytest.fixture
def locking() -> Iterator[dict[str, Any]]:
    """Arguments of hsm_instance for opencryptoki's software token."""
    with swtok.running() as arguments:
        yield arguments
