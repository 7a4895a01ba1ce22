# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The health service on the HSMs of the demo: it starts, a token goes away and comes back, and the service ends.

The argument is the scratch folder of the quickstart.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import secrets
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tomli_w
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.records import InstanceRecord
from ansible_collections.keyfleet.hsm.plugins.module_utils._registry import instances as table
from ansible_collections.keyfleet.hsm.plugins.module_utils._registry.database import open_database

ROOT = Path(__file__).resolve().parents[1]
_SECONDS = 60.0  # for anything to happen


def declared(record: InstanceRecord) -> dict[str, Any]:
    tokens = [{token.selector.kind: str(token.selector.value), "pin_file": token.pin_file} for token in record.tokens]
    return {
        "name": record.name,
        "model": record.model,
        "library": record.library,
        "environment": dict(record.environment),
        "tokens": tokens,
    }


def write_config(scratch: Path) -> Path:
    """Beside what the playbook has made: the same instances, ports that are free, and a bearer token."""
    with open_database(str(scratch / "registry.db"), run="demo", check_mode=True) as database:
        instances = [declared(record) for record in table.all_instances(database)]
    (scratch / "gateway").mkdir(mode=0o700, exist_ok=True)
    token = scratch / "gateway" / "token"
    if not token.exists():
        token.touch(mode=0o600)
        token.write_text(secrets.token_urlsafe(24) + "\n")
    config = {
        "state": str(scratch / "gateway"),
        "registry": str(scratch / "registry.db"),
        "token_file": str(token),
        "probe": {"interval": "1s"},
        "http": {"listen": ["127.0.0.1:0"]},
        "instances": instances,
    }
    path = scratch / "gateway.toml"
    path.write_text(tomli_w.dumps(config))
    return path


def until(process: subprocess.Popen[bytes], log: Path, done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _SECONDS
    while not done():
        if process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"The health service does not do what it should:\n{log.read_text()}")
        time.sleep(0.05)


@contextmanager
def running(command: list[str], scratch: Path) -> Iterator[tuple[subprocess.Popen[bytes], Path, int]]:
    """The process, its log and its port. It ends with the body."""
    log = scratch / "gateway.log"
    with open(log, "wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        until(process, log, lambda: "listening" in log.read_text())
        yield process, log, int(re.findall(r"port='(\d+)'", log.read_text())[0])
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(_SECONDS)


@contextmanager
def away(scratch: Path, serial: str) -> Iterator[None]:
    """The token is where SoftHSM2 does not look, and comes back however this ends."""
    for folder in (scratch / "tokens").iterdir():
        if folder.name.replace("-", "").endswith(serial):
            folder.rename(scratch / "away")
            try:
                yield
            finally:
                (scratch / "away").rename(folder)
            return
    raise SystemExit(f"No token with serial number {serial} in {scratch / 'tokens'}")


def ask(port: int, path: str, token: str = "") -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def main(scratch: Path) -> None:
    config = write_config(scratch)
    command = [sys.executable, "-m", "keyfleet_gateway", "--config", str(config)]
    token = (scratch / "gateway" / "token").read_text().strip()
    with running(command, scratch) as (process, log, port):
        print(f"Health service, with a token of instance standby away for a moment:\n  http://127.0.0.1:{port}/health")

        def show(status: int, text: str) -> None:
            until(process, log, lambda: ask(port, "/health")[0] == status)
            print(f"    {status}  {text}")

        show(204, "every token works")
        slots = [
            slot
            for instance in json.loads(ask(port, "/hsm/status", token)[1])
            if instance["name"] == "standby"
            for slot in instance["slots"]
        ]
        with away(scratch, slots[0]["serial"]):
            show(500, "it is away")
        show(204, "it is back")
        print(f"  http://127.0.0.1:{port}/hsm/status   (with the bearer token in {scratch / 'gateway' / 'token'})")
        print(f"  http://127.0.0.1:{port}/metrics")
        print(f"  http://127.0.0.1:{port}/             (the page for people; after Log in, with that token as password)")
    path = f"PYTHONPATH={os.environ['PYTHONPATH']}"
    print(f"It has ended. To start it again: {shlex.join(['env', path, *command])}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
