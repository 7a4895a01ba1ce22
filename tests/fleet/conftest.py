# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hosts for the tests of this folder: brought up once, shared by all, taken down at the end."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from fleet_fixture import CHECKOUT, Fleet


@pytest.fixture(scope="session")
def fleet() -> Iterator[Fleet]:
    """host1 and offline1 are bookworm, host2 is trixie."""
    home = Path(os.environ.get("KEYFLEET_HOSTS", CHECKOUT / ".build/fleet"))
    fleet = Fleet(CHECKOUT, home)
    try:
        fleet.hosts("up", "--hosts", "2", "--debian", "bookworm,trixie", "--offline", "1")
        yield fleet
    finally:
        fleet.hosts("down")
