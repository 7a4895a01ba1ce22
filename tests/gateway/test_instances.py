# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""max_sessions and connection_timeout, and one instance that is stopped, edited and started while the others go on."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import yaml
from gateway_scene import APP, GATEWAYS, HERE, Scene
from many_clients import behind_client, clients

GATEWAY = GATEWAYS[0]
OTHERS = ("one", "many", "faulty")
# One client of the token "turns", which says when it asks and when it is in or out, and stays until its input ends.
HOLD = """
import sys, time, pkcs11
print("asking", flush=True)
begun = time.monotonic()
try:
    pkcs11.lib("/usr/lib/x86_64-linux-gnu/pkcs11/p11-kit-client.so").get_token(token_label="turns")
    print("in", time.monotonic() - begun, flush=True)
    sys.stdin.read()
except Exception:
    print("out", time.monotonic() - begun, flush=True)
"""


class Holder:
    def __init__(self, scene: Scene) -> None:
        command = f"sudo P11_KIT_SERVER_ADDRESS=unix:path={behind_client('turns')} /opt/keyfleet/venv/bin/python -c '{HOLD}'"
        self.process = subprocess.Popen(
            scene.fleet.ssh_command(APP, command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )

        self.out = self.process.stdout
        assert self.out is not None
        assert self.out.readline() == "asking\n"

    def seen(self) -> tuple[str, float]:
        assert self.out is not None
        word, seconds = self.out.readline().split()
        return word, float(seconds)

    def leave(self) -> None:
        if self.out and not self.out.closed:
            self.process.communicate(timeout=30)


@contextmanager
def holders(scene: Scene, number: int) -> Iterator[list[Holder]]:
    made = [Holder(scene) for _number in range(number)]
    try:
        yield made
    finally:
        for one in made:
            one.leave()


def starts(scene: Scene) -> dict[str, str]:
    """Which start of each unit of the other instances this is."""
    units = " ".join(f"keyfleet-{half}@{name}" for name in OTHERS for half in ("hsm", "front"))
    return dict.fromkeys(scene.ssh(GATEWAY, f"systemctl show --property=InvocationID --value {units}").stdout.split(), "")


def active(scene: Scene) -> list[str]:
    return scene.ssh(GATEWAY, "systemctl is-active keyfleet-hsm@turns keyfleet-front@turns", sure=False).stdout.split()


def test_two_hold_the_third_is_refused_after_three_seconds_and_a_fourth_takes_a_place(scene: Scene) -> None:
    with holders(scene, 2) as (first, second):
        assert (first.seen()[0], second.seen()[0]) == ("in", "in")
        with holders(scene, 1) as (third,):
            word, seconds = third.seen()
        print(f"the third is {word} after {seconds:.2f} s")
        assert word == "out" and 3 <= seconds < 4
        with holders(scene, 1) as (fourth,):
            time.sleep(1)
            first.leave()
            word, seconds = fourth.seen()
        print(f"the fourth is {word} after {seconds:.2f} s")
        assert word == "in" and 1 <= seconds < 3


def test_one_instance_is_stopped_and_started_while_the_others_go_on(scene: Scene) -> None:
    before = starts(scene)
    with clients(scene, APP, behind_client("many"), "many", 1) as many, holders(scene, 1) as (holder,):
        assert many.ask("open") == [None] and holder.seen()[0] == "in"
        stop = subprocess.Popen(scene.fleet.ssh_command(GATEWAY, "sudo systemctl stop keyfleet-hsm@turns"))
        until = time.monotonic() + 20
        while active(scene)[1] != "deactivating":
            assert time.monotonic() < until
        # It takes nobody new, and waits for the one that is there.
        with holders(scene, 1) as (late,):
            assert late.seen()[0] == "out"
        assert stop.poll() is None and active(scene) == ["active", "deactivating"]
        (made,) = many.ask("ec 1")
        assert made > 0
        holder.leave()
        left = time.monotonic()
        assert stop.wait(20) == 0
        print(f"stopped {time.monotonic() - left:.1f} s after its last client had left")
        assert active(scene) == ["inactive", "inactive"]
        (made,) = many.ask("rsa 1")
        assert made > 0
    scene.ssh(GATEWAY, "sudo systemctl start keyfleet-hsm@turns")
    with holders(scene, 1) as (again,):
        assert again.seen()[0] == "in"
    assert starts(scene) == before


def test_an_edit_takes_effect_when_the_instance_is_restarted(scene: Scene) -> None:
    declared = yaml.safe_load((HERE / "group_vars/gateways.yml").read_text())["hsm_instances"]
    declared = [{**one, "max_sessions": 3} if one["name"] == "turns" else one for one in declared]
    before = starts(scene)
    with holders(scene, 2) as both:
        assert [one.seen()[0] for one in both] == ["in", "in"]
        # The role writes what is declared, and leaves the units to the operator.
        run = scene.play(HERE / "gateway.yml", hsm_instances=declared, gateway_manage_service=False, gateway_health=False)
        assert run.code == 0, run.failures()
        with holders(scene, 1) as (third,):
            assert third.seen()[0] == "out"
    scene.ssh(GATEWAY, "sudo systemctl daemon-reload && sudo systemctl restart keyfleet-hsm@turns")
    with holders(scene, 3) as three:
        assert [one.seen()[0] for one in three] == ["in"] * 3
    assert starts(scene) == before
    # The role itself restarts the one that it changes.
    run = scene.play(HERE / "gateway.yml")
    assert run.code == 0, run.failures()
    assert starts(scene) == before
    with holders(scene, 2) as both, holders(scene, 1) as (third,):
        assert sorted(one.seen()[0] for one in (*both, third)) == ["in", "in", "out"]
