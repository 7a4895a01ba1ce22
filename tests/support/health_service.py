# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The health service as a process, without systemd: its configuration, what it answers, and what it says of itself."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomli_w
from hsm_fixture import PIN, SO_PIN, SOFTHSM, Hsm

SERVICE = Path(__file__).resolve().parents[2] / "roles" / "gateway" / "files"
BEARER = "canary-bearer-5d41402abc4b2a76"
_PATIENCE = 30.0


@dataclass
class Health:
    """A service in ``folder``. Probes are an hour apart: :meth:`probe` has them made at once. ``environment`` is beside this process's."""

    folder: Path
    config: dict[str, Any]
    environment: dict[str, str] = field(default_factory=dict)
    said: str = ""
    _process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        """All that every start of it has said."""
        return self.said + (self.folder / "log").read_text()

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "keyfleet_gateway", "--config", str(self.folder / "gateway.toml"), *arguments]

    def write(self, **changes: Any) -> None:
        self.config.update(changes)
        (self.folder / "gateway.toml").write_text(tomli_w.dumps(self.config))

    def environ(self) -> dict[str, str]:
        path = os.pathsep.join([str(SERVICE), os.environ.get("PYTHONPATH", "")])
        return {**os.environ, "PYTHONPATH": path, **self.environment}

    def once(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """The program with one of its other tasks, or with a configuration that it does not take."""
        return subprocess.run(self.command(*arguments), env=self.environ(), capture_output=True, text=True, timeout=60, check=False)

    def start(self) -> None:
        self.write()
        if self._process is not None:
            self.said = self.log
        with open(self.folder / "log", "wb") as log:
            self._process = subprocess.Popen(self.command(), stderr=log, stdout=log, env=self.environ(), start_new_session=True)
        listeners = sum(len(self.config[name]["listen"]) for name in ("http", "https") if name in self.config)
        self.wait(lambda: len(self.addresses()) == listeners)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """The exit status."""
        assert self._process is not None
        if self._process.poll() is None:
            self._process.send_signal(number)
        return self._process.wait(_PATIENCE)

    def wait(self, done: Callable[[], object]) -> None:
        deadline = time.monotonic() + _PATIENCE
        while not done():
            assert self._process is not None and self._process.poll() is None, f"it ended: {self.log}"
            assert time.monotonic() < deadline, f"not within {_PATIENCE:g} seconds: {self.log}"
            time.sleep(0.02)

    def addresses(self) -> list[tuple[str, int]]:
        """Scheme and port of each listener, the newest last."""
        return [
            (scheme, int(port))
            for scheme, port in re.findall(r"^listening scheme='(\w+)' host='[^']*' port='(\d+)'", (self.folder / "log").read_text(), re.M)
        ]

    def ask(
        self,
        path: str,
        *,
        bearer: str | None = None,
        context: ssl.SSLContext | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, str]:
        """Status and body, over TLS with a ``context``."""
        port = dict(self.addresses())["https" if context else "http"]
        connection = (
            http.client.HTTPSConnection("localhost", port, context=context, timeout=10)
            if context
            else http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        )
        sent = {**({"Authorization": f"Bearer {bearer}"} if bearer else {}), **(headers or {})}
        try:
            connection.request("GET", path, headers=sent)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    @property
    def health(self) -> int:
        return self.ask("/health")[0]

    def slots(self) -> dict[str, dict[str, Any]]:
        """Those of /hsm/status by their labels."""
        status, body = self.ask("/hsm/status", bearer=BEARER)
        assert status == 200, (status, body)
        return {slot["label"]: slot for instance in json.loads(body) for slot in instance["slots"]}

    def metric(self, name: str) -> list[float]:
        """The values of a metric."""
        found = re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", self.ask("/metrics")[1], re.M)
        return [float(value) for value in found]

    def probes(self) -> float:
        return sum(self.metric("keyfleet_probes_total"))

    def reload(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGHUP)

    def probe(self) -> None:
        """Reload, and wait until each instance was probed once more."""
        before = self.metric("keyfleet_probes_total")
        self.reload()
        self.wait(lambda: all(now > then for now, then in zip(self.metric("keyfleet_probes_total"), before, strict=True)))

    def raw(self, data: bytes, *, waits: bool = False) -> bytes:
        """What the plain listener says to these bytes until it closes the connection. A client that does not wait for an answer may get
        none."""
        with socket.create_connection(("127.0.0.1", dict(self.addresses())["http"]), timeout=10) as connection:
            connection.sendall(data)
            if not waits:
                connection.shutdown(socket.SHUT_WR)
            parts = []
            while part := connection.recv(65536):
                parts.append(part)
        return b"".join(parts)


def instance(
    name: str, folder: Path, *tokens: Mapping[str, str], library: str = SOFTHSM, environment: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """A declaration. ``folder`` has its softhsm2.conf."""
    variables = {"SOFTHSM2_CONF": str(folder / "softhsm2.conf"), **(environment or {})}
    return {"name": name, "model": "softhsm2", "library": library, "environment": variables, "tokens": [dict(token) for token in tokens]}


def secret(path: Path, text: str) -> str:
    path.write_text(f"{text}\n")
    path.chmod(0o600)
    return str(path)


def make_token(hsm: Hsm, label: str = "payments") -> None:
    hsm.softhsm_util("--init-token", "--free", "--label", label, "--pin", PIN, "--so-pin", SO_PIN)


def health(folder: Path, instances: Sequence[Mapping[str, Any]], **config: Any) -> Health:
    """A service that was not started yet, on a port of its own."""
    (folder / "state").mkdir(exist_ok=True)
    own = {
        "state": str(folder / "state"),
        "token_file": secret(folder / "bearer", BEARER),
        "probe": {"interval": "1h", "timeout": "10s"},
        "http": {"listen": ["127.0.0.1:0"]},
        "instances": list(instances),
    }
    return Health(folder, {**own, **config})
