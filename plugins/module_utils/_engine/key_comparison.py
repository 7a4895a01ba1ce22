# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""A token's keys and the registry's records: which belong together, what differs, and what has no counterpart."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from .._model.key_objects import Key, KeyName
from .._model.key_states import DESTROYED
from .._model.key_types import PRIVATE, PUBLIC
from .._model.records import VirtualKey
from .key_plan import describe_key


@dataclass(frozen=True)
class Met:
    """A record and the key that it points at. ``drift`` holds (field, recorded, found) for what differs."""

    record: VirtualKey
    key: Key
    drift: tuple[tuple[str, Any, Any], ...]


@dataclass
class Comparison:
    met: list[Met] = field(default_factory=list)
    added: list[Key] = field(default_factory=list)
    missing: list[VirtualKey] = field(default_factory=list)


def compare(keys: Iterable[Key], records: Iterable[VirtualKey]) -> Comparison:
    """Which key each record points at.

    A record belongs to the key of the same kind, CKA_ID and CKA_LABEL. What is left over is matched by CKA_ID alone, then by
    CKA_LABEL alone, then by its public key, each where that is unambiguous: what it was called was edited, which is drift and
    no new key. A record of a public key alone also meets the pair of that name: its private half was given up on the virtual
    key only. A check value is no ground to match by: it has 24 bits.
    """
    found = Comparison()
    open_keys: dict[KeyName, Key] = {key.name: key for key in keys}
    open_records: dict[KeyName, VirtualKey] = {record.name: record for record in records}
    for name in [name for name in open_records if name in open_keys]:
        found.met.append(_meet(open_keys.pop(name), open_records.pop(name)))
    for name in [name for name in open_records if name[0] == PUBLIC and (PRIVATE, *name[1:]) in open_keys]:
        found.met.append(_meet(open_keys.pop((PRIVATE, *name[1:])), open_records.pop(name)))
    ways: tuple[tuple[Callable[[Key], object], Callable[[VirtualKey], object]], ...] = (
        (lambda key: key.main.key_id, lambda record: record.key_id),
        (lambda key: key.main.label, lambda record: record.label),
        (_public_key_of, lambda record: record.public_key),
    )
    for of_key, of_record in ways:
        for key_name, record_name in _unambiguous(open_keys, open_records, of_key, of_record):
            found.met.append(_meet(open_keys.pop(key_name), open_records.pop(record_name)))
    found.added = list(open_keys.values())
    found.missing = [record for record in open_records.values() if record.state != DESTROYED]
    return found


def _public_key_of(key: Key) -> bytes | None:
    return key.public.public_key if key.public is not None else None


def _unambiguous(
    keys: dict[KeyName, Key],
    records: dict[KeyName, VirtualKey],
    of_key: Callable[[Key], object],
    of_record: Callable[[VirtualKey], object],
) -> list[tuple[KeyName, KeyName]]:
    """Names of the pairs that agree in kind and in one thing, once on each side, and not empty."""
    by_key: dict[object, list[KeyName]] = {}
    by_record: dict[object, list[KeyName]] = {}
    for name, key in keys.items():
        if value := of_key(key):
            by_key.setdefault((name[0], value), []).append(name)
    for name, record in records.items():
        if value := of_record(record):
            by_record.setdefault((name[0], value), []).append(name)
    return [(names[0], by_record[same][0]) for same, names in by_key.items() if len(names) == len(by_record.get(same, ())) == 1]


def _meet(key: Key, record: VirtualKey) -> Met:
    described = describe_key(key)
    pairs: list[tuple[str, Any, Any]] = [
        ("id", record.key_id.hex(), described["id"]),
        ("label", record.label, key.main.label),
        ("kind", record.kind, key.main.kind),
        ("type", record.type, described["type"]),
        ("operations", list(record.operations), described["operations"]),
    ]
    if record.size is not None and described["size"] is not None:  # not every token says it
        pairs.append(("size", record.size, described["size"]))
    if record.fingerprint is not None and key.fingerprint is not None:  # another key under the same name
        pairs.append(("fingerprint", record.fingerprint, key.fingerprint))
    if record.state == DESTROYED:
        pairs.append(("state", record.state, "in the HSM"))
    return Met(record, key, tuple((name, old, new) for name, old, new in pairs if old != new))
