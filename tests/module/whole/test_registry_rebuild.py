# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The playbook registry_rebuild, with this machine as the host: a registry that is lost comes back from tokens and exports."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.files.yaml_text import to_nice_yaml
from hsm_fixture import PIN, SO_PIN, Hsm, ok


class Host:
    """One instance with a group that takes only its own keys, and what is declared of them."""

    def __init__(self, hsm: Hsm) -> None:
        self.hsm = hsm
        self.group = {"name": "cards", "key_scan": "own", "connections": [{"instance": "primary"}]}
        ok(hsm.run("hsm_group", **self.group))

    def export(self, name: str, **scope: str) -> Path:
        folder = self.hsm.scratch / "git"
        folder.mkdir(exist_ok=True)
        document = ok(self.hsm.run("hsm_sync", results="all", **scope))["document"]
        (folder / f"{name}.yml").write_text(to_nice_yaml(document))
        return folder

    def records(self) -> dict[str, tuple[Any, ...]]:
        query = "SELECT label, state, generation, operations, group_id IS NULL FROM virtual_key"
        with closing(sqlite3.connect(self.hsm.registry)) as registry:
            return {row[0]: row[1:] for row in registry.execute(query)}

    def play(self, *options: str, code: int = 0, **variables: Any) -> tuple[int, str]:
        """How many tasks have changed something, and the output on one line."""
        declared = {"hsm_registry": self.hsm.registry, "hsm_instances": [self.hsm.instance()], "hsm_groups": [self.group]}
        local = {"ansible_connection": "local", "ansible_become": False, "ansible_python_interpreter": sys.executable}
        inventory, given = self.hsm.scratch / "hosts.json", self.hsm.scratch / "given.json"
        inventory.write_text(json.dumps({"hsm": {"hosts": {"one": {**local, **declared}}}}))
        given.write_text(json.dumps({"registry_rebuild_exports": f"{self.hsm.scratch}/git/*.yml", **variables}))
        command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", str(inventory), "-e", f"@{given}", "-vvv", *options]
        environment = {**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_HOME": str(self.hsm.scratch / "ansible")}
        done = subprocess.run([*command, "keyfleet.hsm.registry_rebuild"], env=environment, capture_output=True, text=True, check=False)
        output = done.stdout + done.stderr
        assert done.returncode == code, output
        assert PIN not in output and SO_PIN not in output
        changed = re.search(r"changed=(\d+)", output)
        return int(changed[1]) if changed else -1, " ".join(output.split())


@pytest.fixture
def host(primary: Hsm) -> Host:
    return Host(primary)


def test_a_lost_registry_comes_back_from_tokens_and_exports(host: Host) -> None:
    hsm = host.hsm
    ok(hsm.keys({"label": "dek", "type": "AES"}, {"label": "pair", "type": "EC"}, {"label": "gone", "type": "AES"}))
    ok(hsm.keys({"label": "dek", "type": "AES", "generation": 2}, {"label": "pair", "state": "deactivated"}))
    ok(hsm.run("hsm_key", group="cards", keys=[{"label": "card", "type": "AES"}]))
    ok(hsm.run("hsm_key", group="cards", keys=[{"label": "card", "type": "AES", "operations": ["encrypt"]}]))
    before = host.records()
    host.export("cards", group="cards")
    host.export("primary", instance="primary")
    ok(hsm.keys({"label": "gone", "state": "absent"}, {"label": "later", "type": "AES"}))
    objects = sorted(hsm.tool("--list-objects").split())
    Path(hsm.registry).unlink()
    planned, output = host.play("--check")
    assert planned == 5 and not list(hsm.scratch.glob("registry.db*")), output  # instance, group, two documents, the file
    # A run that was cut off has left the first half of it.
    ok(hsm.run("hsm_instance", registry=f"{hsm.registry}.rebuild", **hsm.instance()))
    changed, output = host.play()
    assert changed == 4 and [path.name for path in hsm.scratch.glob("registry.db*")] == ["registry.db"], output
    told = [("only the export knew", '"gone"'), ("only the tokens had", "::later"), ("taken from the export", '"deactivated"')]
    assert all(re.search(rf'"{what}": \[[^]]*{found}', output) for what, found in told), output
    after = host.records()
    assert after.pop("later") == before.pop("gone") == ("active", 1, '["encrypt", "decrypt"]', 1)
    assert after == before and before["card"] == ("active", 1, '["encrypt"]', 0)
    # What somebody has decided since stays.
    ok(hsm.keys({"label": "pair", "state": "compromised"}))
    changed, output = host.play()
    assert changed == 0 and '"code": "changed"' in output and host.records()["pair"][0] == "compromised", output
    assert sorted(hsm.tool("--list-objects").split()) == objects
