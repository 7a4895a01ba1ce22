# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Logins of several clients in the same moment to a SoftHSM2, which cannot take them beside each other: the listener gives turns."""

from __future__ import annotations

from gateway_scene import APP, GATEWAYS, Scene
from many_clients import behind_client, clients, of_server

CLIENTS, TIMES = 8, 8


def test_64_logins_of_8_clients(scene: Scene) -> None:
    # The probe logs in, too, and takes no turn: the page of the gateway says so.
    scene.ssh(GATEWAYS[0], "sudo systemctl stop keyfleet-gateway")
    try:
        with clients(scene, GATEWAYS[0], of_server("one"), "one", CLIENTS) as bare:
            without = bare.ask(f"login {TIMES}")
        with clients(scene, APP, behind_client("single"), "one", CLIENTS) as gateway:
            through = gateway.ask(f"login {TIMES}")
    finally:
        scene.ssh(GATEWAYS[0], "sudo systemctl start keyfleet-gateway")
    failed = sum(bool(errors) for errors in without)
    print(f"{sum(map(len, without))} errors of {failed} clients without the listener, {sum(map(len, through))} through it")
    # As long as this holds, the limit of one client is needed.
    assert failed
    assert through == [[]] * CLIENTS
