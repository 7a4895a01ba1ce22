# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A wrong PIN on a gateway is tried once until its file changes: over 50 probes, 5 restarts of the service, and a reboot of the host."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from gateway_scene import GATEWAYS, PIN, Scene

WRONG = "canary-wrong-pin-2"
HOST = GATEWAYS[1]  # Debian 13
PIN_FILE, CALLS = "/etc/keyfleet/pins/faulty", "/var/lib/keyfleet-gateway/calls"
# Each probe that a reload brings, or that comes by itself, is waited for by the counter of the service.
PROBES = """
import http.client, re, subprocess, time
def metric(name):
    connection = http.client.HTTPConnection("127.0.0.1", 4441, timeout=9)
    connection.request("GET", "/metrics")
    found = re.search(r'^%s{{.*instance="faulty".*}} (\\S+)$' % name, connection.getresponse().read().decode(), re.M)
    return float(found.group(1))
def wait(more):
    until = time.monotonic() + 50
    while True:
        try:
            if metric("keyfleet_probes_total") >= more:
                return
        except OSError:
            pass
        assert time.monotonic() < until
        time.sleep(0.1)
for _turn in range({turns}):
    if {reload}:
        before = metric("keyfleet_probes_total")
        subprocess.run(["systemctl", "reload", "keyfleet-gateway"], check=True)
        wait(before + 1)
    else:
        wait(1)
print(int(metric("keyfleet_probes_total")), metric("keyfleet_token_up"))
"""
GOOD_LOGIN = f"""
import pkcs11
with pkcs11.lib("/usr/lib/softhsm/libsofthsm2.so").get_token(token_label="faulty").open(user_pin="{PIN}"):
    pass
"""


def write_pin(scene: Scene, pin: str) -> None:
    scene.ssh(HOST, f"echo {pin} | sudo sh -c 'umask 077; cat > {PIN_FILE}'")


def logins(scene: Scene) -> int:
    return int(scene.ssh(HOST, f"sudo grep -c C_Login {CALLS} || true").stdout)


def probed(scene: Scene, turns: int = 1, *, reload: bool = False) -> tuple[int, float]:
    """Probes since the start, and whether the token can be used."""
    probes, up = scene.python(HOST, PROBES.format(turns=turns, reload=reload)).split()
    return int(probes), float(up)


@pytest.fixture
def wrong(scene: Scene) -> Iterator[Scene]:
    """The service logs the calls that it makes to the faulty instance, and has a wrong PIN for it from now on."""
    unit = "/etc/systemd/system/keyfleet-gateway.service.d"
    scene.ssh(HOST, f"sudo mkdir -p {unit} && printf '[Service]\\nEnvironment=FAULT_LOG={CALLS}\\n' | sudo tee {unit}/test.conf")
    scene.ssh(HOST, "sudo systemctl stop keyfleet-gateway && sudo systemctl daemon-reload")
    write_pin(scene, WRONG)
    try:
        yield scene
    finally:
        write_pin(scene, PIN)
        scene.ssh(HOST, f"sudo rm -r {unit} {CALLS}; sudo systemctl daemon-reload; sudo systemctl restart keyfleet-gateway")
        probed(scene)


def test_one_attempt_over_probes_restarts_and_a_reboot(wrong: Scene) -> None:
    scene = wrong
    scene.ssh(HOST, "sudo systemctl start keyfleet-gateway")
    assert probed(scene)[1] == 0 and logins(scene) == 1
    # A good login of somebody else takes the flag away; then the service's memory alone is left.
    total = 0
    for _part in range(10):
        scene.python(HOST, GOOD_LOGIN)
        before = probed(scene)[0]
        probes, up = probed(scene, 5, reload=True)
        total += probes - before
        assert up == 0 and logins(scene) == 1
    assert total >= 50
    for _restart in range(5):
        scene.ssh(HOST, "sudo systemctl restart keyfleet-gateway")
        assert probed(scene)[1] == 0 and logins(scene) == 1
    scene.ssh(HOST, "sudo systemctl reboot", sure=False)
    scene.fleet.hosts("up", "--hosts", "3", "--debian", "bookworm,trixie")  # waits until it is there
    scene.python(HOST, GOOD_LOGIN)
    assert probed(scene)[1] == 0 and logins(scene) == 1
    scene.ssh(HOST, "sudo systemctl restart keyfleet-gateway")
    assert probed(scene)[1] == 0 and logins(scene) == 1 and scene.health(HOST) == 500

    # The file was written again: another try, and that is all.
    write_pin(scene, WRONG)
    scene.ssh(HOST, "sudo systemctl restart keyfleet-gateway")
    assert probed(scene)[1] == 0 and logins(scene) == 2
    write_pin(scene, PIN)
    scene.ssh(HOST, "sudo systemctl restart keyfleet-gateway")
    assert probed(scene)[1] == 1 and logins(scene) >= 3
    journal = scene.ssh(HOST, "sudo journalctl --unit=keyfleet-gateway --output=export --no-pager").stdout
    assert "pin_incorrect" in journal and WRONG not in journal
