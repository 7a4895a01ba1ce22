# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""The options of host_look as one value."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .errors import InputError


@dataclass(frozen=True)
class Search:
    """Files of one folder. ``age``: those that are older than so many seconds."""

    folder: str
    pattern: re.Pattern[str]
    age: int


@dataclass(frozen=True)
class Unit:
    """A unit of systemd, and the files that its process has read."""

    name: str
    reads: Sequence[str]


@dataclass(frozen=True)
class HostRequest:
    """What is asked of a host. What is empty or None is not asked."""

    files: Sequence[str]
    packages: Sequence[str]
    archive: str | None
    units: Sequence[Unit]
    addresses: Sequence[tuple[str, int]]
    health_url: str | None
    searches: Sequence[Search]
    users: Sequence[str]

    @classmethod
    def parse(cls, params: Mapping[str, Any]) -> HostRequest:
        """The request that ``params``, the module's options, make. Raises :class:`InputError`."""
        searches, problems = [], []
        for number, entry in enumerate(params["find"]):
            try:
                searches.append(Search(entry["folder"], re.compile(entry["pattern"]), entry["age"]))
            except re.error as error:
                problems.append(f"find[{number}].pattern: invalid regular expression: {error}")
        if params["health_url"] is not None and not params["health_url"].startswith(("http://", "https://")):
            problems.append("health_url: begins with neither http:// nor https://")
        if problems:
            raise InputError(problems)
        addresses = [(params["host"], port) for port in params["ports"]]
        units = [Unit(entry["name"], entry["reads"]) for entry in params["units"]]
        given = {name: params[name] for name in ("files", "packages", "archive", "health_url", "users")}
        return cls(**given, units=units, addresses=addresses, searches=searches)
