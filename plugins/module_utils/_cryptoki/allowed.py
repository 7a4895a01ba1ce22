# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""The mechanisms that a key is restricted to (CKA_ALLOWED_MECHANISMS), by their names without ``CKM_``, or 0x… where they have none."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

from .attributes import read
from .binding import mechanism, mechanism_name, pkcs11
from .errors import calling

ATTRIBUTE = "ALLOWED_MECHANISMS"
_SIZE = struct.calcsize("L")  # bytes of a CK_ULONG


def _name(number: int) -> str:
    name = mechanism_name(number)
    return f"0x{number:08x}" if name.startswith("0x") else name


def canonical(text: str) -> str | None:
    """The name as tokens' answers have it; None for one that PKCS#11 has not. A number may be any."""
    if text.startswith("0x"):
        return _name(int(text, 16))
    try:
        return _name(int(mechanism(text)))
    except KeyError:
        return None


def nearest(text: str) -> str | None:
    """What was perhaps meant by a name that there is not."""
    known = [name.lstrip("_") for name in pkcs11.Mechanism.__members__]
    return next(iter(get_close_matches(text.upper().removeprefix("CKM_"), known, n=1)), None)


def packed(names: Iterable[str]) -> bytes:
    """The attribute's value."""
    numbers = [int(name, 16) if name.startswith("0x") else int(mechanism(name)) for name in names]
    return struct.pack(f"{len(numbers)}L", *numbers)


def unpacked(value: bytes) -> tuple[str, ...]:
    """Names in order of the alphabet."""
    return tuple(sorted(_name(number) for number in struct.unpack(f"{len(value) // _SIZE}L", value[: len(value) // _SIZE * _SIZE])))


def allowed_of(raw: Any) -> tuple[str, ...] | None:
    """What the key is restricted to; empty: to nothing. None: the token does not report it. Raises :class:`Cryptoki`."""
    with calling("reading a key's CKA_ALLOWED_MECHANISMS"):
        value = read(raw, [ATTRIBUTE]).get(ATTRIBUTE)
    return None if value is None else unpacked(bytes(value))
