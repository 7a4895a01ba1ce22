# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""A key's value outside an HSM, as the attributes that PKCS#11 wants for it.

Attribute names are PKCS#11's without ``CKA_``. Which of them a key object needs: PKCS#11 3.1, sections 6.1.2 and 6.1.3 (RSA),
6.3.3 and 6.3.4 (EC), 6.3.5 and 6.3.6 (Edwards), and those of each secret key type. Integers are unsigned, big-endian and without
leading zeros ("Big integer" there); EC private values apart, see :func:`ec_private_value`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..der import OCTET_STRING, der_value
from .post_quantum import PARAMETER_SETS
from .types import KEY_TYPES

# Bits that each secret key type can have; DES and DES3 with their parity bits, as CKA_VALUE holds them.
SECRET_SIZES = {key_type.name: key_type.sizes for key_type in KEY_TYPES.values() if not key_type.is_pair}
# Pairs that are imported.
PAIR_TYPES = tuple(key_type.name for key_type in KEY_TYPES.values() if key_type.is_pair and key_type.name not in PARAMETER_SETS)

# The mechanisms (without CKM_) that a wrapped key can be opened with.
UNWRAP_MECHANISMS = ("AES_KEY_WRAP", "AES_KEY_WRAP_KWP", "AES_KEY_WRAP_PAD", "RSA_PKCS", "RSA_PKCS_OAEP")


@dataclass(frozen=True)
class KeyMaterial:
    """A key in the clear.

    ``type`` is AES, DES3, DES, one of HMAC_TYPES, RSA, EC or Ed25519. ``size`` is in bits: of the value for secret keys (DES 64 and DES3
    192, so with parity), of the modulus for RSA, of the curve's field for EC, 256 for Ed25519. ``curve`` is P-256, P-384 or P-521 for EC,
    None for all others.

    ``secret`` holds the value attributes of the secret or private key object: VALUE; or MODULUS, PUBLIC_EXPONENT,
    PRIVATE_EXPONENT, PRIME_1, PRIME_2, EXPONENT_1, EXPONENT_2 and COEFFICIENT; or EC_PARAMS and VALUE. ``public`` holds those of
    the public key object, empty for secret keys: MODULUS and PUBLIC_EXPONENT; or EC_PARAMS and EC_POINT, the point in a DER
    OCTET STRING. ``public_key`` is the pair's DER SubjectPublicKeyInfo (RFC 5280, section 4.1.2.7).

    ``check_value`` is the key check value of a secret key: the first 3 bytes of the ECB encryption of one block of zeros
    (PKCS#11 3.1, CKA_CHECK_VALUE in section 4.10), for HMAC_TYPES of the value's SHA-1 (section 6.8.2). It tells whether a token
    holds the same key. DES and DES3 values keep the parity bits that they came with; a provider may set them anew, which
    changes VALUE and leaves the check value as it is.
    """

    type: str
    size: int
    curve: str | None
    secret: Mapping[str, bytes] = field(repr=False)
    public: Mapping[str, bytes] = field(default_factory=dict)
    public_key: bytes | None = None
    check_value: bytes | None = None


@dataclass(frozen=True)
class WrappedMaterial:
    """A key wrapped by another that is on the token: only the token can open it.

    ``type``, ``size`` and ``curve`` are what was asked for (None: not said). ``wrapping_key`` is that key's CKA_LABEL,
    ``mechanism`` one of :data:`UNWRAP_MECHANISMS`, or None where the wrapping key's type tells it. ``public`` and ``public_key``
    are as in :class:`KeyMaterial`; they are empty and None where no public key was given.
    """

    blob: bytes = field(repr=False)
    type: str
    size: int | None
    curve: str | None
    wrapping_key: str
    mechanism: str | None = None
    public: Mapping[str, bytes] = field(default_factory=dict)
    public_key: bytes | None = None


def big_integer(number: int) -> bytes:
    """A positive integer as PKCS#11's "Big integer": unsigned, big-endian, no leading zeros."""
    return number.to_bytes((number.bit_length() + 7) // 8, "big")


def ec_private_value(number: int, bits: int) -> bytes:
    """An EC private value at the full length of its curve's field: 66 bytes for P-521.

    PKCS#11 has it as a big integer. Leading zeros are allowed there, and providers that copy the value into a PKCS#8 or
    compare lengths want them, as RFC 5915, section 3, does.
    """
    return number.to_bytes((bits + 7) // 8, "big")


def octet_string(content: bytes) -> bytes:
    """DER OCTET STRING of up to 255 bytes: what CKA_EC_POINT holds (PKCS#11 3.1, section 6.3.3)."""
    length = len(content)
    if length > 0xFF:
        raise ValueError(f"{length} bytes are no point of a known curve")
    return der_value(OCTET_STRING, content)
