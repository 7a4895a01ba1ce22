# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""What the unit of the Eviden KMS server needs for its configuration to work: variables and writable paths.

The server is one process that takes each model's library from one variable, and its unit (``ProtectSystem=strict``) may write
nothing but its own two folders.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from .config import REFERENCE, Declared, Served

LIBRARY_VARIABLES: Mapping[str, str] = {
    "softhsm2": "SOFTHSM2_PKCS11_LIB",
    "utimaco": "UTIMACO_PKCS11_LIB",
    "proteccio": "PROTECCIO_PKCS11_LIB",
    "crypt2pay": "CRYPT2PAY_PKCS11_LIB",
    "smartcardhsm": "SMARTCARDHSM_PKCS11_LIB",
    "other": "OTHER_HSM_PKCS11_LIB",
}
# What the unit may write as it is shipped, its private /tmp among it.
_WRITABLE = ("/var/lib/cosmian", "/var/log/cosmian", "/tmp", "/var/tmp")  # noqa: S108
# Settings that name a folder in which the server writes.
_FOLDERS = (("db", "sqlite_path"), ("workspace", "root_data_path"), ("workspace", "tmp_path"), ("logging", "rolling_log_dir"))
# What its ProtectHome hides.
_HIDDEN = ("/root", "/home", "/run/user")
_FILES = ("tls_cert_file", "tls_key_file", "tls_chain_file", "clients_ca_cert_file", "tls_p12_file")
BACKEND = "KMS_SECRET_BACKEND"
_NOT_ON_ARM = ("utimaco", "proteccio", "crypt2pay")


def _value(settings: Mapping[str, Any], table: str, name: str) -> Any:
    found = settings.get(table)
    return found.get(name) if isinstance(found, Mapping) else None


def is_hidden(path: str) -> bool:
    """Whether the server's unit cannot reach ``path``."""
    return any(PurePosixPath(path).is_relative_to(hidden) for hidden in _HIDDEN)


def paths_of(settings: Mapping[str, Any], instances: Sequence[Declared]) -> Iterator[tuple[str, str]]:
    """``(option, path)`` of what the server opens itself."""
    for table, name in (*(("tls", name) for name in _FILES), *_FOLDERS):
        value = _value(settings, table, name)
        if isinstance(value, str) and value.startswith("/"):
            yield f"settings.{table}.{name}", value
    for instance in instances:
        if instance.spec.library is not None:
            yield f"{instance.where}.library", instance.spec.library
        for name, value in instance.spec.environment.items():
            if value.startswith("/"):
                yield f"{instance.where}.environment.{name}", value


def references(value: Any, place: str = "settings") -> list[str]:
    """The places of texts that the server is to look up elsewhere."""
    if isinstance(value, Mapping):
        return [found for name, item in value.items() for found in references(item, f"{place}.{name}")]
    if isinstance(value, list):
        return [found for index, item in enumerate(value) for found in references(item, f"{place}[{index}]")]
    return [place] if isinstance(value, str) and value.startswith(REFERENCE) else []


def reference_problems(settings: Mapping[str, Any], instances: Sequence[Declared], environment: Mapping[str, Any]) -> list[str]:
    """Without a backend the server takes them as they stand."""
    if environment.get(BACKEND) or any(instance.spec.environment.get(BACKEND) for instance in instances):
        return []
    return [
        f"{place}: begins with {REFERENCE}, and without {BACKEND} in its environment the server takes the text as it stands: give that "
        "variable in environment, or the value"
        for place in references(settings)
    ]


def machine_problems(instances: Sequence[Declared], machine: str) -> list[str]:
    """Models that the server is not built with on this ``machine`` (of uname)."""
    if machine not in ("aarch64", "arm64"):
        return []
    return [
        f"{instance.where}.model: the server knows {instance.spec.model} on x86_64 alone, and this host is {machine}"
        for instance in instances
        if instance.spec.model in _NOT_ON_ARM
    ]


def root_may_write(uid: int, gid: int, mode: int) -> bool:
    """Whether the unit's process may write a file: it is root, and lacks CAP_DAC_OVERRIDE."""
    return bool(mode & (0o200 if uid == 0 else 0o020 if gid == 0 else 0o002))


def unit_environment(instances: Sequence[Served]) -> dict[str, str]:
    """The variables of the server's process: each model's library, and what the vendors' libraries read."""
    found: dict[str, str] = {}
    for instance in instances:
        found.update(instance.spec.environment)
    for instance in instances:
        found[LIBRARY_VARIABLES[instance.spec.model]] = instance.named
    return dict(sorted(found.items()))


def folders_of(settings: Mapping[str, Any]) -> list[str]:
    """Folders that the settings give the server to write in, without those that its unit may write as it is shipped."""
    found = []
    for table, name in _FOLDERS:
        value = _value(settings, table, name)
        if isinstance(value, str) and value.startswith("/") and not any(PurePosixPath(value).is_relative_to(path) for path in _WRITABLE):
            found.append(value)
    return found
