# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Signatures of 8 clients through the gateway, against 8 at the bare socket of its p11-kit server: rounds by turns, and their ratios.

The ratio of signatures a second means something only where nothing else runs: a few processes carry what the others wait for. That of
signatures for a second of the hosts' CPU is printed beside it, and how far it is from the aim, as ``make bench`` does.
"""

from __future__ import annotations

from statistics import median

import pytest
from gateway_scene import APP, GATEWAYS, Scene
from many_clients import behind_client, clients, of_server

CLIENTS, ROUNDS, SECONDS = 8, 9, 2


def cpu_seconds(scene: Scene) -> float:
    """What the gateway and the application host have used, by their control groups."""
    command = "sed -n 's/^usage_usec //p' /sys/fs/cgroup/cpu.stat"
    return sum(int(scene.ssh(host, command).stdout) for host in (GATEWAYS[0], APP)) / 1e6


@pytest.mark.parametrize(("key", "least"), [("rsa", 0.75), ("ec", 0.6)])
def test_signatures_a_second(scene: Scene, key: str, least: float) -> None:
    made: dict[str, list[float]] = {"bare": [], "gateway": []}
    paid: dict[str, list[float]] = {"bare": [], "gateway": []}
    # Logins beside each other are what SoftHSM2 cannot do, those of the probe included.
    scene.ssh(GATEWAYS[0], "sudo systemctl stop keyfleet-gateway")
    try:
        with (
            clients(scene, GATEWAYS[0], of_server("many"), "many", CLIENTS) as bare,
            clients(scene, APP, behind_client("many"), "many", CLIENTS) as gateway,
        ):
            for side in (bare, gateway):
                assert side.ask("open") == [None] * CLIENTS
            for number in range(ROUNDS):
                sides = [("bare", bare), ("gateway", gateway)]
                for name, side in sides if number % 2 else reversed(sides):
                    before = cpu_seconds(scene)
                    made[name].append(sum(side.ask(f"{key} {SECONDS}")) / SECONDS)
                    paid[name].append(made[name][-1] * SECONDS / (cpu_seconds(scene) - before))
    finally:
        scene.ssh(GATEWAYS[0], "sudo systemctl start keyfleet-gateway")
    found = {}
    for what, of in (("second", made), ("second of CPU", paid)):
        ratios = sorted(through / bare for through, bare in zip(of["gateway"], of["bare"], strict=True))
        each = {name: round(median(values)) for name, values in of.items()}
        found[what] = median(ratios)
        print(f"{key}: {each} signatures a {what}, ratio {found[what]:.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})")
    missed = 1 - found["second"] / least
    print(f"{key}: aim at least {least}: " + (f"missed by {missed:.0%}" if missed > 0 else "met"))
    # How fast it is depends on what else the machine does. That all sign, in every round, does not.
    assert all(rate > 0 for rates in made.values() for rate in rates), made
