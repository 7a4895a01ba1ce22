# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""How a library is started: its environment, and the arguments of C_Initialize (PKCS#11 3.1, section 5.4.1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .environment import environment_problems, texts_of


@dataclass(frozen=True)
class Starting:
    """``init_args`` is the text that pReserved points to, empty for none. ``os_locking``: CKF_OS_LOCKING_OK."""

    environment: Mapping[str, str] = field(default_factory=dict)
    init_args: str = ""
    os_locking: bool = False

    @property
    def plain(self) -> bool:
        """Whether C_Initialize gets no arguments."""
        return not self.init_args and not self.os_locking

    @classmethod
    def parse(cls, options: Mapping[str, Any], where: str = "") -> tuple[Starting, list[str]]:
        """From the options of these names, and what is wrong with them; ``where`` is put before each name."""
        variables, text = options.get("environment") or {}, options.get("init_args") or ""
        problems = environment_problems(variables, f"{where}environment")
        if not text.isprintable():
            problems.append(f"{where}init_args: contains a line break or another control character: give one line")
        if problems:
            return cls(), problems
        return cls(texts_of(variables), text, bool(options.get("os_locking"))), []
