# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The playbooks replace_hsm and remove_hsm, with this machine as the host. The services are played by tests/fleet."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hsm_fixture import PIN, SO_PIN, Hsm, ok

PLAYBOOK = Path(sys.executable).parent / "ansible-playbook"


class Host:
    """A host with a group of two instances, as an inventory declares it. A KMS server's file is written, and no server runs."""

    def __init__(self, hsm: Hsm) -> None:
        self.hsm = hsm
        self.kms_toml = hsm.scratch / "kms.toml"
        self.served_by_kms = True
        self.instances = [self.instance("primary", "primary"), self.instance("standby", "standby")]
        self.members: list[dict[str, Any]] = [{"instance": "primary"}, {"instance": "standby"}]
        for instance in self.instances:
            ok(hsm.run("hsm_instance", **instance))
        ok(hsm.run("hsm_group", name="cards", key_scan="own", connections=self.members))

    def instance(self, name: str, label: str, **token: Any) -> dict[str, Any]:
        pins = {"pin": PIN, "so_pin": SO_PIN, "initialize": True}
        base = {"name": name, "model": "softhsm2", "library": self.hsm.library, "environment": self.hsm.environment, "layout": "eviden"}
        return {**base, "tokens": [{"label": label, "pin_file": str(self.hsm.scratch / "pins" / label), **pins, **token}]}

    def play(self, name: str, *options: str, code: int = 0, **extra: Any) -> tuple[int, str]:
        """How many tasks have changed something, and the output without line breaks."""
        members = {"connections": self.members} if self.members else {"state": "absent"}
        host = {
            "ansible_connection": "local",
            "ansible_become": False,
            "ansible_python_interpreter": sys.executable,
            "hsm_registry": self.hsm.registry,
            "hsm_manage_softhsm": False,
            "hsm_instances": self.instances,
            "hsm_groups": [{"name": "cards", "key_scan": "own", **members}],
            "kms_manage_service": False,
            "kms_config_path": str(self.kms_toml),
        }
        inventory = self.hsm.scratch / "inventory.json"
        groups = {"hsm": {"hosts": {"one": host}}, "kms": {"hosts": {"one": {}} if self.served_by_kms else {}}}
        inventory.write_text(json.dumps({"all": {"children": groups}}))
        command = [str(PLAYBOOK), "-i", str(inventory), "-vvv", "--diff", "-e", json.dumps(extra), *options, f"keyfleet.hsm.{name}"]
        environment = {**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_HOME": str(self.hsm.scratch / "home")}
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, check=False)
        (self.hsm.scratch / "said.txt").write_text(done.stdout)
        said = " ".join(done.stdout.split())
        assert done.returncode == code, said
        assert PIN not in said and SO_PIN not in said
        changed = re.search(r"changed=(\d+)", said)
        return int(changed[1]) if changed else -1, said

    def registered(self) -> dict[str, list[str]]:
        """Labels of the registered tokens, by instance."""
        found = ok(self.hsm.run("hsm_status", probe="login"))["instances"]
        return {entry["name"]: [slot["label"] for slot in entry["slots"]] for entry in found}

    def served(self) -> list[str]:
        """The slots of each instance in the server's file."""
        return [" ".join(re.findall(r"\d+", slots)) for slots in re.findall(r"hsm_slot = \[(.*?)\]", self.kms_toml.read_text(), re.DOTALL)]

    def labels(self, token: str) -> set[str]:
        """Of the keys on a token, as another program shows them."""
        return set(re.findall(r"label: +(\S+)", self.hsm.tool("--list-objects", token=token)))

    def slots(self, *tokens: str) -> list[str]:
        found = ok(self.hsm.run("hsm_status", probe="login"))["instances"]
        slots = {slot["label"]: str(slot["slot_id"]) for entry in found for slot in entry["slots"]}
        return [slots[token] for token in tokens]

    def shared(self, label: str) -> None:
        """A key of the group, on each member."""
        ok(self.hsm.run("hsm_key", group="cards", keys=[{"label": label, "type": "AES", "extractable": True}]))
        ok(self.hsm.run("hsm_sync", group="cards", repair="wrap"))

    def kill(self, token: str) -> None:
        """The token is gone, as dead hardware is."""
        found = ok(self.hsm.run("hsm_status", probe="login"))["instances"]
        (serial,) = [slot["serial"] for entry in found for slot in entry["slots"] if slot["label"] == token]
        (folder,) = (self.hsm.scratch / "tokens").glob(f"*-{serial[-12:]}")
        shutil.rmtree(folder)


@pytest.fixture
def host(hsm: Hsm) -> Host:
    return Host(hsm)


def test_another_token_in_the_entry_of_standby(host: Host) -> None:
    host.shared("dek")
    host.instances[1] = host.instance("standby", "standby-2")
    changed, said = host.play("replace_hsm", "--check", replace_hsm_old="standby")
    assert changed == 3 and "3. Token standby of 'standby' leaves cards, kms.toml (the server is restarted), the registry." in said, said
    assert host.registered() == {"primary": ["primary"], "standby": ["standby"]} and not host.kms_toml.exists()
    # Cut off before the server's file is written.
    host.kms_toml.mkdir()
    host.play("replace_hsm", code=2, replace_hsm_old="standby")
    host.kms_toml.rmdir()
    changed, said = host.play("replace_hsm", replace_hsm_old="standby")
    assert changed == 1 and host.served() == host.slots("primary", "standby-2"), said
    assert host.registered() == {"primary": ["primary"], "standby": ["standby-2"]}
    assert host.labels("standby-2") == {"dek"} == host.labels("standby")


def test_another_instance_in_the_place_of_a_dead_primary(host: Host) -> None:
    host.served_by_kms = False
    host.shared("dek")
    ok(host.hsm.run("hsm_key", group="cards", keys=[{"label": "fixed", "id": "6b31", "type": "AES"}]))
    ok(host.hsm.run("hsm_key", instance="standby", keys=[{"label": "own", "type": "AES"}]))
    host.kill("primary")
    # This one stays on standby, and the new one will lack it.
    ok(host.hsm.run("hsm_key", group="cards", on_unreachable="generate", keys=[{"label": "stays", "type": "AES"}]))
    host.instances = [host.instances[1], host.instance("third", "third")]
    host.members = [{"instance": "third"}, {"instance": "standby"}]
    asked = {"replace_hsm_old": "primary", "replace_hsm_new": "third"}
    said = host.play("replace_hsm", code=2, **asked)[1]
    assert "would be lost with instance 'primary': 'fixed' (it is recorded, and on no member that could be read)." in said, said
    assert "instance 'standby' would move from hsm::softhsm2_1 to hsm::softhsm2" in said and "TASK [Instance third]" not in said
    host.play("replace_hsm", **asked, replace_hsm_lose="fixed", kms_allow_renumber=True)
    assert host.registered() == {"standby": ["standby"], "third": ["third"]} and host.labels("third") == {"dek"}
    assert [key["label"] for key in ok(host.hsm.run("hsm_sync", group="cards", check=True))["missing_keys"]] == ["stays"]
    assert host.play("replace_hsm", **asked)[0] == 0


def test_instances_go(host: Host) -> None:
    host.shared("dek")
    ok(host.hsm.run("hsm_key", instance="standby", keys=[{"label": "own", "type": "AES"}]))
    host.hsm.tool("--keygen", "--key-type", "AES:32", "--id", "77", token="standby")
    ok(host.hsm.run("hsm_sync", instance="standby"))
    del host.instances[1], host.members[1]
    said = host.play("remove_hsm", "--check", code=2, remove_hsm_instance="standby")[1]
    reason = "(it is in no group, and only members of a group are copied)"
    assert f"would be lost with instance 'standby': 'own' {reason}, '77' {reason}." in said, said
    host.play("remove_hsm", remove_hsm_instance="standby", remove_hsm_lose="own,77", remove_hsm_pin_file=True)
    assert host.registered() == {"primary": ["primary"]} and host.served() == host.slots("primary")
    assert [path.name for path in (host.hsm.scratch / "pins").iterdir()] == ["primary"] and host.labels("standby") == {"dek", "own"}
    # The last one.
    host.instances = [{"name": "primary", "state": "absent"}]
    host.members = []
    said = host.play("remove_hsm", remove_hsm_instance="primary", remove_hsm_lose=["dek"])[1]
    assert host.registered() == {} and host.served() == [], said
