# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a run with some of the tags has written is in force after the next run, which finds nothing to write."""

from __future__ import annotations

import subprocess
from typing import Any

import yaml
from fleet_fixture import Run
from gateway_scene import APP, GATEWAYS, HERE, Scene

GATEWAY = GATEWAYS[0]
ISSUE = """
openssl x509 -req -in host1.csr -CA gateways.pem -CAkey gateways.key -CAcreateserial -extfile host1.ext -out renewed.crt -days 50
openssl pkcs12 -export -inkey host1.key -in renewed.crt -certfile gateways.pem -passout pass: -out renewed.p12
"""


def play(scene: Scene, name: str, *arguments: str, **extra: Any) -> Run:
    run = scene.play(HERE / name, *arguments, **extra)
    assert run.code == 0, run.failures()
    return run


def show(scene: Scene, host: str, unit: str, name: str) -> str:
    return scene.ssh(host, f"systemctl show --timestamp=unix --property={name} --value {unit}").stdout.strip()


def served(scene: Scene, port: int) -> str:
    """The serial number of the certificate that a client of this port sees."""
    ask = f"openssl s_client -connect 127.0.0.1:{port} </dev/null 2>/dev/null | openssl x509 -noout -serial"
    return scene.ssh(GATEWAY, ask).stdout.strip()


def environment(scene: Scene, unit: str) -> list[str]:
    """Of the process that runs."""
    return scene.ssh(GATEWAY, f"sudo cat /proc/{show(scene, GATEWAY, unit, 'MainPID')}/environ").stdout.split("\0")


def test_a_renewed_certificate_is_served_by_the_health_service_too(scene: Scene) -> None:
    before = served(scene, 4440)
    subprocess.run(["sh", "-ec", ISSUE], cwd=scene.pki, check=True, capture_output=True)
    renewed = {"gateway_cert_source": str(scene.pki / "renewed.p12")}
    play(scene, "gateway.yml", "--tags", "gateway_certificate", **renewed)
    assert served(scene, 4440) == served(scene, 4442) == before
    run = play(scene, "gateway.yml", **renewed)
    assert served(scene, 4440) == served(scene, 4442) != before
    print(f"changed by the run after it: {run.tasks(GATEWAY, 'changed')}")
    assert play(scene, "gateway.yml", **renewed).changed() == {GATEWAY: 0}
    play(scene, "gateway.yml")
    assert served(scene, 4440) == served(scene, 4442) == before


def test_a_configuration_of_the_health_service_is_read_by_a_later_run(scene: Scene) -> None:
    """The run that has written it ends at once after that, where a unit cannot be written."""
    health = "keyfleet-gateway"
    started = show(scene, GATEWAY, health, "InvocationID")
    unit = "/etc/systemd/system/keyfleet-gateway-registry.service"
    scene.ssh(GATEWAY, f"sudo chattr +i {unit}")
    try:
        run = scene.play(HERE / "gateway.yml", gateway_health_interval="7s", hsm_registry="/var/lib/keyfleet/other.db")
    finally:
        scene.ssh(GATEWAY, f"sudo chattr -i {unit}")
    assert run.code != 0 and "Units of the health service" in str(run.tasks(GATEWAY, "fatal")), run.output[-3000:]
    play(scene, "gateway.yml", gateway_health_interval="7s")
    # What was noted is a restart, since a unit was to change.
    assert show(scene, GATEWAY, health, "InvocationID") != started
    play(scene, "gateway.yml")
    assert play(scene, "gateway.yml").changed() == {GATEWAY: 0}


def test_a_unit_is_in_force_after_the_run_that_follows(scene: Scene) -> None:
    declared = yaml.safe_load((HERE / "group_vars/gateways.yml").read_text())["hsm_instances"]
    turned = [{**one, "environment": {"TURNED": "1"}} if one["name"] == "turns" else one for one in declared]
    play(scene, "gateway.yml", "--tags", "gateway_config", hsm_instances=turned)
    # What an operator or Restart= does meanwhile makes it young, and of the unit before.
    scene.ssh(GATEWAY, "sudo systemctl restart keyfleet-hsm@turns")
    assert "TURNED=1" not in environment(scene, "keyfleet-hsm@turns")
    others = [show(scene, GATEWAY, f"keyfleet-hsm@{name}", "InvocationID") for name in ("one", "many", "faulty")]
    play(scene, "gateway.yml", hsm_instances=turned)
    assert "TURNED=1" in environment(scene, "keyfleet-hsm@turns")
    assert others == [show(scene, GATEWAY, f"keyfleet-hsm@{name}", "InvocationID") for name in ("one", "many", "faulty")]
    assert play(scene, "gateway.yml", hsm_instances=turned).changed() == {GATEWAY: 0}
    play(scene, "gateway.yml")
    assert "TURNED=1" not in environment(scene, "keyfleet-hsm@turns")


def test_a_health_service_that_is_not_declared_any_more_goes_and_comes_back(scene: Scene) -> None:
    found = [f"sudo find {folder} -name 'keyfleet-gateway*'" for folder in ("/etc/systemd/system", "/run -maxdepth 2")]
    left = "; ".join(["systemctl list-units --state=active --plain --no-legend 'keyfleet-gateway*'", *found])
    assert "/run/credentials/keyfleet-gateway.service" in scene.ssh(GATEWAY, left).stdout
    play(scene, "gateway.yml", gateway_health=False)
    assert scene.ssh(GATEWAY, left).stdout == ""
    assert play(scene, "gateway.yml", gateway_health=False).changed() == {GATEWAY: 0}
    play(scene, "gateway.yml")
    assert scene.health(GATEWAY) == 204
    assert play(scene, "gateway.yml").changed() == {GATEWAY: 0}


def test_a_renewed_certificate_of_the_client_is_taken_by_its_connections(scene: Scene) -> None:
    started = show(scene, APP, "keyfleet-client", "ActiveEnterTimestamp")
    # The same certificate, in a file of another content.
    (scene.folder / "renewed.pem").write_text((scene.pki / "known.pem").read_text() + "\n")
    renewed = {"client_cert_source": str(scene.folder / "renewed.pem")}
    play(scene, "client.yml", "--tags", "client_config", **renewed)
    assert show(scene, APP, "keyfleet-client", "ActiveEnterTimestamp") == started
    play(scene, "client.yml", **renewed)
    written = int(scene.ssh(APP, "sudo stat --format=%Y /etc/keyfleet-client/client.pem").stdout)
    assert int(show(scene, APP, "keyfleet-client", "ActiveEnterTimestamp")[1:]) >= written
    assert play(scene, "client.yml", **renewed).changed() == {APP: 0}
    play(scene, "client.yml")
