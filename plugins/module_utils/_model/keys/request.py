# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""The options of hsm_key as one value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..tokens.connection_request import ConnectionRequest
from .in_use import InUse
from .spec import KeySpec, parse_keys
from .states import DEACTIVATED, STATES


@dataclass(frozen=True)
class KeyRequest:
    """``registry`` is a path on the target. ``specs`` are the good entries of ``keys``, in order.

    ``problems`` are those of all options. They are not raised here, since what is wrong with the files that the good entries
    name is told in the same error.
    """

    registry: str
    connection: ConnectionRequest
    specs: tuple[KeySpec, ...]
    repair: bool
    on_elsewhere: str
    on_unreachable: str
    results: str | None = None
    problems: tuple[str, ...] = ()
    in_use: InUse = field(default_factory=InUse)

    @classmethod
    def parse(cls, params: Mapping[str, Any]) -> KeyRequest:
        """The request that ``params``, the module's options, make."""
        connection, problems = ConnectionRequest.parse(params)
        specs, found = parse_keys(params["keys"])
        problems += found
        in_use, found = InUse.parse(params["in_use"])
        problems += found
        if connection.library:
            problems += _unrecorded_problems(specs)
        return cls(
            params["registry"],
            connection,
            tuple(specs),
            params["repair"],
            params["on_elsewhere"],
            params["on_unreachable"],
            params["results"],
            tuple(problems),
            in_use,
        )


def _unrecorded_problems(specs: list[KeySpec]) -> list[str]:
    """What only a registry can keep, asked for without one."""
    problems = []
    for spec in specs:
        if spec.max_age is not None:
            problems.append(f"{spec.where}.max_age: the age of a key is kept in the registry: give instance instead of library")
        if spec.state in STATES and spec.state != DEACTIVATED:
            problems.append(f"{spec.where}.state: the states of a key are kept in the registry: give instance or group instead of library")
        for option, wanted in (("state", spec.state == DEACTIVATED), ("previous", spec.previous == "deactivate")):
            if wanted and not spec.enforce:
                problems.append(
                    f"{spec.where}.{option}: that a key is deactivated is kept in the registry: give instance instead of library, or "
                    "enforce: true to take its protecting operations away in the HSM"
                )
    return problems
