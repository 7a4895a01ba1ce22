# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""Keys as they were found in a token, and how two objects make one key pair."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any

from ..uids import key_id_text
from .layout import EVIDEN, pair_id, pair_label, public_id, public_label
from .types import CLASS_OPERATIONS, PRIVATE, PUBLIC, SECRET, ordered

KeyName = tuple[str, bytes, str]  # kind, CKA_ID, CKA_LABEL


@dataclass(frozen=True)
class KeyObject:
    """One key object of a token, read in one bulk call.

    ``kind`` is secret, private or public. None in a field: the token does not say. ``public_key`` is the DER of a
    SubjectPublicKeyInfo, on public halves, and on a private one where its own attributes give it, as RSA's do (PKCS#11 3.1,
    section 6.1.3). ``modulus`` and ``exponent`` are RSA's public numbers, on both halves.
    ``wrap_with_trusted``: only a key that is ``trusted``, which the security officer says, may wrap it.
    ``allowed_mechanisms`` are read where an entry declares them; empty: it is restricted to none.
    ``always_authenticate``: a private key that wants the PIN at each use. ``check_value`` is CKA_CHECK_VALUE of a secret key. ``empty``: a
    half of a pair without the public numbers that each has.
    ``untold`` are operations of its type of which the token does not say whether the key has them. ``recalled`` are operations and
    attributes that the token does not say, and the registry does: see :func:`recall`.
    """

    handle: int
    kind: str
    label: str
    key_id: bytes
    type: str
    size: int | None = None
    curve: str | None = None
    operations: tuple[str, ...] = ()
    sensitive: bool | None = None
    extractable: bool | None = None
    modifiable: bool | None = None
    destroyable: bool | None = None
    local: bool | None = None
    trusted: bool | None = None
    wrap_with_trusted: bool | None = None
    allowed_mechanisms: tuple[str, ...] | None = None
    always_authenticate: bool | None = None
    public_key: bytes | None = None
    modulus: bytes | None = None
    exponent: bytes | None = None
    check_value: bytes | None = None
    empty: bool = False
    untold: tuple[str, ...] = ()
    recalled: tuple[str, ...] = ()

    def named(self) -> str:
        """Short words for errors."""
        return f"{self.kind} key, handle {self.handle}, CKA_ID {self.key_id.hex() or '(none)'}"

    def has(self, name: str) -> bool | None:
        """Whether it has an operation, or an attribute of those in ``REMEMBERED``. None: neither the token nor the registry says."""
        if name in REMEMBERED:
            value: bool | None = getattr(self, name)
            return value
        if name in self.operations:
            return True
        return None if name in self.untold and name not in self.recalled else False

    def reports(self, name: str) -> bool:
        """Whether the token itself says so much of it."""
        return name not in self.untold and name not in self.recalled and self.has(name) is not None


# The attributes beside operations that a key is made with. What we set of either is remembered where the token does not report it.
REMEMBERED = ("sensitive", "extractable", "modifiable", "destroyable", "wrap_with_trusted")


@dataclass(frozen=True)
class Key:
    """One key: a secret key, a pair, or half a pair."""

    secret: KeyObject | None = None
    private: KeyObject | None = None
    public: KeyObject | None = None

    @property
    def main(self) -> KeyObject:
        """The half that counts: the secret or private key, else the public one."""
        main = self.secret or self.private or self.public
        if main is None:
            raise ValueError("a key has at least one object")
        return main

    @property
    def name(self) -> KeyName:
        return (self.main.kind, self.main.key_id, self.main.label)

    @property
    def label(self) -> str:
        """What it is called: the label of the half that counts; where that has none, the public half's."""
        return self.main.label or (self.public.label if self.public is not None else "")

    @property
    def pair_id(self) -> bytes:
        """CKA_ID of the private half, also where only the public one is there and is called as layout ``eviden`` has it."""
        return pair_id(self.main.key_id) if self.main.kind == PUBLIC else self.main.key_id

    @property
    def pair_label(self) -> str:
        """The same of the label that it goes by."""
        return pair_label(self.label) if self.pair_id != self.main.key_id else self.label

    @property
    def objects(self) -> tuple[KeyObject, ...]:
        return tuple(part for part in (self.secret, self.private, self.public) if part is not None)

    @property
    def is_half(self) -> bool:
        return self.secret is None and (self.private is None or self.public is None)

    @property
    def operations(self) -> tuple[str, ...]:
        return ordered({operation for part in self.objects for operation in part.operations})

    @property
    def fingerprint(self) -> str | None:
        """Hex of the SHA-256 of the public key's DER (SubjectPublicKeyInfo); of a secret key, its key check value.

        None where the token gives neither.
        """
        if self.public is not None and self.public.public_key:
            return fingerprint_of(self.public.public_key)
        return self.secret.check_value.hex() if self.secret is not None and self.secret.check_value else None

    @property
    def public_fingerprint(self) -> str | None:
        """The fingerprint of a pair, also where its public half is not there and the private one gives the public key."""
        known = next((half.public_key for half in (self.public, self.private) if half is not None and half.public_key), None)
        return fingerprint_of(known) if known is not None else None

    @property
    def key_id_text(self) -> str:
        return key_id_text(self.main.key_id, self.main.label)


def fingerprint_of(public_key: bytes) -> str:
    """Hex of the SHA-256 of a public key's DER (SubjectPublicKeyInfo, RFC 5280)."""
    return sha256(public_key).hexdigest()


def _is_mate(private: KeyObject, public: KeyObject) -> bool:
    """As layout ``eviden`` and the server itself have it; a known modulus has the last word."""
    if not private.key_id or private.type != public.type or public_id(EVIDEN, private.key_id) != public.key_id:
        return False
    return _same_modulus(private, public)


def _same_modulus(private: KeyObject, public: KeyObject) -> bool:
    """False only where both moduli are known and differ."""
    return None in (private.modulus, public.modulus) or private.modulus == public.modulus


def _only_public(sharing: Sequence[KeyObject]) -> list[KeyObject]:
    """The public key among the halves that share a CKA_ID; none where they are not one of each kind, or do not go together."""
    if sorted(item.kind for item in sharing) != [PRIVATE, PUBLIC]:
        return []
    one, other = sharing
    fits = not one.empty and not other.empty and (None in (one.curve, other.curve) or one.curve == other.curve)
    return [item for item in sharing if fits and item.kind == PUBLIC]


def group_keys(objects: Iterable[KeyObject]) -> list[Key]:
    """Join the halves of pairs: same CKA_ID, label and type, or the ``_pk`` form, or, with labels of their own as PIV tokens and Java
    have them, a CKA_ID that one private and one public key of this type have and no other key. Order of the search is kept.

    Where a name stands for several objects of one kind nothing is guessed: each becomes a key of its own.
    """
    objects = list(objects)
    halves: dict[tuple[bytes, str], list[KeyObject]] = defaultdict(list)
    for item in objects:
        if item.kind != SECRET and item.key_id:
            halves[item.key_id, item.type].append(item)
    publics: dict[tuple[bytes, str, str], list[KeyObject]] = defaultdict(list)
    publics_by_id: dict[bytes, list[KeyObject]] = defaultdict(list)
    privates: dict[tuple[bytes, str, str], int] = defaultdict(int)
    for item in objects:
        name = (item.key_id, item.label, item.type)
        if item.kind == PUBLIC:
            publics[name].append(item)
            publics_by_id[item.key_id].append(item)
        elif item.kind == PRIVATE:
            privates[name] += 1
    taken: set[int] = set()
    keys: list[Key] = []
    for item in objects:
        if item.kind == SECRET:
            keys.append(Key(secret=item))
        elif item.kind == PRIVATE:
            name = (item.key_id, item.label, item.type)
            mates = publics.get(name, []) or [p for p in publics_by_id.get(public_id(EVIDEN, item.key_id), []) if _is_mate(item, p)]
            mates = mates or _only_public(halves.get((item.key_id, item.type), ()))
            mate = mates[0] if len(mates) == 1 and privates[name] == 1 and _same_modulus(item, mates[0]) else None
            if mate is not None:
                taken.add(mate.handle)
            keys.append(Key(private=item, public=mate))
    keys.extend(Key(public=item) for item in objects if item.kind == PUBLIC and item.handle not in taken)
    return keys


def laid_out(key: Key) -> Key:
    """The key with its public half called as layout ``eviden`` has it, where its private one has a CKA_ID."""
    if key.private is None or key.public is None or not key.private.key_id:
        return key
    key_id, label = public_id(EVIDEN, key.private.key_id), public_label(EVIDEN, key.private.label)
    return replace(key, public=replace(key.public, key_id=key_id, label=label))


def describe_key(key: Key) -> dict[str, Any]:
    """A key's attributes as they are on the token: for the diff, and part of what hsm_key returns."""
    main = key.main
    return {
        "id": main.key_id.hex(),
        "type": main.type,
        "size": main.size or (key.public.size if key.public else None),
        "curve": main.curve or (key.public.curve if key.public else None),
        "operations": list(key.operations),
        "sensitive": main.sensitive,
        "extractable": main.extractable,
    }


def reported(key: Key, name: str) -> bool:
    """Whether the token says of the key whether it has an operation, or an attribute in ``REMEMBERED``. True where no half has it."""
    if name in REMEMBERED:
        return key.main.reports(name)
    return all(item.reports(name) for item in key.objects if name in CLASS_OPERATIONS[item.kind])


def recall(key: Key, memory: Mapping[str, bool], size: int | None = None, curve: str | None = None) -> Key:
    """The key, with what its token does not say as it is remembered. ``memory`` has operations and attributes in ``REMEMBERED``."""
    described = describe_key(key)
    size, curve = described["size"] or size, described["curve"] or curve
    if not memory and (size, curve) == (described["size"], described["curve"]):
        return key
    return Key(**{item.kind: _recalled(item, memory, item.size or size, item.curve or curve) for item in key.objects})


def _recalled(item: KeyObject, memory: Mapping[str, bool], size: int | None, curve: str | None) -> KeyObject:
    attributes: dict[str, Any] = {
        name: memory[name] for name in REMEMBERED if name in memory and item.has(name) is None and item.kind != PUBLIC
    }
    operations = [name for name in item.untold if name in memory and name not in item.recalled]
    has = ordered({*item.operations, *(name for name in operations if memory[name])})
    recalled = (*item.recalled, *attributes, *operations)
    return replace(item, size=size, curve=curve, operations=has, recalled=recalled, **attributes)
