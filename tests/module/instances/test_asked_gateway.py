# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""hsm_status asks a server over HTTPS, one that answers well and one that does all it can to be mistaken or to get at the token."""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from hsm_fixture import Hsm, ok

TOKEN = "canary-Kx7391qZ5520"
Answer = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    """Answers each path as the server's ``pages`` have it."""

    server: Server

    def do_GET(self) -> None:
        self.server.seen.append((self.path, self.headers.get("Authorization")))
        self.server.pages[self.path](self)

    def log_message(self, *_args: Any) -> None:
        """Nothing to the tests' output."""

    def say(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.pages: dict[str, Answer] = {"/health": page(204)}
        self.seen: list[tuple[str, str | None]] = []

    def handle_error(self, *_args: Any) -> None:
        """A client that hangs up is no error here."""

    @property
    def place(self) -> str:
        return f"127.0.0.1:{self.server_port}"


@contextmanager
def serving(context: ssl.SSLContext | None = None) -> Iterator[Server]:
    server = Server()
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def page(status: int, body: bytes = b"", **headers: str) -> Answer:
    return lambda handler: handler.say(status, body, **headers)


def dripping(handler: Handler) -> None:
    """A byte at a time, so that no single wait is long."""
    handler.send_response(200)
    handler.end_headers()
    for _blank in range(100):
        handler.wfile.write(b" ")
        handler.wfile.flush()
        time.sleep(0.1)


def garbage(handler: Handler) -> None:
    handler.wfile.write(f"{handler.headers.get('Authorization')}\x1b[2J\r\n".encode())


def write_pair(folder: Path, name: str) -> None:
    """``name.pem`` with a key and its self-signed certificate for 127.0.0.1, and ``name.crt`` with the certificate alone."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(timezone.utc)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(subject).serial_number(x509.random_serial_number())
    builder = builder.public_key(key.public_key()).not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    certificate = builder.sign(key, SHA256()).public_bytes(Encoding.PEM)
    (folder / f"{name}.crt").write_bytes(certificate)
    (folder / f"{name}.pem").write_bytes(certificate + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    for name in ("server", "client", "stranger"):
        write_pair(tmp_path, name)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.pem")
    context.load_verify_locations(tmp_path / "client.crt")
    context.verify_mode = ssl.CERT_OPTIONAL
    with serving(context) as server:
        yield server


def ask(hsm: Hsm, server: Server, **options: Any) -> dict[str, Any]:
    """The whole answer, with ``gateway`` checked for what must never be in it."""
    given = {"gateway_url": f"https://{server.place}", "gateway_ca_path": str(hsm.scratch / "server.crt"), "timeout": 20, "probe": "login"}
    answer = hsm.run("hsm_status", **{**given, **options})
    assert TOKEN not in answer["_raw"]
    return answer


def test_what_a_gateway_says_against_the_probe(primary: Hsm, server: Server) -> None:
    slot = primary.register()["tokens"][0]["slot"]
    said = [{"prefix": "hsm::softhsm2", "model": "softhsm2", "slots": [{"slot_id": slot, "accessible": True, "error": "x"}], "more": 1}]
    server.pages["/hsm/status"] = lambda handler: handler.say(200, json.dumps(said).encode())
    file = primary.scratch / "token"
    file.write_text(f"{TOKEN}\n")
    file.chmod(0o600)
    gateway = ok(ask(primary, server, gateway_token_file=str(file), require="all"))["gateway"]
    told = [{"prefix": "hsm::softhsm2", "model": "softhsm2", "slots": [{"slot_id": slot, "accessible": True}]}]
    assert (gateway["health"], gateway["status"], gateway["differences"], gateway["error"]) == (204, told, [], None)
    # The token goes only where it is wanted.
    assert server.seen == [("/health", None), ("/hsm/status", f"Bearer {TOKEN}")]
    # The token is gone: what the gateway says is old.
    (primary.scratch / "tokens").rename(primary.scratch / "away")
    (primary.scratch / "tokens").mkdir()
    differs = ok(ask(primary, server, gateway_token=TOKEN))["gateway"]["differences"]
    assert [(one["prefix"], one["server"], one["probe"]) for one in differs] == [("hsm::softhsm2", True, False), (None, True, False)]
    assert "the server calls it accessible; the probe failed: no token answers" in differs[0]["why"]
    failed = ask(primary, server, require="all")
    assert failed["failure"]["code"] == "not_healthy" and "the gateway differs" in failed["msg"]
    assert ok(primary.run("hsm_status_info", gateway_url="https://127.0.0.1:1"))["gateway"]["code"] == "gateway_unreachable"


@pytest.mark.parametrize(
    ("answer", "code", "words"),
    [
        (page(401), "gateway_refused", "is not accepted"),
        (page(404, b"[]"), "gateway_invalid", "answers 404"),
        (page(200, b"<html>"), "gateway_invalid", "not JSON"),
        (page(200, b"[" * 100_000), "gateway_invalid", "not JSON"),
        (page(200, b" " * 1_048_577), "gateway_invalid", "more than"),
        (page(200, b'[{"prefix": "hsm::a", "slots": [{"slot_id": 1}]}]'), "gateway_invalid", "no model"),
        (page(200, json.dumps([{"prefix": TOKEN}]).encode()), "gateway_invalid", "repeats the token"),
        (dripping, "gateway_unreachable", "within 2 seconds"),
        (garbage, "gateway_unreachable", "BadStatusLine"),
    ],
    ids=["401", "404", "html", "deep", "huge", "shape", "echo", "slow", "garbage"],
)
def test_no_bad_answer_is_taken_for_a_status(hsm: Hsm, server: Server, answer: Answer, code: str, words: str) -> None:
    server.pages["/hsm/status"] = answer
    begun = time.monotonic()
    told = ok(ask(hsm, server, instances=[], gateway_token=TOKEN, **({"timeout": 2} if answer is dripping else {})))["gateway"]
    assert (told["code"], told["status"], told["differences"]) == (code, None, []) and words in told["error"]
    assert told["error"].isprintable() and time.monotonic() - begun < 5


def test_a_token_goes_to_no_other_host(hsm: Hsm, server: Server) -> None:
    with serving() as other:
        other.pages["/hsm/status"] = page(200, b"[]")
        server.pages["/hsm/status"] = page(302, Location=f"http://{other.place}/hsm/status")
        told = ok(ask(hsm, server, instances=[], gateway_token=TOKEN))["gateway"]
        assert told["code"] == "gateway_invalid" and "a redirect is not followed" in told["error"] and other.seen == []
    # Nor to one that is not what it says it is.
    server.seen.clear()
    told = ok(ask(hsm, server, instances=[], gateway_token=TOKEN, gateway_ca_path=str(hsm.scratch / "client.crt")))["gateway"]
    assert told["code"] == "gateway_unreachable" and told["health"] is None and server.seen == []


def test_a_client_certificate(hsm: Hsm, server: Server) -> None:
    def known(handler: Handler) -> None:
        connection: Any = handler.connection
        handler.say(200 if connection.getpeercert() else 401, b"[]")

    server.pages["/hsm/status"] = known
    assert ok(ask(hsm, server, instances=[]))["gateway"]["code"] == "gateway_refused"
    mine = {"gateway_client_cert": str(hsm.scratch / "client.pem")}
    assert ok(ask(hsm, server, instances=[], **mine))["gateway"]["status"] == []
    other = {"gateway_client_cert": str(hsm.scratch / "stranger.pem")}
    assert ok(ask(hsm, server, instances=[], **other))["gateway"]["code"] == "gateway_unreachable"


def test_a_token_file_that_others_can_read_is_not_used(hsm: Hsm, server: Server) -> None:
    file = hsm.scratch / "token"
    for text, mode, words in ((TOKEN, 0o644, "mode 0644"), (f"{TOKEN}\nX-Other: 1", 0o600, "a character that no token has")):
        file.write_text(text)
        file.chmod(mode)
        told = ok(ask(hsm, server, instances=[], gateway_token_file=str(file)))["gateway"]
        assert told["code"] == "gateway_token_unusable" and words in told["error"]
    assert server.seen == []


def test_a_password_in_the_address_is_not_shown(hsm: Hsm, server: Server) -> None:
    answer = ask(hsm, server, instances=[], gateway_url=f"https://me:{TOKEN}@{server.place}")
    assert answer["failure"]["code"] == "invalid_input" and "has a user or a password in it" in answer["msg"] and server.seen == []
