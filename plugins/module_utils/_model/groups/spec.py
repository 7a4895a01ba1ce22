# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""The options of hsm_group as one value, checked before the registry is opened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..quoting import quoted
from ..tokens.instance_names import name_problem
from ..tokens.selectors import TokenSelector

_SELECTORS = ("token_label", "token_serial", "slot")


@dataclass(frozen=True)
class ConnectionSpec:
    """One entry of ``connections:``, the ``index``-th as it was written. ``selector`` is None where the instance's one token is meant."""

    index: int
    instance: str
    selector: TokenSelector | None = None
    priority: int | None = None

    @property
    def where(self) -> str:
        return f"connections[{self.index}]"


@dataclass(frozen=True)
class GroupRequest:
    """The options of hsm_group. ``registry`` is a path on the target. With ``absent`` only ``name`` and ``force`` count.

    ``connections`` are the sound ones, in priority order; ``key_scan`` is None where it was left out. ``problems`` are those of all
    options. They are not raised here, since what the registry has against the sound connections is told in the same error.
    """

    registry: str
    name: str
    absent: bool
    description: str
    connections: tuple[ConnectionSpec, ...]
    apply_changes: bool
    key_scan: str | None
    force: bool
    exclusive: bool
    problems: tuple[str, ...]

    @classmethod
    def parse(cls, params: Mapping[str, Any]) -> GroupRequest:
        """The request that ``params``, the module's options, make."""
        absent, entries = params["state"] == "absent", params["connections"]
        problem = group_name_problem(params["name"])
        problems = [f"name: {problem}"] if problem else []
        if not entries and not absent:
            problems.append("connections: is missing: a group needs at least one, or state: absent to remove it")
        connections, found = parse_connections([] if absent or not entries else entries)
        return cls(
            **{name: params[name] for name in ("registry", "name", "description", "apply_changes", "key_scan", "force", "exclusive")},
            absent=absent,
            connections=in_order(connections),
            problems=(*problems, *found),
        )


def selector_options(selector: TokenSelector | None) -> dict[str, str | int]:
    """A selector as a task writes it; nothing for the one token of an instance."""
    return {} if selector is None else selector.options()


def group_name_problem(name: str) -> str | None:
    """Why ``name`` cannot be a group's name, or None. The rule is that of instances."""
    if name_problem(name) is None:
        return None
    return f"{quoted(name)} is no group name: begin with a letter or digit and use letters, digits, '.', '_' and '-'"


def in_order(connections: Sequence[ConnectionSpec]) -> tuple[ConnectionSpec, ...]:
    """Those with a priority by its number, then the others as they were written. Their places are the priorities 1 to n."""
    return tuple(sorted(connections, key=lambda entry: (entry.priority is None, entry.priority or 0)))


def _selector(options: Mapping[str, Any], where: str) -> tuple[TokenSelector | None, list[str]]:
    given = [name for name in _SELECTORS if options.get(name) is not None]
    if len(given) > 1:
        return None, [f"{where}: give at most one of {', '.join(_SELECTORS)}; found {' and '.join(given)}"]
    return TokenSelector.parse(options, where, prefix="token_") if given else (None, [])


def parse_connections(entries: Sequence[Mapping[str, Any]], option: str = "connections") -> tuple[list[ConnectionSpec], list[str]]:
    """The entries of ``option`` that can be read, as they were written, and every problem. One that repeats another is left out."""
    connections: list[ConnectionSpec] = []
    problems: list[str] = []
    tokens: dict[tuple[str, TokenSelector | None], str] = {}
    priorities: dict[int, str] = {}
    for index, options in enumerate(entries):
        where = f"{option}[{index}]"
        selector, found = _selector(options, where)
        problems += found
        priority = options.get("priority")
        if priority is not None and priority < 1:
            problems.append(f"{where}.priority: {priority} is too small: give 1 or more")
        elif priority in priorities:
            problems.append(f"{where}.priority: {priority} is also that of {priorities[priority]}: give each its own, or leave it out")
        elif priority is not None:
            priorities[priority] = where
        if found:
            continue
        token = (options["instance"], selector)
        if token in tokens:
            problems.append(f"{where}: names the same token as {tokens[token]}: name it once")
            continue
        tokens[token] = where
        connections.append(ConnectionSpec(index=index, instance=options["instance"], selector=selector, priority=priority))
    return connections, problems
