# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""What services of this very host use, as the role client notes it: one that is beside its HSM is asked by nobody else."""

from __future__ import annotations

import os
from pathlib import Path

from ..._model.keys.in_use import InUse

# Those of the role client.
DECLARED, NOTES = Path("/etc/keyfleet-consumers"), Path("/var/lib/keyfleet-consumers")


def with_own_services(in_use: InUse, declared: Path = DECLARED, notes: Path = NOTES) -> InUse:
    """``in_use`` with what the notes of this host say, or with its silence where one cannot be read or is not there."""
    try:
        names = {name for name in _names(declared) if _is_there(declared / name / "settings")}
        names |= {name.removesuffix(".uses") for name in _names(notes) if name.endswith(".uses")}
        uris = [line for name in sorted(names) for line in (notes / f"{name}.uses").read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError):
        return in_use.of_this_host(None)
    return in_use.of_this_host(uris)


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []


def _is_there(path: Path) -> bool:
    """Path.exists() takes what it may not see for absent, on newer Pythons."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True
