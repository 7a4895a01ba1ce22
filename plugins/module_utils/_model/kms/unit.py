# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""What the unit of the Eviden KMS server needs for its configuration to work: variables and writable paths.

The server is one process that takes each model's library from one variable, and its unit (``ProtectSystem=strict``) may write
nothing but its own two folders.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from .config import Served

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
        value = settings.get(table, {}).get(name)
        if isinstance(value, str) and value.startswith("/") and not any(PurePosixPath(value).is_relative_to(path) for path in _WRITABLE):
            found.append(value)
    return found
