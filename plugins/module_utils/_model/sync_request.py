# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""The options of hsm_sync as one value."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .errors import InputError
from .groups.spec import ConnectionSpec, parse_connections
from .quoting import quoted
from .recall import Memory, parse_memory
from .tokens.connection_request import ConnectionRequest

ENDINGS = (".yml", ".yaml", ".json")  # of an exported file


@dataclass(frozen=True)
class SyncRequest:
    """``registry`` and ``export`` are paths on the target. ``refresh`` has any of ``id`` and ``label``. ``repair``: keys are copied by
    wrapping; ``relabel``: what stands beside keys gets the names that layout ``eviden`` has. ``require``: of a group's members,
    covered, reported or none. ``leaving`` are members of the group that are about to leave it. ``recall``: what an earlier export tells
    of the keys."""

    registry: str
    connection: ConnectionRequest
    refresh: tuple[str, ...] = ()
    prune: bool = False
    repair: bool = False
    relabel: bool = False
    export: str | None = None
    require: str = "none"
    results: str | None = None
    leaving: tuple[ConnectionSpec, ...] = ()
    recall: Memory | None = None

    @classmethod
    def parse(cls, params: Mapping[str, Any]) -> SyncRequest:
        """The request that ``params``, the module's options, make. Raises :class:`InputError` with every problem."""
        connection, problems = ConnectionRequest.parse(params)
        problems += export_problems(params["export"])
        repair = params["repair"]
        if repair == "wrap" and not connection.group:
            problems.append("repair: wrap is for the members of a group: give group, or leave it out")
        if repair == "layout" and connection.group:
            problems.append("repair: layout is for the tokens of an instance: give the instance of each member")
        if params["require"] != "none" and not connection.group:
            problems.append("require: is for the members of a group: give group, or leave it out")
        if params["leaving"] and not connection.group:
            problems.append("leaving: is for the members of a group: give group, or leave it out")
        leaving, found = parse_connections(params["leaving"], "leaving")
        problems += found
        memory = None
        if params["recall"] is not None:
            memory, more = parse_memory(params["recall"], {"group": connection.group, "instance": connection.instance})
            problems += more
        if problems:
            raise InputError(problems)
        return cls(
            params["registry"],
            connection,
            tuple(params["refresh"]),
            params["prune"],
            repair == "wrap",
            repair == "layout",
            params["export"],
            params["require"],
            params["results"],
            tuple(leaving),
            memory,
        )


def export_problems(path: str | None) -> list[str]:
    """What is wrong with the option ``export``, as far as it can be told without looking."""
    if path is None:
        return []
    if os.path.splitext(path)[1] not in ENDINGS:
        return [f"export: {quoted(path)} does not say whether YAML or JSON is wanted: let it end in {', '.join(ENDINGS)}"]
    return []
