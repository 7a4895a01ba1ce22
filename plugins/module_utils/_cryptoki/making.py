# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""The calls that make key objects: generated, imported in the clear, unwrapped. Each is read back from the token.

A template holds what was requested and nothing else: providers refuse templates with extras. All operations of a class of
object are requested: left out, a provider's own default counts, and SoftHSM's is true. Where that is refused, :mod:`.rungs` says less.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from .._model.errors import Cryptoki
from .._model.keys.material import UNWRAP_MECHANISMS, KeyMaterial, WrappedMaterial
from .._model.keys.objects import Key, KeyObject
from .._model.keys.post_quantum import PARAMETER_SETS
from .._model.keys.spec import PRESENT, KeySpec
from .._model.keys.types import (
    CLASS_OPERATIONS,
    CURVES,
    ED25519_OID,
    FIXED_SIZES,
    GENERIC,
    ONE_HASH,
    OPERATIONS,
    PRIVATE,
    PUBLIC,
    SECRET,
    class_operations,
)
from . import wrap_mechanisms
from .allowed import packed
from .binding import key_type, mechanism, pkcs11, type_attributes, typed
from .errors import calling
from .generating import generate_pair, generate_secret
from .objects import Inventory, key_of
from .passing import for_a_moment
from .rungs import REFUSALS, Template, Templates, climb
from .session import Session
from .uninterrupted import uninterrupted

_CLASSES = {SECRET: "SECRET_KEY", PRIVATE: "PRIVATE_KEY", PUBLIC: "PUBLIC_KEY"}


def spec_of(item: KeyObject) -> KeySpec:
    """A key object as it is to be made again."""
    return KeySpec(
        index=0,
        base=item.label,
        label=item.label,
        generation=None,
        key_id=item.key_id,
        id_given=True,
        type=item.type,
        size=item.size,
        curve=item.curve,
        operations=item.operations,
        sensitive=True,
        extractable=item.extractable,
        modifiable=False if item.modifiable is False else None,
        destroyable=None,
        on_mismatch="fail",
        state=PRESENT,
    )


def _attributes(spec: KeySpec, kind: str) -> dict[Any, Any]:
    """What a new object of this kind is given, its name and value apart."""
    attribute, asked = pkcs11.Attribute, spec.new_operations
    template: dict[Any, Any] = {attribute[name.upper()]: name in asked for name in class_operations(spec.key_type.name, kind)}
    template[attribute.PRIVATE] = kind != PUBLIC
    if kind != PUBLIC:
        template[attribute.SENSITIVE] = spec.sensitive is not False
        template[attribute.EXTRACTABLE] = bool(spec.extractable)
        if spec.wrap_with_trusted is not None:
            template[attribute.WRAP_WITH_TRUSTED] = spec.wrap_with_trusted
        if spec.allowed_mechanisms is not None:
            template[attribute.ALLOWED_MECHANISMS] = packed(spec.allowed_mechanisms)
    if spec.modifiable is not None:
        template[attribute.MODIFIABLE] = spec.modifiable
    if spec.destroyable is not None:
        template[attribute.DESTROYABLE] = spec.destroyable
    return template


def _bare(template: Mapping[Any, Any]) -> dict[Any, Any]:
    """A template that also takes out of python-pkcs11's own what this class of object does not have."""
    return {**dict.fromkeys((pkcs11.Attribute[name.upper()] for name in OPERATIONS), pkcs11.constants.DEFAULT), **template}


def _names(spec: KeySpec, on_token: bool) -> dict[str, Any]:
    """For python-pkcs11. An object of a session has no name, which could be taken for the key's."""
    return {"id": spec.key_id, "label": spec.label, "store": True} if on_token else {"store": False}


def _named(spec: KeySpec, kind: str, on_token: bool) -> dict[Any, Any]:
    """The same in a template, which says it for one object."""
    return {pkcs11.Attribute.ID: spec.id_of(kind), pkcs11.Attribute.LABEL: spec.label_of(kind)} if on_token else {}


def _parameters(spec: KeySpec) -> dict[Any, Any]:
    """What of a new pair the template of its public half says."""
    attribute = pkcs11.Attribute
    if spec.type == "RSA":
        return {attribute.PUBLIC_EXPONENT: b"\1\0\1", attribute.MODULUS_BITS: spec.new_size}
    if spec.type in PARAMETER_SETS:
        return {attribute.PARAMETER_SET: PARAMETER_SETS[spec.type].number}
    return {attribute.EC_PARAMS: CURVES[spec.new_curve].der if spec.new_curve else ED25519_OID}


def generate(session: Session, inventory: Inventory, spec: KeySpec) -> Key:
    """Make the key on the token and read it back. Raises :class:`Cryptoki`, and then something may have been made all the same."""
    doing = f"generating key '{spec.label}'"
    function = "C_GenerateKeyPair" if spec.key_type.is_pair else "C_GenerateKey"

    def make(given: Templates, on_token: bool) -> list[Any]:
        templates, names = {kind: _bare(template) for kind, template in given.items()}, _names(spec, on_token)
        with calling(doing, function, writes=on_token), uninterrupted():
            if not spec.key_type.is_pair:
                size = pkcs11.constants.DEFAULT if spec.type in FIXED_SIZES else (spec.new_size or 0) // 8
                return [generate_secret(session, spec, names, {pkcs11.Attribute.VALUE_LEN: size, **templates[SECRET]}, doing)]
            public = _parameters(spec) | templates[PUBLIC] | _named(spec, PUBLIC, on_token)
            return generate_pair(session, spec, names, public, templates[PRIVATE], doing)

    wanted = {kind: _attributes(spec, kind) for kind in spec.key_type.halves}
    return climb(session, inventory, spec.label, wanted, make, curve=spec.new_curve)


def _create(session: Session, spec: KeySpec, kind: str, value: Mapping[str, bytes], given: Template, *, on_token: bool) -> Any:
    attribute = pkcs11.Attribute
    template = {
        attribute.CLASS: pkcs11.ObjectClass[_CLASSES[kind]],
        **type_attributes(spec.key_type.name, spec.key_type.ckk),
        attribute.TOKEN: on_token,
        **_named(spec, kind, on_token),
        **{name: content for name, content in given.items() if content is not pkcs11.constants.DEFAULT},
        **{attribute[name]: content for name, content in value.items()},
    }
    with calling(f"importing the {kind} key '{spec.label}'", "C_CreateObject", writes=on_token), uninterrupted():
        return typed(session.raw.create_object(template), spec.key_type.ckk)


def _create_on_token(session: Session, inventory: Inventory, spec: KeySpec, kind: str, value: Mapping[str, bytes]) -> Key:
    def make(given: Templates, on_token: bool) -> list[Any]:
        return [_create(session, spec, kind, value, given[kind], on_token=on_token)]

    try:
        return climb(session, inventory, spec.label, {kind: _attributes(spec, kind)}, make, curve=spec.new_curve)
    except Cryptoki as error:
        _blame_type(session, spec, kind, value, error)
        raise


def _blame_type(session: Session, spec: KeySpec, kind: str, value: Mapping[str, bytes], error: Cryptoki) -> None:
    """Name the type in the ``error`` where it is what the token refuses: as a generic secret it takes the same value."""
    if spec.type not in ONE_HASH or error.rv not in REFUSALS:
        return
    generic = replace(spec, type=GENERIC)
    with suppress(Cryptoki), for_a_moment(_create(session, generic, kind, value, _attributes(generic, kind), on_token=False)):
        text = f"{session.token} takes no {spec.type} key of {spec.new_size} bits ({error.rv}): use {GENERIC}"
        error.message, error.device = text, False


def create(session: Session, inventory: Inventory, spec: KeySpec, material: KeyMaterial, kinds: Iterable[str]) -> Key:
    """Import the halves ``kinds`` (C_CreateObject) and read them back. Raises :class:`Cryptoki`, as :func:`generate` does."""
    values = {kind: material.public if kind == PUBLIC else material.secret for kind in kinds}
    made = [_create_on_token(session, inventory, spec, kind, value) for kind, value in values.items()]
    return key_of(item for key in made for item in key.objects)


def create_for_a_look(session: Session, spec: KeySpec, material: KeyMaterial) -> Any:
    """The secret or private half as an object that lives in this session only: whether the token takes it. Raises :class:`Cryptoki`."""
    kind = PRIVATE if spec.key_type.is_pair else SECRET
    return _create(session, spec, kind, material.secret, _attributes(spec, kind), on_token=False)


def create_public(session: Session, inventory: Inventory, spec: KeySpec, value: Mapping[str, bytes]) -> KeyObject:
    """Give a private key its missing public half. Raises :class:`Cryptoki`."""
    public = _create_on_token(session, inventory, spec, PUBLIC, value).public
    if public is None:
        raise Cryptoki(f"the public half of '{spec.label}' cannot be read back", rv="CKR_FUNCTION_FAILED", device=True)
    return public


def unwrap(session: Session, inventory: Inventory, spec: KeySpec, material: WrappedMaterial, wrapping: KeyObject) -> Key:
    """Unwrap the key on the token (C_UnwrapKey): its value is in the clear nowhere else. Of a pair, the private half.

    Raises :class:`Cryptoki`.
    """
    kind = PRIVATE if spec.key_type.is_pair else SECRET

    def make(given: Templates, on_token: bool) -> list[Any]:
        with calling(f"unwrapping key '{spec.label}' with '{wrapping.label}'", "C_UnwrapKey", writes=on_token), uninterrupted():
            return [_unwrap(session, inventory, spec, material, wrapping, given[kind], _names(spec, on_token))]

    return climb(session, inventory, spec.label, {kind: _attributes(spec, kind)}, make, curve=spec.new_curve)


def public_numbers(item: KeyObject) -> dict[str, bytes]:
    """An RSA private key holds its public numbers too; for other types they must be known from elsewhere."""
    return {"MODULUS": item.modulus, "PUBLIC_EXPONENT": item.exponent} if item.modulus and item.exponent else {}


def unwrap_for_a_look(
    session: Session,
    inventory: Inventory,
    spec: KeySpec,
    material: WrappedMaterial,
    wrapping: KeyObject,
    may: Mapping[Any, bool] | None = None,
    *,
    extractable: bool = False,
) -> Any:
    """The wrapped key as an object that lives in this session only. ``may``: the attributes of what it is used for; by default
    what the key itself is to be used for. ``extractable``: it may be wrapped again. Raises :class:`Cryptoki`."""
    kind = PRIVATE if spec.key_type.is_pair else SECRET
    attribute = pkcs11.Attribute
    template = dict(may) if may is not None else {attribute[name.upper()]: name in spec.new_operations for name in CLASS_OPERATIONS[kind]}
    template |= {attribute.PRIVATE: True, attribute.SENSITIVE: True, attribute.EXTRACTABLE: extractable}
    with calling(f"unwrapping key '{spec.label}' with '{wrapping.label}', to look at it", "C_UnwrapKey"):
        return _unwrap(session, inventory, spec, material, wrapping, template, {"store": False})


def _unwrap(
    session: Session,
    inventory: Inventory,
    spec: KeySpec,
    material: WrappedMaterial,
    wrapping: KeyObject,
    template: Mapping[Any, Any],
    names: Mapping[str, Any],
) -> Any:
    kind = PRIVATE if spec.key_type.is_pair else SECRET
    how = unwrap_mechanism(session, spec, material, wrapping)
    raw = inventory.raw[wrapping.handle].unwrap_key(
        pkcs11.ObjectClass[_CLASSES[kind]],
        key_type(spec.key_type.ckk),
        material.blob,
        mechanism=mechanism(how),
        capabilities=0,
        template=_bare(template),
        **names,
    )
    return typed(raw, spec.key_type.ckk)


def unwrap_mechanism(session: Session, spec: KeySpec, material: WrappedMaterial, wrapping: KeyObject) -> str:
    """The mechanism (without ``CKM_``) to unwrap with: the one that was asked for, else the wrapping key's usual one.

    Raises :class:`Cryptoki` where the token has no such mechanism.
    """
    usual = {"AES": wrap_mechanisms.candidates(session, spec.type or "", None), "RSA": ["RSA_PKCS_OAEP"]}.get(wrapping.type, [])
    name = material.mechanism or next(iter(usual), None)
    have = sorted(session.mechanisms().intersection(UNWRAP_MECHANISMS))
    if name is not None and not name.startswith(wrapping.type):
        raise Cryptoki(
            f"{name} needs another wrapping key than one of type {wrapping.type}", rv="CKR_WRAPPING_KEY_TYPE_INCONSISTENT", device=False
        )
    if name is None or name not in have:
        raise Cryptoki(
            f"{session.token} cannot unwrap with {name or f'a key of type {wrapping.type}'}; it can: {', '.join(have) or 'nothing'}",
            rv="CKR_MECHANISM_INVALID",
            device=False,
        )
    return name
