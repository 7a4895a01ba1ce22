# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""Use a key once. The only proof that it works: flags and attributes can be there without a usable value."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from typing import Any

from .._model.errors import Cryptoki
from .._model.faults import WRONG_ANSWER
from .._model.keys.objects import Key, KeyObject
from .._model.keys.post_quantum import KEMS, PARAMETER_SETS, SIGNERS
from .._model.keys.types import CURVES, ED25519_OID, FIXED_SIZES, GENERIC, HMACS, KEY_TYPES, ONE_HASH, PRIVATE, PUBLIC, SECRET
from .attributes import read_value
from .binding import key_type, mechanism, pkcs11, typed
from .checking import gives_check_value
from .errors import calling
from .objects import Inventory
from .passing import agree_by_capsule, agreed_secret, for_a_moment, guest_key
from .session import Session

BLOCK = b"keyfleet check.\n"  # 16 bytes: one block of AES, two of DES
DIGEST = bytes(range(32))

# Mechanisms (without CKM_) that sign DIGEST as it is; the first that the token has is used.
SIGNING = {"RSA": ("SHA256_RSA_PKCS", "RSA_PKCS"), "EC": ("ECDSA",), "Ed25519": ("EDDSA",), **dict.fromkeys(SIGNERS, ("ML_DSA",))}
# Those by which a secret key makes a MAC.
MACS = {"AES": ("AES_CMAC",), "DES3": ("DES3_CMAC",), "DES": ("DES_CMAC",), GENERIC: HMACS}
MACS |= {name: (name,) for name in ONE_HASH}

_PSS = ("SHA256_RSA_PKCS_PSS", "SHA384_RSA_PKCS_PSS", "SHA512_RSA_PKCS_PSS")  # for keys that may do nothing else

# Answers that say that this use was not possible here, not that the key is broken.
INCONCLUSIVE = frozenset(
    {
        "CKR_ACTION_PROHIBITED",
        "CKR_DATA_LEN_RANGE",
        "CKR_FUNCTION_NOT_SUPPORTED",
        "CKR_FUNCTION_REJECTED",
        "CKR_KEY_FUNCTION_NOT_PERMITTED",
        "CKR_KEY_NOT_WRAPPABLE",
        "CKR_KEY_SIZE_RANGE",
        "CKR_KEY_TYPE_INCONSISTENT",
        "CKR_MECHANISM_INVALID",
        "CKR_MECHANISM_PARAM_INVALID",
        "CKR_USER_NOT_LOGGED_IN",
    }
)
# Answers that a key without a value gives. Any other failure may be the device's, a policy's or this collection's fault.
NO_VALUE = frozenset(
    {
        "CKR_ATTRIBUTE_TYPE_INVALID",
        "CKR_ATTRIBUTE_VALUE_INVALID",
        "CKR_FUNCTION_FAILED",
        "CKR_GENERAL_ERROR",
        "CKR_KEY_HANDLE_INVALID",
        "CKR_MECHANISM_INVALID",
        "CKR_OBJECT_HANDLE_INVALID",
    }
)


def wrong_answer(what: str) -> Cryptoki:
    return Cryptoki(f"{what}: the token's answer is wrong", rv=WRONG_ANSWER, device=True)


def _pss_parameters(name: str) -> Any:
    """Of a mechanism that hashes and signs by RSA-PSS, as X.509 wants it (RFC 4055, section 3.1); None for another."""
    if name not in _PSS:
        return None
    digest = name.split("_", 1)[0]
    return (pkcs11.Mechanism[digest], pkcs11.MGF[digest], hashlib.new(digest).digest_size)


def macs(session: Session, type_name: str) -> list[str]:
    """Those of the token for secret keys of this type."""
    return [name for name in MACS.get(type_name, ()) if name in session.mechanisms()]


def with_one_of(names: Sequence[str], use: Callable[[Any], Any]) -> Any:
    """What ``use`` gives for the first of the mechanisms that takes the key: SoftHSM's HMAC takes none shorter than its hash.

    Raises python-pkcs11's errors; of several refused for the key's size the last.
    """
    for name in names[:-1]:
        with suppress(pkcs11.KeySizeRange):
            return use(mechanism(name))
    return use(mechanism(names[-1]))


def _use_secret(session: Session, raw: Any, kind: str, operations: tuple[str, ...], what: str, mechanisms: frozenset[str]) -> str | None:
    typed(raw, KEY_TYPES[kind].ckk)
    ecb, signing = f"{kind}_ECB", [name for name in macs(session, kind) if name in mechanisms]
    if ecb in mechanisms and {"encrypt", "decrypt"} & set(operations):
        if "encrypt" not in operations:
            raw.decrypt(BLOCK, mechanism=mechanism(ecb))
            return "decrypt"
        sealed = raw.encrypt(BLOCK, mechanism=mechanism(ecb))
        if "decrypt" in operations and raw.decrypt(sealed, mechanism=mechanism(ecb)) != BLOCK:
            raise wrong_answer(what)
        return "encrypt"
    if signing and "sign" in operations:

        def sign(how: Any) -> bool:
            mac = raw.sign(BLOCK, mechanism=how)
            return "verify" not in operations or bool(raw.verify(BLOCK, mac, mechanism=how))

        if not with_one_of(signing, sign):
            raise wrong_answer(what)
        return "sign"
    if kind == "AES" and "AES_KEY_WRAP" in mechanisms and "AES_KEY_GEN" in session.mechanisms() and "wrap" in operations:
        with for_a_moment(guest_key(session)) as guest:
            raw.wrap_key(guest, mechanism=mechanism("AES_KEY_WRAP"))
        return "wrap"
    return None


def _use_pair(
    session: Session,
    raws: Mapping[str, Any],
    name: str,
    operations: tuple[str, ...],
    what: str,
    mechanisms: frozenset[str],
    item: KeyObject | None,
) -> str | None:
    for half in raws.values():
        typed(half, KEY_TYPES[name].ckk)
    private, public = raws[PRIVATE], raws.get(PUBLIC)
    usable = [one for one in (*SIGNING.get(name, ()), *(_PSS if name == "RSA" else ())) if one in mechanisms]
    if "sign" in operations and usable:
        how = {"mechanism": mechanism(usable[0]), "mechanism_param": _pss_parameters(usable[0])}
        signature = session.using(item, partial(private.sign, DIGEST, **how), what)
        if public is not None and "verify" in operations and not public.verify(DIGEST, signature, **how):
            raise wrong_answer(what)
        return "sign"
    if name == "RSA" and "RSA_PKCS" in mechanisms and public is not None and {"encrypt", "decrypt"} <= set(operations):
        sealed = public.encrypt(BLOCK, mechanism=mechanism("RSA_PKCS"))
        if session.using(item, partial(private.decrypt, sealed, mechanism=mechanism("RSA_PKCS")), what) != BLOCK:
            raise wrong_answer(what)
        return "decrypt"
    if name in KEMS and "ML_KEM" in mechanisms and public is not None and {"encapsulate", "decapsulate"} <= set(operations):
        if not agree_by_capsule(public, private):
            raise wrong_answer(what)
        return "decapsulate"
    if name == "EC" and "derive" in operations and "ECDH1_DERIVE" in mechanisms and public is not None:
        with for_a_moment(agreed_secret(private, read_value(public, "EC_POINT"))):
            return "derive"
    return None


def _make(session: Session, name: str, operations: tuple[str, ...], curve: str | None) -> list[Any]:
    kind, attribute, flags = KEY_TYPES[name], pkcs11.Attribute, 0
    for operation in operations:
        flags |= getattr(pkcs11.MechanismFlag, operation.upper())
    common = {"store": False, "capabilities": flags, "mechanism": mechanism(kind.generate)}
    if not kind.is_pair:
        template = {attribute.VALUE_LEN: pkcs11.constants.DEFAULT} if name in FIXED_SIZES else {}
        return [session.raw.generate_key(key_type(kind.ckk), kind.default_size, template=template, **common)]
    if name == "RSA":
        return list(session.raw.generate_keypair(key_type(kind.ckk), 2048, **common))
    if name in PARAMETER_SETS:
        public = {attribute.PARAMETER_SET: PARAMETER_SETS[name].number}
        return list(session.raw.generate_keypair(key_type(kind.ckk), public_template=public, **common))
    parameters = CURVES[curve or "P-256"].der if name == "EC" else ED25519_OID
    domain = session.raw.create_domain_parameters(key_type(kind.ckk), {attribute.EC_PARAMS: parameters}, local=True)
    return list(domain.generate_keypair(**common))


def use_fresh(session: Session, name: str, operations: tuple[str, ...], curve: str | None = None) -> str | None:
    """Use a fresh key of the type ``name``, which lives in this session only, as :func:`use_once` does. Raises :class:`Cryptoki`."""
    with calling("making a key for a test"):
        made = _make(session, name, operations, curve)
    what = "using a key made for a test"
    with ExitStack() as passing, calling(what):
        for raw in made:
            passing.enter_context(for_a_moment(raw))
        kinds = (PUBLIC, PRIVATE) if KEY_TYPES[name].is_pair else (SECRET,)
        return _use(session, dict(zip(kinds, made, strict=True)), name, operations, what)


def works_with_another(session: Session, key: Key) -> bool:
    """Whether a fresh key of the same type, which lives in this session only, does what ``key`` is asked to do."""
    if key.main.type not in KEY_TYPES:
        return False
    try:
        return use_fresh(session, key.main.type, key.operations, key.main.curve) is not None
    except Cryptoki:
        return False


def use_once(session: Session, inventory: Inventory, key: Key) -> str | None:
    """Use ``key`` in one of its permitted operations and say which; None where no operation can be tried alone.

    A key with CKA_ALWAYS_AUTHENTICATE gets its login, and is not tried where the session has no PIN for it. Raises :class:`Cryptoki` when
    the token refuses or answers wrongly, PinError where it refuses that login. Leaves nothing on the token.
    """
    if key.private is not None and key.private.always_authenticate and not session.has_own_login:
        return None
    what = f"using key '{key.main.label}' once"
    raws = {part.kind: inventory.raw[part.handle] for part in key.objects}
    try:
        if key.secret is not None and gives_check_value(session, key.secret, what):
            return "encrypt"
        with calling(what):
            return _use(session, raws, key.main.type, key.operations, what, private=key.private)
    except Cryptoki as error:
        if error.rv not in INCONCLUSIVE:
            raise
        if key.main.allowed_mechanisms:
            return _use_as_allowed(session, raws, key, key.main.allowed_mechanisms, what)
        # SoftHSM answers so for a DES3 key without a value, too. Then the same works with another key of its type.
        unusual = error.rv == "CKR_MECHANISM_INVALID" and key.secret is not None
        if unusual and works_with_another(session, key):
            raise
    except AttributeError as error:
        # python-pkcs11 gives an object the methods that its attributes permit; without them, it could not read those. If it still
        # cannot, the cause is told.
        with calling(what):
            for raw in raws.values():
                read_value(raw, "CLASS")
        raise Cryptoki(f"{what}: its attributes could not be read", rv="CKR_FUNCTION_FAILED", device=True) from error
    return None


def _use_as_allowed(session: Session, raws: Mapping[str, Any], key: Key, only: Iterable[str], what: str) -> str | None:
    """Use a key that is restricted to the mechanisms ``only``, with one of them."""
    try:
        with calling(what):
            return _use(session, raws, key.main.type, key.operations, what, session.mechanisms().intersection(only), key.private)
    except Cryptoki as error:
        if error.rv not in INCONCLUSIVE:
            raise
    return None


def _use(
    session: Session,
    raws: Mapping[str, Any],
    name: str,
    operations: tuple[str, ...],
    what: str,
    only: frozenset[str] | None = None,
    private: KeyObject | None = None,
) -> str | None:
    """``private`` is the private half as it was read, where it may want the PIN at each use."""
    mechanisms = session.mechanisms() if only is None else only
    if SECRET in raws and name in MACS:
        return _use_secret(session, raws[SECRET], name, operations, what, mechanisms)
    if PRIVATE in raws and (name in SIGNING or name in KEMS):
        return _use_pair(session, raws, name, operations, what, mechanisms, private)
    return None
