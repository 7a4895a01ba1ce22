# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""What an earlier run has made for consumers, and what of it no consumer is declared for any more. Nothing else is ever named."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .consumers import FOLDER, RUN, UNITS

STATE = "/var/lib/keyfleet-consumers"
NGINX_VARIABLES = "/etc/nginx/modules-enabled/60-keyfleet-consumer.conf"
SSHD_PART = "/etc/ssh/sshd_config.d/10-keyfleet-consumer.conf"
# Each consumer has these two, which say what else was made for it.
_TOLD = ("settings", "keys")
_OURS = "# Written by the role keyfleet.hsm.client."
_LINE = re.compile(r"([A-Z_]+)=(.*)", re.ASCII)


@dataclass(frozen=True)
class Made:
    """What the role makes for one consumer. ``files`` are in its folder, ``parts`` in those of others, ``units`` are systemd's."""

    name: str
    kind: str
    service: str
    files: frozenset[str]
    parts: frozenset[str]
    units: frozenset[str]


@dataclass
class Leavings:
    """``names`` are the consumers that go as a whole, ``units`` those that are to be stopped, whose files are in ``parts``.

    ``included`` are files that nginx's configuration may still name; ``nginx`` and ``sshd`` the services that had parts in theirs.
    """

    names: list[str] = field(default_factory=list)
    units: list[str] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    # Where they are empty then, these go as well.
    folders: list[str] = field(default_factory=list)
    included: list[str] = field(default_factory=list)
    nginx: list[str] = field(default_factory=list)
    sshd: list[str] = field(default_factory=list)
    # Whether no consumer is left.
    last: bool = False
    problems: list[str] = field(default_factory=list)


def leavings(paths: Collection[str], texts: Mapping[str, str], consumers: Sequence[Mapping[str, Any]]) -> Leavings:
    """``paths`` are the files below :data:`FOLDER`, ``texts`` what those say that each consumer has, and ``consumers`` is the plan."""
    found = Leavings()
    declared = [_of_plan(one) for one in consumers]
    names, services = {one.name for one in declared}, {one.service for one in declared}
    files, parts, units = (frozenset(path for one in declared for path in getattr(one, what)) for what in ("files", "parts", "units"))
    for name in sorted({path.split("/")[-2] for path in texts if path.endswith("/settings")}):
        there = _of_host(name, texts)
        if isinstance(there, str):
            found.problems.append(f"client_consumers: {FOLDER}/{name}: {there}")
            continue
        # The watch first: it would start the agent again.
        found.units += sorted(there.units - units, key=lambda unit: not unit.startswith("keyfleet-watch-"))
        found.parts += sorted(there.parts - parts)
        # What tells of all others goes last, so that a run that was cut off is finished by the next one.
        leaving = sorted((there.files & frozenset(paths)) - files, key=lambda path: (path.endswith("/settings"), path))
        found.files += leaving
        found.included += [path for path in leaving if there.kind == "nginx" and path.endswith(".conf")]
        if there.service not in services:
            found.folders.append(f"{UNITS}/{there.service}.service.d")
            found.nginx += [there.service] if there.kind == "nginx" else []
            found.sshd += [there.service] if there.kind == "sshd" else []
        if name not in names:
            found.names.append(name)
            found.folders.append(f"{FOLDER}/{name}")
    found.last = bool(found.names) and not declared
    return found


def _of_plan(one: Mapping[str, Any]) -> Made:
    folder, kind = one["folder"], one["kind"]
    files = [f"{folder}/{name}" for name in _own_files(kind, one["way"], one["seal_pin"])]
    for key in one["keys"]:
        files += [key["certificate_file"]] if key["certificate"] else []
        files += [key["key_file"]] if one["way"] == "provider" else []
        files += [f"{folder}/{key['name']}.conf"] if kind == "nginx" else []
    return Made(one["name"], kind, one["service"], frozenset(files), *_outside(one["name"], kind, one["service"], one["watched"]))


def _of_host(name: str, texts: Mapping[str, str]) -> Made | str:
    """What was made for the consumer of this folder, or why that cannot be said."""
    told: dict[str, str] = {}
    for part in _TOLD:
        text = texts.get(f"{FOLDER}/{name}/{part}", "")
        if part == "settings" and _OURS not in text:
            return "settings was not written by this role: move the folder away"
        told.update(assignments(text))
    kind, service = told.get("KIND", ""), told.get("SERVICE", "")
    if not kind or not service:
        return f"settings does not tell what was made: declare {name} for one run more"
    files = [*_own_files(kind, told.get("WAY", ""), told.get("SEAL_PIN", ""))]
    for key in told.get("KEYS", "").split():
        own = key.partition("=")[0]
        files += [f"{own}.pem", f"{own}.pem.key", f"{own}.conf"]
    listed = frozenset(f"{FOLDER}/{name}/{file}" for file in files)
    return Made(name, kind, service, listed, *_outside(name, kind, service, kind == "sshd" or bool(told.get("CHECK"))))


def _own_files(kind: str, way: str, seal_pin: str) -> Iterator[str]:
    yield from _TOLD
    if way:
        yield "openssl.cnf"
    if kind == "nginx":
        yield "nginx"
    if kind == "sshd":
        yield from ("askpass", "host.pub")
    if seal_pin:
        yield "seal.hcl"


def _outside(name: str, kind: str, service: str, watched: bool) -> tuple[frozenset[str], frozenset[str]]:
    """Files in folders of others, and units."""
    units = [f"keyfleet-watch-{name}"] if watched else []
    units += [f"keyfleet-agent-{name}"] if kind == "sshd" else []
    parts = [f"{UNITS}/{unit}.service" for unit in units] + [f"{UNITS}/{service}.service.d/keyfleet-consumer.conf"]
    parts += {"nginx": [NGINX_VARIABLES], "sshd": [SSHD_PART]}.get(kind, [])
    parts += [*(f"{STATE}/{name}.{note}" for note in ("failures", "halt", "proved", "uses")), f"{RUN}/{name}"]
    return frozenset(parts), frozenset(units)


def assignments(text: str) -> dict[str, str]:
    """The variables of a file that a shell reads, as the role writes it."""
    found = {}
    for line in text.splitlines():
        if match := _LINE.fullmatch(line):
            try:
                found[match[1]] = " ".join(shlex.split(match[2]))
            except ValueError:  # cut off in the middle of a quote
                continue
    return found
