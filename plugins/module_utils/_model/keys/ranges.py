# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""Ranges in labels, as Ansible's inventories have them in names of hosts: ``dek-[001:500]`` is 500 labels."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import product
from math import prod

from ..quoting import quoted

MAX_KEYS = 10_000  # in one task
_RANGE = re.compile(r"\[(?:([0-9]+):([0-9]+)|([A-Za-z]):([A-Za-z]))(?::([0-9]+))?\]")
_DIGITS = 9


def is_range(label: str) -> bool:
    return _RANGE.search(label) is not None


def _values(found: re.Match[str], label: str) -> Sequence[int]:
    """The numbers, or the letters as numbers, of one range. Raises :class:`ValueError`."""
    first, last, letter, end, step = found.groups()
    if letter is not None:
        first, last = letter, end
    elif len(first) > 1 and first.startswith("0") and len(first) != len(last):
        raise ValueError(f"{quoted(label)}: {found[0]} has numbers of unequal length: write both with as many digits, or without zeros")
    if max(map(len, (first, last, step or ""))) > _DIGITS:
        raise ValueError(f"{quoted(label)}: {found[0]} is too long: give numbers of up to {_DIGITS} digits")
    values = range(int(first), int(last) + 1) if letter is None else range(ord(first), ord(last) + 1)
    if not values or step == "0" or first.isupper() != last.isupper():
        raise ValueError(f"{quoted(label)}: {found[0]} holds nothing: write the first, a colon and the last, for example [001:500]")
    return values[:: int(step or 1)]


def range_size(label: str) -> int:
    """How many labels it stands for; 1 where it is no range. Raises :class:`ValueError`."""
    return prod(len(_values(found, label)) for found in _RANGE.finditer(label))


def labels_in(label: str) -> list[str]:
    """The labels that it stands for, in order. Raises :class:`ValueError`."""
    parts: list[Sequence[str]] = []
    at = 0
    for found in _RANGE.finditer(label):
        width = len(found[1]) if (found[1] or "").startswith("0") else 0
        values = _values(found, label)
        parts += [[label[at : found.start()]], [f"{value:0{width}d}" if found[1] is not None else chr(value) for value in values]]
        at = found.end()
    return ["".join(chosen) for chosen in product(*parts, [label[at:]])]


def declared_labels(label: str, key_id: object = None) -> list[str]:
    """The labels of the keys that an entry of ``keys:`` is about. With an id it is one, as it is; so is a range that hsm_key refuses."""
    try:
        return labels_in(label) if key_id is None and range_size(label) <= MAX_KEYS else [label]
    except ValueError:
        return [label]
