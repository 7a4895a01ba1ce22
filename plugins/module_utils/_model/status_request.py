# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.


"""The options of hsm_status as one value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .errors import InputError
from .site.undeclared import Declared
from .tokens.connection_request import Login

MOST_SECONDS = 86_400


def time_problems(seconds: int) -> list[str]:
    """What is wrong with the option ``timeout`` of a probe."""
    if seconds <= 0:
        return [f"timeout: {seconds} is too short: give seconds above 0"]
    return [f"timeout: {seconds} is too long: give at most {MOST_SECONDS} seconds, which is a day"] if seconds > MOST_SECONDS else []


@dataclass(frozen=True)
class StatusRequest:
    """``registry`` is a path on the target. ``instances`` are names, None for all that are registered.

    ``probe`` is login or roundtrip; ``require`` is all, any or none; ``timeout`` is in seconds, for each instance.
    ``declared`` is what the registry is compared with, None for nothing.
    """

    registry: str
    instances: tuple[str, ...] | None
    probe: str
    require: str
    timeout: int
    login: Login
    declared: Declared | None = None
    refuses_undeclared: bool = False

    @classmethod
    def parse(cls, params: Mapping[str, Any]) -> StatusRequest:
        """The request that ``params``, the module's options, make. Raises :class:`InputError`."""
        names, timeout = params["instances"], params["timeout"]
        if problems := time_problems(timeout):
            raise InputError(problems)
        instances = None if names is None else tuple(names)
        login = Login(allow_low_pin_count=params["allow_low_pin_count"])
        declared = None if params["declared"] is None else Declared.parse(params["declared"])
        refuses = params["undeclared"] == "refuse"
        return cls(params["registry"], instances, params["probe"], params["require"], timeout, login, declared, refuses)
