# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""The key types, their sizes and curves, and which half of a pair carries which operation.

Names of operations are those of PKCS#11's attributes in lower case (``encrypt`` is CKA_ENCRYPT). Which of them a class of
key has: PKCS#11 3.1, sections 4.8 (public), 4.9 (private) and 4.10 (secret).
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass

SECRET, PRIVATE, PUBLIC = "secret", "private", "public"

# Canonical order: results and diffs list operations in it.
OPERATIONS = ("encrypt", "decrypt", "sign", "verify", "wrap", "unwrap", "derive")

# What each class of object has an attribute for. All of them are written when a key is made: left out, a provider's own
# default counts, and SoftHSM's is true.
CLASS_OPERATIONS = {SECRET: OPERATIONS, PRIVATE: ("decrypt", "sign", "unwrap", "derive"), PUBLIC: ("encrypt", "verify", "wrap")}


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
    )
}
CURVE_BY_DER = {curve.der: curve for curve in CURVES.values()}


@dataclass(frozen=True)
class KeyType:
    """What can be asked of a type. ``sizes`` are in bits; ``halves`` maps a class of object to its operations."""

    name: str
    generate: str  # the generating mechanism, without CKM_
    sizes: tuple[int, ...]
    default_size: int | None
    halves: dict[str, tuple[str, ...]]
    default_operations: tuple[str, ...]

    @property
    def operations(self) -> frozenset[str]:
        return frozenset(operation for half in self.halves.values() for operation in half)

    @property
    def is_pair(self) -> bool:
        return PRIVATE in self.halves


KEY_TYPES = {
    key_type.name: key_type
    for key_type in (
        KeyType("AES", "AES_KEY_GEN", (128, 192, 256), 256, {SECRET: OPERATIONS}, ("encrypt", "decrypt")),
        KeyType(
            "RSA",
            "RSA_PKCS_KEY_PAIR_GEN",
            (2048, 3072, 4096),
            3072,
            {PRIVATE: ("decrypt", "sign", "unwrap"), PUBLIC: ("encrypt", "verify", "wrap")},
            ("sign", "verify"),
        ),
        KeyType("EC", "EC_KEY_PAIR_GEN", (), None, {PRIVATE: ("sign", "derive"), PUBLIC: ("verify",)}, ("sign", "verify")),
    )
}


def ordered(operations: Container[str]) -> tuple[str, ...]:
    """The given operations (any container) once each, in canonical order."""
    return tuple(operation for operation in OPERATIONS if operation in operations)
