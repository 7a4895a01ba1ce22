# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A host of role client's consumers: its folders, a token of SoftHSM2, and the script of their units. systemctl is a double."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from consumer_files import planned, rendered
from hsm_fixture import PIN, SO_PIN, Hsm, calls

SCRIPT = Path(__file__).resolve().parents[2] / "roles/client/files/consumer.sh"
FOLDERS = ("/etc/keyfleet-consumers", "/run/keyfleet-", "/var/lib/keyfleet-consumers", "/etc/ssh", "/usr/sbin")
SYSTEMCTL = """#!/bin/sh
echo "$@" >>{home}/systemctl
case $1 in show) cat {home}/process ;; esac
"""
TOOL = """#!/bin/sh
echo "$@" >>{home}/arguments
exec {real} "$@"
"""


@dataclass
class Host:
    """Folders of a host, with one token, and the script as it is but for the names of its folders."""

    home: Path
    hsm: Hsm
    spy: Path

    @classmethod
    def made(cls, home: Path) -> Host:
        for folder in ("tokens", "programs", *(f"{place[1:]}/x" for place in FOLDERS)):
            (home / folder).mkdir(parents=True)
        (home / "usr/sbin/nginx").symlink_to(home / "programs/nginx")
        (home / "softhsm2.conf").write_text(f"directories.tokendir = {home}/tokens\nlog.level = ERROR\n")
        hsm = Hsm(home)
        hsm.softhsm_util("--init-token", "--free", "--label", "payments", "--so-pin", SO_PIN, "--pin", PIN)
        host = cls(home, *hsm.spied())
        (home / "process").write_text("MainPID=7\n")
        host.program("systemctl", SYSTEMCTL.format(home=home))
        host.program("pkcs11-tool", TOOL.format(home=home, real=shutil.which("pkcs11-tool")))
        host.program("consumer", host.here(SCRIPT.read_text()))
        host.pin(PIN)
        return host

    def here(self, text: str) -> str:
        for folder in FOLDERS:
            text = text.replace(folder, f"{self.home}{folder}")
        return text

    def program(self, name: str, text: str) -> None:
        path = self.home / "programs" / name
        path.write_text(text)
        path.chmod(0o755)

    def pin(self, text: str, name: str = "pin") -> str:
        """Younger than anything that is there: files have the time of the last tick of the kernel's clock."""
        path = self.home / name
        path.write_text(text)
        later = time.time_ns() + 10_000_000
        os.utime(path, ns=(later, later))
        return str(path)

    def has(self, kind: str, name: str, way: str = "engine", **more: Any) -> None:
        environment = {**self.hsm.environment, **more.pop("environment", {})}
        given = {"name": name, "kind": kind, "library": self.hsm.library, "environment": environment, "token": "payments"}
        [one] = planned({**given, "pin_file": f"{self.home}/pin", "keys": [{"label": "host"}], **more}, way=way)
        folder = self.home / one["folder"][1:]
        folder.mkdir(parents=True)
        for file in ("settings", "keys", *(["askpass"] if kind == "sshd" else [])):
            (folder / file).write_text(self.here(rendered(file, one)))
            (folder / file).chmod(0o755)

    def run(self, action: str, name: str, *more: str, **variables: str) -> subprocess.CompletedProcess[str]:
        path = f"{self.home}/programs:{os.environ['PATH']}"
        command = [str(self.home / "programs/consumer"), action, name, *more]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=60, env={**os.environ, "PATH": path, **variables}, check=False
        )

    @property
    def logins(self) -> int:
        return calls(self.spy)["C_Login"] if self.spy.exists() else 0

    def note(self, name: str) -> Path:
        return self.home / "var/lib/keyfleet-consumers" / name
