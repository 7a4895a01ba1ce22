# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Fixtures of the module tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from hsm_fixture import Hsm


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
