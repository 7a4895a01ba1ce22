# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The playbook rotate_pin on two hosts that share the token of instance shared, each with a registry and PIN files of its own.

Instance standby comes after shared in the group. Each host has a token of its own there. The services are played by tests/fleet.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hsm_fixture import PIN, SO_PIN, Hsm, ok

PLAYBOOK = Path(sys.executable).parent / "ansible-playbook"
NEW_PIN, OTHER_PIN = "640287315", "718839052"
HOSTS = ("one", "two")


class Fleet:
    """Two hosts here, as an inventory declares them."""

    def __init__(self, hsm: Hsm) -> None:
        self.hsm = hsm
        for host in HOSTS:
            for instance in self.instances(host):
                new = {"initialize": True, "so_pin": SO_PIN, "pin": PIN}
                tokens = [{**token, **new} for token in instance["tokens"]]
                ok(hsm.run("hsm_instance", registry=self.registry(host), **{**instance, "tokens": tokens}))

    def folder(self, host: str) -> Path:
        return self.hsm.scratch / host

    def registry(self, host: str) -> str:
        return str(self.folder(host) / "registry.db")

    def pin_file(self, host: str, name: str) -> Path:
        return self.folder(host) / "pins" / name

    @property
    def kms_toml(self) -> Path:
        """What the server on host one reads."""
        return self.hsm.scratch / "kms.toml"

    def pins(self) -> list[str]:
        """What the PIN files of shared and standby hold, of host one and then of two."""
        return [self.pin_file(host, name).read_text() for host in HOSTS for name in ("shared", "standby")]

    def instances(self, host: str) -> list[dict[str, Any]]:
        labels = {"shared": "shared", "standby": f"standby-{host}"}
        base = {"model": "softhsm2", "library": self.hsm.library, "environment": self.hsm.environment}
        return [
            {**base, "name": name, "tokens": [{"label": label, "pin_file": str(self.pin_file(host, name))}]}
            for name, label in labels.items()
        ]

    def run(self, *arguments: str, **extra: Any) -> tuple[int, str]:
        """The exit code and what was said, on one line."""
        declared = {
            host: {
                "hsm_registry": self.registry(host),
                "hsm_instances": self.instances(host),
                "hsm_groups": [{"name": "cards", "connections": [{"instance": "shared"}, {"instance": "standby"}]}],
            }
            for host in HOSTS
        }
        common = {
            "ansible_connection": "local",
            "ansible_python_interpreter": sys.executable,
            "ansible_become": False,
        }
        inventory = self.hsm.scratch / "inventory.json"
        served = {"hosts": {"one": {}}, "vars": {"kms_manage_service": False, "kms_config_path": str(self.kms_toml)}}
        inventory.write_text(json.dumps({"all": {"children": {"hsm": {"hosts": declared}, "kms": served}, "vars": common}}))
        variables = self.hsm.scratch / "variables.json"
        variables.write_text(json.dumps(extra))
        command = [str(PLAYBOOK), "-i", str(inventory), "-vvv", "--diff", "-e", f"@{variables}", *arguments, "keyfleet.hsm.rotate_pin"]
        environment = {**os.environ, "ANSIBLE_HOME": str(self.hsm.scratch / "home"), "ANSIBLE_NOCOLOR": "1"}
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, check=False)
        said = " ".join(done.stdout.split())
        for secret in (PIN, SO_PIN, NEW_PIN, OTHER_PIN):
            assert secret not in said
        return done.returncode, said

    def low(self) -> int:
        """At how many tokens a wrong PIN was tried."""
        return self.hsm.tool("--list-token-slots", pin=None, token="").count("user PIN count low")


@pytest.fixture
def fleet(hsm: Hsm) -> Fleet:
    return Fleet(hsm)


def changed(said: str) -> list[int]:
    recap = said.rpartition("PLAY RECAP")[2]
    return [int(part.split()[0]) for part in recap.split("changed=")[1:]]


def test_a_pin_is_changed_on_each_token_once_and_standby_comes_first(fleet: Fleet) -> None:
    both = {"rotate_pin_instance": ["shared", "standby"], "rotate_pin_new": NEW_PIN}
    before = fleet.pins()
    code, said = fleet.run("--check", **{**both, "rotate_pin_instance": "shared"})
    assert code == 0 and changed(said) == [1, 1] and "writes the PIN into kms.toml" in said, said
    assert fleet.pins() == before and not fleet.kms_toml.exists()
    code, said = fleet.run(**both)
    # The file of the server is written twice: after standby, and after shared.
    assert code == 0 and changed(said) == [4, 2], said
    assert said.index("TASK [Instance standby]") < said.index("TASK [Instance shared]")
    assert fleet.pins() == [f"{NEW_PIN}\n"] * 4 and not fleet.low()
    assert fleet.kms_toml.read_text().count(NEW_PIN) == 2
    # Cut off on two, before the file of the shared token was there. A server that is restarted would try the old PIN.
    fleet.pin_file("two", "shared").write_text(f"{PIN}\n")
    (fleet.folder("two") / "rotate_pin.shared").touch()
    code, said = fleet.run(**{**both, "rotate_pin_instance": "standby"})
    assert code == 2 and "lacks shared, where an earlier run was cut off" in said
    code, said = fleet.run(**both)
    assert code == 0 and changed(said) == [0, 1], said
    assert said.index("TASK [Instance shared]") < said.index("TASK [Instance standby]")
    assert fleet.pins() == [f"{NEW_PIN}\n"] * 4 and not fleet.low()
    # Both files hold another PIN: one try at the token of the host whose turn comes first, and none at the other's.
    for host in HOSTS:
        fleet.pin_file(host, "standby").write_text(f"{OTHER_PIN}\n")
    code, said = fleet.run(rotate_pin_instance="standby", rotate_pin_new=PIN)
    assert code == 2 and "token 'standby-" in said and "It was tried once" in said, said
    assert fleet.low() == 1 and all(fleet.pin_file(host, "standby").read_text() == f"{OTHER_PIN}\n" for host in HOSTS)


def test_what_is_wrong_is_said_in_one_error_before_a_host_is_looked_at(fleet: Fleet) -> None:
    code, said = fleet.run("--limit", "one", rotate_pin_instance="none,shared", rotate_pin_token="other")
    assert code == 2
    for variable, way_out in (
        ("rotate_pin_instance: no host has an instance of name 1", "Give the name of one that is declared."),
        ("--limit: leaves out two", "rotate_pin_some=true"),
        ("rotate_pin_new: is missing", "rotate_pin_random=true"),
        ("rotate_pin_token: is no label, serial or slot of a token of 'shared'", "Give one as it is declared."),
    ):
        assert variable in said and way_out in said
    assert "Look at the tokens" not in said
