# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is compared: each variant as the command that a person would run, and a check that it did its work."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hsm_fixture import PIN, Hsm

from .hsm import INSTANCE, TOKEN
from .measure import Cost, Failed, cost, peak

BARE = Path(__file__).with_name("bare.py")
ANSIBLE_PLAYBOOK = str(Path(sys.executable).with_name("ansible-playbook"))
MODULE = "ansible_collections.keyfleet.hsm.plugins.modules.hsm_key"

# As the module's own examples have many keys.
_LABELS = "{{{{ ['key-'] | product(range(1, {end})) | map('join') }}}}"
_KEYS = "{{ dict(labels | product(['AES'])) | dict2items(key_name='label', value_name='type') }}"


def played(hsm: Hsm, task: dict[str, Any], changed: int) -> Cost:
    """What a playbook with this one task costs; the default output, no facts. Raises :class:`Failed`."""
    play = {
        "hosts": "localhost",
        "gather_facts": False,
        "vars": {"ansible_connection": "local", "ansible_python_interpreter": sys.executable},
        "tasks": [task],
    }
    playbook = hsm.scratch / "playbook.yml"
    playbook.write_text(json.dumps([play], indent=1))
    (hsm.scratch / "ansible.cfg").touch()
    home = hsm.scratch.parent / "ansible"
    settings = {
        "ANSIBLE_COLLECTIONS_PATH": os.environ["ANSIBLE_COLLECTIONS_PATH"],
        "ANSIBLE_CONFIG": str(hsm.scratch / "ansible.cfg"),
        "ANSIBLE_HOME": str(home),
        "ANSIBLE_LOCAL_TEMP": str(home / "tmp"),
        "ANSIBLE_REMOTE_TMP": str(home / "remote"),
        "ANSIBLE_NOCOLOR": "1",
        **hsm.environment,
    }
    used, output = cost([ANSIBLE_PLAYBOOK, "-i", "localhost,", str(playbook)], settings, hsm.scratch)
    if not re.search(rf"ok=1 +changed={changed} ", output):
        raise Failed(f"expected changed={changed}:\n{output[-4000:]}")
    return used


def ping(hsm: Hsm) -> Cost:
    """What Ansible itself costs."""
    return played(hsm, {"ansible.builtin.ping": None}, 0)


def hsm_key(hsm: Hsm, number: int, *, again: bool = False) -> Cost:
    """One hsm_key task for all keys; ``again`` when they are there already."""
    task = {"keyfleet.hsm.hsm_key": {"registry": hsm.registry, "instance": INSTANCE, "keys": _KEYS}}
    return played(hsm, {**task, "vars": {"labels": _LABELS.format(end=number + 1)}}, 0 if again else 1)


def hsm_key_written_out(hsm: Hsm, number: int) -> Cost:
    """The same with a playbook that holds every key, each with its options."""
    options = {"type": "AES", "size": 256, "operations": ["encrypt", "decrypt"]}
    keys = [{"label": f"key-{index}", **options} for index in range(1, number + 1)]
    return played(hsm, {"keyfleet.hsm.hsm_key": {"registry": hsm.registry, "instance": INSTANCE, "keys": keys}}, 1)


def tool_loop(hsm: Hsm, number: int) -> Cost:
    """What people do without the collection: a task that calls pkcs11-tool once for each key."""
    argv = ["pkcs11-tool", "--module", hsm.library, "--token-label", TOKEN, "--login", "--pin", PIN, "--keygen", "--key-type", "AES:32"]
    argv += ["--usage-decrypt", "--sensitive", "--private", "--label", "key-{{ item }}", "--id", "{{ '%08x' | format(item) }}"]
    return played(hsm, {"ansible.builtin.command": {"argv": argv}, "loop": f"{{{{ range(1, {number + 1}) | list }}}}"}, 1)


def _bare(hsm: Hsm, action: str, *more: str) -> list[str]:
    return [sys.executable, str(BARE), action, hsm.library, TOKEN, PIN, *more]


def bare_loop(hsm: Hsm, number: int) -> Cost:
    """The same keys with python-pkcs11 alone, in one session."""
    return cost(_bare(hsm, "make", str(number)), hsm.environment, hsm.scratch)[0]


def enumeration(hsm: Hsm, number: int) -> Cost:
    """One login and one look at every object on the token, with python-pkcs11 alone. Checks that ``number`` are there."""
    used, output = cost(_bare(hsm, "list"), hsm.environment, hsm.scratch)
    if int(output) != number:
        raise Failed(f"{output.strip()} objects on the token instead of {number}")
    return used


def _module(hsm: Hsm, number: int) -> tuple[Sequence[str], str]:
    keys = [{"label": f"key-{index}", "type": "AES"} for index in range(1, number + 1)]
    arguments = {"registry": hsm.registry, "instance": INSTANCE, "keys": keys}
    return [sys.executable, "-m", MODULE], json.dumps({"ANSIBLE_MODULE_ARGS": arguments})


def module_peak(hsm: Hsm, number: int) -> float:
    """MiB of the module's process, without the process of Ansible that starts it."""
    command, given = _module(hsm, number)
    return peak(command, {**hsm.environment, "PYTHONPATH": os.environ["PYTHONPATH"]}, hsm.scratch, given)


def bare_peak(hsm: Hsm, number: int) -> float:
    """MiB of the bare loop's process."""
    return peak(_bare(hsm, "make", str(number)), hsm.environment, hsm.scratch)
