# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hosts for the tests of this folder. Those of test_site are bare when it begins."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fleet_fixture import CHECKOUT, Fleet
from month_fixture import Month, prepare


@contextmanager
def hosts(*wanted: str) -> Iterator[Fleet]:
    """One folder for all, so that the images are brought into its store once."""
    fleet = Fleet(CHECKOUT, Path(os.environ.get("KEYFLEET_HOSTS", CHECKOUT / ".build/fleet")))
    try:
        fleet.hosts("down")
        fleet.hosts("up", "--debian", "bookworm,trixie", *wanted)
        yield fleet
    finally:
        fleet.hosts("down")


@pytest.fixture(scope="session")
def fleet() -> Iterator[Fleet]:
    """host1 and offline1 are bookworm, host2 is trixie. For test_hosts, then test_month on host1, and test_offline, before ``five`` takes
    them down."""
    with hosts("--hosts", "2", "--offline", "1") as fleet:
        yield fleet


@pytest.fixture(scope="session")
def month(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Month:
    """host1 with a KMS server and two HSMs as they are declared."""
    month = prepare(fleet, tmp_path_factory.mktemp("month"))
    run = month.run()
    assert run.code == 0, run.failures()
    return month


@pytest.fixture(scope="module")
def five() -> Iterator[Fleet]:
    """host1, host3 and host5 are bookworm, host2 and host4 are trixie."""
    with hosts("--hosts", "5") as fleet:
        yield fleet
