# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""ML-DSA (FIPS 204) and ML-KEM (FIPS 203): their parameter sets, and their public keys as SubjectPublicKeyInfo.

Each parameter set is a type of key here, as it is an algorithm of its own in X.509 and TLS. PKCS#11 3.2 has one CKA_KEY_TYPE for each of
the two, CKA_PARAMETER_SET beside it, and the public key as CKA_VALUE of the public half.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..der import BIT_STRING, OBJECT_IDENTIFIER, SEQUENCE, der_value


@dataclass(frozen=True)
class ParameterSet:
    """``number`` is CKA_PARAMETER_SET, ``oid`` the content of the DER of the OID, ``public_bytes`` the length of a public key."""

    family: str  # CKA_KEY_TYPE, without CKK_
    number: int
    oid: bytes
    public_bytes: int

    @property
    def _header(self) -> bytes:
        """What stands before the public key (RFC 9881, section 4, and RFC 9935, section 4: no parameters)."""
        algorithm = der_value(SEQUENCE, der_value(OBJECT_IDENTIFIER, self.oid))
        whole = der_value(SEQUENCE, algorithm + der_value(BIT_STRING, bytes(1 + self.public_bytes)))
        return whole[: -self.public_bytes]

    def der_of(self, public_key: bytes) -> bytes | None:
        """SubjectPublicKeyInfo of a public key; None for one of another length."""
        return self._header + public_key if len(public_key) == self.public_bytes else None

    def value_of(self, der: bytes) -> bytes | None:
        """The public key in a SubjectPublicKeyInfo; None where that is another algorithm's."""
        header = self._header
        return der[len(header) :] if der.startswith(header) and len(der) == len(header) + self.public_bytes else None


_SIGNATURES, _KEMS = (bytes.fromhex(f"60864801650304{arc}") for arc in ("03", "04"))  # 2.16.840.1.101.3.4.3 and .4 (NIST)
PARAMETER_SETS = {
    "ML-DSA-44": ParameterSet("ML_DSA", 1, _SIGNATURES + b"\x11", 1312),
    "ML-DSA-65": ParameterSet("ML_DSA", 2, _SIGNATURES + b"\x12", 1952),
    "ML-DSA-87": ParameterSet("ML_DSA", 3, _SIGNATURES + b"\x13", 2592),
    "ML-KEM-512": ParameterSet("ML_KEM", 1, _KEMS + b"\x01", 800),
    "ML-KEM-768": ParameterSet("ML_KEM", 2, _KEMS + b"\x02", 1184),
    "ML-KEM-1024": ParameterSet("ML_KEM", 3, _KEMS + b"\x03", 1568),
}
_NAMES = {(known.family, known.number): name for name, known in PARAMETER_SETS.items()}
SIGNERS = tuple(name for name in PARAMETER_SETS if name.startswith("ML-DSA"))
KEMS = tuple(name for name in PARAMETER_SETS if name.startswith("ML-KEM"))


def type_of(family: str, number: int | None) -> str | None:
    """The type of a key with this CKA_KEY_TYPE (without ``CKK_``) and CKA_PARAMETER_SET; None for others."""
    return _NAMES.get((family, number or 0))


def public_value(der: bytes) -> bytes | None:
    """CKA_VALUE of a public key from its SubjectPublicKeyInfo; None for another algorithm."""
    return next((value for known in PARAMETER_SETS.values() if (value := known.value_of(der)) is not None), None)
