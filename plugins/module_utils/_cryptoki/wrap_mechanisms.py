# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""By which mechanism an AES key wraps, without ``CKM_``.

AES_KEY_WRAP is RFC 3394, and takes two or more blocks of 64 bits. With padding there are two numbers: AES_KEY_WRAP_KWP (0x210B) is
RFC 5649. AES_KEY_WRAP_PAD (0x210A) came before it, and is RFC 5649 on some tokens, RFC 3394 over PKCS#7's padding on others
(PKCS#11 3.1, section 6.13.7, deprecates it for that).
"""

from __future__ import annotations

from .._model.keys.types import HMAC_TYPES, KEY_TYPES
from .session import Session

WHOLE = "AES_KEY_WRAP"
_BLOCK_BITS = 64
PADDED = ("AES_KEY_WRAP_KWP", "AES_KEY_WRAP_PAD")  # the one that has one meaning first


def needs_padding(type_name: str, bits: int | None) -> bool:
    """The PKCS#8 of a private key has any length, and a DES key is one block. A key for HMAC may be of any length too, and SoftHSM's
    AES_KEY_WRAP fills one up with zeros, without a word. ``bits``: a secret key's size; None: not known."""
    if type_name in HMAC_TYPES:
        return bits is None or bits % _BLOCK_BITS != 0 or bits < 2 * _BLOCK_BITS
    return KEY_TYPES[type_name].is_pair or type_name == "DES"


def candidates(session: Session, type_name: str, bits: int | None) -> list[str]:
    """Those of the token that wrap and unwrap keys of this type and size, best first."""
    return [name for name in (PADDED if needs_padding(type_name, bits) else (WHOLE,)) if name in session.mechanisms()]


def described(type_name: str, bits: int | None) -> str:
    """What a token lacks that has none of them."""
    return " and ".join(reversed(PADDED)) if needs_padding(type_name, bits) else WHOLE
