# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The real server on a scratch folder: started on a ``kms.toml``, asked, stopped."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from .kmip import Client, Refused

SERVER = os.environ.get("KEYFLEET_KMS_SERVER", "")
_START = 60  # seconds until it answers


class DidNotStart(Exception):
    """The end of what the server wrote before it ended."""


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def version() -> str:
    done = subprocess.run([SERVER, "--version"], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def default_config() -> str:
    """What the server prints as its default configuration: the names that it knows."""
    done = subprocess.run([SERVER, "--print-default-config"], capture_output=True, text=True, check=True)
    return done.stdout


@contextmanager
def running(config: Path, port: int, environment: Mapping[str, str], log: Path) -> Iterator[Client]:
    """The server until the end of the block.

    :raises DidNotStart: it ended, or did not answer in time
    """
    known = {name: value for name, value in os.environ.items() if not re.match("COSMIAN|KMS|HSM|SOFTHSM", name)}
    with log.open("wb") as out:
        process = subprocess.Popen([SERVER, "-c", str(config)], env={**known, **environment}, stdout=out, stderr=out, cwd=config.parent)
    client = Client(port)
    try:
        deadline = time.monotonic() + _START
        while not _answers(client):
            if process.poll() is not None or time.monotonic() > deadline:
                raise DidNotStart("\n".join(plain(log).splitlines()[-15:]))
            time.sleep(0.1)
        yield client
    finally:
        process.terminate()
        process.wait(timeout=30)


def plain(log: Path) -> str:
    """What the server wrote, without its colours."""
    return re.sub(r"\x1b\[[0-9;]*m", "", log.read_text(errors="replace"))


def _answers(client: Client) -> bool:
    try:
        client.get("/health")
    except (OSError, Refused):
        return False
    return True
