# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""Is this that key? What keys and records may know each other by, and what proves that two are not one key.

A pair is known by its public key. A check value has 24 bits, and two HSMs may compute it in two ways (PKCS#11 3.1, section
4.10.2): it never proves that two secret keys are one, and that they are not only where both values are of one HSM.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from ..._model.keys.objects import Key, KeyName
from ..._model.keys.types import PRIVATE, PUBLIC, SECRET
from ..._model.records import VirtualKey

Fact = tuple[str, str, object]  # of which kind of key; label, id or key; its value
ANY = "any"  # where a name counts whatever kind of key bears it
PAIR = "pair"  # where the halves of a pair count as one key: the kind of both


class Difference(NamedTuple):
    """In what a key is not the one that was recorded: type, size or fingerprint."""

    field: str
    found: object
    recorded: object


def is_another(
    key: Key,
    record: VirtualKey,
    *,
    check_values: bool,
    check_value: str | None = None,
    sizes: bool = False,
    unknown_types: bool = False,
) -> Difference | None:
    """What proves that ``key`` is not the one that was recorded; None: it is, or that cannot be told.

    Two public keys alone decide where both are known. Otherwise another type is proof; with ``unknown_types`` also where one
    side does not know the type; with ``sizes`` another size is, where both are known; with ``check_values`` a secret key's
    check value is. ``check_value`` (hex) is one that was computed, for a token that gives none.
    """
    found, recorded = key.public_fingerprint, record.public_fingerprint
    if found is not None and found == recorded:
        return None
    types = (key.main.type, record.type)
    if types[0] != types[1] and (unknown_types or "unknown" not in types):
        return Difference("type", *types)
    if found is not None and recorded is not None:
        return Difference("fingerprint", found, recorded)
    size = key.main.size or (key.public.size if key.public is not None else None)
    if sizes and None not in (size, record.size) and size != record.size:
        return Difference("size", size, record.size)
    if check_values and key.secret is not None:
        found, recorded = key.fingerprint or check_value, record.fingerprint
        if None not in (found, recorded) and found != recorded:
            return Difference("fingerprint", found, recorded)
    return None


def family(kind: str) -> str:
    """The kind for whoever takes the halves of a pair for one key."""
    return SECRET if kind == SECRET else PAIR


def facts(kind: str, label: str = "", key_id: bytes = b"", public: str | None = None) -> list[Fact]:
    """What a key of this kind may be known by: its label, its CKA_ID, the fingerprint of its public key. What is empty says nothing.

    One in common is enough to take two for one key where a mistake costs nothing: the others may have been edited.
    """
    return [(kind, what, value) for what, value in (("label", label), ("id", key_id), ("key", public)) if value]


def known_as(item: Key | VirtualKey) -> list[Fact]:
    """All that a key or a record may be known by, where the halves of a pair count as one key."""
    kind, key_id, label = item.name
    return facts(family(kind), label, key_id, item.public_fingerprint)


def record_of_key(key: Key, records: Iterable[VirtualKey], there: Collection[KeyName]) -> VirtualKey | None:
    """Of the ``records`` of a key's label, the one of the key; failing that, the one of its kind that no key on the token (``there``)
    answers to: its CKA_ID was edited since. A label that is empty tells nothing of that."""
    of_kind = [record for record in records if record.kind == key.main.kind]
    left = [record for record in of_kind if record.name == key.name]
    left = left or [record for record in of_kind if key.main.label and record.name not in there]
    return left[0] if len(left) == 1 else None


def record_of_part(key: Key, records: Sequence[VirtualKey], there: Collection[KeyName]) -> VirtualKey | None:
    """The same of a key that may have lost a half since, or got another CKA_ID: it is still the pair that was recorded."""
    same = [record for record in records if record.key_id == key.main.key_id]
    same = same or [record for record in records if record.key_id == key.pair_id and record.name not in there]
    of_kind = next((record for record in same if record.kind == key.main.kind), None)
    return of_kind or (same[0] if len(same) == 1 else record_of_key(key, records, there))


def facts_of_keys(keys: Iterable[Key]) -> set[Fact]:
    """What a record may know one of these keys by. A pair may also be the key of a record of its public half."""
    found: set[Fact] = set()
    for key in keys:
        kind, public = key.main.kind, key.public_fingerprint
        found.update(facts(kind, key.main.label, key.main.key_id, public), facts(PUBLIC, public=public) if kind == PRIVATE else ())
    return found


def facts_of_record(record: VirtualKey) -> set[Fact]:
    """The same of a record."""
    return set(facts(record.kind, record.label, record.key_id, record.public_fingerprint))


def marks(item: Key | VirtualKey) -> set[object]:
    """What a group's own keys are looked for by on its members: whole name, label, fingerprint. A check value does, too: what is
    found is only compared."""
    kind, _key_id, label = item.name
    return {item.name, *facts(kind, label), *([item.fingerprint] if item.fingerprint else [])}
