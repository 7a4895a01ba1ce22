# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whole ansible-playbook runs: at the same moment, with module_defaults, and on a Python without the libraries."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import ansible
import pytest
from hsm_fixture import PIN, SO_PIN, Hsm

PLAYBOOK = Path(sys.executable).parent / "ansible-playbook"
PLAY = """
- hosts: localhost
  connection: local
  gather_facts: false
  vars:
    ansible_python_interpreter: "{{ ansible_playbook_python }}"
  module_defaults:
    group/keyfleet.hsm.hsm:
      registry: "{{ registry }}"
  tasks:
    - name: Instance
      keyfleet.hsm.hsm_instance:
        name: primary
        model: softhsm2
        environment: "{{ environment_of_library }}"
        tokens: [{label: payments, initialize: true, so_pin: "{{ so_pin }}", pin: "{{ pin }}", pin_file: "{{ pin_file }}"}]
    - name: Keys
      keyfleet.hsm.hsm_key:
        instance: primary
        keys: "{{ keys_wanted }}"
    - name: Sync
      keyfleet.hsm.hsm_sync:
        instance: primary
    - name: Status
      keyfleet.hsm.hsm_status:
        require: all
"""


KEYS = [*({"label": f"k-{number}", "type": "AES"} for number in range(30)), {"label": "pair", "type": "EC"}]


@pytest.fixture
def playbook(hsm: Hsm) -> Path:
    path = hsm.scratch / "play.yml"
    path.write_text(PLAY)
    return path


def start(hsm: Hsm, playbook: Path, home: str) -> subprocess.Popen[str]:
    variables = {
        "registry": hsm.registry,
        "environment_of_library": hsm.environment,
        "keys_wanted": KEYS,
        "so_pin": SO_PIN,
        "pin": PIN,
        "pin_file": str(hsm.scratch / "pins" / "payments"),
    }
    environment = {**os.environ, "ANSIBLE_HOME": str(hsm.scratch / home)}
    command = [str(PLAYBOOK), str(playbook), "-e", json.dumps(variables)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)


def test_two_runs_of_one_play_at_the_same_moment(hsm: Hsm, playbook: Path) -> None:
    runs = [start(hsm, playbook, f"home{number}") for number in range(2)]
    outputs = [run.communicate(timeout=240)[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], outputs
    assert len(list((hsm.scratch / "tokens").iterdir())) == 1
    listing = hsm.tool("--list-objects")
    assert listing.count("Secret Key Object") == 30 and listing.count("Private Key Object") == 1
    assert hsm.run("hsm_sync", instance="primary")["summary"] == {"added": 0, "known": 31, "missing": 0, "drifted": 0}
    again = start(hsm, playbook, "home0")
    assert " changed=0 " in again.communicate(timeout=240)[0]


def test_a_python_without_the_library_is_told_from_a_broken_hsm(hsm: Hsm) -> None:
    """An interpreter that sees Ansible's module code and nothing else that is installed here."""
    site = hsm.scratch / "site"
    site.mkdir()
    (site / "ansible").symlink_to(Path(ansible.__file__).parent)
    collections = os.environ["ANSIBLE_COLLECTIONS_PATH"]
    command = [sys._base_executable, "-S", "-m", "ansible_collections.keyfleet.hsm.plugins.modules.hsm_key"]
    args = {"ANSIBLE_MODULE_ARGS": {"instance": "primary", "keys": [{"label": "k", "type": "AES"}]}}
    environment = {**os.environ, "PYTHONPATH": f"{site}:{collections}"}
    done = subprocess.run(command, input=json.dumps(args), capture_output=True, text=True, env=environment, check=False)
    answer = json.loads(done.stdout)
    assert answer["failure"]["code"] == "missing_library", answer
    assert "No module named 'pkcs11'" in answer["msg"] and "pip install python-pkcs11" in answer["msg"]
    assert f"{command[0]}: No module" in answer["msg"]
