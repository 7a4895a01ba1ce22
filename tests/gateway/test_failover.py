# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A program signs through the balancer while the HSM of the first gateway fails on purpose, and comes back.

What was counted is in ``failover.md`` of the scene's folder, from which the figures of docs/load_balancer.md are. Seconds are reported and
never compared.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from gateway_scene import APP, CLIENT, GATEWAYS, PIN, PYTHON, Scene, socket_of
from machine import Room

HERE = Path(__file__).resolve().parent
FIRST, SECOND = GATEWAYS
SWITCH = "/run/keyfleet-test/fault"
TOKENS = "/var/lib/softhsm/tokens"
FOLDER = "/opt/keyfleet-test"
BACKEND = "gateways-faulty"


def switched(how: str) -> str:
    return f"mkdir -p -m 755 {SWITCH.rpartition('/')[0]}; printf {how} >{SWITCH}.new; chmod 644 {SWITCH}.new; mv {SWITCH}.new {SWITCH}"


FIND = f"$(dirname $(grep --text --files-with-matches faulty {TOKENS}/*/token.object))"
# What is done to the first gateway, how it is undone, and whether its health tells of it.
FAULTS = {
    "device error (`CKR_DEVICE_ERROR` from every call)": (switched("before=0x30"), f"rm {SWITCH}", True),
    "hang of every call": (switched("hang"), f"rm {SWITCH}", True),
    "crash of the library in every call": (switched("crash"), f"rm {SWITCH}", True),
    "token gone": (f"mv {FIND} {TOKENS}/../away", f"mv {TOKENS}/../away {TOKENS}/faulty", True),
    "instance stopped (`systemctl stop keyfleet-hsm@faulty`)": (
        "systemctl stop keyfleet-hsm@faulty",
        "systemctl start keyfleet-hsm@faulty",
        False,
    ),
    # Of all processes of the first gateway: it takes connections, and answers nothing.
    "host frozen": ("", "", False),
}


@dataclass
class Signing:
    """The program on the application host, and the watch on both gateways' health."""

    scene: Scene

    def start(self) -> None:
        sign = f"{PYTHON} {FOLDER}/sign_in_a_loop.py {CLIENT} faulty {PIN} {FOLDER} {FOLDER}/signed"
        watch = f"{PYTHON} {FOLDER}/watch_health.py {FOLDER}/health {' '.join(GATEWAYS)}"
        way = " ".join(f"--setenv={name}={value}" for name, value in socket_of("faulty").items())
        self.scene.ssh(APP, f"sudo rm -f {FOLDER}/signed {FOLDER}/health")
        self.scene.ssh(APP, f"sudo systemd-run --quiet --collect --unit=keyfleet-test-watch {watch}")
        self.scene.ssh(APP, f"sudo systemd-run --quiet --collect --unit=keyfleet-test-sign {way} {sign}")

    def stop(self) -> None:
        self.scene.ssh(APP, "sudo systemctl stop keyfleet-test-sign keyfleet-test-watch", sure=False)

    def restart(self) -> None:
        """The program alone, which connects anew. What it told so far is lost."""
        self.scene.ssh(APP, "sudo systemctl stop keyfleet-test-sign")
        self.stop()
        self.start()

    def _rows(self, name: str) -> list[dict[str, Any]]:
        lines = self.scene.ssh(APP, f"sudo cat {FOLDER}/{name}", sure=False).stdout.splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def tries(self) -> list[dict[str, Any]]:
        return self._rows("signed")

    def health(self, host: str) -> list[dict[str, Any]]:
        return [row for row in self._rows("health") if row["host"] == host]

    def wait(self, for_what: str, seen: Callable[[], Any], seconds: float = 90) -> Any:
        until = time.monotonic() + seconds
        while not (found := seen()):
            assert time.monotonic() < until, (for_what, self.tries()[-3:], self._rows("health")[-4:], self.scene.servers(BACKEND))
            time.sleep(0.5)
        return found


@pytest.fixture(scope="module")
def serials(scene: Scene) -> dict[str, str]:
    """The serial number of the token ``faulty`` on each gateway: it tells who signed."""
    code = 'import pkcs11; print(pkcs11.lib("/usr/lib/softhsm/libsofthsm2.so").get_token(token_label="faulty").serial.decode().strip())'
    return {host: scene.python(host, code).strip() for host in GATEWAYS}


@pytest.fixture(scope="module")
def program(scene: Scene) -> Iterator[Signing]:
    scene.ssh(APP, f"sudo mkdir -p {FOLDER}")
    for name in ("sign_in_a_loop.py", "watch_health.py"):
        scene.put(APP, f"{FOLDER}/{name}", (HERE / name).read_text())
    for name in ("rsa", "ec"):
        scene.put(APP, f"{FOLDER}/{name}.pub", (scene.pki / f"{name}.pub").read_text())
    yield Signing(scene)


@contextmanager
def fault(scene: Scene, on: str, off: str) -> Iterator[float]:
    """When it began."""
    room = Room(scene.fleet.home, scene.fleet.images / "store")
    if on:
        scene.ssh(FIRST, f"sudo sh -ec '{on}'")
    else:
        room.podman("pause", f"{room.name}-{FIRST}")
    try:
        yield time.time()
    finally:
        if off:
            scene.ssh(FIRST, f"sudo sh -ec '{off}'")
        else:
            room.podman("unpause", f"{room.name}-{FIRST}")


def by(serial: str, tries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row for row in tries if row.get("serial") == serial]


@pytest.fixture(scope="module")
def table(scene: Scene) -> Iterator[list[list[str]]]:
    rows: list[list[str]] = []
    yield rows
    head = [
        "fault",
        "failed signatures",
        "tries to connect in vain",
        "seconds without a signature",
        "`/health` 500 after",
        "204 again after",
    ]
    lines = [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]
    (scene.folder / "failover.md").write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize("name", FAULTS)
def test_the_other_gateway_takes_over_until_the_first_is_back(
    scene: Scene, program: Signing, serials: dict[str, str], table: list[list[str]], name: str
) -> None:
    on, off, told_by_health = FAULTS[name]
    first, second = serials[FIRST], serials[SECOND]
    scene.wait_for_server(FIRST, "UP", BACKEND)
    program.start()
    try:
        program.wait("the first gateway signs", lambda: len(by(first, program.tries())) > 50)
        with fault(scene, on, off) as began:
            before = float(scene.python(APP, PROBES.format(host=FIRST))) if told_by_health else 0
            program.wait("the second gateway signs", lambda: len(by(second, program.tries())) > 50)
            if told_by_health:
                sick = program.wait(
                    "health is bad", lambda: [row for row in program.health(FIRST) if row["at"] > began and row["status"] == 500]
                )[0]
                # One probe may have been under way when the fault came. The next one told.
                assert sick["probes"]["faulty"] - before <= 2, (sick, before)
            assert scene.servers(BACKEND) == {FIRST: "DOWN", SECOND: "UP"}
            # Other instances of a gateway whose health is good stay where they are.
            assert scene.servers()[FIRST] == ("UP" if on and not told_by_health else "DOWN")
            assert {row["status"] for row in program.health(SECOND)} == {204}
        ended = time.time()
        if told_by_health:
            well = program.wait(
                "health is good", lambda: [row for row in program.health(FIRST) if row["at"] > sick["at"] and row["status"] == 204]
            )[0]
        scene.wait_for_server(FIRST, "UP", BACKEND)
        # Who is connected stays where it is.
        tries = program.tries()
        program.wait("the second gateway goes on", lambda: len(program.tries()) > len(tries) + 20)
        tries = program.tries()
        program.restart()
        program.wait("the first gateway signs again", lambda: by(first, program.tries()))
        assert not by(second, program.tries())
    finally:
        program.stop()
    moved = next(number for number, row in enumerate(tries) if row.get("serial") == second)
    errors = [row for row in tries if "error" in row]
    assert [row for row in tries[moved:] if row.get("serial") != second] == []
    assert all(row["at"] + row["took"] > began - 1 for row in errors), errors
    last = [row for row in tries[:moved] if "serial" in row][-1]
    outage = tries[moved]["at"] + tries[moved]["took"] - last["at"] - last["took"]
    in_vain = sum(row["doing"] == "connect" for row in errors)
    seen = sorted({row["error"] for row in errors if row["doing"] == "sign"})
    table.append(
        [
            name,
            f"{len(errors) - in_vain} ({', '.join(seen)})",
            str(in_vain),
            f"{outage:.1f}",
            f"{sick['at'] - began:.1f} s" if told_by_health else "never",
            f"{well['at'] - ended:.1f} s" if told_by_health else "",
        ]
    )


PROBES = """
import sys
sys.path.insert(0, "/opt/keyfleet-test")
import watch_health
print(watch_health.probes("{host}")["faulty"])
"""
