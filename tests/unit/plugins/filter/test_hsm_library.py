# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The filter hsm_library: paths of the target's architecture and not of the controller's, and errors by their words."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleFilterError
from ansible_collections.keyfleet.hsm.plugins.filter import hsm_library as plugin
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.tokens.vendors import LIBRARIES, default_libraries


@pytest.mark.parametrize("model", LIBRARIES)
def test_every_model_of_the_table_has_paths(model: str) -> None:
    found = plugin.hsm_library(model, "x86_64")
    assert found and all(path.startswith("/") and "{" not in path for path in found)
    assert found == plugin.hsm_library(model.upper(), "x86_64")
    assert tuple(plugin.hsm_library(model, platform.machine())) == default_libraries(model)


@pytest.mark.parametrize(
    ("machine", "folder"), [("x86_64", "x86_64-linux-gnu"), ("ppc64le", "powerpc64le-linux-gnu"), ("riscv64", "riscv64-linux-gnu")]
)
def test_the_target_counts_and_not_the_controller(machine: str, folder: str) -> None:
    assert f"/usr/lib/{folder}/softhsm/libsofthsm2.so" in plugin.hsm_library("softhsm2", machine)


def test_a_model_that_is_not_in_the_table_has_none() -> None:
    assert plugin.hsm_library("acme-9000", "x86_64") == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((None, "x86_64"), "the model: is a NoneType: give a text"),
        (("", "x86_64"), "the model: is empty"),
        (("a b", "x86_64"), "the model: 'a b' is no model name"),
        (("luna", None), "architecture: is a NoneType"),
        (([], 1), "the model: is a list: give a text; architecture: is a int: give a text"),
    ],
)
def test_what_it_cannot_tell(arguments: tuple[Any, Any], words: str) -> None:
    with pytest.raises(AnsibleFilterError) as caught:
        plugin.hsm_library(*arguments)
    assert words in str(caught.value)


def test_the_example_runs(tmp_path: Path) -> None:
    tasks = yaml.safe_load(plugin.EXAMPLES)
    play = {
        "hosts": "localhost",
        "gather_facts": True,
        "gather_subset": ["!all", "min"],
        "vars": {"ansible_python_interpreter": sys.executable},
        "tasks": tasks,
    }
    (tmp_path / "play.yml").write_text(yaml.safe_dump([play]))
    command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", "localhost,", "-c", "local", "play.yml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert '"msg": "none"' in done.stdout
