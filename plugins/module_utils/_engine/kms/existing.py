# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""The server's file as it is found."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from typing import Any

from ..._model.errors import Refused
from ..files.toml_text import parse


@dataclass(frozen=True)
class Existing:
    """The file as it was found."""

    document: dict[str, Any]
    mode: int


def read_existing(path: str) -> Existing | None:
    """What stands in the file now; None only when there is none. Raises :class:`Refused` when it cannot be told."""
    try:
        status = os.lstat(path)
        if not stat.S_ISREG(status.st_mode):
            raise Refused(
                f"config_path: refused, {path} is there and is not a regular file. Give the path of the file itself, or move it away.",
                code="config_invalid",
            )
        with open(path, encoding="utf-8", newline="") as file:
            text = file.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Refused(
            f"config_path: refused, {path} cannot be read: {error.strerror}. Run as its owner (become: true), or give another path.",
            code="config_unreadable",
        ) from None
    except UnicodeDecodeError:
        raise _invalid(path, "is not UTF-8 text") from None
    try:
        found = parse(text)
    except ValueError as error:
        raise _invalid(path, str(error)) from None
    return Existing(found, stat.S_IMODE(status.st_mode))


def _invalid(path: str, fault: str) -> Refused:
    return Refused(
        f"config_path: refused, {path} is there and {fault}, so it cannot be told which UIDs it serves. Mend the file, or move it away.",
        code="config_invalid",
    )
