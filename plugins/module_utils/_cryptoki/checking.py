# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""Use a secret key in the fewest calls: where its token says a key check value, one block tells whether the key has its value."""

from __future__ import annotations

import ctypes

from .._model.keys.objects import KeyObject
from .binding import mechanism
from .errors import calling
from .function_list import BUFFER_TOO_SMALL, ENCRYPT, ENCRYPT_FINAL, ENCRYPT_INIT, Mechanism, Ulong, check
from .session import Session

_ZEROS = {"AES": bytes(16), "DES3": bytes(8)}  # a block
_CHECK_BYTES = 3
_ROOM = 64


def gives_check_value(session: Session, item: KeyObject, what: str) -> bool:
    """Whether a block of zeros, encrypted with this key, begins with the CKA_CHECK_VALUE that its token says (PKCS#11 3.1, section 4.10.2).

    False is no verdict: tokens compute the value in more than one way, or the key may not do this. Raises :class:`Cryptoki`.
    """
    name, zeros = f"{item.type}_ECB", _ZEROS.get(item.type)
    known = item.check_value if item.check_value and len(item.check_value) == _CHECK_BYTES else None
    way = session.way
    if way is None or zeros is None or known is None or "encrypt" not in item.operations or name not in session.mechanisms():
        return False
    if item.allowed_mechanisms and name not in item.allowed_mechanisms:
        return False
    call, how = way.functions, Mechanism(int(mechanism(name)), None, 0)
    block, length = ctypes.create_string_buffer(_ROOM), Ulong(_ROOM)
    try:
        with calling(what, "C_Encrypt"):
            check(call(ENCRYPT_INIT, ctypes.byref(how), item.handle), what)
            rv = call(ENCRYPT, zeros, len(zeros), block, ctypes.byref(length))
            if rv == BUFFER_TOO_SMALL:  # for 16 bytes: an odd answer, which leaves the operation open
                call(ENCRYPT_FINAL, block, ctypes.byref(Ulong(_ROOM)))
                return False
            check(rv, what)
        return length.value == len(zeros) and ctypes.string_at(block, _CHECK_BYTES) == known
    finally:
        ctypes.memset(block, 0, _ROOM)  # the block is a secret of the key: see comparing.whole_check
