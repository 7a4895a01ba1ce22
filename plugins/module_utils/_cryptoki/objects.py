# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""Key objects of a token: one search pass, one bulk read each, and the calls that change and destroy them."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

from .._model.errors import Cryptoki
from .._model.keys.layout import EVIDEN, LAYOUTS, public_id, public_label
from .._model.keys.objects import Key, KeyObject
from .._model.keys.post_quantum import PARAMETER_SETS, type_of
from .._model.keys.types import (
    CURVE_BY_DER,
    ED25519_PARAMS,
    FIXED_SIZES,
    OPERATIONS,
    PRIVATE,
    PUBLIC,
    SECRET,
    class_operations,
    operations_of,
)
from .._model.tokens.vendors import CUT_OFF_WITHOUT_TOKEN
from . import direct
from .allowed import ATTRIBUTE, unpacked
from .attributes import read, read_value
from .binding import able, pkcs11
from .destroying import destroying
from .direct import described, is_direct
from .errors import calling
from .faceless import find_faceless
from .public_key import public_key_der
from .second_look import writing
from .session import Session

_READ = (
    "CLASS",
    "KEY_TYPE",
    "LABEL",
    "ID",
    "SENSITIVE",
    "EXTRACTABLE",
    "MODIFIABLE",
    "DESTROYABLE",
    "LOCAL",
    "TRUSTED",
    "WRAP_WITH_TRUSTED",
    "ALWAYS_AUTHENTICATE",
    ATTRIBUTE,
    *(operation.upper() for operation in OPERATIONS),
    "VALUE_LEN",
    "CHECK_VALUE",
    "MODULUS",
    "PUBLIC_EXPONENT",
    "EC_PARAMS",
    "EC_POINT",
    "PARAMETER_SET",
)
_KNOWN_BY = ("CLASS", "KEY_TYPE", "LABEL", "ID")
_SEARCH_BATCH = 256  # handles per C_FindObjects
_KINDS = {"SECRET_KEY": SECRET, "PRIVATE_KEY": PRIVATE, "PUBLIC_KEY": PUBLIC}


@dataclass
class Inventory:
    """What one search found: key objects, and the raw object behind each handle.

    ``cut_off`` are key objects that are on the token only in part. ``certified`` are the CKA_IDs of certificates.
    """

    objects: list[KeyObject] = field(default_factory=list)
    raw: dict[int, Any] = field(default_factory=dict)
    cut_off: list[KeyObject] = field(default_factory=list)
    certified: set[bytes] = field(default_factory=set)
    _by_label: dict[str, list[KeyObject]] | None = None

    def labelled(self, label: str) -> list[KeyObject]:
        """The key objects that were found with this CKA_LABEL."""
        if self._by_label is None:
            self._by_label = {}
            for item in self.objects:
                self._by_label.setdefault(item.label, []).append(item)
        return self._by_label.get(label, [])


def _type_name(found: Mapping[str, Any]) -> str:
    """Our word for the type; CKA_KEY_TYPE's name, or its number, for types that this collection does not make."""
    key_type = found.get("KEY_TYPE")
    if key_type is None:
        return "unknown"
    if found.get("EC_PARAMS") in ED25519_PARAMS or (key_type == pkcs11.KeyType.EC_EDWARDS and not found.get("EC_PARAMS")):
        return "Ed25519"  # without parameters: one of ours that was cut off
    # python-pkcs11 puts an underscore before what the standard calls historical.
    name = str(getattr(key_type, "name", f"0x{key_type:x}")).lstrip("_")
    return type_of(name, found.get("PARAMETER_SET")) or name


def _public_key(raw: Any, key_type: str, found: Mapping[str, Any]) -> bytes | None:
    if key_type in PARAMETER_SETS:
        return PARAMETER_SETS[key_type].der_of(read(raw, ["VALUE"]).get("VALUE", b""))
    return public_key_der(found)


def describe(raw: Any, certified: set[bytes] | None = None) -> KeyObject | None:
    """The key object behind a handle; None for an object that is no key. A certificate's CKA_ID goes
    into ``certified``. Raises :class:`Cryptoki`, or python-pkcs11's errors."""
    found = read(raw, _READ, known_by=_KNOWN_BY)
    if "CLASS" not in found:
        raise Cryptoki(f"the object with handle {raw.handle} cannot be read", rv="CKR_FUNCTION_FAILED", device=True)
    kind = _KINDS.get(getattr(found.get("CLASS"), "name", ""))
    if kind is None and certified is not None and found.get("ID") and getattr(found["CLASS"], "name", "") == "CERTIFICATE":
        certified.add(found["ID"])
    if kind is None:
        return None
    if "KEY_TYPE" in found:
        raw.key_type = found["KEY_TYPE"]  # python-pkcs11 would ask the token for it once more, at each use
    key_type = _type_name(found)
    modulus = found.get("MODULUS")
    curve = CURVE_BY_DER.get(found.get("EC_PARAMS", b""))
    size = FIXED_SIZES.get(key_type)
    if modulus:
        size = int.from_bytes(modulus, "big").bit_length()
    elif curve:
        size = curve.bits
    elif found.get("VALUE_LEN") and key_type not in PARAMETER_SETS:
        size = found["VALUE_LEN"] * 8
    elif kind == PUBLIC and key_type == "RSA":
        size = read(raw, ["MODULUS_BITS"]).get("MODULUS_BITS")
    untold = tuple(operation for operation in operations_of(key_type, kind) if operation.upper() not in found)
    if is_direct(raw):
        described(raw, found["CLASS"], tuple(operation for operation in OPERATIONS if found.get(operation.upper())))
    able(raw, untold)
    allowed = found.get(ATTRIBUTE) if kind != PUBLIC else None
    return KeyObject(
        handle=int(raw.handle),
        kind=kind,
        label=found.get("LABEL", ""),
        key_id=found.get("ID", b""),
        type=key_type,
        size=size,
        curve=curve.name if curve else None,
        operations=tuple(operation for operation in class_operations(key_type, kind) if found.get(operation.upper())),
        sensitive=found.get("SENSITIVE"),
        extractable=found.get("EXTRACTABLE"),
        modifiable=found.get("MODIFIABLE"),
        destroyable=found.get("DESTROYABLE"),
        local=found.get("LOCAL"),
        trusted=found.get("TRUSTED"),
        wrap_with_trusted=found.get("WRAP_WITH_TRUSTED"),
        allowed_mechanisms=None if allowed is None else unpacked(allowed),
        always_authenticate=found.get("ALWAYS_AUTHENTICATE"),
        public_key=_public_key(raw, key_type, found) if kind == PUBLIC else None,
        modulus=modulus,
        exponent=found.get("PUBLIC_EXPONENT"),
        check_value=found.get("CHECK_VALUE") or None,
        empty=kind != SECRET and not any(found.get(name) for name in ("MODULUS", "EC_PARAMS", "PARAMETER_SET")),
        untold=untold,
    )


def found_objects(session: Session, wanted: Mapping[Any, Any], most: int | None = None) -> list[Any]:
    """The objects that have these attributes, none of them read yet, and at most ``most``. Raises :class:`Cryptoki`, or python-pkcs11's
    errors."""
    if session.way is None:
        # It asks for each object that it goes through.
        with closing(session.raw.get_objects(wanted, batch_size=_SEARCH_BATCH)) as search:
            return list(islice(search, most))
    return [session.way.object(handle) for handle in session.way.handles(wanted, f"searching {session.token}")[:most]]


def read_inventory(session: Session, *, cut_off: bool = False) -> Inventory:
    """All key objects on the token, in one search. Raises :class:`Cryptoki`; an error is never an empty answer.

    ``cut_off`` searches once more, for objects whose making was cut off, where the token is known to list them apart. Only for
    a session in which nothing was made yet.
    """
    inventory, seen = Inventory(), set()
    with calling(f"searching the keys of {session.token}"):
        for raw in found_objects(session, {pkcs11.Attribute.TOKEN: True}):
            item = describe(raw, inventory.certified)
            seen.add(int(raw.handle))
            if item is not None:
                inventory.objects.append(item)
                inventory.raw[item.handle] = raw
        inventory.objects = _with_public_keys(inventory.objects)
        if cut_off and session.token.model in CUT_OFF_WITHOUT_TOKEN:
            for raw in found_objects(session, {pkcs11.Attribute.TOKEN: False}):
                item = describe(raw)
                if item is not None:
                    inventory.cut_off.append(item)
                    inventory.raw[item.handle] = raw
                seen.add(int(raw.handle))
            for faceless in find_faceless(session, seen):
                handle = int(faceless.handle)
                inventory.cut_off.append(KeyObject(handle=handle, kind="unknown", label="", key_id=b"", type="unknown", empty=True))
                inventory.raw[handle] = faceless
    return inventory


def _with_public_keys(objects: Iterable[KeyObject]) -> list[KeyObject]:
    """An RSA private key has the numbers of its public one, and is known by them where its public half is not there."""
    objects = list(objects)
    known = {(item.modulus, item.exponent): item.public_key for item in objects if item.kind == PUBLIC}
    found = []
    for item in objects:
        if item.kind == PRIVATE and item.modulus and item.exponent:
            numbers = (item.modulus, item.exponent)
            public = known.get(numbers) or public_key_der({"MODULUS": item.modulus, "PUBLIC_EXPONENT": item.exponent})
            item = replace(item, public_key=public)
        found.append(item)
    return found


def key_of(objects: Iterable[KeyObject]) -> Key:
    """The key that these objects are: one, or the two halves of a pair."""
    return Key(**{item.kind: item for item in objects})


def read_back(inventory: Inventory, key: Key) -> Key:
    """The key's attributes as the token gives them now."""
    with calling(f"reading key '{key.main.label}' back"):
        return key_of(item for item in (describe(inventory.raw[part.handle]) for part in key.objects) if item is not None)


def destroy(session: Session, inventory: Inventory, item: KeyObject) -> None:
    """Destroy one object on the token. There is no way back. Raises :class:`Cryptoki`."""
    doing = f"destroying the {item.kind} key '{item.label}'"
    with destroying(session, item.handle, doing):
        direct.destroy(inventory.raw[item.handle], doing)
    del inventory.raw[item.handle]  # the handle may be another's next


def set_attribute(inventory: Inventory, item: KeyObject, name: str, value: bool) -> None:
    """Write one boolean attribute (its name without ``CKA_``). Called only where the value differs: providers rewrite the
    whole object, and a crash in the middle may cost the key."""
    raw = inventory.raw[item.handle]
    doing = f"setting CKA_{name} of the {item.kind} key '{item.label}' to {str(value).lower()}"
    with writing(doing, "C_SetAttributeValue", lambda: bool(read_value(raw, name)) is value):
        direct.write(raw, name, value, doing)


def set_name(inventory: Inventory, item: KeyObject, name: str, value: bytes | str) -> None:
    """Write CKA_ID or CKA_LABEL of an object (the name without ``CKA_``). A crash in the middle may cost the object. Raises
    :class:`Cryptoki`."""
    raw = inventory.raw[item.handle]
    doing = f"setting CKA_{name} of the {item.kind} key '{item.label}'"
    with writing(doing, "C_SetAttributeValue", lambda: bool(read_value(raw, name) == value)):
        direct.write(raw, name, value, doing)


def read_named(session: Session, label: str | None, key_id: bytes | None, found: Inventory | None = None) -> Inventory:
    """The key objects with this CKA_LABEL, or with this CKA_ID, in any layout, beside those in ``found``. With both, by the CKA_ID, which
    is the narrower search. Raises :class:`Cryptoki`."""
    attribute, inventory = pkcs11.Attribute, found or Inventory()
    names: list[dict[Any, Any]]
    if key_id is not None:
        names = [{attribute.ID: public_id(layout, key_id)} for layout in LAYOUTS]
    else:
        names = [{attribute.LABEL: public_label(layout, label or "")} for layout in LAYOUTS]
    with calling(f"searching key '{label or (key_id or b'').hex()}' on {session.token}"):
        for name in names:
            for raw in found_objects(session, {attribute.TOKEN: True, **name}):
                item = describe(raw) if int(raw.handle) not in inventory.raw else None
                if item is not None:
                    inventory.objects.append(item)
                    inventory.raw[item.handle] = raw
    inventory.objects = _with_public_keys(inventory.objects)
    return inventory


def search_label(session: Session, inventory: Inventory, label: str, known: Container[int]) -> tuple[list[KeyObject], list[KeyObject]]:
    """After a failed create: the objects of a key with ``label``, and unlabelled ones. ``known`` are the handles from before it.

    An exception of a create does not mean that nothing was made. Raises :class:`Cryptoki`.
    """
    attribute, new = pkcs11.Attribute, []
    with calling(f"searching for '{label}'"):
        for name in (label, public_label(EVIDEN, label), ""):
            for raw in found_objects(session, {attribute.TOKEN: True, attribute.LABEL: name}):
                item = describe(raw) if int(raw.handle) not in known else None
                if item is not None:
                    inventory.raw[item.handle] = raw
                    new.append(item)
    return [item for item in new if item.label], [item for item in new if not item.label]
