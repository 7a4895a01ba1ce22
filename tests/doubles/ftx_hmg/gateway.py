# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A TEST DOUBLE of the Fortanix HSM gateway. It speaks to no HSM, and only shakes hands where the gateway would serve.

Its settings come from the environment, that is from /etc/default/ftx-hmg: CERT_FILE, HMG_LISTEN_PORT, PKCS11_LIB_PATH.
../README.md lists what is documented and what is this double's own choice.

4442 (HMG_LISTEN_PORT)  TLS with the certificate of CERT_FILE. After the handshake one line with the name of the host.
4441 (HTTP), 4440 (HTTPS)  GET /health: 204 or 500, without a body. 500 as long as the file of PKCS11_LIB_PATH is gone or
                        /run/ftx-hmg/unhealthy exists; that file is a knob for tests.

For tests that start it without its unit: FTX_DOUBLE_HTTP_PORT, FTX_DOUBLE_HTTPS_PORT and FTX_DOUBLE_UNHEALTHY stand in
for the two ports and for that file.
"""

from __future__ import annotations

import os
import socket
import socketserver
import ssl
import subprocess
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class StartError(Exception):
    """The gateway ends at once with this."""


def setting(name: str, default: str = "") -> str:
    return os.environ.get(name) or default


def port(name: str, default: int) -> int:
    text = setting(name, str(default))
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < 65536:
        raise StartError(f"{name} is no port: {text}")
    return int(text)


def library() -> Path:
    path = setting("PKCS11_LIB_PATH")
    if not path:
        raise StartError("PKCS11_LIB_PATH is not set")
    if not Path(path).is_file():
        raise StartError(f"cannot load the PKCS#11 library {path}")
    return Path(path)


def certificate(path: str) -> ssl.SSLContext:
    """The P12 file is opened with an empty password and with nothing else: one that has a password ends the start."""
    done = subprocess.run(
        ["/usr/bin/openssl", "pkcs12", "-in", path, "-passin", "pass:", "-nodes"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    if done.returncode:
        raise StartError(f"cannot open the P12 file {path}: {done.stderr.decode(errors='replace').strip()}")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    # Python takes keys from files only. This one is its owner's, and is gone right after.
    with tempfile.NamedTemporaryFile() as pem:
        pem.write(done.stdout)
        pem.flush()
        try:
            context.load_cert_chain(pem.name)
        except ssl.SSLError as error:
            raise StartError(f"the P12 file {path} does not hold a key with its certificate: {error}") from None
    return context


class Listener(socketserver.ThreadingTCPServer):
    """Port 4442. What the gateway says there is not public."""

    allow_reuse_address = True
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that only knocks, as a load balancer does, is no event."""


class Greeting(socketserver.StreamRequestHandler):
    timeout = 10

    def handle(self) -> None:
        self.wfile.write(f"{socket.gethostname()}\n".encode())


class HealthServer(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """As above."""


class Health(BaseHTTPRequestHandler):
    timeout = 10

    def do_GET(self) -> None:
        if self.path != "/health":
            self._answer(404)
        elif not Path(setting("PKCS11_LIB_PATH")).is_file() or Path(setting("FTX_DOUBLE_UNHEALTHY", "/run/ftx-hmg/unhealthy")).exists():
            self._answer(500)
        else:
            self._answer(204)

    def _answer(self, status: int) -> None:
        self.send_response(status)
        if status != 204:
            self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """No line for each request."""


def secured(server: socketserver.TCPServer, context: ssl.SSLContext) -> socketserver.TCPServer:
    # The handshake is left to the thread of the connection, so that a silent client holds up nobody else.
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    return server


def main() -> int:
    try:
        used = library()
        context = certificate(setting("CERT_FILE", "/etc/fortanix/pki/cert.p12"))
        try:
            servers = [
                secured(Listener(("", port("HMG_LISTEN_PORT", 4442)), Greeting), context),
                secured(HealthServer(("", port("FTX_DOUBLE_HTTPS_PORT", 4440)), Health), context),
                HealthServer(("", port("FTX_DOUBLE_HTTP_PORT", 4441)), Health),
            ]
        except OSError as error:
            raise StartError(f"cannot listen: {error}") from None
    except StartError as error:
        print(f"ftx-hmg (test double): {error}", file=sys.stderr)
        return 1
    print(f"ftx-hmg (test double): serving with {used}, on port {servers[0].server_address[1]}", file=sys.stderr, flush=True)
    for server in servers[1:]:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    servers[0].serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
