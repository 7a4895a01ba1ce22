# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""What python-pkcs11 does not offer, through the library's own function list: C_InitToken, and the PIN lengths of C_GetTokenInfo."""

from __future__ import annotations

import ctypes

from .._model.tokens.secret import Secret
from .._model.tokens.selectors import LABEL_BYTES
from .function_list import GET_TOKEN_INFO, INIT_TOKEN, check, function

_NOT_INITIALIZED = 0x190  # CKR_CRYPTOKI_NOT_INITIALIZED
_LONGEST = 4096  # a greater "greatest length" is CK_UNAVAILABLE_INFORMATION or nonsense


class _TokenInfo(ctypes.Structure):
    """CK_TOKEN_INFO (PKCS#11 3.1, section 3.2)."""

    _fields_ = [
        ("texts", ctypes.c_ubyte * 96),  # label, manufacturerID, model, serialNumber
        ("flags", ctypes.c_ulong),
        ("session_counts", ctypes.c_ulong * 4),
        ("max_pin_length", ctypes.c_ulong),
        ("min_pin_length", ctypes.c_ulong),
        ("memory", ctypes.c_ulong * 4),
        ("versions_and_time", ctypes.c_ubyte * 20),
    ]


def pin_lengths(library: str, slot_id: int) -> tuple[int, int]:
    """Least and greatest length of a PIN in bytes; (0, 0) where the token does not say anything sensible. Raises :class:`Cryptoki`.

    p11-kit gives each caller a function list of its own, in which python-pkcs11's C_Initialize counts for nothing.
    """
    info = _TokenInfo()
    rv, call = function(library, GET_TOKEN_INFO, ctypes.c_ulong, ctypes.POINTER(_TokenInfo))
    rv = rv or int(call(slot_id, ctypes.byref(info)))
    if rv == _NOT_INITIALIZED:
        return 0, 0
    check(rv, f"reading the token in slot {slot_id}")
    least, most = int(info.min_pin_length), int(info.max_pin_length)
    return (least, most) if 0 < most <= _LONGEST and least <= most else (0, 0)


def init_token(library: str, slot_id: int, so_pin: Secret, label: str) -> None:
    """Initialise the token in ``slot_id``. The caller has made sure that it is not initialised, and holds the provider's lock.

    Raises :class:`Cryptoki`.
    """
    rv, call = function(library, INIT_TOKEN, ctypes.c_ulong, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p)
    if rv == 0:
        pin = so_pin.reveal().encode("utf-8")
        rv = call(slot_id, pin, len(pin), label.encode("utf-8").ljust(LABEL_BYTES, b" "))
    check(rv, f"creating the token '{label}' in slot {slot_id}")
