# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""Which types of keys a mechanism (its name without ``CKM_``) is for, as far as its name tells."""

from __future__ import annotations

import re
from collections.abc import Iterable

from .post_quantum import PARAMETER_SETS
from .types import GENERIC, HMAC_TYPES, KEY_TYPES, ONE_HASH

# The first that is found counts: RSA_AES_KEY_WRAP is for RSA keys, and what makes keys uses none.
_FAMILIES = (
    (re.compile(r"_KEY_(PAIR_)?GEN$"), ()),
    (re.compile(r"(^|_)HMAC(_|$)"), HMAC_TYPES),
    (re.compile(r"^(RIPEMD\d+_|MD\d+_|SHA\w*_)?RSA_"), ("RSA",)),
    (re.compile(r"^(ECDSA|ECDH|ECMQV)"), ("EC",)),
    (re.compile(r"^EDDSA"), ("Ed25519",)),
    (re.compile(r"^(HASH_)?ML_DSA"), tuple(name for name, known in PARAMETER_SETS.items() if known.family == "ML_DSA")),
    (re.compile(r"^ML_KEM"), tuple(name for name, known in PARAMETER_SETS.items() if known.family == "ML_KEM")),
    (re.compile(r"^AES_"), ("AES",)),
    (re.compile(r"^DES3_"), ("DES3",)),
    (re.compile(r"^DES_"), ("DES",)),
    (re.compile(r"^(ARIA|BLOWFISH|CAMELLIA|CHACHA20|DES2|DH|DSA|POLY1305|SALSA20|SEED|(HASH_)?SLH_DSA|TWOFISH|X3DH|X9_42|XEDDSA)_"), ()),
)


def types_of(mechanism: str) -> tuple[str, ...] | None:
    """The types of keys that it uses; None: it may be any, as a vendor's number, and a mechanism that derives from any secret."""
    for pattern, types in _FAMILIES:
        if pattern.search(mechanism):
            hashed = mechanism.partition("_HMAC")[0] + "_HMAC"
            return tuple(name for name in types if name in (GENERIC, hashed)) if types == HMAC_TYPES and hashed in ONE_HASH else types
    return None


def none_fits(type_name: str, mechanisms: Iterable[str]) -> bool:
    """Whether a key of this type that is restricted to these could do nothing, for certain."""
    known = [types_of(mechanism) for mechanism in mechanisms]
    return type_name in KEY_TYPES and all(types is not None and type_name not in types for types in known)
