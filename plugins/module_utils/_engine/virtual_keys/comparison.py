# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""A token's keys and the registry's records: which belong together, what differs, and what has no counterpart."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from ..._model.keys.objects import Key, KeyName, describe_key
from ..._model.keys.states import DESTROYED
from ..._model.keys.types import PRIVATE, PUBLIC, ordered
from ..._model.records import VirtualKey
from .identity import is_another


@dataclass(frozen=True)
class Match:
    """A record and the key that it points at. ``drift`` holds (field, recorded, found) for what differs."""

    record: VirtualKey
    key: Key
    drift: tuple[tuple[str, Any, Any], ...] = ()


@dataclass(frozen=True)
class Comparison:
    """``nameless`` are keys without any name that no record was found for by their public key."""

    matches: tuple[Match, ...]
    added: tuple[Key, ...]
    missing: tuple[VirtualKey, ...]
    nameless: tuple[Key, ...]


def compare(keys: Iterable[Key], records: Iterable[VirtualKey], nameless: Iterable[Key] = ()) -> Comparison:
    """Which key each record points at. ``nameless`` are keys with neither CKA_ID nor CKA_LABEL.

    A record belongs to the key of the same kind, CKA_ID and CKA_LABEL, even where that is another key by now: then that is
    told as drift. What is left over is matched by its public key. A record of a public key alone also meets the pair of that
    name: its private half was given up on the virtual key only. The rest is matched by CKA_ID alone, then by CKA_LABEL alone,
    but not where it is known to be another key. Each way counts only where it is unambiguous: what a key is called was edited,
    which is drift and no new key. A check value is no ground to match by: it has 24 bits. A record of a destroyed key meets
    only the key of its whole name: any other is a new one.
    """
    without: dict[object, Key] = dict(enumerate(nameless))
    matching = _Matching({key.name: key for key in keys}, {record.name: record for record in records})
    matching.match_names(lambda name: name)
    matching.records = {name: record for name, record in matching.records.items() if record.state != DESTROYED}
    matching.keys |= without
    matching.match(lambda key: key.public_fingerprint, lambda record: record.public_fingerprint)
    matching.match_names(lambda name: (PRIVATE, *name[1:]) if name[0] == PUBLIC else None)
    matching.match(lambda key: key.main.key_id, lambda record: record.key_id)
    matching.match(lambda key: key.main.label, lambda record: record.label)
    return Comparison(
        tuple(matching.matches),
        tuple(key for name, key in matching.keys.items() if name not in without),
        tuple(matching.records.values()),
        tuple(key for name, key in matching.keys.items() if name in without),
    )


class _Matching:
    """Keys and records that are still open, and the matches among those that were."""

    def __init__(self, keys: dict[object, Key], records: dict[KeyName, VirtualKey]) -> None:
        self.keys = keys
        self.records = records
        self.matches: list[Match] = []

    def _meet(self, name: object, record_name: KeyName) -> None:
        self.matches.append(_match(self.keys.pop(name), self.records.pop(record_name)))

    def match_names(self, wanted: Callable[[KeyName], KeyName | None]) -> None:
        """Each record and the key of the name that ``wanted`` gives for it."""
        for record_name in list(self.records):
            if (name := wanted(record_name)) in self.keys:
                self._meet(name, record_name)

    def match(self, of_key: Callable[[Key], object], of_record: Callable[[VirtualKey], object]) -> None:
        """Those that agree in kind and in one thing, once on each side, and not empty."""
        by_key: dict[object, list[object]] = {}
        by_record: dict[object, list[KeyName]] = {}
        for name, key in self.keys.items():
            if value := of_key(key):
                by_key.setdefault((key.main.kind, value), []).append(name)
        for record_name, record in self.records.items():
            if value := of_record(record):
                by_record.setdefault((record.kind, value), []).append(record_name)
        for same, names in by_key.items():
            others = by_record.get(same, [])
            if len(names) != 1 or len(others) != 1:
                continue
            if not is_another(self.keys[names[0]], self.records[others[0]], check_values=True, sizes=True):
                self._meet(names[0], others[0])


def _operations(key: Key, record: VirtualKey) -> set[str]:
    """What the key may do; what its token does not say of that, as it was recorded."""
    untold = {operation for item in key.objects for operation in item.untold}
    return {*key.operations, *(untold & set(record.operations))}


def _match(key: Key, record: VirtualKey) -> Match:
    described = describe_key(key)
    pairs: list[tuple[str, Any, Any]] = [
        ("id", record.key_id.hex(), described["id"]),
        ("label", record.label, key.main.label),
        ("kind", record.kind, key.main.kind),
        ("type", record.type, described["type"]),
        ("operations", list(record.operations), list(ordered(_operations(key, record)))),
    ]
    if record.size is not None and described["size"] is not None:  # not every token says it
        pairs.append(("size", record.size, described["size"]))
    if record.fingerprint is not None and key.fingerprint is not None:  # another key under the same name
        pairs.append(("fingerprint", record.fingerprint, key.fingerprint))
    if None not in (record.allowed_mechanisms, key.main.allowed_mechanisms):
        pairs.append(("allowed_mechanisms", list(record.allowed_mechanisms or ()), list(key.main.allowed_mechanisms or ())))
    if record.state == DESTROYED:
        pairs.append(("state", record.state, "in the HSM"))
    return Match(record, key, tuple((name, old, new) for name, old, new in pairs if old != new))
