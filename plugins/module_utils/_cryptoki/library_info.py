# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""What python-pkcs11 does not pass on of CK_INFO and CK_TOKEN_INFO (PKCS#11 3.1, sections 3.1 and 3.2)."""

from __future__ import annotations

import ctypes
from typing import Any

from .function_list import GET_INFO, GET_TOKEN_INFO, check, function

_NOT_INITIALIZED = 0x190  # CKR_CRYPTOKI_NOT_INITIALIZED
_LONGEST = 4096  # a greater "greatest length" is CK_UNAVAILABLE_INFORMATION or nonsense
UNAVAILABLE = frozenset({2**32 - 1, 2**64 - 1})  # CK_UNAVAILABLE_INFORMATION, also of a library that counts in 32 bits


class _Info(ctypes.Structure):
    """CK_INFO."""

    _fields_ = [
        ("cryptoki_version", ctypes.c_ubyte * 2),
        ("manufacturer", ctypes.c_ubyte * 32),
        ("flags", ctypes.c_ulong),
        ("description", ctypes.c_ubyte * 32),
        ("version", ctypes.c_ubyte * 2),
    ]


class _TokenInfo(ctypes.Structure):
    """CK_TOKEN_INFO."""

    _fields_ = [
        ("texts", ctypes.c_ubyte * 96),  # label, manufacturerID, model, serialNumber
        ("flags", ctypes.c_ulong),
        ("session_counts", ctypes.c_ulong * 4),
        ("max_pin_length", ctypes.c_ulong),
        ("min_pin_length", ctypes.c_ulong),
        ("memory", ctypes.c_ulong * 4),
        ("versions_and_time", ctypes.c_ubyte * 20),
    ]


def _token_info(library: str, slot_id: int) -> _TokenInfo | None:
    """None behind p11-kit: it gives each caller a function list of its own, in which python-pkcs11's C_Initialize counts for nothing."""
    info = _TokenInfo()
    rv, call = function(library, GET_TOKEN_INFO, ctypes.c_ulong, ctypes.POINTER(_TokenInfo))
    rv = rv or int(call(slot_id, ctypes.byref(info)))
    if rv == _NOT_INITIALIZED:
        return None
    check(rv, f"reading the token in slot {slot_id}")
    return info


def pin_lengths(library: str, slot_id: int) -> tuple[int, int]:
    """Least and greatest length of a PIN in bytes; (0, 0) where the token does not say anything sensible. Raises :class:`Cryptoki`."""
    info = _token_info(library, slot_id)
    least, most = (0, 0) if info is None else (int(info.min_pin_length), int(info.max_pin_length))
    return (least, most) if 0 < most <= _LONGEST and least <= most else (0, 0)


def memory(library: str, slot_id: int) -> dict[str, int | None]:
    """Bytes that the token has for public and private objects; None where it does not report them. Raises :class:`Cryptoki`."""
    info = _token_info(library, slot_id)
    names = ("total_public", "free_public", "total_private", "free_private")
    values = [None] * 4 if info is None else [None if value in UNAVAILABLE else int(value) for value in info.memory]
    return dict(zip(names, values, strict=True))


def version(pair: Any) -> str:
    """A CK_VERSION as text, its second part as a number: 2.40."""
    major, minor = pair
    return f"{major}.{minor}"


def read_info(library: str) -> dict[str, str]:
    """CK_INFO of an initialised library. Raises :class:`Cryptoki`."""
    info = _Info()
    rv, call = function(library, GET_INFO, ctypes.POINTER(_Info))
    check(rv or int(call(ctypes.byref(info))), f"reading what {library} says of itself")
    return {
        "manufacturer": _text(info.manufacturer),
        "description": _text(info.description),
        "version": version(info.version),
        "cryptoki_version": version(info.cryptoki_version),
    }


def _text(padded: Any) -> str:
    return bytes(padded).decode("utf-8", "replace").rstrip(" \0")
