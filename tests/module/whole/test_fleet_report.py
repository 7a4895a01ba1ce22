# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The playbook status, once, on a fleet of four: one host is well, two have the same wrong PIN for one token, one is dead."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from hsm_fixture import PIN, SO_PIN, Hsm, ok

PLAYBOOK = Path(sys.executable).parent / "ansible-playbook"
WRONG_PIN = "718839052"
BROKEN = "{{ lookup('ansible.builtin.file', '/nowhere') }}"
KEY = {"label": "dek-1", "type": "AES", "extractable": True}


class Host:
    """A host here, with a registry and PIN files of its own."""

    def __init__(self, hsm: Hsm, name: str, **tokens: str) -> None:
        self.hsm, self.name = hsm, name
        self.folder = hsm.scratch / name
        base = {"model": "softhsm2", "library": hsm.library, "environment": hsm.environment}
        self.instances = [
            {**base, "name": instance, "tokens": [{"label": label, "pin_file": str(self.folder / "pins" / instance)}]}
            for instance, label in tokens.items()
        ]
        for instance in self.instances:
            new = {"initialize": True, "so_pin": SO_PIN, "pin": PIN}
            self.run("hsm_instance", **{**instance, "tokens": [{**instance["tokens"][0], **new}]})

    def run(self, module: str, **args: Any) -> dict[str, Any]:
        return ok(self.hsm.run(module, registry=self.registry, **args))

    @property
    def registry(self) -> str:
        return str(self.folder / "registry.db")

    def rows(self) -> str:
        found: str = self.run("hsm_registry")["registry"]["digest"]
        return found

    def declared(self, **more: Any) -> dict[str, Any]:
        return {"hsm_registry": self.registry, "hsm_instances": self.instances, **more}


def test_a_fleet_is_looked_at_and_nothing_stops_it(hsm: Hsm) -> None:
    well = Host(hsm, "well", primary="payments", standby="payments-b")
    well.run("hsm_group", name="cards", key_scan="own", connections=[{"instance": "primary"}, {"instance": "standby"}])
    well.run("hsm_key", group="cards", keys=[KEY])
    well.run("hsm_key", instance="primary", keys=[{"label": "web-tls", "type": "EC"}])
    well.run("hsm_certificate", instance="primary", key_label="web-tls", subject={"CN": "web"}, self_signed={"valid_days": 20})
    wrong = [Host(hsm, name, shared="shared") for name in ("first", "second")]
    for host in wrong:
        (host.folder / "pins" / "shared").write_text(f"{WRONG_PIN}\n")
    keys = [{"group": "cards", "keys": [KEY]}, {"instance": "primary", "keys": [{"label": "web-tls", "max_age": "10d"}, {"label": "new"}]}]
    hosts = {
        "well": well.declared(
            hsm_groups=[{"name": "cards", "connections": [{"instance": "primary"}, {"instance": "standby"}]}], hsm_keys=keys
        ),
        # What cannot be read of one host's variables is that host's alone, and what nobody asks for is nobody's.
        **{host.name: host.declared(hsm_keys=BROKEN, unused=BROKEN) for host in wrong},
        "dead": {**well.declared(), "ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1},
    }
    common = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable, "ansible_become": False}
    inventory = hsm.scratch / "inventory.json"
    inventory.write_text(json.dumps({"all": {"children": {"hsm": {"hosts": hosts}}, "vars": common}}))
    before, tokens, report = well.rows(), hsm.tool("--list-objects"), hsm.scratch / "report"
    command = [str(PLAYBOOK), "-i", str(inventory), "-vvv", "-e", f"status_report_dir={report}", "keyfleet.hsm.status"]
    environment = {**os.environ, "ANSIBLE_HOME": str(hsm.scratch / "home"), "ANSIBLE_NOCOLOR": "1"}
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stdout
    assert (well.rows(), hsm.tool("--list-objects")) == (before, tokens)

    document, page = json.loads((report / "fleet.json").read_text()), (report / "fleet.html").read_text()
    assert document["summary"]["states"] == {"bad": 3, "warn": 0, "note": 0, "good": 0, "unknown": 1}
    found = {(one["host"], one["kind"]): one for one in document["findings"]}
    assert found.keys() == {
        ("dead", "unreachable"),
        *((host.name, "pin") for host in wrong),
        *((host.name, kind) for host in wrong for kind in ("not_compared", "declaration")),
        *(("well", kind) for kind in ("not_covered", "certificate_due", "rotation_due", "absent")),
    }
    # Of hosts that share a token the second one sees that a wrong PIN was tried.
    told = [found[(host.name, "pin")]["text"] for host in wrong]
    assert sum("It was tried once" in text for text in told) == sum("No login was tried now" in text for text in told) == 1, told
    assert found[("well", "absent")]["what"] == "primary: new"
    assert found[("well", "not_covered")]["what"] == "group cards: dek-1"
    assert [one["what"] for one in document["due"]] == ["primary: web-tls", "primary/payments: web-tls"]
    [versions] = document["versions"]
    assert (
        versions["token"].startswith("SoftHSM v2")
        and "PKCS11" in versions["library"]
        and versions["tokens"] == 4
        and versions["hosts"] == 3
    )
    assert page.index("To do") < page.index("<svg") and "3 of 4 hosts gave an answer" in page
    for secret in (PIN, SO_PIN, WRONG_PIN):
        assert secret not in done.stdout + page + json.dumps(document)
