# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""Whether two keys are the same, and whether two halves belong together, told by what they do and not by what they are called.

All objects made here live in the session only.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from hashlib import sha256
from typing import Any

from .._model.errors import Cryptoki
from .._model.keys.objects import KeyObject
from .._model.keys.post_quantum import KEMS
from .._model.keys.types import HMAC_TYPES, KEY_TYPES, SECRET, WEAK_TYPES
from .attributes import read, read_value
from .binding import key_type, mechanism, pkcs11, type_attributes, typed
from .errors import calling
from .objects import Inventory
from .passing import agree_by_capsule, agreed_secret, for_a_moment, guest_key
from .roundtrip import INCONCLUSIVE, MACS, SIGNING, macs, with_one_of
from .session import Session

_ZEROS = bytes(16)  # whole blocks of AES and of DES
_MESSAGE = bytes(range(32))
_CHECK_BYTES = 3


def check_value(session: Session, inventory: Inventory, item: KeyObject) -> bytes | None:
    """The key check value of a secret key (PKCS#11 3.1, section 4.10.2): the token's own, else computed by encrypting zeros.

    None for a key that may not encrypt on a token that does not say.
    """
    if item.check_value or item.kind != SECRET:
        return item.check_value
    sealed = _sealed_zeros(session, inventory, item)
    return sealed[:_CHECK_BYTES] if sealed is not None else None


def whole_check(session: Session, inventory: Inventory, item: KeyObject) -> bytes | None:
    """What tells secret keys of a type apart that share a key check value: the SHA-256 of zeros encrypted or, with HMAC, signed with it.

    Hashed, since the block itself is a secret of its key: GCM's hash subkey (NIST SP 800-38D, section 7.1) and the root of
    CMAC's (SP 800-38B, section 6.1). None for a key that may do neither. Raises :class:`Cryptoki`.
    """
    if item.kind != SECRET:
        return None
    if item.type in HMAC_TYPES:
        done = _done_to_zeros(session, inventory, item, "sign", MACS[item.type][0])
    else:
        done = _sealed_zeros(session, inventory, item)
    return sha256(done).digest() if done is not None else None


def _sealed_zeros(session: Session, inventory: Inventory, item: KeyObject) -> bytes | None:
    return _done_to_zeros(session, inventory, item, "encrypt", f"{item.type}_ECB") if item.type not in WEAK_TYPES else None


def _done_to_zeros(session: Session, inventory: Inventory, item: KeyObject, operation: str, name: str) -> bytes | None:
    if operation not in item.operations or name not in session.mechanisms():
        return None
    try:
        with calling(f"computing the check value of '{item.label}'"):
            done: bytes = getattr(inventory.raw[item.handle], operation)(_ZEROS, mechanism=mechanism(name))
    except Cryptoki as error:
        if error.rv not in INCONCLUSIVE:
            raise
        return None
    return done


def comparison(session: Session, item: KeyObject) -> str | None:
    """What a secret key on the token may do that tells its value, by operation; None where this token can be asked for nothing."""
    may, mechanisms = item.operations, session.mechanisms()
    if f"{item.type}_ECB" in mechanisms and {"encrypt", "decrypt"} & set(may):
        return "encrypt" if "encrypt" in may else "decrypt"
    if macs(session, item.type) and "sign" in may:
        return "sign"
    if item.type == "AES" and {"AES_KEY_WRAP", "AES_KEY_GEN"} <= mechanisms and {"wrap", "unwrap"} & set(may):
        return "wrap" if "wrap" in may else "unwrap"
    return None


def permissions(operation: str) -> dict[Any, bool]:
    """The one thing that a key for comparison must be allowed to do: strict tokens refuse keys that may do everything."""
    names = ("wrap", "unwrap") if operation == "unwrap" else (operation,)
    return {pkcs11.Attribute[name.upper()]: True for name in names}


def same_secret(session: Session, inventory: Inventory, item: KeyObject, reference: Any, operation: str) -> bool | None:
    """Whether a secret key on the token has the value of ``reference``, an object of this session.

    Both do the same thing (:func:`comparison`), and the results are compared. None where the token does not do it.
    """
    raw, ecb = inventory.raw[item.handle], f"{item.type}_ECB"
    try:
        with calling(f"comparing key '{item.label}'"):
            if operation == "encrypt":
                return bool(raw.encrypt(_ZEROS, mechanism=mechanism(ecb)) == reference.encrypt(_ZEROS, mechanism=mechanism(ecb)))
            if operation == "decrypt":
                return bool(raw.decrypt(_ZEROS, mechanism=mechanism(ecb)) == reference.decrypt(_ZEROS, mechanism=mechanism(ecb)))
            if operation == "sign":
                names = macs(session, item.type)
                return bool(with_one_of(names, lambda how: raw.sign(_ZEROS, mechanism=how) == reference.sign(_ZEROS, mechanism=how)))
            return _same_wrapping(session, raw, reference, operation == "wrap")
    except Cryptoki as error:
        if error.rv not in INCONCLUSIVE:
            raise
        return None


def _same_wrapping(session: Session, raw: Any, reference: Any, may_wrap: bool) -> bool | None:
    """AES_KEY_WRAP (RFC 3394) has no random part, so one key gives one result, and another key's is refused."""
    attribute, wrap = pkcs11.Attribute, mechanism("AES_KEY_WRAP")
    open_key = {attribute.EXTRACTABLE: True, attribute.SENSITIVE: False}
    with for_a_moment(guest_key(session)) as guest:
        wrapped = reference.wrap_key(guest, mechanism=wrap)
        if may_wrap:
            return bool(raw.wrap_key(guest, mechanism=wrap) == wrapped)
        value = read_value(guest, "VALUE")
        opened = [_opened(raw, wrapped, open_key) for _attempt in range(2)]
        if None in opened:
            # A refusal is the answer of another key only when the call itself works: twice refused here, and opened there.
            works = _opened(reference, wrapped, open_key) == value
            return False if works and opened == [None, None] else None
        return bool(opened[0] == value)


def _opened(raw: Any, wrapped: bytes, template: Mapping[Any, bool]) -> bytes | None:
    kind, aes = pkcs11.ObjectClass.SECRET_KEY, pkcs11.KeyType.AES
    try:
        opened = raw.unwrap_key(kind, aes, wrapped, mechanism=mechanism("AES_KEY_WRAP"), template=template)
    except (pkcs11.WrappedKeyInvalid, pkcs11.GeneralError, pkcs11.FunctionFailed):
        return None
    with for_a_moment(opened):
        value: bytes = read_value(opened, "VALUE")
    return value


def secret_for_a_look(session: Session, type_name: str, value: bytes, operation: str) -> Any:
    """A secret key of this value that lives in this session. Raises :class:`Cryptoki`."""
    attribute = pkcs11.Attribute
    template = {
        attribute.CLASS: pkcs11.ObjectClass.SECRET_KEY,
        attribute.KEY_TYPE: key_type(KEY_TYPES[type_name].ckk),
        attribute.TOKEN: False,
        attribute.PRIVATE: True,
        attribute.SENSITIVE: True,
        attribute.EXTRACTABLE: False,
        attribute.VALUE: value,
        **permissions(operation),
    }
    with calling("importing a key for this session, to compare with"):
        return typed(session.raw.create_object(template), KEY_TYPES[type_name].ckk)


def modulus_of(raw: Any) -> bytes | None:
    """The RSA modulus of an object of this session; None where the token does not give it."""
    with calling("reading a modulus"):
        value: bytes | None = read(raw, ["MODULUS"]).get("MODULUS")
    return value


def belongs(session: Session, inventory: Inventory, private: KeyObject, public: Mapping[str, bytes]) -> bool | None:
    """Whether a public key, as its attributes' values, belongs to a private key on the token.

    The private key signs and the public one verifies, or both agree on a secret with a third. None where the private key
    may do neither and its numbers do not tell. Raises :class:`Cryptoki`, and PinError where the key wants a login of its own.
    """
    if private.modulus and public.get("MODULUS"):
        return private.modulus == public["MODULUS"]
    raw, only = inventory.raw[private.handle], private.allowed_mechanisms
    names = [name for name in SIGNING.get(private.type, ()) if name in session.mechanisms() and (not only or name in only)]
    with calling(f"comparing the halves of '{private.label}'"):
        if "sign" in private.operations and names:
            with for_a_moment(_public_for_a_look(session, private.type, public)) as mate:
                sign = partial(raw.sign, _MESSAGE, mechanism=mechanism(names[0]))
                signature = session.using(private, sign, f"comparing the halves of '{private.label}'")
                return bool(mate.verify(_MESSAGE, signature, mechanism=mechanism(names[0])))
        if private.type in KEMS and "decapsulate" in private.operations and "ML_KEM" in session.mechanisms():
            with for_a_moment(_public_for_a_look(session, private.type, public, "ENCAPSULATE")) as mate:
                return agree_by_capsule(mate, raw)
        if private.type == "EC" and "derive" in private.operations and "ECDH1_DERIVE" in session.mechanisms():
            return _agree(session, raw, public)
    return None


def _public_for_a_look(session: Session, type_name: str, public: Mapping[str, bytes], may: str = "VERIFY") -> Any:
    attribute = pkcs11.Attribute
    template = {
        attribute.CLASS: pkcs11.ObjectClass.PUBLIC_KEY,
        **type_attributes(type_name, KEY_TYPES[type_name].ckk),
        attribute.TOKEN: False,
        attribute[may]: True,
        **{attribute[name]: value for name, value in public.items()},
    }
    return typed(session.raw.create_object(template), KEY_TYPES[type_name].ckk)


def _agree(session: Session, raw: Any, public: Mapping[str, bytes]) -> bool:
    attribute = pkcs11.Attribute
    domain = session.raw.create_domain_parameters(pkcs11.KeyType.EC, {attribute.EC_PARAMS: public["EC_PARAMS"]}, local=True)
    third_public, third_private = domain.generate_keypair(store=False, capabilities=pkcs11.MechanismFlag.DERIVE)
    with for_a_moment(third_public), for_a_moment(typed(third_private, "EC")):
        return _derived(raw, read_value(third_public, "EC_POINT")) == _derived(third_private, public["EC_POINT"])


def _derived(raw: Any, point: bytes) -> bytes:
    attribute = pkcs11.Attribute
    with for_a_moment(agreed_secret(raw, point, {attribute.EXTRACTABLE: True, attribute.SENSITIVE: False})) as secret:
        value: bytes = read_value(secret, "VALUE")
    if not value:
        raise Cryptoki("agreeing on a secret gave none", rv="CKR_FUNCTION_FAILED", device=True)
    return value
