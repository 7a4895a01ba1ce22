# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the tests of this folder do with hosts: bring up, ask over SSH, ask through Ansible, take down."""

from __future__ import annotations

import functools
import json
import os
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[2]


@functools.cache
def read_inventory(path: Path, text: str) -> dict[str, Any]:
    """What Ansible makes of an inventory. Takes a second, so the same text is read once."""
    done = subprocess.run(["ansible-inventory", "-i", str(path), "--list"], capture_output=True, check=True)
    read: dict[str, Any] = json.loads(done.stdout)
    return read


@dataclass(frozen=True)
class Fleet:
    """The hosts of one checkout, whose files are in ``home``."""

    checkout: Path
    home: Path

    @property
    def inventory(self) -> Path:
        return self.home / "inventory.yml"

    def hosts(self, *arguments: str, fails: bool = False) -> str:
        """What the make targets call, as a process."""
        environment = {**os.environ, "KEYFLEET_HOSTS": str(self.home)}
        command = [str(self.checkout / "tools/hosts.sh"), *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert bool(done.returncode) == fails, done.stdout + done.stderr
        return done.stdout + done.stderr

    def variables(self) -> dict[str, dict[str, Any]]:
        """Each host's variables, as Ansible reads them."""
        found: dict[str, dict[str, Any]] = read_inventory(self.inventory, self.inventory.read_text())["_meta"]["hostvars"]
        return found

    def groups(self) -> dict[str, list[str]]:
        groups = read_inventory(self.inventory, self.inventory.read_text())
        return {name: group["hosts"] for name, group in groups.items() if "hosts" in group}

    def addresses(self) -> dict[str, str]:
        return {name: variables["ansible_host"] for name, variables in self.variables().items()}

    def ssh(self, host: str, command: str, *, sure: bool = True) -> subprocess.CompletedProcess[str]:
        """A command on a host, over SSH and by what the inventory says alone."""
        variables = self.variables()[host]
        options = [*shlex.split(variables["ansible_ssh_common_args"]), "-o", "BatchMode=yes", "-o", "ConnectTimeout=5"]
        options += ["-i", variables["ansible_ssh_private_key_file"]]
        address = f"{variables['ansible_user']}@{variables['ansible_host']}"
        done = subprocess.run(["ssh", *options, address, command], capture_output=True, text=True, timeout=60, check=False)
        assert not (sure and done.returncode), done.stdout + done.stderr
        return done

    def ansible(self, *arguments: str, inventory: Path | None = None) -> subprocess.CompletedProcess[str]:
        command = ["ansible", "-i", str(inventory or self.inventory), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
