# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A TEST DOUBLE of the Eviden (formerly Cosmian) KMS server. It keeps no key and speaks to no HSM.

It reads its configuration as the server does and answers the requests that tests of the roles make. Every silence of
the server is here as well: ../README.md lists what is documented and what is this double's own choice.

GET /health        200 or 503 with JSON. It looks at the database and at nothing else.
GET /hsm/status    The HSMs. ``accessible`` is as untruthful as the server's. Once an authentication is configured it
                   takes ``Authorization: Bearer keyfleet-double-token``, and answers 401 without.
GET /double/state  Not the server's: what this process was started with, for tests. ``?write=/a/folder`` tries to write
                   in that folder, ``?read=/a/file`` to read that file or device, both from within the unit's sandbox.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sqlite3
import ssl
import sys
import tempfile
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import tomllib

DEFAULT_CONFIG = Path("/etc/cosmian/kms.toml")
TOKEN = "keyfleet-double-token"
NO_LOGIN = "<NO_LOGIN>"
DEFAULT_DATABASE = "cosmian-kms"  # below the unit's working folder

# One library for a model and process, from the environment.
LIBRARIES = {
    "utimaco": ("UTIMACO_PKCS11_LIB", "/lib/libcs_pkcs11_R3.so"),
    "proteccio": ("PROTECCIO_PKCS11_LIB", "/lib/libnethsm.so"),
    "crypt2pay": ("CRYPT2PAY_PKCS11_LIB", "/lib/libpkcs11c2p.so"),
    "smartcardhsm": ("SMARTCARDHSM_PKCS11_LIB", "/usr/local/lib/libsc-hsm-pkcs11.so"),
    "softhsm2": ("SOFTHSM2_PKCS11_LIB", "/usr/lib/softhsm/libsofthsm2.so"),
    "other": ("OTHER_HSM_PKCS11_LIB", "/lib/libkmshsm.so"),
}

# The keys of an HSM, and the type of each. The flat form has the same ones at the top level.
HSM_KEYS = {"hsm_model": str, "hsm_admin": list, "hsm_slot": list, "hsm_password": list}
ELEMENTS = {"hsm_admin": str, "hsm_slot": int, "hsm_password": str}

# Tables of which all keys are documented. Those of the other tables are taken unseen.
TABLES = {
    "db": {"database_type", "database_url", "sqlite_path", "clear_database", "max_connections"},
    "tls": {
        "tls_cert_file",
        "tls_key_file",
        "tls_chain_file",
        "clients_ca_cert_file",
        "tls_cipher_suites",
        "tls_p12_file",
        "tls_p12_password",
    },
    "http": {"port", "hostname", "api_token_id", "rate_limit_per_second", "cors_allowed_origins", "http_workers"},
    "socket_server": {"socket_server_start", "socket_server_port", "socket_server_hostname"},
    "idp_auth": {"jwt_auth_provider"},
    "workspace": {"root_data_path", "tmp_path"},
}

OTHER_TABLES = (
    "proxy",
    "logging",
    "ui_config",
    "google_cse_config",
    "azure_ekm_config",
    "aws_xks_config",
    "kmip.allowlists",
    "jwks_endpoint",
    "auth_verifier",
    "vault",
)
# Optional values at the top level, as version 5.26 prints them.
PRINTED = ("ms_dke_service_url", "kms_public_url", "key_encryption_key", "default_unwrap_type", "privileged_users")


class ConfigError(Exception):
    """The server does not start with this. The text never holds what stands where a password may stand."""


def config_path(given: str | None) -> Path | None:
    """-c, then COSMIAN_KMS_CONF, then the usual file. None where there is no file: the defaults hold."""
    named = given or os.environ.get("COSMIAN_KMS_CONF")
    if named:
        if not Path(named).is_file():
            raise ConfigError(f"configuration file {named} does not exist")
        return Path(named)
    return DEFAULT_CONFIG if DEFAULT_CONFIG.is_file() else None


def read_config(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from None


def checked(config: dict[str, Any]) -> dict[str, Any]:
    """What the server knows of the file. An unknown name at the top level is dropped without a word."""
    for name, keys in TABLES.items():
        table = config.get(name, {})
        if not isinstance(table, dict):
            raise ConfigError(f"{name}: expected a table")
        for key in table:
            if key not in keys and not (name == "db" and key.startswith("unwrapped_cache_")):
                raise ConfigError(f"unknown field `{key}` in table `{name}`")
    http = config.get("http", {})
    if not _is(http.get("port", 0), int) or not _is(http.get("hostname", ""), str):
        raise ConfigError("http: port must be a number and hostname a string")
    _check_hsm({key: config[key] for key in HSM_KEYS if key in config}, "")
    entries = config.get("hsm_instances", [])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ConfigError("hsm_instances: expected an array of tables")
    for index, entry in enumerate(entries):
        where = f"hsm_instances[{index}]."
        for key in entry:
            if key not in HSM_KEYS:
                raise ConfigError(f"unknown field `{key}` in `{where[:-1]}`")
        if "hsm_model" not in entry:
            raise ConfigError(f"{where}hsm_model: missing field")
        _check_hsm(entry, where)
    return config


def _check_hsm(entry: dict[str, Any], where: str) -> None:
    for key, value in entry.items():
        if not isinstance(value, HSM_KEYS[key]):
            raise ConfigError(f"{where}{key}: invalid type, expected a {'sequence' if HSM_KEYS[key] is list else 'string'}")
        for element in value if isinstance(value, list) else []:
            if not _is(element, ELEMENTS[key]) or (key == "hsm_slot" and element < 0):
                raise ConfigError(f"{where}{key}: invalid type of an element, expected {ELEMENTS[key].__name__}")


def _is(value: Any, kind: type) -> bool:
    """Python takes a boolean for a number, the server does not."""
    return isinstance(value, kind) and not isinstance(value, bool)


def hsms(config: dict[str, Any]) -> list[dict[str, Any]]:
    """The HSMs as the server has them: the flat keys and the array together, and each with its prefix."""
    found: list[dict[str, Any]] = []
    if config.get("hsm_slot"):
        # Without a model it is an empty one, which libraries() refuses.
        found.append({"prefix": "hsm", **_hsm({"hsm_model": "", **config})})
    seen: dict[str, int] = {}
    for entry in config.get("hsm_instances", []):
        if not entry.get("hsm_slot"):
            continue
        model = entry["hsm_model"].lower()
        number = seen.get(model, 0)
        seen[model] = number + 1
        found.append({"prefix": f"hsm::{model}_{number}" if number else f"hsm::{model}", **_hsm(entry)})
    return found


def _hsm(entry: dict[str, Any]) -> dict[str, Any]:
    # Slots without a password drop out here, and of a slot that is named twice the last one stays.
    slots = dict(zip(entry["hsm_slot"], entry.get("hsm_password", []), strict=False))
    return {"model": entry["hsm_model"], "admins": entry.get("hsm_admin", []), "passwords": slots}


def libraries(found: list[dict[str, Any]]) -> dict[str, str]:
    """The library of each model that is used. None is loaded; that each is there is all that the start asks for."""
    used: dict[str, str] = {}
    for hsm in found:
        model = hsm["model"]
        if model not in LIBRARIES:
            raise ConfigError(f"unsupported HSM model '{model}'")
        variable, default = LIBRARIES[model]
        path = os.environ.get(variable) or default
        if not Path(path).is_file():
            raise ConfigError(f"cannot load the PKCS#11 library {path} of model {model} (environment variable {variable})")
        used[model] = path
    return used


class Database:
    """SQLite in a folder of its own. Of another database this double has no client, and calls it healthy."""

    def __init__(self, config: dict[str, Any]) -> None:
        table = config.get("db", {})
        self.kind = table.get("database_type", "sqlite")
        self._file = Path(table.get("sqlite_path") or DEFAULT_DATABASE).absolute() / "kms.db"
        if self.kind == "sqlite":
            try:
                self._file.parent.mkdir(parents=True, exist_ok=True)
                sqlite3.connect(self._file).execute("CREATE TABLE IF NOT EXISTS double (entry TEXT)").connection.close()
            except (OSError, sqlite3.Error) as error:
                raise ConfigError(f"cannot open the database {self._file}: {error}") from None

    def problem(self) -> str | None:
        if self.kind != "sqlite":
            return None
        try:
            sqlite3.connect(f"{self._file.as_uri()}?mode=rw", uri=True).execute("SELECT 1 FROM double").connection.close()
        except sqlite3.Error as error:
            return str(error)
        return None


class Server(ThreadingHTTPServer):
    """The process: what it was started with stays, whatever becomes of the file."""

    daemon_threads = True

    def __init__(self, config: dict[str, Any], path: Path | None) -> None:
        self.path = path
        self.hsms = hsms(config)
        self.libraries = libraries(self.hsms)
        self.database = Database(config)
        http, tls = config.get("http", {}), config.get("tls", {})
        self.client_certificates = bool(tls.get("clients_ca_cert_file"))
        self.authenticates = bool(
            http.get("api_token_id")
            or config.get("idp_auth", {}).get("jwt_auth_provider")
            or config.get("auth_verifier")
            or self.client_certificates
        )
        self.started = time.time()
        if tls.get("tls_p12_file"):
            raise ConfigError("tls_p12_file: this double takes tls_cert_file and tls_key_file only")
        try:
            # The server listens on every address unless it is told otherwise.
            super().__init__((http.get("hostname", ""), http.get("port", 9998)), Handler)
            if tls.get("tls_cert_file"):
                self.socket = _tls(tls).wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        except (OSError, OverflowError) as error:
            raise ConfigError(f"cannot listen: {error}") from None

    def handle_error(self, request: Any, client_address: Any) -> None:
        print(f"a request failed: {sys.exc_info()[1]!r}", file=sys.stderr, flush=True)


def _tls(table: dict[str, Any]) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(table["tls_cert_file"], table.get("tls_key_file"))
    if table.get("clients_ca_cert_file"):
        context.verify_mode = ssl.CERT_OPTIONAL
        context.load_verify_locations(table["clients_ca_cert_file"])
    return context


class Handler(BaseHTTPRequestHandler):
    server: Server
    timeout = 10

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if url.path == "/health":
            self._health()
        elif url.path == "/hsm/status":
            self._status()
        elif url.path == "/double/state":
            self._state(parse_qs(url.query))
        else:
            self._answer(404, "text/plain", "not found")

    def _health(self) -> None:
        problem = self.server.database.problem()
        status = "DOWN" if problem else "UP"
        database = {"name": self.server.database.kind, "status": status, **({"message": problem} if problem else {})}
        self._json(503 if problem else 200, {"status": status, "latency_ms": 0, "dependencies": {"database": database}})

    def _status(self) -> None:
        if self.server.authenticates and not self._authenticated():
            self._answer(401, "text/plain", "Unauthorized")
            return
        answer = []
        for hsm in self.server.hsms:
            slots = [{"slot_id": slot, "accessible": password != NO_LOGIN} for slot, password in hsm["passwords"].items()]
            random.shuffle(slots)
            answer.append({"prefix": hsm["prefix"], "model": hsm["model"], "slots": slots})
        self._json(200, answer)

    def _authenticated(self) -> bool:
        if self.server.client_certificates and isinstance(self.connection, ssl.SSLSocket) and self.connection.getpeercert():
            return True
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def _state(self, query: dict[str, list[str]]) -> None:
        self._json(
            200,
            {
                "pid": os.getpid(),
                "started": self.server.started,
                "config": str(self.server.path) if self.server.path else None,
                "libraries": self.server.libraries,
                "hsms": [
                    {"prefix": hsm["prefix"], "model": hsm["model"], "admins": hsm["admins"], "slots": sorted(hsm["passwords"])}
                    for hsm in self.server.hsms
                ],
                "environment": {name: os.environ[name] for name, default in LIBRARIES.values() if name in os.environ},
                "write": {folder: _outcome(_write, folder) for folder in query.get("write", [])},
                "read": {file: _outcome(_read, file) for file in query.get("read", [])},
            },
        )

    def _json(self, status: int, value: Any) -> None:
        self._answer(status, "application/json", json.dumps(value))

    def _answer(self, status: int, kind: str, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """The journal holds what went wrong at the start, and no line for each request."""


def _write(folder: str) -> None:
    with tempfile.TemporaryFile(dir=folder):
        pass


def _read(file: str) -> None:
    with open(file, "rb") as opened:
        opened.read(1)


def _outcome(attempt: Any, path: str) -> str:
    try:
        attempt(path)
    except OSError as error:
        return error.strerror or str(error)
    return "ok"


def default_config() -> str:
    """As the server prints it: what is optional is a comment, and some values are left out."""
    lines = ['default_username = "admin"', "force_default_username = false", "info = false"]
    lines += [f'# {name} = ""' for name in PRINTED]
    lines += ["## [[hsm_instances]]", '## hsm_model = "softhsm2"']
    for table, keys in {**TABLES, **dict.fromkeys(OTHER_TABLES, ())}.items():
        lines += [f"\n[{table}]", *(f'# {key} = ""' for key in sorted(keys))]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description="TEST DOUBLE of the Eviden KMS server")
    parser.add_argument("-c", "--config", metavar="FILE")
    parser.add_argument("--print-default-config", action="store_true")
    given = parser.parse_args()
    if given.print_default_config:
        print(default_config())
        return 0
    try:
        path = config_path(given.config)
        server = Server(checked(read_config(path)), path)
    except ConfigError as error:
        print(f"cosmian_kms (test double): {error}", file=sys.stderr)
        return 1
    print(f"cosmian_kms (test double): listening on {server.server_address[0]}:{server.server_port}", file=sys.stderr, flush=True)
    server.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
