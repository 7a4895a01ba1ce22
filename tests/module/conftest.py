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
from hsm_fixture import Hsm, Pair


@pytest.fixture
def hsm(tmp_path: Path) -> Hsm:
    (tmp_path / "tokens").mkdir()
    (tmp_path / "softhsm2.conf").write_text(f"directories.tokendir = {tmp_path}/tokens\nlog.level = ERROR\n")
    return Hsm(tmp_path)


@pytest.fixture
def primary(hsm: Hsm) -> Hsm:
    """An HSM with the instance ``primary`` and its token ``payments`` registered."""
    hsm.register()
    return hsm


@pytest.fixture
def pair(hsm: Hsm) -> Pair:
    """Two HSMs that know nothing of each other, ``primary`` and ``standby``, and the group ``payments`` with both in that order."""
    return Pair.made(hsm)


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The library that makes faults, built once."""
    return build_fault_library(tmp_path_factory.mktemp("fault"))


@pytest.fixture
def faulty(hsm: Hsm, library: str) -> Faulty:
    """The instance ``primary`` behind that library, without a fault yet."""
    faulty = Faulty(hsm, library)
    answer = faulty.register()
    assert not answer.get("failed"), answer
    return faulty


@pytest.fixture
def locking() -> Iterator[dict[str, Any]]:
    """Arguments of hsm_instance for opencryptoki's software token."""
    with swtok.running() as arguments:
        yield arguments
