# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Two gateways, and a host with a load balancer and an application, as ``deploy.yml`` makes them."""

from __future__ import annotations

import csv
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from faulty import build_fault_library
from fleet_fixture import Fleet, Run

HERE = Path(__file__).resolve().parent
GATEWAYS = ("host1", "host2")
APP = "host3"
PIN = "271828"  # of tokens that are made for these tests
LIBRARIES = "/usr/lib/x86_64-linux-gnu"
PROXY = f"{LIBRARIES}/p11-kit-proxy.so"
# One HSM alone, which the variable names: the proxy connects to all of the host.
CLIENT = f"{LIBRARIES}/pkcs11/p11-kit-client.so"
PYTHON = "/opt/keyfleet/venv/bin/python"
ASK = """
import http.client
connection = http.client.HTTPConnection("{host}", 4441, timeout=9)
connection.request("GET", "/health")
print(connection.getresponse().status)
"""
# HAProxy's table of servers.
STATISTICS = """
import socket
with socket.socket(socket.AF_UNIX) as asked:
    asked.connect("/run/haproxy/admin.sock")
    asked.sendall(b"show stat\\n")
    print(asked.makefile().read())
"""


def socket_of(name: str) -> dict[str, str]:
    """The environment in which CLIENT is the HSM of this name in ``client_hsms``."""
    return {"P11_KIT_SERVER_ADDRESS": f"unix:path=/run/keyfleet-client/{name}.sock"}


@dataclass
class Scene:
    fleet: Fleet
    # The inventory, and what the hosts' variables call scratch.
    folder: Path

    @property
    def pki(self) -> Path:
        """Certificates and keys, see pki.sh."""
        return self.folder / "pki"

    def deploy(self, *arguments: str, **extra: Any) -> Run:
        return self.play(HERE / "deploy.yml", *arguments, **extra)

    def play(self, playbook: str | Path, *arguments: str, **extra: Any) -> Run:
        """``extra`` counts above what group_vars say."""
        run = self.fleet.playbook(playbook, "-i", str(self.folder / "inventory.yml"), "--diff", *arguments, extra=extra)
        (self.folder / "run.txt").write_text(run.output)
        return run

    def ssh(self, host: str, command: str, *, sure: bool = True) -> subprocess.CompletedProcess[str]:
        return self.fleet.ssh(host, command, sure=sure)

    def python(self, host: str, code: str, **environment: str) -> str:
        """As root, with the modules' Python."""
        variables = " ".join(f"{name}={value}" for name, value in environment.items())
        return self.ssh(host, f"sudo {variables} {PYTHON} - <<'END'\n{code}\nEND").stdout

    def put(self, host: str, path: str, text: str) -> None:
        """A file that everybody may read."""
        self.ssh(host, f"sudo install -m 644 /dev/stdin {path} <<'END'\n{text}\nEND")

    def servers(self, backend: str = "gateways") -> dict[str, str]:
        """What the balancer says of each gateway: UP, DOWN, or on the way to either. Each further port has a backend of its own."""
        rows = csv.DictReader(self.python(APP, STATISTICS).removeprefix("# ").splitlines())
        return {row["svname"]: row["status"] for row in rows if row["pxname"] == backend and row["svname"] != "BACKEND"}

    def wait_for_server(self, host: str, status: str, backend: str = "gateways", seconds: float = 60) -> None:
        until = time.monotonic() + seconds
        while (found := self.servers(backend))[host] != status:
            assert time.monotonic() < until, found
            time.sleep(0.3)

    def health(self, host: str) -> int:
        """What the gateway answers to GET /health, asked from the application host."""
        return int(self.python(APP, ASK.format(host=host)))


def prepare(fleet: Fleet, folder: Path, *, kept: bool) -> Scene:
    """``folder`` may be that of an earlier run, whose hosts were ``kept`` as it has left them."""
    scene, deployed = Scene(fleet, folder), folder / "deployed"
    if kept and deployed.exists():
        return scene
    deployed.unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(HERE / "inventory.yml", folder)
    shutil.copytree(HERE / "group_vars", folder / "group_vars", dirs_exist_ok=True)
    (folder / "group_vars/all").mkdir(exist_ok=True)
    (folder / "group_vars/all.yml").rename(folder / "group_vars/all/main.yml")
    (folder / "group_vars/all/scratch.yml").write_text(yaml.safe_dump({"scratch": str(folder)}))
    build_fault_library(folder)
    run = scene.deploy()
    assert run.code == 0, run.failures()
    deployed.touch()
    return scene
