# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the tests of this folder do with hosts: bring up, ask over SSH, ask through Ansible, take down."""

from __future__ import annotations

import functools
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[2]
# As in tools/hosts.sh.
IMAGES = Path(os.environ.get("KEYFLEET_IMAGES") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "keyfleet.hsm/images"))


@functools.cache
def read_inventory(path: Path, text: str) -> dict[str, Any]:
    """What Ansible makes of an inventory. Takes a second, so the same text is read once."""
    done = subprocess.run(["ansible-inventory", "-i", str(path), "--list"], capture_output=True, check=True)
    read: dict[str, Any] = json.loads(done.stdout)
    return read


@dataclass(frozen=True)
class Run:
    """A run of ansible-playbook. ``recap`` has the counts of each host that took part: ok, changed, failed and so on."""

    code: int
    output: str
    recap: dict[str, dict[str, int]]
    seconds: float

    def changed(self) -> dict[str, int]:
        return {host: counts["changed"] for host, counts in self.recap.items()}

    def failures(self) -> str:
        """What went wrong, with what stands around it."""
        lines = self.output.splitlines()
        found = [number for number, line in enumerate(lines) if re.match(r"fatal: |.*ERROR", line)]
        return "\n".join(line for number in found for line in lines[max(0, number - 3) : number + 12]) or self.output[-3000:]

    def tasks(self, host: str, word: str) -> list[str]:
        """The tasks of which Ansible says ``changed``, ``fatal`` or such of this host, in their order. Those of a loop with their item."""
        found, task = [], ""
        word = "(?:fatal|failed)" if word == "fatal" else word
        for line in self.output.splitlines():
            if name := re.match(r"TASK \[(.*?) ?\] \*+$", line):
                task = name[1]
            elif said := re.match(rf"{word}: \[{re.escape(host)}\](?:(?: =>)? \(item=(.*?)\))?", line):
                found.append(f"{task} {said[1]}" if said[1] and not task.endswith(said[1]) else task)
        return found


def read_recap(output: str) -> dict[str, dict[str, int]]:
    lines = output.rpartition("PLAY RECAP")[2].splitlines()
    hosts = [re.match(r"(\S+)\s+: (ok=.*)", line) for line in lines]
    return {host[1]: {name: int(count) for name, count in re.findall(r"(\w+)=(\d+)", host[2])} for host in hosts if host}


def text_of(run: Run) -> str:
    """Without line breaks: Ansible wraps what it has to say."""
    return " ".join(run.output.split())


def sound(run: Run, **changed: int) -> None:
    """No host failed, and these changed so much."""
    assert run.code == 0, run.failures()
    assert run.changed() == changed, [(host, run.tasks(host, "changed")) for host in run.recap]


def build_packages(scratch: Path) -> str:
    """A folder with the doubles of the vendors' packages."""
    out = scratch / "packages"
    subprocess.run([sys.executable, str(CHECKOUT / "tests/doubles/build.py"), "--out", str(out)], check=True, capture_output=True)
    return str(out)


@dataclass(frozen=True)
class Fleet:
    """The hosts of one checkout, whose files are in ``home``."""

    checkout: Path
    home: Path
    images: Path = IMAGES

    @property
    def inventory(self) -> Path:
        return self.home / "inventory.yml"

    def hosts(self, *arguments: str, fails: bool = False) -> str:
        """What the make targets call, as a process."""
        environment = {**os.environ, "KEYFLEET_HOSTS": str(self.home), "KEYFLEET_IMAGES": str(self.images)}
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

    def ssh_command(self, host: str, command: str) -> list[str]:
        """What runs a command on a host, over SSH and by what the inventory says alone."""
        variables = self.variables()[host]
        options = [*shlex.split(variables["ansible_ssh_common_args"]), "-o", "BatchMode=yes", "-o", "ConnectTimeout=5"]
        options += ["-i", variables["ansible_ssh_private_key_file"]]
        address = f"{variables['ansible_user']}@{variables['ansible_host']}"
        return ["ssh", *options, address, command]

    def ssh(self, host: str, command: str, *, sure: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(self.ssh_command(host, command), capture_output=True, text=True, timeout=60, check=False)
        assert not (sure and done.returncode), done.stdout + done.stderr
        return done

    def ansible(self, *arguments: str, inventory: Path | None = None) -> subprocess.CompletedProcess[str]:
        command = ["ansible", "-i", str(inventory or self.inventory), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    def playbook(
        self, playbook: str | Path, *arguments: str, extra: dict[str, Any] | None = None, environment: dict[str, str] | None = None
    ) -> Run:
        """A playbook with the hosts' inventory before what ``arguments`` add to it. ``extra`` is handed over in a file of its own."""
        command = ["ansible-playbook", "-i", str(self.inventory), *arguments, str(playbook)]
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            if extra:
                json.dump(extra, file)
                file.flush()
                command += ["--extra-vars", f"@{file.name}"]
            started = time.monotonic()
            # One stream, so that a warning stands beside its task. Without pipelining a run takes twice as long.
            settings = {**os.environ, "ANSIBLE_PIPELINING": "1", "ANSIBLE_NOCOLOR": "1", **(environment or {})}
            done = subprocess.run(
                command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=settings, text=True, timeout=1200, check=False
            )
        return Run(done.returncode, done.stdout, read_recap(done.stdout), time.monotonic() - started)
