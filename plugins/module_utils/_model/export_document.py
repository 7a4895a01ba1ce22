# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""The registry's virtual keys as a document for Git. Its ``keys`` are entries for hsm_key, which then changes nothing.

What an entry cannot say in full is not said in part: that key goes to ``others`` with the reason.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from .keys.generations import known_generations, own_id, recorded_generations, split_label, stored_label
from .keys.objects import KeyName
from .keys.ranges import is_range
from .keys.spec import MADE, PRESENT, PUBLIC_ONLY, parse_keys
from .keys.states import ACTIVE, DESTROYED, STATES
from .keys.types import CURVES, KEY_TYPES, PRIVATE, PUBLIC, WEAK_TYPES, is_short, ordered
from .records import VirtualKey

FAMILY = "keyfleet.hsm.export/"
FORMAT = f"{FAMILY}1"
TEMPLATES = ("{{", "{%", "{#")  # Ansible runs what begins so where it reads a file as variables
OF_ANSIBLE = "__ansible_"  # the keys of mappings in which Ansible's own types cross from a host: it reads no other mapping that has one


class _Undeclarable(Exception):
    """Why hsm_key cannot declare a key."""


def export_document(
    scope: Mapping[str, Any],
    records: Sequence[VirtualKey],
    address: Callable[[VirtualKey], str],
    *,
    uri: Callable[[VirtualKey], str | None],
    absent: Collection[KeyName] = (),
    repeated: Collection[str] = (),
) -> dict[str, Any]:
    """The document, plain values only. ``scope`` stands at its head; ``address`` gives the UID of a record, ``uri`` its PKCS#11 URI.

    ``absent`` are the names of records whose key is in no HSM any more: hsm_key would make another one. ``repeated`` are labels
    that several keys in the HSM have, recorded or not. The order of ``records`` does not matter.
    """
    highest = _Highest(records)
    labels = Counter(record.label for record in records)
    declared: list[tuple[VirtualKey, dict[str, Any]]] = []
    others: list[dict[str, Any]] = []
    for record in records:
        try:
            if record.name in absent:
                raise _Undeclarable("not in the HSM")
            declared.append((record, _entry(record, labels[record.label], record.label in repeated, highest)))
        except _Undeclarable as error:
            others.append(_other(record, address(record), str(error)))
    ids = Counter(_id_of(record) for record, _entry_of_it in declared)
    keys = []
    current: dict[str, str | None] = {}
    for record, entry in declared:
        if ids[_id_of(record)] == 1:
            keys.append(entry)
            # Of a key that is in use there is one entry, that of its highest generation.
            if entry.get("state", PRESENT) == PRESENT:
                current[entry["label"]] = uri(record)
        else:
            reason = f"several keys have CKA_ID {_id_of(record).hex()}, and hsm_key takes each id once in a list"
            others.append(_other(record, address(record), reason))
    return {
        "format": FORMAT,
        **{name: _plain(value) for name, value in scope.items()},
        "keys": sorted(keys, key=lambda entry: (entry["label"], entry.get("generation", 1))),
        "others": sorted(others, key=lambda other: [str(value) for value in other.values()]),  # by UID, then by the rest
        "fingerprints": _by_uid(records, address, lambda record: record.fingerprint),
        # Behind format in the order of letters: the mark of an export is looked for at its head.
        "pkcs11_uris": _by_uid((one for one in records if one.state != DESTROYED and one.name not in absent), address, uri),
        "pkcs11_uris_current": {label: found for label, found in sorted(current.items()) if found},
    }


class _Highest:
    """The highest generation of a base label, as hsm_key finds it."""

    def __init__(self, records: Sequence[VirtualKey]) -> None:
        self._there = {record.label for record in records if record.state != DESTROYED}
        self._recorded = recorded_generations((record.label, record.generation) for record in records)

    def __call__(self, base: str) -> int:
        return max(known_generations(base, self._there, self._recorded.get(base, ())), default=0)


def _entry(record: VirtualKey, times: int, repeated: bool, highest: Callable[[str], int]) -> dict[str, Any]:
    """The entry of ``keys`` that means this key. Raises :class:`_Undeclarable`."""
    if not record.label:
        raise _Undeclarable("it has no label")
    if any(mark in record.label for mark in TEMPLATES):
        raise _Undeclarable("its label looks like a template, which Ansible would run where it reads this file as variables")
    if record.label.startswith(OF_ANSIBLE):
        raise _Undeclarable(f"its label begins with {OF_ANSIBLE}, which Ansible keeps for itself")
    if not record.label.isprintable():
        raise _Undeclarable("its label is not UTF-8, or has a character that cannot be printed")
    if times > 1:
        raise _Undeclarable(f"{times} keys have this label, and hsm_key finds a key by its label")
    if repeated:
        raise _Undeclarable("several keys in the HSM have this label, and hsm_key finds a key by its label")
    state = _state(record)
    entry = {**_name(record, state, highest), **_attributes(record, state)}
    if is_range(entry["label"]) and "id" not in entry:
        raise _Undeclarable("its label reads as a range: only an entry with 'id' takes it as it is, and this key can have none")
    if state != PRESENT:
        entry["state"] = state
    _specs, problems = parse_keys([entry])
    if problems:
        raise _Undeclarable("; ".join(problem.removeprefix(f"keys[0] ({entry['label']})").lstrip(".: ") for problem in problems))
    if record.kind == PRIVATE and state in MADE and not record.public_key:
        raise _Undeclarable("its public half is not recorded: as it is, hsm_key would take it for half a pair")
    return entry


def _state(record: VirtualKey) -> str:
    """The word for ``state``. Raises :class:`_Undeclarable`."""
    if record.state not in STATES:
        raise _Undeclarable(f"{record.state!r} is no state that hsm_key knows")
    if record.state == ACTIVE:
        return PUBLIC_ONLY if record.kind == PUBLIC else PRESENT
    if record.kind == PUBLIC and record.state in MADE:
        raise _Undeclarable(f"only its public half is there, and with state: {record.state} hsm_key wants the whole pair")
    return record.state


def _name(record: VirtualKey, state: str, highest: Callable[[str], int]) -> dict[str, Any]:
    """Label, generation and id. Raises :class:`_Undeclarable`.

    A key that was recorded with a generation is named by it. Any other has its label as it is, ``x@2`` included.
    """
    base, number = split_label(record.label)
    if record.generation > 1:
        if number != record.generation:
            raise _Undeclarable(f"it is recorded as generation {record.generation}, and its label says otherwise")
        if record.key_id != own_id(record.label):
            raise _Undeclarable("a later generation has its label's bytes as its CKA_ID, and this one does not")
        name: dict[str, Any] = {"label": base, "generation": number}
    else:
        base = record.label
        name = {"label": base}
        if number is None and state not in MADE:
            name["generation"] = 1  # without it the entry may mean later generations too, also some that the registry lacks
        # With an id a label is taken as it is, and without one a range is many other keys.
        if record.key_id not in (b"", own_id(record.label)) or (record.key_id and is_range(base)):
            name["id"] = record.key_id.hex()
    top = highest(base)
    if top > record.generation and (state in MADE or "generation" not in name):
        later = f"hsm_key takes '{stored_label(base, top)}' for a later generation of this key"
        if state in MADE:
            raise _Undeclarable(f"{later}, leaves this one as it is (previous: keep), and declares it only when it is out of use")
        raise _Undeclarable(f"{later}, and an entry with this label would mean both")
    return name


def _attributes(record: VirtualKey, state: str) -> dict[str, Any]:
    """Type, and for a key that hsm_key would make what it would make. Raises :class:`_Undeclarable`."""
    key_type = KEY_TYPES.get(record.type)
    if key_type is None:
        raise _Undeclarable(f"{record.type} is no type of key that hsm_key makes")
    if record.kind not in key_type.halves:
        raise _Undeclarable(f"a {record.kind} key of type {record.type} is none that hsm_key makes")
    if state not in MADE:
        return {"type": key_type.name}
    found: dict[str, Any] = {"type": key_type.name}
    if key_type.name == "EC":
        if record.curve not in CURVES:
            raise _Undeclarable(f"its curve is not known to be one of {', '.join(CURVES)}")
        found["curve"] = record.curve
    elif key_type.sizes and record.size is not None:
        found["size"] = record.size
    # Other programs allow keys what no key of the type can do, or nothing: what an entry cannot say is left as it is.
    if record.operations and set(record.operations) <= key_type.operations:
        found["operations"] = list(ordered(record.operations))
    if record.allowed_mechanisms:
        found["allowed_mechanisms"] = list(record.allowed_mechanisms)
    if key_type.name in WEAK_TYPES or is_short(key_type.name, record.size):
        found["allow_weak"] = True
    return found


def _id_of(record: VirtualKey) -> bytes:
    """The CKA_ID that the entry of this key stands for. A key without one is declared without one."""
    return record.key_id or own_id(record.label)


def _other(record: VirtualKey, uid: str, reason: str) -> dict[str, Any]:
    return {
        "uid": plain_text(uid),
        "kind": record.kind,
        "label": plain_text(record.label),
        "id": record.key_id.hex(),
        "type": record.type,
        "size": record.size,
        "curve": record.curve,
        "operations": list(ordered(record.operations)),
        "state": record.state,
        "reason": plain_text(reason),
    }


def _by_uid(
    records: Iterable[VirtualKey], address: Callable[[VirtualKey], str], told: Callable[[VirtualKey], str | None]
) -> dict[str, str | list[str]]:
    """What is told of each key, by UID; a list where several keys have one UID, as those with the same CKA_ID do."""
    found: dict[str, set[str]] = defaultdict(set)
    for record in records:
        value = told(record)
        if value is not None:
            found[plain_text(address(record))].add(value)
    return {uid: min(values) if len(values) == 1 else sorted(values) for uid, values in sorted(found.items())}


def _plain(value: Any) -> Any:
    """The same with every line of text as :func:`plain_text` has it."""
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return "\n".join(map(plain_text, value.split("\n"))) if isinstance(value, str) else value


def plain_text(value: str) -> str:
    """What cannot be printed as Python escapes it: bytes that were not UTF-8 (``\\udcff``; libyaml takes no surrogates), and what
    would turn a line around in a review (``\\u202e``). The braces of what looks like a template as ``\\x7b``."""
    if any(mark in value for mark in TEMPLATES):
        value = value.replace("{", "\\x7b")
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in value)
