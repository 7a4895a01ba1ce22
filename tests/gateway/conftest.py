# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The hosts that the tests of this folder share. Each test leaves gateways, balancer and clients as it found them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from fleet_fixture import CHECKOUT, Fleet
from gateway_scene import Scene, prepare


@pytest.fixture(scope="session")
def scene() -> Iterator[Scene]:
    """host1 (Debian 12) and host2 (Debian 13) are gateways; host3 (Debian 12) has the load balancer and an application."""
    fleet = Fleet(CHECKOUT, Path(os.environ.get("KEYFLEET_HOSTS", CHECKOUT / ".build/gateway")))
    kept = os.environ.get("KEYFLEET_KEEP_HOSTS") == "1"
    if not kept:
        fleet.hosts("down")
    try:
        fleet.hosts("up", "--hosts", "3", "--debian", "bookworm,trixie")
        yield prepare(fleet, fleet.home.with_name(fleet.home.name + "-run"), kept=kept)
    finally:
        if not kept:
            fleet.hosts("down")
