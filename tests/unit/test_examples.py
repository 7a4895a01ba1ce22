# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every task in the EXAMPLES of every module is valid by that module's documentation. Another test runs them."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.playbook.task import Task

MODULES = sorted(path.stem for path in (Path(__file__).parents[2] / "plugins" / "modules").glob("*.py"))
COLLECTION = "keyfleet.hsm"

# What stands in for a template where the option is no text, so that the other options can be checked.
STAND_INS: dict[str, Any] = {"bool": True, "dict": {}, "float": 1.0, "int": 1, "list": []}


@cache
def documentation() -> dict[str, Any]:
    """What ansible-doc reads, fragments included: ``doc``, ``examples`` and ``return`` of each module, by full name."""
    names = [f"{COLLECTION}.{name}" for name in MODULES]
    command = [str(Path(sys.executable).with_name("ansible-doc")), "--type", "module", "--json", *names]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "ANSIBLE_NOCOLOR": "1"})
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def tasks(module: str) -> list[dict[str, Any]]:
    found = yaml.safe_load(documentation()[f"{COLLECTION}.{module}"]["examples"])
    assert isinstance(found, list), f"the examples of {module} are no list of tasks"
    return found


def spec_of(options: Mapping[str, Any]) -> dict[str, Any]:
    """An argument spec as the documentation tells it."""
    spec = {}
    for name, option in options.items():
        fields = {key: option[key] for key in ("type", "elements", "choices", "required", "default") if key in option}
        if fields.get("required"):
            fields.pop("default", None)
        if "suboptions" in option:
            fields["options"] = spec_of(option["suboptions"])
        spec[name] = fields
    return spec


def without_templates(value: Any, option: Mapping[str, Any]) -> Any:
    """``value`` with a stand-in for each template that is not a text for the module."""
    kind = option.get("type", "str")
    if isinstance(value, str) and "{{" in value:
        return option["choices"][0] if "choices" in option else STAND_INS.get(kind, value)
    suboptions = option.get("options", {})
    if isinstance(value, dict) and suboptions:
        return {name: without_templates(entry, suboptions.get(name, {})) for name, entry in value.items()}
    if isinstance(value, list):
        entry_option = {"type": option.get("elements", "str"), "options": suboptions}
        return [without_templates(entry, entry_option) for entry in value]
    return value


def module_of(task: Mapping[str, Any]) -> str:
    """The one key of a task that is no keyword: a module by its full name."""
    found = [key for key in task if key not in Task.fattributes and not key.startswith("with_")]
    assert len(found) == 1, f"{task.get('name')}: {found} should be one module"
    return found[0]


def problems(task: Mapping[str, Any]) -> Iterator[str]:
    name = task.get("name")
    first, *_others = task
    if first != "name" or not name:
        yield "does not begin with a name"
    elif not name[0].isupper() or name.endswith("."):
        yield "has a name that does not begin with a capital, or ends with a full stop"
    module = module_of(task)
    namespace, _dot, short = module.rpartition(".")
    if namespace == "ansible.builtin":
        if importlib.util.find_spec(f"ansible.modules.{short}") is None:
            yield f"uses {module}, which does not exist"
    elif namespace != COLLECTION or short not in MODULES:
        yield f"uses {module}, which is neither a module of this collection nor of Ansible itself"
    else:
        spec = spec_of(documentation()[module]["doc"]["options"])
        arguments = task[module] or {}
        result = ArgumentSpecValidator(spec).validate(
            {key: without_templates(value, spec.get(key, {})) for key, value in arguments.items()}
        )
        yield from result.error_messages


@pytest.mark.parametrize("module", MODULES)
def test_examples_are_valid(module: str) -> None:
    found = [f"{task.get('name')}: {problem}" for task in tasks(module) for problem in problems(task)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("module", MODULES)
def test_examples_use_their_module(module: str) -> None:
    assert any(module_of(task) == f"{COLLECTION}.{module}" for task in tasks(module))


@pytest.mark.parametrize("module", MODULES)
def test_names_are_not_repeated(module: str) -> None:
    names = [task["name"] for task in tasks(module)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("task", "problem"),
    [
        ({"keyfleet.hsm.hsm_sync": {"instance": "primary"}}, "does not begin with a name"),
        ({"name": "sync", "keyfleet.hsm.hsm_sync": {"instance": "primary"}}, "begin with a capital"),
        ({"name": "Sync", "keyfleet.hsm.hsm_synchronise": {}}, "neither a module"),
        ({"name": "Sync", "ansible.builtin.synchronise": {}}, "does not exist"),
        ({"name": "Group", "keyfleet.hsm.hsm_group": {}}, "missing required arguments: name"),
        (
            {"name": "Sync", "keyfleet.hsm.hsm_sync": {"instance": "primary", "labels": 1}},
            "labels. Supported parameters",
        ),
        ({"name": "Status", "keyfleet.hsm.hsm_status": {"require": "some"}}, "value of require must be one of"),
        ({"name": "Status", "keyfleet.hsm.hsm_status": {"timeout": "soon"}}, "cannot be converted to an int"),
        (
            {"name": "Key", "keyfleet.hsm.hsm_key": {"keys": [{"label": "a", "typ": "AES"}]}},
            "keys.typ. Supported parameters",
        ),
        ({"name": "Key", "keyfleet.hsm.hsm_key": {"keys": [{"type": "AES"}]}}, "missing required arguments: label"),
    ],
)
def test_mistakes_are_found(task: dict[str, Any], problem: str) -> None:
    assert problem in " ".join(problems(task))
