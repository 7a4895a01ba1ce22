# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The service's configuration: a TOML file, checked whole before anything is done, with every problem at once."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.files import toml_text
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.durations import parse_duration
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.keys.ranges import declared_labels
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.quoting import is_path, quoted
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.tokens.instance_spec import InstanceSpec, parse_instance

CREDENTIAL = "credential:"
_MOST_BYTES = 1024 * 1024
_LEAST_INTERVAL, _MOST_INTERVAL = 1, 3600
_LEAST_TIMEOUT, _MOST_TIMEOUT = 1, 600

_STRING, _STRINGS, _NUMBER, _FLAG, _TEXTS = "a text", "a list of texts", "a whole number", "true or false", "a table of texts"
_KEYS: dict[str, dict[str, str]] = {
    "": {"state": _STRING, "registry": _STRING, "token_file": _STRING, "metrics_login": _FLAG, "credentials": _TEXTS},
    "probe": {"interval": _STRING, "timeout": _STRING, "kind": _STRING},
    "http": {"listen": _STRINGS},
    "https": {
        "listen": _STRINGS,
        "certificate": _STRING,
        "key": _STRING,
        "client_ca": _STRING,
        "client_crl": _STRING,
        "client_names": _STRINGS,
    },
    "instances": {
        "name": _STRING,
        "model": _STRING,
        "library": _STRING,
        "environment": _TEXTS,
        "init_args": _STRING,
        "os_locking": _FLAG,
        "connection_timeout": _NUMBER,
    },
    "tokens": {"label": _STRING, "serial": _STRING, "slot": _STRING, "login": _FLAG, "user_type": _STRING, "pin_file": _STRING},
    "rotations": {"instance": _STRING, "group": _STRING, "label": _STRING, "max_age": _STRING, "lead": _STRING},
}
_TABLES = ("probe", "http", "https")
_LISTS = ("instances", "rotations")


class ConfigError(Exception):
    """``problems`` is everything that is wrong, one line each, without a secret."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


@dataclass(frozen=True)
class Address:
    """Where to listen. ``host`` None: on all addresses. ``port`` 0: any that is free."""

    host: str | None
    port: int

    def __str__(self) -> str:
        host = "*" if self.host is None else f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@dataclass(frozen=True)
class Https:
    """``certificate`` is PEM, or PKCS#12 without a password. ``key`` None: it is in the same file.

    ``client_ca`` None: no client certificates. ``client_crl`` has a revocation list for each CA, None: nothing is revoked. ``client_names``
    are common names or DNS names, of which a client's certificate has one; empty: any.
    """

    listen: tuple[Address, ...]
    certificate: str
    key: str | None = None
    client_ca: str | None = None
    client_crl: str | None = None
    client_names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Rotation:
    """How old a key is, in seconds, when the next generation is made, by its label in an instance or a group."""

    label: str
    max_age: int
    instance: str | None = None
    group: str | None = None


@dataclass(frozen=True)
class Config:
    """``state`` is a folder of the service's own. ``registry`` is a copy of the host's that may be read, for the keys in metrics.

    Times are in seconds; ``timeout`` is for one instance. ``credentials`` are files by the name that systemd gives their copies.
    """

    state: str
    instances: tuple[InstanceSpec, ...]
    http: tuple[Address, ...] = ()
    https: Https | None = None
    interval: int = 30
    timeout: int = 20
    kind: str = "roundtrip"
    token_file: str | None = None
    metrics_login: bool = False
    registry: str | None = None
    credentials: Mapping[str, str] | None = None
    rotations: tuple[Rotation, ...] = ()


def path_of(text: str) -> str:
    """A path of the configuration: what begins with ``credential:`` lies where systemd puts this service's credentials.

    Raises :class:`ConfigError` where systemd gave none.
    """
    if not text.startswith(CREDENTIAL):
        return text
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    if not folder:
        raise ConfigError([f"{text}: this process got no credentials from systemd. Start it with systemctl, or give a path."])
    return os.path.join(folder, text.removeprefix(CREDENTIAL))


def read_config(path: str) -> Config:
    """Raises :class:`ConfigError`."""
    try:
        content = Path(path).read_bytes()
        if len(content) > _MOST_BYTES:
            raise ConfigError([f"{path}: is larger than {_MOST_BYTES} bytes"])
        document = toml_text.parse(content.decode("utf-8"))
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read: {error.strerror}"]) from None
    except UnicodeDecodeError:
        raise ConfigError([f"{path}: is not UTF-8 text"]) from None
    except ValueError as error:
        raise ConfigError([f"{path}: {error}"]) from None
    return parse_config(document)


def parse_config(document: Mapping[str, Any]) -> Config:
    """Raises :class:`ConfigError` with every problem."""
    return _Reader(document).config()


class _Reader:
    def __init__(self, document: Mapping[str, Any]) -> None:
        self.problems: list[str] = []
        self.document = document
        top = {name: value for name, value in document.items() if name not in (*_TABLES, *_LISTS)}
        self.top = self.checked(top, "", "")
        self.tables = {name: self.table(document, name) for name in _TABLES}
        self.lists = {name: self.entries(document, name) for name in _LISTS}

    def checked(self, table: Mapping[str, Any], kind: str, where: str) -> dict[str, Any]:
        """What is known and of its type; the rest is a problem."""
        known, sound = _KEYS[kind], {}
        for name, value in table.items():
            if name not in known:
                self.problems.append(f"{where}{name}: unknown; known are {', '.join(sorted(known))}")
            elif not _is(value, known[name]):
                self.problems.append(f"{where}{name}: must be {known[name]}")
            else:
                sound[name] = value
        return sound

    def table(self, document: Mapping[str, Any], name: str) -> dict[str, Any] | None:
        value = document.get(name)
        if value is None or isinstance(value, dict):
            return None if value is None else self.checked(value, name, f"{name}.")
        self.problems.append(f"{name}: must be a table")
        return None

    def entries(self, document: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
        value = document.get(name, [])
        if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
            self.problems.append(f"{name}: must be a list of tables")
            return []
        found = []
        for index, entry in enumerate(value):
            place = f"{name}[{index}]."
            own = {key: item for key, item in entry.items() if not (name == "instances" and key == "tokens")}
            checked = self.checked(own, name, place)
            if name == "instances":
                checked["tokens"] = self.tokens(entry.get("tokens", []), place)
            found.append(checked)
        return found

    def tokens(self, value: Any, place: str) -> list[dict[str, Any]]:
        if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
            self.problems.append(f"{place}tokens: must be a list of tables")
            return []
        return [self.checked(entry, "tokens", f"{place}tokens[{index}].") for index, entry in enumerate(value)]

    def config(self) -> Config:
        probe, http = self.tables["probe"] or {}, self.tables["http"] or {}
        kind = probe.get("kind", "roundtrip")
        if kind not in ("login", "roundtrip"):
            self.problems.append(f"probe.kind: {quoted(kind)}: give login or roundtrip")
        config = Config(
            state=self.path(self.top, "state", "") or ("" if "state" in self.document else self.missing("state")),
            instances=self.instances(),
            http=self.addresses(http, "http"),
            https=self.https(),
            interval=self.seconds(probe, "interval", 30, _LEAST_INTERVAL, _MOST_INTERVAL),
            timeout=self.seconds(probe, "timeout", 20, _LEAST_TIMEOUT, _MOST_TIMEOUT),
            kind=kind,
            token_file=self.secret_path(self.top, "token_file", ""),
            metrics_login=self.top.get("metrics_login", False),
            registry=self.path(self.top, "registry", ""),
            credentials=self.credentials(),
            rotations=self.rotations(),
        )
        if not http.get("listen") and config.https is None:
            self.problems.append("http.listen: the service listens nowhere: give http.listen, https.listen, or both")
        if self.problems:
            raise ConfigError(self.problems)
        return config

    def missing(self, where: str) -> str:
        self.problems.append(f"{where}: is missing")
        return ""

    def credentials(self) -> dict[str, str]:
        found: dict[str, str] = self.top.get("credentials", {})
        for name, path in found.items():
            if "/" in name or not name.isprintable() or name in ("", ".", ".."):
                self.problems.append(f"credentials.{name}: cannot be the name of a credential")
            if not is_path(path):
                self.problems.append(f"credentials.{name}: must be an absolute path")
        return found

    def path(self, table: Mapping[str, Any], name: str, where: str) -> str | None:
        value: str | None = table.get(name)
        if value is not None and not is_path(value):
            self.problems.append(f"{where}{name}: must be an absolute path")
        return value

    def secret_path(self, table: Mapping[str, Any], name: str, where: str) -> str | None:
        """An absolute path, or ``credential:`` and a name of ``credentials``."""
        value: str | None = table.get(name)
        if value is None or not value.startswith(CREDENTIAL):
            return self.path(table, name, where)
        if value.removeprefix(CREDENTIAL) not in self.top.get("credentials", {}):
            self.problems.append(f"{where}{name}: {quoted(value)} is not in credentials")
        return value

    def seconds(self, table: Mapping[str, Any], name: str, default: int, least: int, most: int) -> int:
        return self._within(table, name, f"probe.{name}", default, least, most)

    def _within(self, table: Mapping[str, Any], name: str, where: str, default: int, least: int, most: int) -> int:
        if name not in table:
            return default
        try:
            seconds = parse_duration(table[name])
        except ValueError as error:
            self.problems.append(f"{where}: {error}")
            return default
        if not least <= seconds <= most:
            self.problems.append(f"{where}: {quoted(table[name])}: give {least} s to {most} s")
        return seconds

    def addresses(self, table: Mapping[str, Any], where: str) -> tuple[Address, ...]:
        found = []
        for text in table.get("listen", []):
            host, colon, port = text.rpartition(":")
            bare = host.removeprefix("[").removesuffix("]")
            if not colon or not bare or not (port.isascii() and port.isdigit() and int(port) < 65536) or (":" in bare and bare == host):
                self.problems.append(f"{where}.listen: {quoted(text)}: give address:port, [IPv6 address]:port or *:port")
            else:
                found.append(Address(None if bare == "*" else bare, int(port)))
        return tuple(found)

    def https(self) -> Https | None:
        table = self.tables["https"]
        if table is None:
            return None
        listen = self.addresses(table, "https")
        if "listen" not in table:
            self.missing("https.listen")
        certificate = self.secret_path(table, "certificate", "https.") or self.missing("https.certificate")
        key, client_ca, client_crl = (self.secret_path(table, name, "https.") for name in ("key", "client_ca", "client_crl"))
        for name in ("client_crl", "client_names"):
            if table.get(name) and not client_ca:
                self.problems.append(f"https.{name}: has no use without https.client_ca")
        return Https(listen, certificate, key, client_ca, client_crl, tuple(table.get("client_names", ())))

    def instances(self) -> tuple[InstanceSpec, ...]:
        found: dict[str, InstanceSpec] = {}
        for index, entry in enumerate(self.lists["instances"]):
            where = f"instances[{index}]."
            if not entry.get("name") or not entry.get("model"):
                self.problems += [f"{where}{name}: is missing" for name in ("name", "model") if not entry.get(name)]
                continue
            if entry.get("library"):
                self.path(entry, "library", where)
            for place, token in enumerate(entry["tokens"]):
                self.token(token, f"{where}tokens[{place}].")
            spec, problems = parse_instance(entry, where)
            self.problems += problems
            if spec is not None and spec.name in found:
                self.problems.append(f"{where}name: {quoted(spec.name)} is given twice")
            elif spec is not None:
                found[spec.name] = spec
        if not self.lists["instances"]:
            self.problems.append("instances: there is none, so nothing can be told")
        return tuple(found.values())

    def token(self, token: dict[str, Any], where: str) -> None:
        pin_file = self.secret_path(token, "pin_file", where)
        if token.get("login", True) and not pin_file:
            self.problems.append(f"{where}pin_file: is missing; a token that needs no PIN, or where a person types it, has login = false")
        if token.get("user_type", "user") not in ("user", "so"):
            self.problems.append(f"{where}user_type: give user or so")

    def rotations(self) -> tuple[Rotation, ...]:
        found = []
        for index, entry in enumerate(self.lists["rotations"]):
            where = f"rotations[{index}]."
            if ("instance" in entry) == ("group" in entry):
                self.problems.append(f"{where}instance: give either instance or group")
            if not entry.get("label"):
                self.missing(f"{where}label")
            if "max_age" not in entry:
                self.missing(f"{where}max_age")
            age = self._within(entry, "max_age", f"{where}max_age", 1, 1, 36_525 * 24 * 3600)
            ahead = self._within(entry, "lead", f"{where}lead", 0, 0, max(age - 1, 0))
            labels = declared_labels(entry.get("label", ""))  # those of a range here, which would not all fit into the file
            found += [Rotation(label, age - ahead, entry.get("instance"), entry.get("group")) for label in labels]
        return tuple(found)


def _is(value: Any, kind: str) -> bool:
    checks: dict[str, Callable[[Any], bool]] = {
        _STRING: lambda item: isinstance(item, str),
        _STRINGS: lambda item: isinstance(item, list) and all(isinstance(text, str) for text in item),
        _NUMBER: lambda item: isinstance(item, int) and not isinstance(item, bool),
        _FLAG: lambda item: isinstance(item, bool),
        _TEXTS: lambda item: isinstance(item, dict) and all(isinstance(text, str) for text in item.values()),
    }
    return checks[kind](value)
