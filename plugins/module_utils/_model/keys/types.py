# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""The key types, their sizes and curves, and which half of a pair carries which operation.

Names of operations are those of PKCS#11's attributes in lower case (``encrypt`` is CKA_ENCRYPT). Which of them a class of
key has: PKCS#11 3.1, sections 4.8 (public), 4.9 (private) and 4.10 (secret).
"""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from .post_quantum import KEMS, PARAMETER_SETS, SIGNERS

SECRET, PRIVATE, PUBLIC = "secret", "private", "public"
UNKNOWN = "unknown"  # the type of a key whose token does not report it

# Canonical order: results and diffs list operations in it.
_ANY = ("encrypt", "decrypt", "sign", "verify", "wrap", "unwrap", "derive")
OPERATIONS = (*_ANY, "encapsulate", "decapsulate")
EXPOSING = frozenset({"wrap", "decrypt"})  # whoever may do both with a key has every extractable one in clear

# What each class of object has an attribute for. All of them are written when a key is made: left out, a provider's own
# default counts, and SoftHSM's is true. PKCS#11 3.2 has more for ML-KEM, which older tokens refuse: see :func:`class_operations`.
CLASS_OPERATIONS = {SECRET: _ANY, PRIVATE: ("decrypt", "sign", "unwrap", "derive"), PUBLIC: ("encrypt", "verify", "wrap")}


@dataclass(frozen=True)
class Curve:
    """A named curve: ``der`` is CKA_EC_PARAMS (DER of its OID), ``bits`` the field's size."""

    name: str
    der: bytes
    bits: int


CURVES = {
    curve.name: curve
    for curve in (
        Curve("P-256", bytes.fromhex("06082a8648ce3d030107"), 256),
        Curve("P-384", bytes.fromhex("06052b81040022"), 384),
        Curve("P-521", bytes.fromhex("06052b81040023"), 521),
        Curve("secp256k1", bytes.fromhex("06052b8104000a"), 256),  # SEC 2, section 2.4.1
        Curve("brainpoolP256r1", bytes.fromhex("06092b2403030208010107"), 256),  # RFC 5639, section 3
        Curve("brainpoolP384r1", bytes.fromhex("06092b240303020801010b"), 384),
        Curve("brainpoolP512r1", bytes.fromhex("06092b240303020801010d"), 512),
    )
}
CURVE_BY_DER = {curve.der: curve for curve in CURVES.values()}

# CKA_EC_PARAMS of an Ed25519 key: its OID (RFC 8410), or the curve's name, which tokens answer as well (PKCS#11 3.1, section 6.3.5).
ED25519_OID = bytes.fromhex("06032b6570")
ED25519_PARAMS = frozenset({ED25519_OID, b"\x13\x0cedwards25519"})


@dataclass(frozen=True)
class KeyType:
    """What can be asked of a type. ``sizes`` are in bits; ``halves`` maps a class of object to its operations."""

    name: str
    ckk: str  # CKA_KEY_TYPE, without CKK_
    generate: str  # the generating mechanism, without CKM_
    sizes: Sequence[int]
    default_size: int | None
    halves: Mapping[str, tuple[str, ...]]
    default_operations: tuple[str, ...]

    @property
    def operations(self) -> frozenset[str]:
        return frozenset(operation for half in self.halves.values() for operation in half)

    @property
    def sizes_text(self) -> str:
        """The sizes for a person: each, or of a range its ends."""
        if isinstance(self.sizes, range):
            return f"{self.sizes[0]} to {self.sizes[-1]} in steps of {self.sizes.step}"
        return ", ".join(map(str, self.sizes))

    @property
    def is_pair(self) -> bool:
        return PRIVATE in self.halves


_RSA = {PRIVATE: ("decrypt", "sign", "unwrap"), PUBLIC: ("encrypt", "verify", "wrap")}
_SECRET = {SECRET: _ANY}
_KEM = {PRIVATE: ("decapsulate",), PUBLIC: ("encapsulate",)}
_SEAL, _SIGN, _CAPSULES = ("encrypt", "decrypt"), ("sign", "verify"), ("encapsulate", "decapsulate")
GENERIC = "GENERIC_SECRET"
# The mechanisms (without CKM_) that such a key signs with, those that tokens have most often first.
HMACS = ("SHA256_HMAC", "SHA384_HMAC", "SHA512_HMAC", "SHA224_HMAC", "SHA_1_HMAC")
# Types of keys for the HMAC of one hash, named like its mechanism, and the hash's size in bits. SHA-1 is not for new keys.
ONE_HASH = {"SHA224_HMAC": 224, "SHA256_HMAC": 256, "SHA384_HMAC": 384, "SHA512_HMAC": 512}
HMAC_TYPES = (GENERIC, *ONE_HASH)
# Bytes of any number. HMAC hashes keys that are longer than a block of its hash, of SHA-512 1024 bits (RFC 2104, section 2).
_HMAC_SIZES, _HMAC = range(64, 1025, 8), {SECRET: ("sign", "verify", "derive")}

KEY_TYPES = {
    key_type.name: key_type
    for key_type in (
        KeyType("AES", "AES", "AES_KEY_GEN", (128, 192, 256), 256, _SECRET, _SEAL),
        KeyType("DES3", "DES3", "DES3_KEY_GEN", (192,), 192, _SECRET, _SEAL),
        KeyType("DES", "DES", "DES_KEY_GEN", (64,), 64, _SECRET, _SEAL),
        KeyType(GENERIC, GENERIC, "GENERIC_SECRET_KEY_GEN", _HMAC_SIZES, 256, _HMAC, _SIGN),
        *(KeyType(name, name, f"{name[:6]}_KEY_GEN", _HMAC_SIZES, bits, _HMAC, _SIGN) for name, bits in ONE_HASH.items()),
        KeyType("RSA", "RSA", "RSA_PKCS_KEY_PAIR_GEN", (2048, 3072, 4096), 3072, _RSA, _SIGN),
        KeyType("EC", "EC", "EC_KEY_PAIR_GEN", (), None, {PRIVATE: ("sign", "derive"), PUBLIC: ("verify",)}, _SIGN),
        KeyType("Ed25519", "EC_EDWARDS", "EC_EDWARDS_KEY_PAIR_GEN", (), 256, {PRIVATE: ("sign",), PUBLIC: ("verify",)}, _SIGN),
        *(KeyType(name, "ML_DSA", "ML_DSA_KEY_PAIR_GEN", (), None, {PRIVATE: ("sign",), PUBLIC: ("verify",)}, _SIGN) for name in SIGNERS),
        *(KeyType(name, "ML_KEM", "ML_KEM_KEY_PAIR_GEN", (), None, _KEM, _CAPSULES) for name in KEMS),
    )
}
# How the names of the mechanisms (without CKM_) begin that use keys of a type.
_MECHANISMS = {
    "AES": ("AES_",),
    "DES3": ("DES3_",),
    "DES": ("DES_",),
    GENERIC: ("GENERIC_SECRET_KEY_GEN", *HMACS),
    **{name: (KEY_TYPES[name].generate,) for name in ONE_HASH},
    "RSA": ("RSA_",),
    "EC": ("EC_KEY_PAIR_GEN", "ECDSA", "ECDH"),
    "Ed25519": ("EC_EDWARDS_KEY_PAIR_GEN", "EDDSA"),
    **{name: (known.family,) for name, known in PARAMETER_SETS.items()},
}
# Too short to be safe today (NIST SP 800-131A Rev. 2, section 2): made or imported only with allow_weak.
WEAK_TYPES = frozenset({"DES"})
LEAST_HMAC_BITS = 112  # the same, section 10: HMAC keys with fewer are disallowed
# Types whose keys have one size, which tokens do not give as CKA_VALUE_LEN.
FIXED_SIZES = {"DES3": 192, "DES": 64, "Ed25519": 256}


def is_short(key_type: str, bits: int | None) -> bool:
    """Whether a key of this type and size is made or imported only with allow_weak, though others of the type are safe."""
    return key_type in HMAC_TYPES and bits is not None and bits < LEAST_HMAC_BITS


def operations_of(key_type: str, kind: str) -> tuple[str, ...]:
    """What an object of this type and class may be made for; of a type that we do not make, what its class may."""
    known = KEY_TYPES.get(key_type)
    return known.halves.get(kind, ()) if known is not None else CLASS_OPERATIONS[kind]


@cache  # asked for many times for each key
def class_operations(key_type: str, kind: str) -> tuple[str, ...]:
    """What an object of this type and class has attributes for."""
    return ordered({*CLASS_OPERATIONS[kind], *operations_of(key_type, kind)})


def usable_types(mechanisms: Iterable[str]) -> list[str]:
    """The types of which a token with these mechanisms (names without ``CKM_``) can use keys for certain."""
    return [name for name, prefixes in _MECHANISMS.items() if any(mechanism.startswith(prefixes) for mechanism in mechanisms)]


def may_use(key_type: str, mechanisms: Collection[str]) -> bool:
    """Whether such a token can use keys of a type, as far as its mechanisms tell: HMAC may be for generic secrets only."""
    return key_type in usable_types(mechanisms) or (key_type in ONE_HASH and key_type in mechanisms)


def ordered(operations: Container[str]) -> tuple[str, ...]:
    """The given operations (any container) once each, in canonical order."""
    return tuple(operation for operation in OPERATIONS if operation in operations)
