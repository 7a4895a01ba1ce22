# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""C_InitToken, which python-pkcs11 does not offer, through the library's own function list."""

from __future__ import annotations

import ctypes

from .._model.tokens.secret import Secret
from .._model.tokens.selectors import LABEL_BYTES
from .function_list import INIT_TOKEN, check, function


def init_token(library: str, slot_id: int, so_pin: Secret, label: str) -> None:
    """Initialise the token in ``slot_id``. The caller has made sure that it is not initialised, and holds the provider's lock.

    Raises :class:`Cryptoki`.
    """
    rv, call = function(library, INIT_TOKEN, ctypes.c_ulong, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p)
    if rv == 0:
        pin = so_pin.reveal().encode("utf-8")
        rv = call(slot_id, pin, len(pin), label.encode("utf-8").ljust(LABEL_BYTES, b" "))
    check(rv, f"creating the token '{label}' in slot {slot_id}")
