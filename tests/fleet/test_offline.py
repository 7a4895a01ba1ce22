# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A host without a network gets the libraries from a folder of wheels, and then runs the modules of the collection."""

from __future__ import annotations

import json
import os
import platform
import re
from pathlib import Path
from typing import Any

import pytest
from fleet_fixture import Fleet, Run

HOST = "offline1"
REGISTRY = "/home/admin/registry.db"
PLAY = """
- hosts: offline1
  become: true
  gather_facts: false
  roles:
    - keyfleet.hsm.runtime
"""


@pytest.fixture(scope="module")
def play(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("play") / "runtime.yml"
    path.write_text(PLAY)
    return path


def runtime(fleet: Fleet, play: Path, wheelhouse: str, *arguments: str) -> Run:
    return fleet.playbook(play, *arguments, extra={"runtime_wheelhouse": wheelhouse})


def module(fleet: Fleet, module_name: str, **options: Any) -> dict[str, Any]:
    """The answer of a module that an ordinary user runs, with the interpreter that the inventory names."""
    done = fleet.ansible(HOST, "-m", f"keyfleet.hsm.{module_name}", "-a", json.dumps(options))
    found = re.search(r"^offline1 \| \S+ => (\{.*^\})", done.stdout, re.MULTILINE | re.DOTALL)
    assert found, done.stdout + done.stderr
    answer: dict[str, Any] = json.loads(found[1])
    return answer


def test_a_folder_without_the_wheels_is_refused_with_the_command_that_fills_it(fleet: Fleet, play: Path, tmp_path: Path) -> None:
    run = runtime(fleet, play, str(tmp_path))
    assert run.recap[HOST]["failed"] == 1 and run.recap[HOST]["changed"] == 0, run.output
    told = " ".join(run.output.split())
    assert f"Python 3.11.2 on {platform.machine()} with glibc 2.36" in told
    assert "python-pkcs11>=0.10 (there is none)" in told
    assert re.search(rf"pip download --only-binary=:all: --dest {tmp_path} --python-version 3.11 --platform manylinux_2_34_\S+ .*txt", told)
    assert fleet.ssh(HOST, "test -e /opt/keyfleet", sure=False).returncode == 1


def test_the_role_converges_and_then_has_nothing_to_do(fleet: Fleet, play: Path) -> None:
    wheelhouse = os.environ["KEYFLEET_WHEELHOUSE"]
    preview = runtime(fleet, play, wheelhouse, "--check", "--diff")
    assert preview.code == 0 and preview.changed()[HOST] > 0, preview.output
    assert fleet.ssh(HOST, "test -e /opt/keyfleet", sure=False).returncode == 1
    first = runtime(fleet, play, wheelhouse, "--diff")
    assert first.code == 0 and first.changed()[HOST] > 0, first.output
    for arguments in ([], ["--check"]):
        again = runtime(fleet, play, wheelhouse, "--diff", *arguments)
        assert again.code == 0 and again.changed() == {HOST: 0}, again.output
    # Neither a wheel nor anything of pip's. What is there of Ansible and systemd is not the role's.
    left = fleet.ssh(HOST, "sudo find /tmp /var/tmp /root /opt/keyfleet/venv -maxdepth 1 -mindepth 1 -printf '%f\\n'").stdout.split()
    assert sorted(name for name in left if not re.match(r"\.(\w+-unix|bashrc|profile|ssh|ansible)$|systemd-|ansible", name)) == sorted(
        [".keyfleet-runtime", "bin", "include", "lib", "lib64", "pyvenv.cfg"]
    )


def test_modules_find_the_libraries_by_themselves(fleet: Fleet) -> None:
    assert fleet.variables()[HOST]["ansible_python_interpreter"] == "/usr/bin/python3"
    assert "No module named" in fleet.ssh(HOST, "/usr/bin/python3 -c 'import pkcs11'", sure=False).stderr
    made = module(fleet, "hsm_instance", name="primary", model="softhsm2", validate=False, registry=REGISTRY, tokens=[])
    assert made.get("changed") is True, made
    status = module(fleet, "hsm_status", registry=REGISTRY)
    assert [instance["name"] for instance in status["instances"]] == ["primary"], status


def test_parameters_that_are_more_than_a_pipe_holds_are_refused_with_the_interpreter_to_set(fleet: Fleet) -> None:
    names = [f"instance-{number:05}" for number in range(5000)]
    refused = module(fleet, "hsm_status", registry=REGISTRY, instances=names)
    assert refused["failure"]["code"] == "parameters_too_large", refused
    assert refused["failure"]["details"]["interpreter"] == "/opt/keyfleet/venv/bin/python", refused
