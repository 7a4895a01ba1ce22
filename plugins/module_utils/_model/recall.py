# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""What an earlier export tells of keys that a registry has found anew on their tokens: states, generations, narrowed operations.

Only for a key of the same kind, label, CKA_ID and fingerprint, and only into a record that nobody has changed since it was found. What
is not taken is told with the reason. ``destroyed`` is never taken.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from .export_document import FORMAT, plain_text
from .keys.generations import own_id, stored_label
from .keys.objects import KeyName
from .keys.spec import MADE, PRESENT, PUBLIC_ONLY
from .keys.states import ACTIVE, DESTROYED, STATES
from .keys.types import KEY_TYPES, PRIVATE, PUBLIC, ordered
from .records import VirtualKey
from .uids import key_id_text

_ADDRESS = re.compile(r"hsm::[a-z0-9_-]+::[0-9]+::", re.ASCII)
_TOKEN = ("token_label", "token_serial", "slot")
_FILLED = ("size", "curve", "allowed_mechanisms")  # taken where no token has reported them


@dataclass(frozen=True)
class Remembered:
    """A key of the document. None: the document does not say. ``label`` is written as the document writes it; ``kinds`` are those that
    the key's record may have; ``ids`` the CKA_IDs."""

    label: str
    ids: tuple[bytes, ...]
    kinds: frozenset[str]
    state: str
    type: str | None
    fingerprints: frozenset[str]
    public_only: bool = False
    generation: int | None = None
    size: int | None = None
    curve: str | None = None
    operations: tuple[str, ...] | None = None
    allowed_mechanisms: tuple[str, ...] | None = None

    def is_of(self, record: VirtualKey) -> bool:
        """Whether it has the name of the record's key."""
        return self.label == plain_text(record.label) and record.key_id in self.ids and record.kind in self.kinds

    def problem(self, fingerprint: str | None, key_type: str) -> tuple[str, str] | None:
        """Code and reason why a key with its name is not known to be this one; None where it is."""
        if fingerprint is None or not self.fingerprints:
            return "unproven", f"no fingerprint is known {'of the key on the token' if fingerprint is None else 'to the document'}"
        if fingerprint not in self.fingerprints or self.type not in (None, key_type):
            return "another_key", "another key has this name now"
        return None

    def shown(self, code: str, reason: str, **more: Any) -> dict[str, Any]:
        return {"label": self.label, "id": self.ids[0].hex(), "state": self.state, "code": code, "reason": reason, **more}


@dataclass(frozen=True)
class Memory:
    """A document that hsm_sync has returned or exported: its keys, by label. ``token`` is what names the token of an instance."""

    token: Mapping[str, Any]
    keys: tuple[Remembered, ...]
    by_label: Mapping[str, Sequence[Remembered]] = field(default_factory=dict)

    def of(self, record: VirtualKey) -> list[Remembered]:
        """The keys that have the name of the record's."""
        return [key for key in self.by_label.get(plain_text(record.label), ()) if key.is_of(record)]

    def claims(self, record: VirtualKey) -> bool:
        """Whether the record's key is one of the document."""
        found = self.of(record)
        return len(found) == 1 and found[0].state != DESTROYED and found[0].problem(record.fingerprint, record.type) is None


@dataclass(frozen=True)
class Recall:
    """``changes`` are records before and after, ``left`` entries of the answer, ``unknown`` the records that the document lacks."""

    changes: tuple[tuple[VirtualKey, VirtualKey], ...] = ()
    left: tuple[dict[str, Any], ...] = ()
    unknown: tuple[VirtualKey, ...] = ()


def parse_memory(document: Mapping[str, Any], scope: Mapping[str, str | None]) -> tuple[Memory | None, list[str]]:
    """The memory, or every problem of the option ``recall``. ``scope`` is what the task names: ``group`` or ``instance``."""
    if document.get("format") != FORMAT:
        return None, [f"recall: is not a document that hsm_sync has returned or exported (format: {FORMAT})"]
    group, instance = document.get("group"), document.get("instance")
    whose = {"group": group.get("name") if isinstance(group, Mapping) else None, "instance": instance}
    if whose != dict(scope):
        named = " ".join(f"{name} '{value}'" for name, value in whose.items() if value) or "nobody"
        return None, [f"recall: is the document of {named}, and not of what this task names"]
    try:
        keys = tuple(_keys(document))
    except (AttributeError, KeyError, TypeError, ValueError):
        return None, ["recall: has entries that hsm_sync does not write: give the document as it was exported"]
    by_label: dict[str, list[Remembered]] = defaultdict(list)
    for key in keys:
        by_label[key.label].append(key)
    return Memory({name: value for name, value in document.items() if name in _TOKEN}, keys, by_label), []


def _keys(document: Mapping[str, Any]) -> Iterator[Remembered]:
    """Raises AttributeError, KeyError, TypeError, ValueError where the document has another form."""
    fingerprints: dict[str, set[str]] = defaultdict(set)
    for uid, found in document["fingerprints"].items():
        fingerprints[_ADDRESS.sub("", uid, count=1)].update([found] if isinstance(found, str) else found)
    for entry in document["keys"]:
        label, state = stored_label(entry["label"], entry.get("generation", 1)), entry.get("state", PRESENT)
        ids = (bytes.fromhex(entry["id"]),) if "id" in entry else (own_id(label), b"")
        key_type = KEY_TYPES[entry["type"]]
        pair = {PUBLIC, PRIVATE} if state not in MADE else {PRIVATE}
        kinds = frozenset(pair if key_type.is_pair else key_type.halves)
        told = frozenset(fingerprints[plain_text(key_id_text(ids[0], label))])
        word = ACTIVE if state in (PRESENT, PUBLIC_ONLY) else state
        yield Remembered(
            label, ids, kinds, word, key_type.name, told, state == PUBLIC_ONLY, entry.get("generation", 1), **_attributes(entry)
        )
    for entry in document["others"]:
        key_id = bytes.fromhex(entry["id"])
        told = frozenset(fingerprints[_ADDRESS.sub("", entry["uid"], count=1)])
        kinds = frozenset({entry["kind"]})
        yield Remembered(entry["label"], (key_id,), kinds, entry["state"], entry["type"], told, **_attributes(entry))


def _attributes(entry: Mapping[str, Any]) -> dict[str, Any]:
    lists = {name: tuple(entry[name]) if name in entry else None for name in ("operations", "allowed_mechanisms")}
    return {"size": entry.get("size"), "curve": entry.get("curve"), **lists}


def plan_recall(
    memory: Memory, records: Sequence[VirtualKey], *, there: Collection[KeyName], fresh: Collection[str | None], group_id: str | None
) -> Recall:
    """What becomes of the records of a scope.

    ``there`` are the names of those whose key was found as it was recorded, ``fresh`` the ids of those that nobody has changed since they
    were found. In a group a virtual key may do less than the key in the HSM; records of groups that an instance's document speaks of
    stay as they are.
    """
    changes: list[tuple[VirtualKey, VirtualKey]] = []
    left: list[dict[str, Any]] = []
    unknown: list[VirtualKey] = []
    met: set[int] = set()
    for record in records:
        found = memory.of(record)
        if not found and record.group_id == group_id:
            unknown.append(record)
        if not found or record.name not in there:
            continue
        met.update(map(id, found))
        if len(found) > 1:
            left += [key.shown("ambiguous", "the document has several keys of this name") for key in found]
            continue
        after, told = _recalled(found[0], record, record.id in fresh, group_id)
        left += told
        changes += [(record, after)] if after != record else []
    for key in memory.keys:
        if id(key) not in met and key.state == DESTROYED:
            left.append(key.shown("destroyed", "it was recorded as destroyed, which is not recorded again"))
        elif id(key) not in met:
            left.append(key.shown("missing", "the token that was read does not have this key"))
    return Recall(tuple(changes), tuple(left), tuple(unknown))


def fields_of(before: VirtualKey, after: VirtualKey) -> dict[str, dict[str, Any]]:
    """By field, what a change makes of a record."""
    pairs = {item.name: (getattr(before, item.name), getattr(after, item.name)) for item in fields(VirtualKey)}
    return {name: {"was": _plain(was), "is": _plain(now)} for name, (was, now) in pairs.items() if was != now}


def _recalled(key: Remembered, record: VirtualKey, fresh: bool, group_id: str | None) -> tuple[VirtualKey, list[dict[str, Any]]]:
    """The record as it becomes, and what is left."""
    problem = key.problem(record.fingerprint, record.type)
    if problem is not None:
        return record, [key.shown(*problem)]
    taken: dict[str, Any] = {}
    left: list[dict[str, Any]] = []
    for name, was, wanted in _differences(key, record):
        refusal = _refusal(name, was, wanted, fresh=fresh, owned=record.group_id == group_id, in_group=record.group_id is not None)
        if refusal is None:
            taken[name] = wanted
        else:
            left.append(key.shown(*refusal, field=name, recorded=_plain(was), remembered=_plain(wanted)))
    return replace(record, **taken), left


def _differences(key: Remembered, record: VirtualKey) -> Iterator[tuple[str, Any, Any]]:
    if key.state != record.state:
        yield "state", record.state, key.state
    if key.public_only and record.kind == PRIVATE:
        yield "kind", record.kind, PUBLIC
    if key.generation not in (None, record.generation):
        yield "generation", record.generation, key.generation
    if key.operations is not None and set(key.operations) != set(record.operations):
        yield "operations", record.operations, tuple(ordered(key.operations))
    for name in _FILLED:
        was, wanted = getattr(record, name), getattr(key, name)
        if wanted is not None and wanted != was:
            yield name, was, wanted


def _refusal(name: str, was: Any, wanted: Any, *, fresh: bool, owned: bool, in_group: bool) -> tuple[str, str] | None:
    """Code and reason why a difference stays; None where it is taken."""
    if not owned:
        return "of_group", "a group has this key: its own document counts"
    if name == "state" and wanted == DESTROYED:
        return "destroyed", "it was recorded as destroyed, and is on the token"
    if name == "state" and wanted not in STATES:
        return "differs", f"{wanted!r} is no state of a key"
    if name == "kind":
        return "differs", "its private half was given up, and is on the token: say state: public_only (hsm_key)"
    if name == "operations" and not (in_group and set(wanted) <= set(was)):
        return "differs", "the key in the HSM has other operations"
    if name in _FILLED and was is not None:
        return "differs", "the key on the token has another value"
    return None if fresh else ("changed", "its record was changed since it was found")


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
