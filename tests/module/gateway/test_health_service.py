# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""keyfleet-gateway as a process, on real tokens and over real connections."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from authority import Authority, trusting
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, pkcs12
from health_service import BEARER, Health, health, instance, make_token, secret
from hsm_fixture import PIN, SOFTHSM, Hsm, ok
from keyfleet_gateway import connections

WRONG = "canary-wrong-pin-1"


@pytest.fixture
def started() -> Iterator[list[Health]]:
    """Services that the test has started; the end of the test is theirs."""
    services: list[Health] = []
    yield services
    for service in services:
        service.stop(9)


def logged(hsm: Hsm, library: str, pin_file: str, plan: str = "", name: str = "primary") -> dict[str, Any]:
    """An instance behind the library that logs its calls and makes faults."""
    environment = {"FAULT_REAL": SOFTHSM, "FAULT_LOG": str(hsm.scratch / "calls"), "FAULT_PLAN": plan}
    return instance(name, hsm.scratch, {"label": "payments", "pin_file": pin_file}, library=library, environment=environment)


def calls(hsm: Hsm) -> list[str]:
    return (hsm.scratch / "calls").read_text().split()


def told(listener: socket.socket) -> list[str]:
    """What systemd would have heard until now."""
    heard: list[str] = []
    listener.setblocking(False)
    while True:
        try:
            heard += listener.recv(4096).decode().split("\n")
        except BlockingIOError:
            return heard


def children_of(session: int) -> list[str]:
    """Processes of a session."""
    return subprocess.run(["pgrep", "--session", str(session)], capture_output=True, text=True, check=False).stdout.split()


def test_life_of_a_gateway(hsm: Hsm, library: str, started: list[Health]) -> None:
    make_token(hsm)
    service = health(hsm.scratch, [logged(hsm, library, secret(hsm.scratch / "pin", PIN))])
    answers = []
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as systemd:
        systemd.bind(str(hsm.scratch / "notify"))
        service.environment = {"NOTIFY_SOCKET": str(hsm.scratch / "notify"), "WATCHDOG_USEC": "60000000"}
        started.append(service)
        service.start()
        service.wait(service.probes)
        assert service.ask("/health") == (204, ""), service.log
        heard = told(systemd)
        assert "READY=1" in heard and "WATCHDOG=1" in heard, heard

        # Who may ask for what.
        assert [service.ask("/hsm/status", bearer=bearer)[0] for bearer in (None, "", f"{BEARER}x", "é")] == [401] * 4
        slot = service.slots()["payments"]
        assert slot["accessible"] is slot["healthy"] is True and slot["probe"] == "AES_ECB"
        # No request reaches the HSM.
        before = len(calls(hsm))
        answers += [
            service.ask(path, bearer=BEARER)[1] for path in ("/hsm/status", "/metrics", "/health", "/nothing") for _turn in range(10)
        ]
        assert len(calls(hsm)) == before > 0

        # Away and back.
        (hsm.scratch / "tokens").rename(hsm.scratch / "away")
        service.probe()
        assert service.ask("/health") == (500, "")
        gone = service.slots()["payments"]
        assert gone["accessible"] is gone["healthy"] is False and gone["slot_id"] == slot["slot_id"], gone
        assert service.metric("keyfleet_token_up") == service.metric("keyfleet_healthy") == [0.0]
        (hsm.scratch / "away").rename(hsm.scratch / "tokens")
        service.probe()
        assert service.health == 204

        # A client's wrong PIN stops our logins, and is no fault of the device. Its next good login is the end of that.
        with pytest.raises(AssertionError, match="CKR_PIN_INCORRECT"):
            hsm.tool("--list-objects", pin=WRONG)
        service.probe()
        low = service.slots()["payments"]
        assert (low["accessible"], low["code"], low["healthy"]) == (False, "pin_count_low", True)
        assert service.health == 204 and service.metric("keyfleet_token_up") == [0.0]
        hsm.tool("--list-objects")
        service.probe()
        assert service.slots()["payments"]["accessible"] is True

        # A device error, and the library anew behind it. A configuration that is wrong changes nothing.
        service.write(instances=[logged(hsm, library, str(hsm.scratch / "pin"), "C_GenerateKey:1:before=0x30:on")])
        service.probe()
        fault = service.slots()["payments"]
        assert (fault["code"], fault["device_fault"]) == ("CKR_DEVICE_ERROR", True) and service.health == 500
        states = told(systemd)  # a socket keeps few that nobody reads
        service.write(instances=[logged(hsm, library, str(hsm.scratch / "pin")), {"name": "primary"}], probe={"interval": "soon", "a": 1})
        service.reload()
        service.wait(lambda: service.log.count("not reloaded: ") == 3)
        assert service.health == 500
        # Nor does a port that somebody else has. Once it is free, a reload takes it.
        listening = service.addresses()
        with closing(socket.create_server(("127.0.0.1", 0))) as taken:
            port = taken.getsockname()[1]
            service.write(instances=[logged(hsm, library, str(hsm.scratch / "pin"))], probe={"interval": "1h"})
            service.write(http={"listen": [f"127.0.0.1:{port}"]})
            service.reload()
            service.wait(lambda: "in use" in service.log)
            assert service.addresses() == listening and service.health == 500
        service.reload()
        service.wait(lambda: service.addresses() == [*listening, ("http", port)] and service.health == 204)
        # The role sees by it which configuration is in force.
        digest = sha256((service.folder / "gateway.toml").read_bytes()).hexdigest()[:12]
        in_force = f"STATUS=Probing 1 instances by configuration {digest}"
        service.wait(lambda: states.extend(told(systemd)) or in_force in states)
        assert {"RELOADING=1", "READY=1"} <= set(states)
        failed = [state for state in states if state.endswith("; the last reload failed, see the journal")]
        assert len(failed) == 2 and digest not in "".join(failed), states

        answers += [service.ask("/hsm/status", bearer=BEARER)[1], service.ask("/metrics")[1]]
        # Short enough for the service to read all of it, so that its answer arrives.
        answer = service.raw(b"GET /health HTTP/1.1\r\nHost: a\r\nX: " + BEARER.encode() * 300 + b"\r\n\r\n", waits=True)
        assert answer.endswith(b"\r\n\r\nBad Request"), answer
        for data in (
            b"\x16\x03\x01\x02\x00",
            b"GET /health HTTP/1.1\r\nHost: a\r\nX: " + BEARER.encode() * 1000 + b"\r\n\r\n",
            b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
            b"GET /hsm/status HTTP/1.1\r\nAuthorization: Bearer " + BEARER.encode() + b"\r\n bad\x00: header\r\n\r\n",
            b"POST /health HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n" + b"x" * 100_000,
            b"GET /../../etc/passwd HTTP/1.1\r\nHost: a\r\n\r\n",
            f"GET /hsm/status?{PIN} HTTP/9.9\r\n\r\n".encode(),
        ):
            answer = service.raw(data)
            assert b" 200 " not in answer.partition(b"\r\n")[0] and BEARER.encode() not in answer, answer
        assert service.health == 204
        process = service._process
        assert process is not None and service.stop() == 0
        assert children_of(process.pid) == [] and "STOPPING=1" in told(systemd)
    everything = "\n".join([*answers, service.log])
    assert [canary for canary in (PIN, WRONG, BEARER) if canary in everything] == []


def test_refused_pin_is_tried_once_until_its_file_changes(hsm: Hsm, library: str, started: list[Health]) -> None:
    """The PIN is a credential of systemd's, whose copy is another file at each start."""
    make_token(hsm)
    origin = hsm.scratch / "origin"
    secret(origin, WRONG)
    service = health(hsm.scratch, [logged(hsm, library, "credential:pin")], credentials={"pin": str(origin)})
    given = hsm.scratch / "credentials"
    given.mkdir()
    service.environment = {"CREDENTIALS_DIRECTORY": str(given), "RUNTIME_DIRECTORY": str(hsm.scratch)}
    started.append(service)

    def restart() -> None:
        """As the unit does it."""
        (given / "pin").unlink(missing_ok=True)
        secret(given / "pin", origin.read_text().strip())
        written = service.once("--write-origins", str(hsm.scratch))
        assert written.returncode == 0, written.stderr
        service.start()
        service.wait(service.probes)

    service.write()
    refused = service.once()
    assert refused.returncode == 2 and "nobody looked at its file" in refused.stderr

    seen = []
    for _start in range(3):
        restart()
        seen.append(service.slots()["payments"]["code"])
        # So does a good login of somebody else: then the flags say nothing any more, and the memory alone is left.
        hsm.tool("--list-objects")
        for _turn in range(2):
            service.probe()
            seen.append(service.slots()["payments"]["code"])
        assert service.health == 500
        assert service.stop() == 0
    assert seen == ["pin_incorrect", *["pin_not_tried"] * 8] and calls(hsm).count("C_Login") == 1

    # Another PIN is tried, though the flag of the first try may still be there.
    secret(origin, WRONG + "2")
    restart()
    assert service.slots()["payments"]["code"] == "pin_incorrect" and calls(hsm).count("C_Login") == 2
    assert service.stop() == 0
    secret(origin, PIN)
    restart()
    assert service.slots()["payments"]["accessible"] is True and service.health == 204
    assert WRONG not in service.log


def test_hang_costs_its_own_instance_its_deadline(hsm: Hsm, tmp_path: Path, library: str, started: list[Health]) -> None:
    make_token(hsm)
    make_token(hsm, "other")
    pin_file = secret(hsm.scratch / "pin", PIN)
    good = instance("good", hsm.scratch, {"label": "other", "pin_file": pin_file})
    hanging = logged(hsm, library, pin_file, "C_GenerateKey:1:hang", "hanging")
    service = health(hsm.scratch, [hanging, good], probe={"interval": "1s", "timeout": "3s"})
    started.append(service)
    service.start()
    service.wait(lambda: service.slots()["other"]["accessible"] and not service.slots()["payments"]["healthy"])
    service.wait(lambda: service.slots()["payments"]["code"] == "probe_timeout")
    # However long the machine takes: the other one goes on.
    service.wait(lambda: dict(zip(("hanging", "good"), service.metric("keyfleet_probes_total"), strict=True))["good"] >= 2)
    assert service.slots()["other"]["healthy"] is True and service.health == 500
    assert service.stop() == 0
    assert subprocess.run(["pgrep", "-f", str(tmp_path)], capture_output=True, text=True, check=False).stdout == ""


def test_program_checks_its_configuration(hsm: Hsm) -> None:
    service = health(hsm.scratch, [])
    service.write(http={"listen": ["8080"]}, surprise=1)
    checked = service.once("--check")
    assert checked.returncode == 2
    assert [line.partition(":")[0] for line in checked.stderr.splitlines()] == ["surprise", "instances", "http.listen"]
    assert os.listdir(hsm.scratch / "state") == []


def test_tls_and_client_certificates_page_and_groups(hsm: Hsm, started: list[Health]) -> None:
    hsm.register(tokens=[hsm.token(), hsm.token("spare")])
    members = [{"instance": "primary", "token_label": label} for label in ("payments", "spare")]
    ok(hsm.run("hsm_group", name="cards", connections=members))
    ok(hsm.keys({"label": "card", "type": "AES", "size": 256}, {"label": "pin", "type": "AES", "size": 256}, instance=None, group="cards"))
    ours, other = Authority(hsm.scratch, "ours"), Authority(hsm.scratch, "other")
    server, key = ours.issue("localhost")
    p12 = hsm.scratch / "server.p12"
    p12.write_bytes(pkcs12.serialize_key_and_certificates(b"gateway", key, server, None, NoEncryption()))
    https = {"listen": ["127.0.0.1:0"], "certificate": str(p12), "client_ca": str(ours.file), "client_names": ["monitor"]}
    https["client_crl"] = str(ours.revoked())
    (hsm.scratch / "web.der").write_bytes(ours.issue("web")[0].public_bytes(Encoding.DER))
    hsm.tool("--write-object", str(hsm.scratch / "web.der"), "--type", "cert", "--label", "web", "--id", "01")
    tokens = [{"label": label, "pin_file": secret(hsm.scratch / "pin", PIN)} for label in ("payments", "spare")]
    service = health(hsm.scratch, [instance("primary", hsm.scratch, *tokens)], https=https, registry=hsm.registry)
    started.append(service)
    service.start()
    service.wait(service.probes)

    trusted = trusting(ours)  # the name is checked, too
    assert service.ask("/health", context=trusted)[0] == 204
    assert service.ask("/hsm/status", context=trusted)[0] == 401
    assert service.ask("/hsm/status", context=trusted, bearer=BEARER)[0] == 200
    assert service.ask("/hsm/status", context=ours.client("monitor"))[0] == 200
    assert service.ask("/hsm/status", context=ours.client("somebody"))[0] == 401
    with pytest.raises((ssl.SSLError, ConnectionError)):
        service.ask("/health", context=other.client("monitor"))
    with pytest.raises(ssl.SSLCertVerificationError):
        service.ask("/health", context=trusting(other))
    assert [9 < days < 10 for days in service.metric(r"keyfleet(?:_tls)?_certificate_days_left")] == [True, True]

    # Both keys were made on the first member only. The page says so, to those who may know it.
    service.wait(lambda: service.metric("keyfleet_group_member_read"))
    assert service.metric("keyfleet_group_member_disagreements") == [0.0, 2.0]
    status, page = service.ask("/", context=ours.client("monitor"))
    assert status == 200 and "disagree on 2 keys" in page and "Keys that differ: <bdi>card, pin</bdi>" in page and "2 active" in page
    status, page = service.ask("/", context=ours.client("somebody"))
    assert status == 200 and "Healthy" in page and "payments" not in page and "primary" not in page

    # A renewed certificate is taken at a reload, and so is a list with the client's. The listeners stay open.
    revoked = ours.client("monitor")
    assert service.ask("/hsm/status", context=revoked)[0] == 200
    ours.revoked("monitor")
    renewed, key = other.issue("localhost")
    p12.write_bytes(pkcs12.serialize_key_and_certificates(b"gateway", key, renewed, None, NoEncryption()))
    service.probe()
    assert service.ask("/health", context=trusting(other))[0] == 204 and len(service.addresses()) == 2
    with pytest.raises((ssl.SSLError, ConnectionError)):
        service.ask("/hsm/status", context=revoked)
    assert service.stop() == 0 and "Traceback" not in service.log, service.log


def test_slow_and_many_clients_are_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "PATIENCE", 0.5)
    monkeypatch.setattr(connections, "MOST", 3)

    async def hello(request: web.Request) -> web.Response:
        connections.served(request)
        return web.Response(text="hello")

    async def closed_after(reader: asyncio.StreamReader) -> float:
        begun = time.monotonic()
        with suppress(ConnectionError):
            while await reader.read(1024):
                pass
        return time.monotonic() - begun

    async def scene() -> None:
        runner = web.ServerRunner(web.Server(hello), **connections.LIMITS)
        await runner.setup()
        assert runner.server is not None
        (listening,) = await connections.bind("127.0.0.1", 0)
        server = connections.Listener(listening, runner.server, None)
        port = server.address[1]
        opened = [await asyncio.open_connection("127.0.0.1", port) for _client in range(4)]
        # The last of four is one too many, and one that sends a byte now and then gets no more time for it.
        assert await closed_after(opened[3][0]) < 0.3
        slow_reader, slow_writer = opened[0]
        ending = asyncio.create_task(closed_after(slow_reader))
        for byte in (b"G", b"E", b"T", b" "):
            slow_writer.write(byte)
            await asyncio.sleep(0.05)
        # One that asks again and again is served as long as it likes.
        reader, writer = opened[1]
        for _request in range(5):
            writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert b"hello" in await reader.readuntil(b"hello")
            await asyncio.sleep(0.2)
        assert ending.done() and 0.3 < ending.result() < 1
        for _reader, writer in opened:
            writer.close()
        server.close()
        await runner.cleanup()

    asyncio.run(scene())
