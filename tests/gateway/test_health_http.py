# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The health service under load, and with clients that mean harm. It runs on this machine; no hosts are needed."""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from authority import Authority, trusting
from cryptography.hazmat.primitives.serialization import NoEncryption, pkcs12
from faulty import build_fault_library
from health_service import BEARER, Health, health, instance, make_token, secret
from hsm_fixture import PIN, SOFTHSM, Hsm

RATE, SECONDS = 500, 60
REQUEST = b"GET /health HTTP/1.1\r\nHost: gateway\r\n"
_PATIENCE = 30.0


@pytest.fixture
def hsm(tmp_path: Path) -> Hsm:
    (tmp_path / "tokens").mkdir()
    (tmp_path / "softhsm2.conf").write_text(f"directories.tokendir = {tmp_path}/tokens\nlog.level = ERROR\n")
    return Hsm(tmp_path)


@pytest.fixture
def service(hsm: Hsm) -> Iterator[Health]:
    """Probed once, with the library that logs its calls, and with TLS."""
    make_token(hsm)
    authority = Authority(hsm.scratch, "ours")
    certificate, key = authority.issue("localhost")
    p12 = hsm.scratch / "server.p12"
    p12.write_bytes(pkcs12.serialize_key_and_certificates(b"gateway", key, certificate, None, NoEncryption()))
    environment = {"FAULT_REAL": SOFTHSM, "FAULT_LOG": str(hsm.scratch / "calls")}
    token = {"label": "payments", "pin_file": secret(hsm.scratch / "pin", PIN)}
    declared = instance("primary", hsm.scratch, token, library=build_fault_library(hsm.scratch), environment=environment)
    https = {"listen": ["127.0.0.1:0"], "certificate": str(p12), "client_ca": str(authority.file), "client_names": ["monitor"]}
    started = health(hsm.scratch, [declared], https=https)
    started.start()
    try:
        started.wait(started.probes)
        assert started.health == 204, started.log
        yield started
    finally:
        started.stop(9)


@dataclass
class Measured:
    """Seconds from the moment at which a request was due to its whole answer."""

    seconds: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def note(self, due: float, answer: bytes) -> None:
        self.seconds.append(time.perf_counter() - due)
        if not answer.startswith(b"HTTP/1.1 204 "):
            self.errors.append(repr(answer[:80]))

    def line(self, name: str) -> str:
        ordered = sorted(self.seconds)
        at = {part: ordered[int(len(ordered) * part / 100)] * 1000 for part in (50, 99)}
        told = f"50th percentile {at[50]:.1f} ms, 99th {at[99]:.1f} ms, longest {ordered[-1] * 1000:.0f} ms"
        return f"{name}: {len(ordered)} requests at {RATE} a second, {len(self.errors)} errors, {told}"


async def _over_new_connections(port: int) -> Measured:
    """Each request has a connection of its own, as a load balancer's checks have."""
    measured, begun = Measured(), time.perf_counter()

    async def one(due: float) -> None:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(REQUEST + b"Connection: close\r\n\r\n")
            measured.note(due, await reader.read())
            writer.close()
        except OSError as error:
            measured.errors.append(repr(error))

    tasks = []
    for number in range(RATE * SECONDS):
        due = begun + number / RATE
        await asyncio.sleep(max(due - time.perf_counter(), 0))
        tasks.append(asyncio.create_task(one(due)))
    await asyncio.gather(*tasks)
    return measured


async def _over_kept_connections(port: int, connections: int = 20) -> Measured:
    measured, begun = Measured(), time.perf_counter()

    async def client(place: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for number in range(place, RATE * SECONDS, connections):
            due = begun + number / RATE
            await asyncio.sleep(max(due - time.perf_counter(), 0))
            writer.write(REQUEST + b"\r\n")
            measured.note(due, await reader.readuntil(b"\r\n\r\n"))
        writer.close()

    await asyncio.gather(*(client(place) for place in range(connections)))
    return measured


def test_500_requests_a_second_for_a_minute(service: Health, hsm: Hsm, capsys: pytest.CaptureFixture[str]) -> None:
    """What is asserted are answers and calls. The figures are printed: they are of the machine, too."""
    port = dict(service.addresses())["http"]
    before = (hsm.scratch / "calls").read_bytes()
    kept = asyncio.run(_over_kept_connections(port))
    new = asyncio.run(_over_new_connections(port))
    assert (hsm.scratch / "calls").read_bytes() == before != b"", "no request reaches the HSM"
    service.write(probe={"interval": "1s", "timeout": "10s"})
    service.probe()
    probed = asyncio.run(_over_new_connections(port))
    with capsys.disabled():
        for name, measured in (
            ("connections that stay", kept),
            ("a connection each", new),
            ("a connection each, a probe a second", probed),
        ):
            print(f"\n{measured.line(name)}", end="")
    for measured in (kept, new, probed):
        assert measured.errors == [] and len(measured.seconds) == RATE * SECONDS
    assert service.probes() > 10


def _of(service: Health, what: str) -> str:
    process = service._process
    assert process is not None
    return f"/proc/{process.pid}/{what}"


def _open_files(service: Health) -> int:
    return len(os.listdir(_of(service, "fd")))


def _memory(service: Health) -> int:
    """KiB that the service has in memory."""
    lines = Path(_of(service, "status")).read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1])


_PARTS = (
    *(
        b"GET",
        b"POST",
        b"HEAD",
        b"OPTIONS",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b" ",
        b"/",
        b"/health",
        b"/hsm/status",
        b"/metrics",
        b"/login",
    ),
    *(
        b"?refresh=off",
        b"?refresh=",
        b"/../..",
        b"%00",
        b"%2e%2e/",
        b"\x00",
        b"\xff",
        b" HTTP/1.1",
        b" HTTP/1.0",
        b" HTTP/9.9",
        b"\r\n",
        b"\n",
        b"\r",
    ),
    *(
        b"Host: a",
        b"Connection: upgrade",
        b"Upgrade: websocket",
        b"Transfer-Encoding: chunked",
        b"Content-Length: 5",
        b"Content-Length: -1",
    ),
    *(b"Content-Length: 99999999999999999999", b"Expect: 100-continue", b"ffffffff\r\n", b"0\r\n\r\n", b"a" * 3000, b": ", b"\r\n\r\n"),
    *(
        b"Authorization: Bearer " + BEARER.encode() + b"x",
        b"Authorization: Basic " + b"e" * 999,
        b"Cookie: " + PIN.encode(),
        b"\x16\x03\x01\x02\x00",
    ),
)


def _fuzzed(number: int) -> bytes:
    """A request of parts that belong together, or not: the same ones for the same number."""
    chance = hashlib.sha512(str(number).encode()).digest()
    start = (b"GET / HTTP/1.1\r\n", b"GET /hsm/status HTTP/1.1\r\nHost: a\r\n", b"POST /health HTTP/1.1\r\n", b"")[chance[0] % 4]
    return start + b"".join(_PARTS[byte % len(_PARTS)] for byte in chance[2 : 3 + chance[1] % 30])


def _say(address: tuple[str, int], data: bytes, context: ssl.SSLContext | None = None) -> bytes:
    """What comes back until the service closes. One that closes without a word has said nothing."""
    answer = b""
    with (
        suppress(OSError),
        socket.create_connection(address, timeout=_PATIENCE) as plain,
        plain if context is None else context.wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        connection.sendall(data)
        if context is None:
            connection.shutdown(socket.SHUT_WR)
        while part := connection.recv(65536):
            answer += part
    return answer


def test_fuzzed_requests_and_bad_certificates(service: Health, hsm: Hsm) -> None:
    ports = dict(service.addresses())
    plain, over_tls = ("127.0.0.1", ports["http"]), ("127.0.0.1", ports["https"])
    process = service._process
    assert process is not None
    answers = []
    _say(plain, REQUEST + b"\r\n")
    files, memory = _open_files(service), _memory(service)

    for number in range(3000):
        data = _fuzzed(number)
        answers.append(_say(plain, data))
        if number % 10 == 0:
            # Bytes that are no TLS, on the listener that wants it; and the same request in TLS, which ends it.
            answers.append(_say(over_tls, data))
            answers.append(_say(over_tls, data.replace(b"\r\n\r\n", b"\r\n") + b"\r\nConnection: close\r\n\r\n", trusting(None)))
    assert [answer for answer in answers if b"payments" in answer or b" 200 OK\r\nContent-Type: application/json" in answer] == []

    # Certificates: of another CA, one that has ended, one of a name that is not listed, none; and versions of TLS that are too old.
    ours, other = Authority(hsm.scratch, "ours2"), Authority(hsm.scratch, "other")
    asked = b"GET /hsm/status HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    assert _say(over_tls, asked, trusting(None)).startswith(b"HTTP/1.1 401 ")
    for context in (ours.client("monitor"), other.client("monitor"), other.client("monitor", days=-1)):
        assert _say(over_tls, asked, context) == b""
    old = ["openssl", "s_client", "-connect", f"127.0.0.1:{ports['https']}", "-tls1_1", "-cipher", "ALL:@SECLEVEL=0"]
    refused = subprocess.run(old, input=asked, capture_output=True, check=False)
    assert refused.returncode != 0 and b"HTTP/" not in refused.stdout, refused.stdout

    _is_well_afterwards(service, files, memory)
    everything = b"\n".join(answers).decode("latin-1") + service.log
    assert [canary for canary in (PIN, BEARER) if canary in everything] == []


def test_many_slow_clients(service: Health) -> None:
    """More than may be connected, on both listeners, each with a byte now and then. They are cut off, and nobody else is."""
    ports = dict(service.addresses())
    files, memory = _open_files(service), _memory(service)

    async def slow(port: int) -> str:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            return "refused"
        with suppress(OSError):
            for byte in REQUEST * 9:
                writer.write(bytes([byte]))
                await writer.drain()
                with suppress(asyncio.TimeoutError):
                    if await asyncio.wait_for(reader.read(1), 1) == b"":
                        break
        writer.close()
        return "cut off"

    async def scene() -> list[str]:
        clients = [asyncio.create_task(slow(ports[scheme])) for scheme in ("http", "https") for _client in range(700)]
        return await asyncio.wait_for(asyncio.gather(*clients), 2 * _PATIENCE)

    assert set(asyncio.run(scene())) <= {"cut off", "refused"}
    _is_well_afterwards(service, files, memory)


def _is_well_afterwards(service: Health, files: int, memory: int) -> None:
    """The same process, healthy, with no more files open; what it holds in memory has not grown with what it was sent."""
    process: Any = service._process
    assert process.poll() is None and service.health == 204
    service.wait(lambda: _open_files(service) <= files + 2)
    assert _memory(service) < memory + 48 * 1024
    assert "Traceback" not in service.log and " trace=" not in service.log, service.log
