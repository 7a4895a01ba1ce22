# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""Values on their way into TOML: made plain, and compared as TOML tells them apart."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import date, datetime, time
from typing import Any

from .quoting import quoted

_MAX_INTEGER = 2**63 - 1  # TOML readers need to take no more than 64 bits with a sign


def plain(value: Any, where: str) -> tuple[Any, list[str]]:
    """A deep copy of ``value`` in Python's own types, and every problem found, each naming its place under ``where``.

    Templating hands over subclasses that carry tags or are evaluated late; a writer of TOML is given none of them.
    Values are never shown in a problem, since they may be secrets.
    """
    problems: list[str] = []
    return _plain(value, where, problems), problems


def _plain(value: Any, where: str, problems: list[str]) -> Any:
    if isinstance(value, Mapping):
        return _plain_mapping(value, where, problems)
    if isinstance(value, (list, tuple)):
        return [_plain(item, f"{where}[{index}]", problems) for index, item in enumerate(value)]
    if isinstance(value, str):
        return _plain_text(value, where, problems)
    if isinstance(value, bool):
        return bool(value)
    if isinstance(value, int):
        if not -_MAX_INTEGER - 1 <= value <= _MAX_INTEGER:
            problems.append(f"{where}: is larger than the 64 bits of a TOML integer: give it as text, in quotes")
        return int(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, (date, time)):
        return _plain_moment(value, where, problems)
    if value is None:
        problems.append(f"{where}: has no value, and TOML has none for that: leave the key out, or give a value")
    else:
        problems.append(f"{where}: TOML holds no {type(value).__name__}: give text, a number, a boolean, a date, a list or a mapping")
    return None


def _plain_mapping(value: Mapping[Any, Any], where: str, problems: list[str]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, item in value.items():
        if not isinstance(key, str):
            problems.append(f"{where}: the key {quoted(key)} is no text: put it in quotes")
            continue
        name = _plain_text(key, f"{where}: a key", problems)
        result[name] = _plain(item, f"{where}.{name}", problems)
    return result


def _plain_text(value: str, where: str, problems: list[str]) -> str:
    text = str.__str__(value)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        problems.append(f"{where}: is text that UTF-8 cannot hold: give Unicode text")
    return text


def _plain_moment(value: date | time, where: str, problems: list[str]) -> date | time:
    if isinstance(value, datetime):
        return datetime.combine(value.date(), value.timetz())
    if isinstance(value, date):
        return date(value.year, value.month, value.day)
    if value.tzinfo is not None:
        problems.append(f"{where}: TOML has no time of day with a zone: leave the zone out, or give a date with it")
    return time(value.hour, value.minute, value.second, value.microsecond)


def same(one: Any, other: Any) -> bool:
    """Whether two plain values are one in TOML: ``1``, ``1.0`` and ``true`` differ; the order of keys is no matter."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if type(one) is not type(other):
        return False
    if isinstance(one, float) and math.isnan(one):
        return math.isnan(other)
    return bool(one == other)
