# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""Texts about many keys that say the same: one line, the first keys by name and the number of the others."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

LEAST = 6  # equal texts that become one; fewer are shown as they are
NAMES = 10  # that a message shows of a group
NAMES_IN_DETAILS = 100
_LINES = 50  # that a message shows of a list of problems

# keys[3] (dek-1).size: text
_PROBLEM = re.compile(
    r"(?P<list>\w+)\[(?P<number>[0-9]+)\](?: \((?P<name>.*?)\))?(?P<option>(?:\.\w+|\[[0-9]+\])*): (?P<text>.*)", re.DOTALL
)


class _Text(NamedTuple):
    """``whole`` as it stands alone; ``same`` is what equal ones share, and ``name`` what they differ in."""

    whole: str
    same: str
    name: str


def grouped_problems(problems: Iterable[str], names: int = NAMES) -> list[str]:
    """Problems of entries, as ``keys[3] (dek-1).size: text``; those that are not of an entry stay as they are."""
    return list(_lines(map(_of_problem, problems), names))


def grouped_texts(found: Iterable[tuple[str, str]], *, label_first: bool = False) -> list[str]:
    """Texts about one key each, given as (label, text). ``label_first``: a text that stands alone has its label in front."""
    return list(_lines((_Text(f"{label}: {text}" if label_first else text, _without(label, text), label) for label, text in found), NAMES))


def told(problems: Sequence[str], head: str) -> tuple[str, dict[str, Any]]:
    """An error's message and its details. ``head`` comes before several problems."""
    details = {"problems": grouped_problems(problems, NAMES_IN_DETAILS)}
    if len(problems) == 1:
        return problems[0], details
    lines = grouped_problems(problems)
    more = [f"- and {len(lines) - _LINES} more, all in failure.details.problems"] if len(lines) > _LINES else []
    return "\n".join([head, *(f"- {line}" for line in lines[:_LINES]), *more]), details


def _of_problem(problem: str) -> _Text:
    found = _PROBLEM.fullmatch(problem)
    if found is None:
        return _Text(problem, "", "")
    place = f"{found['list']}[]{found['option']}" if found["option"] else found["list"]
    name = found["name"] or f"{found['list']}[{found['number']}]"
    return _Text(problem, f"{place}: {_without(name, found['text'])}", name)


def _without(label: str, text: str) -> str:
    return re.sub(rf"(?:key )?'{re.escape(label)}(?:@([0-9]+))?'", _the_key, text) if f"'{label}" in text else text


def _the_key(found: re.Match[str]) -> str:
    return f"generation {found[1]} of the key" if found[1] else "the key"


def _lines(texts: Iterable[_Text], names: int) -> Iterator[str]:
    """One line for each group, where its first text stood."""
    groups: dict[object, list[_Text]] = {}
    for number, text in enumerate(texts):
        groups.setdefault(text.same or number, []).append(text)
    for group in groups.values():
        if len(group) < LEAST:
            yield from (text.whole for text in group)
            continue
        if not group[0].name:
            yield f"{group[0].whole} ({len(group)} times)"
            continue
        shown = ", ".join(text.name for text in group[:names])
        more = f" … and {len(group) - names} more" if len(group) > names else ""
        # The names belong to the first sentence, which is the cause. What may be done about it stands behind.
        cause, dot, rest = group[0].same.partition(". ")
        yield f"{cause.removesuffix('.')}: {shown}{more}{dot or '.' * cause.endswith('.')}{rest}"
