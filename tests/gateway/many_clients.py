# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Clients of a token on a host, which do what a test says, see ``clients_together.py``."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from gateway_scene import CLIENT, HERE, PIN, PYTHON, Scene

SCRIPT = "/usr/local/lib/keyfleet-test/clients_together.py"


class Clients:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def ask(self, order: str) -> list[Any]:
        self.begin(order)
        return self.answer()

    def begin(self, order: str) -> None:
        assert self.process.stdin is not None
        print(order, file=self.process.stdin, flush=True)

    def answer(self) -> list[Any]:
        """The answer of each client. None is what ``open`` answers when all went well."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the clients have ended"
        found: list[Any] = json.loads(line)
        return found


@contextmanager
def clients(scene: Scene, host: str, socket: str, label: str, number: int) -> Iterator[Clients]:
    """``number`` clients on ``host``, as root, of the token that p11-kit finds at ``socket``."""
    scene.ssh(host, "sudo mkdir -p /usr/local/lib/keyfleet-test")
    scene.ssh(host, f"sudo tee {SCRIPT} >/dev/null <<'END'\n{(HERE / 'clients_together.py').read_text()}END")
    command = f"sudo P11_KIT_SERVER_ADDRESS=unix:path={socket} {PYTHON} {SCRIPT} {CLIENT} {label} {PIN} {number}"
    with subprocess.Popen(scene.fleet.ssh_command(host, command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Clients(process)
        finally:
            try:
                process.communicate(timeout=15)
            except subprocess.TimeoutExpired:
                process.kill()


def behind_client(name: str) -> str:
    """The socket of an HSM in ``client_hsms``."""
    return f"/run/keyfleet-client/{name}.sock"


def of_server(name: str) -> str:
    """The socket of an instance on its gateway, in front of which the listener stands."""
    return f"/run/keyfleet-hsm/{name}/pkcs11.sock"
