# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The doubles of the vendor packages have the traps that the vendors document: as packages, and as processes without a unit."""

from __future__ import annotations

import http.client
import importlib.util
import json
import os
import socket
import ssl
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

DOUBLES = Path(__file__).parents[2] / "doubles"
BEARER = {"Authorization": "Bearer keyfleet-double-token"}
PASSWORD = "canary-password"
KMS_FILE = "cosmian-kms-server-non-fips-static-openssl_5.26.0_amd64.deb"
GATEWAY_FILE = "fortanix-hsm-gateway-3.20.1917-amd64.deb"

# --- The packages


def build(out: Path, *arguments: str) -> list[Path]:
    done = subprocess.run(
        [sys.executable, str(DOUBLES / "build.py"), "--out", str(out), *arguments], capture_output=True, text=True, check=True
    )
    return [Path(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {path.name: path for path in build(tmp_path_factory.mktemp("packages"))}


def field(package: Path, name: str) -> str:
    return subprocess.run(["dpkg-deb", "--field", str(package), name], capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture(scope="module")
def unpacked(packages: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    found = {}
    for name, path in packages.items():
        found[name] = tmp_path_factory.mktemp("unpacked") / "root"
        subprocess.run(["dpkg-deb", "--raw-extract", str(path), str(found[name])], check=True)
    return found


def test_the_names_inside_are_not_those_of_the_files(packages: dict[str, Path]) -> None:
    assert [field(packages[name], "Package") for name in (KMS_FILE, GATEWAY_FILE)] == [
        "cosmian-kms-server-non-fips",
        "fortanix-hsm-gateway",
    ]
    assert [field(packages[name], "Version") for name in (KMS_FILE, GATEWAY_FILE)] == ["5.26.0", "3.20.1917"]
    assert all("TEST DOUBLE" in field(path, "Description") for path in packages.values())


def test_what_is_built_again_is_the_same_and_another_version_is_not(packages: dict[str, Path], tmp_path: Path) -> None:
    assert {path.name: path.read_bytes() for path in build(tmp_path / "again")} == {n: path.read_bytes() for n, path in packages.items()}
    newer = build(tmp_path / "newer", "--kms-version", "5.27.0", "--gateway-version", "3.21.0", "--architecture", "arm64")
    assert [(field(path, "Version"), field(path, "Architecture")) for path in newer] == [("5.27.0", "arm64"), ("3.21.0", "arm64")]


def test_the_units_and_files_of_the_packages(unpacked: dict[str, Path]) -> None:
    kms, gateway = unpacked[KMS_FILE], unpacked[GATEWAY_FILE]
    assert stat.S_IMODE((kms / "etc/cosmian/kms.toml").stat().st_mode) == 0o400
    assert (kms / "DEBIAN/conffiles").read_text() == "/etc/cosmian/kms.toml\n"
    assert (gateway / "DEBIAN/conffiles").read_text() == "/etc/default/ftx-hmg\n"
    unit = (kms / "usr/lib/systemd/system/cosmian_kms.service").read_text().splitlines()
    for line in (
        "User=root",
        "Restart=on-failure",
        "ProtectSystem=strict",
        "PrivateDevices=yes",
        "DevicePolicy=closed",
        "ReadWritePaths=/var/lib/cosmian /var/log/cosmian",
        "PrivateTmp=yes",
        "ProtectHome=yes",
        "CapabilityBoundingSet=CAP_NET_BIND_SERVICE CAP_DAC_READ_SEARCH",
    ):
        assert line in unit
    assert not any("EnvironmentFile" in line or "network-online" in line for line in unit)
    assert "EnvironmentFile=/etc/default/ftx-hmg" in (gateway / "usr/lib/systemd/system/ftx-hmg.service").read_text().splitlines()
    for program in (kms / "usr/sbin/cosmian_kms", gateway / "usr/sbin/ftx-hmg"):
        assert program.read_text().startswith("#!/usr/bin/python3\n")
        assert program.stat().st_mode & stat.S_IXUSR


def test_every_installation_leaves_two_copies_of_the_configuration(unpacked: dict[str, Path], tmp_path: Path) -> None:
    """The script of the package itself, with a folder of the test's in place of /etc/cosmian."""
    (tmp_path / "kms.toml").write_text(PASSWORD)
    script = (unpacked[KMS_FILE] / "DEBIAN/preinst").read_text().replace("/etc/cosmian", str(tmp_path))
    subprocess.run(["sh", "-c", script, "preinst", "upgrade", "5.25.0"], check=True)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert len(names) == 3
    assert names[0].endswith("_kms.toml")
    assert names[1:] == ["kms.toml", "kms.toml.bak"]
    assert {path.read_text() for path in tmp_path.iterdir()} == {PASSWORD}


# --- The programs


class Daemon:
    """A double as a process of its own, which ends with the test."""

    def __init__(self, folder: Path, program: str, *arguments: str, **environment: str) -> None:
        self.log = folder / f"{program.replace('/', '-')}.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(DOUBLES / program), *arguments],
                cwd=folder,
                env={"PATH": os.environ["PATH"], **environment},
                stdout=log,
                stderr=log,
            )

    def until(self, word: str) -> Daemon:
        """Its own word that it serves: both print it once their sockets are open."""
        deadline = time.monotonic() + 20
        while word not in self.log.read_text():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.01)
        return self

    def failure(self) -> str:
        assert self.process.wait(timeout=20) == 1, self.log.read_text()
        return self.log.read_text()

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def daemons() -> Iterator[list[Daemon]]:
    started: list[Daemon] = []
    yield started
    for daemon in started:
        daemon.end()


def free_ports(count: int) -> list[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for number in range(count)]
    ports = [server.getsockname()[1] for server in held]
    for server in held:
        server.close()
    return ports


def get(port: int, path: str, headers: dict[str, str] | None = None, context: ssl.SSLContext | None = None) -> tuple[int, str]:
    connection = (
        http.client.HTTPSConnection("localhost", port, timeout=10, context=context)
        if context
        else http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    )
    connection.request("GET", path, headers=headers or {})
    answer = connection.getresponse()
    body = answer.read().decode()
    connection.close()
    return answer.status, body


def certificate(folder: Path, name: str = "localhost") -> tuple[Path, Path]:
    key, cert = folder / f"{name}.key", folder / f"{name}.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    subprocess.run(
        [*command, "-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}", "-keyout", str(key), "-out", str(cert)],
        capture_output=True,
        check=True,
    )
    return key, cert


# --- The KMS server


class Kms:
    """The server of a test, with a library for each model that it uses."""

    def __init__(self, folder: Path, daemons: list[Daemon]) -> None:
        self.folder = folder
        self._daemons = daemons
        self.port = free_ports(1)[0]
        self.library = folder / "library.so"
        self.library.touch()

    def write(self, text: str, http: str = "", name: str = "kms.toml") -> str:
        """A configuration file. Keys of the top level come first, as TOML wants it."""
        path = self.folder / name
        served = f'\n[http]\nport = {self.port}\nhostname = "127.0.0.1"\n{http}\n[db]\nsqlite_path = "{self.folder}/db"\n'
        path.write_text(f"{text}{served}")
        return str(path)

    def run(self, *arguments: str, **environment: str) -> Daemon:
        libraries = {name: str(self.library) for name in ("SOFTHSM2_PKCS11_LIB", "UTIMACO_PKCS11_LIB", "PROTECCIO_PKCS11_LIB")}
        daemon = Daemon(self.folder, "cosmian_kms/server.py", *arguments, **{**libraries, **environment})
        self._daemons.append(daemon)
        return daemon

    def start(self, text: str = "", http: str = "") -> Daemon:
        return self.run("-c", self.write(text, http)).until("listening on")

    def refused(self, text: str, **environment: str) -> str:
        message = self.run("-c", self.write(text), **environment).failure()
        assert PASSWORD not in message
        return message

    def status(self) -> dict[str, dict[int, bool]]:
        code, body = get(self.port, "/hsm/status", BEARER)
        assert code == 200
        return {hsm["prefix"]: {slot["slot_id"]: slot["accessible"] for slot in hsm["slots"]} for hsm in json.loads(body)}


@pytest.fixture
def kms(tmp_path: Path, daemons: list[Daemon]) -> Kms:
    return Kms(tmp_path, daemons)


def hsm(model: str, slots: list[int], passwords: list[str] | None = None, more: str = "") -> str:
    """One entry of the array."""
    given = [PASSWORD] * len(slots) if passwords is None else passwords
    return f'[[hsm_instances]]\nhsm_model = "{model}"\nhsm_slot = {slots}\nhsm_password = {json.dumps(given)}\n{more}\n'


def test_prefixes_follow_the_file_and_slots_are_zipped(kms: Kms) -> None:
    entries = [
        hsm("softhsm2", [1, 2], ["<NO_LOGIN>", ""]),
        hsm("utimaco", []),
        hsm("utimaco", [4, 5], ["only one"]),
        hsm("softhsm2", [3, 3], ["wrong", "<NO_LOGIN>"]),
        hsm("utimaco", [6]),
        "[[hsm_instance]]\nanything = true\n",
    ]
    kms.start("".join(["hsm_model = 'proteccio'\nhsm_slot = [7]\nhsm_password = ['x']\nnobody_knows_this = 1\n", *entries]))
    # An accessible that nobody asked the HSM for: the library is an empty file.
    assert kms.status() == {
        "hsm": {7: True},
        "hsm::softhsm2": {1: False, 2: True},
        "hsm::utimaco": {4: True},
        "hsm::softhsm2_1": {3: False},
        "hsm::utimaco_1": {6: True},
    }


def test_slots_come_in_random_order(kms: Kms) -> None:
    kms.start(hsm("softhsm2", list(range(9))))
    # Eight answers of nine slots that are all in one order do not happen by chance.
    orders = {get(kms.port, "/hsm/status")[1] for number in range(8)}
    assert len(orders) > 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[hsm_instances]]\nhsm_model = 'softhsm2'\nhsm_pin = 'canary-password'\n", "unknown field `hsm_pin` in `hsm_instances[0]`"),
        (hsm("softhsm2", [1], more="hsm_admin = 'canary-password'"), "hsm_instances[0].hsm_admin: invalid type, expected a sequence"),
        ("hsm_password = 'canary-password'\n", "hsm_password: invalid type"),
        (hsm("softhsm2", [-1]), "hsm_instances[0].hsm_slot: invalid type of an element"),
        ("hsm_slot = [true]\n", "hsm_slot: invalid type of an element"),
        ("[tls]\ntls_cert = 'x'\n", "unknown field `tls_cert` in table `tls`"),
        (hsm("SoftHSM2", [1]), "unsupported HSM model 'SoftHSM2'"),
        ("hsm_slot = [7]\nhsm_password = ['canary-password']\n", "unsupported HSM model ''"),
        ("hsm_model = 'softhsm2\n", "kms.toml: "),
        ("[tls]\ntls_p12_file = 'x'\n", "tls_p12_file"),
    ],
)
def test_what_ends_the_start(kms: Kms, text: str, message: str) -> None:
    assert message in kms.refused(text)


def test_a_missing_library_ends_the_start_and_an_unused_one_does_not(kms: Kms) -> None:
    missing = str(kms.folder / "missing.so")
    message = kms.refused(hsm("utimaco", [0]), UTIMACO_PKCS11_LIB=missing)
    assert f"cannot load the PKCS#11 library {missing} of model utimaco (environment variable UTIMACO_PKCS11_LIB)" in message
    assert "/lib/libkmshsm.so" in kms.refused(hsm("other", [0]))
    kms.run("-c", kms.write(hsm("softhsm2", [0])), UTIMACO_PKCS11_LIB=missing).until("listening on")


def test_health_looks_at_the_database_only(kms: Kms) -> None:
    kms.start(hsm("softhsm2", [1]))
    kms.library.unlink()
    code, body = get(kms.port, "/health")
    assert (code, json.loads(body)["status"]) == (200, "UP")
    (kms.folder / "db" / "kms.db").rename(kms.folder / "elsewhere")
    code, body = get(kms.port, "/health")
    assert (code, json.loads(body)["status"]) == (503, "DOWN")
    assert not (kms.folder / "db" / "kms.db").exists()
    (kms.folder / "elsewhere").rename(kms.folder / "db" / "kms.db")
    assert get(kms.port, "/health")[0] == 200


@pytest.mark.parametrize("asked", ["[idp_auth]\njwt_auth_provider = ['x']\n", "[auth_verifier]\nurl = 'x'\n", "api_token_id = 'any'\n"])
def test_status_wants_a_token_once_authentication_is_configured(kms: Kms, asked: str) -> None:
    kms.start(hsm("softhsm2", [1]), http=asked)
    for headers in ({}, {"Authorization": "Bearer any"}):
        assert get(kms.port, "/hsm/status", headers) == (401, "Unauthorized")
    assert kms.status() == {"hsm::softhsm2": {1: True}}
    assert get(kms.port, "/health")[0] == 200


def test_status_is_open_without_authentication(kms: Kms) -> None:
    kms.start(hsm("softhsm2", [1]))
    assert get(kms.port, "/hsm/status")[0] == 200


def test_tls_and_client_certificates(kms: Kms) -> None:
    key, cert = certificate(kms.folder)
    client_key, client_cert = certificate(kms.folder, "client")
    kms.start(f"[tls]\ntls_cert_file = '{cert}'\ntls_key_file = '{key}'\nclients_ca_cert_file = '{client_cert}'\n")
    stranger = ssl.create_default_context(cafile=str(cert))
    assert get(kms.port, "/hsm/status", context=stranger)[0] == 401
    known = ssl.create_default_context(cafile=str(cert))
    known.load_cert_chain(client_cert, client_key)
    assert get(kms.port, "/hsm/status", context=known) == (200, "[]")


def test_where_the_configuration_comes_from(kms: Kms, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = kms.write(hsm("softhsm2", [1]), name="first.toml"), kms.write(hsm("softhsm2", [2]), name="second.toml")
    both = kms.run("-c", first, COSMIAN_KMS_CONF=second).until("listening on")
    assert kms.status() == {"hsm::softhsm2": {1: True}}
    both.end()
    kms.run(COSMIAN_KMS_CONF=second).until("listening on")
    assert kms.status() == {"hsm::softhsm2": {2: True}}
    server = load("cosmian_kms/server.py")
    monkeypatch.delenv("COSMIAN_KMS_CONF", raising=False)
    assert str(server.DEFAULT_CONFIG) == "/etc/cosmian/kms.toml"
    server.DEFAULT_CONFIG = Path(first)
    assert server.config_path(None) == Path(first)
    server.DEFAULT_CONFIG = kms.folder / "none.toml"
    assert server.config_path(None) is None
    with pytest.raises(server.ConfigError, match=r"none\.toml does not exist"):
        server.config_path(str(kms.folder / "none.toml"))


def load(program: str) -> Any:
    spec = importlib.util.spec_from_file_location("keyfleet_double", DOUBLES / program)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_state_tells_tests_what_was_started_and_no_password(kms: Kms) -> None:
    config = kms.write(hsm("softhsm2", [2, 1], more="hsm_admin = ['ops']"))
    daemon = kms.run("-c", config).until("listening on")
    Path(config).write_text("")
    body = get(kms.port, f"/double/state?write={kms.folder}&write=/proc&read=/dev/null&read={kms.folder}/none")[1]
    assert PASSWORD not in body + daemon.log.read_text()
    state = json.loads(body)
    assert state["pid"] == daemon.process.pid
    assert state["config"] == config
    assert state["libraries"] == {"softhsm2": str(kms.library)}
    assert state["hsms"] == [{"prefix": "hsm::softhsm2", "model": "softhsm2", "admins": ["ops"], "slots": [1, 2]}]
    assert state["write"][str(kms.folder)] == "ok"
    assert state["write"]["/proc"] != "ok"
    assert state["read"] == {"/dev/null": "ok", f"{kms.folder}/none": "No such file or directory"}


# --- The gateway


class Gateway:
    """The gateway of a test: a P12 file, a library, and three free ports."""

    def __init__(self, folder: Path, daemons: list[Daemon]) -> None:
        self.folder = folder
        self._daemons = daemons
        self.library, self.unhealthy, self.p12 = folder / "library.so", folder / "unhealthy", folder / "cert.p12"
        self.library.touch()
        self.key, self.cert = certificate(folder)
        self.port, self.http, self.https = free_ports(3)
        self.context = ssl.create_default_context(cafile=str(self.cert))

    def make_p12(self, password: str) -> None:
        files = ["-inkey", str(self.key), "-in", str(self.cert), "-out", str(self.p12)]
        subprocess.run(["openssl", "pkcs12", "-export", *files, "-passout", f"pass:{password}"], check=True)

    def run(self, **environment: str) -> Daemon:
        given = {
            "CERT_FILE": str(self.p12),
            "PKCS11_LIB_PATH": str(self.library),
            "HMG_LISTEN_PORT": str(self.port),
            "FTX_DOUBLE_HTTP_PORT": str(self.http),
            "FTX_DOUBLE_HTTPS_PORT": str(self.https),
            "FTX_DOUBLE_UNHEALTHY": str(self.unhealthy),
            "TMPDIR": str(self.folder),
        }
        daemon = Daemon(self.folder, "ftx_hmg/gateway.py", **{**given, **environment})
        self._daemons.append(daemon)
        return daemon

    def health(self) -> list[tuple[int, str]]:
        return [get(self.http, "/health"), get(self.https, "/health", context=self.context)]


@pytest.fixture
def gateway(tmp_path: Path, daemons: list[Daemon]) -> Gateway:
    gateway = Gateway(tmp_path, daemons)
    gateway.make_p12("")
    return gateway


def test_health_of_the_gateway_and_its_listener(gateway: Gateway) -> None:
    before = sorted(gateway.folder.iterdir())
    daemon = gateway.run().until("serving with")
    assert sorted(gateway.folder.iterdir()) == sorted([*before, daemon.log])  # the key is in no file but its own
    assert gateway.health() == [(204, ""), (204, "")]
    gateway.unhealthy.touch()
    assert gateway.health() == [(500, ""), (500, "")]
    gateway.unhealthy.unlink()
    gateway.library.rename(gateway.folder / "elsewhere")
    assert gateway.health() == [(500, ""), (500, "")]
    (gateway.folder / "elsewhere").rename(gateway.library)
    assert gateway.health() == [(204, ""), (204, "")]
    with (
        socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as plain,
        gateway.context.wrap_socket(plain, server_hostname="localhost") as secured,
    ):
        assert secured.recv(100).decode() == f"{socket.gethostname()}\n"


def test_a_p12_with_a_password_ends_the_start(gateway: Gateway) -> None:
    gateway.make_p12(PASSWORD)
    message = gateway.run().failure()
    assert f"cannot open the P12 file {gateway.p12}" in message
    assert PASSWORD not in message


def test_a_missing_library_or_p12_ends_the_start(gateway: Gateway) -> None:
    assert "cannot load the PKCS#11 library /nowhere.so" in gateway.run(PKCS11_LIB_PATH="/nowhere.so").failure()
    assert "PKCS11_LIB_PATH is not set" in gateway.run(PKCS11_LIB_PATH="").failure()
    assert "HMG_LISTEN_PORT is no port: none" in gateway.run(HMG_LISTEN_PORT="none").failure()
    gateway.p12.unlink()
    assert "cannot open the P12 file" in gateway.run().failure()
