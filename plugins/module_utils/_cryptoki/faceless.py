# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""Objects without any attribute: SoftHSM leaves such when it is killed at the very beginning of a create.

No search by an attribute finds them, python-pkcs11 cannot stand for them, and its search for everything fails on them.
"""

from __future__ import annotations

import ctypes
from collections.abc import Container

from .function_list import DESTROY_OBJECT, FIND_OBJECTS, FIND_OBJECTS_FINAL, FIND_OBJECTS_INIT, check, function
from .session import Session

_BATCH = 256
_Ulong, _Ulongs = ctypes.c_ulong, ctypes.POINTER(ctypes.c_ulong)


class Faceless:
    """One of them. It can be destroyed, and nothing else."""

    def __init__(self, session: Session, handle: int) -> None:
        self.session = session
        self.handle = handle

    def destroy(self) -> None:
        """C_DestroyObject. Raises :class:`Cryptoki`."""
        rv, destroy = function(self.session.provider.library, DESTROY_OBJECT, _Ulong, _Ulong)
        check(rv or destroy(self.session.raw.handle, self.handle), f"destroying the object with handle {self.handle}")


def find_faceless(session: Session, known: Container[int]) -> list[Faceless]:
    """All objects that a search without a template finds and ``known`` does not hold, the handles of those that have a CKA_TOKEN.

    Every object must have that attribute (PKCS#11 3.1, section 4.4). Raises :class:`Cryptoki`.
    """
    return [Faceless(session, handle) for handle in handles(session) if handle not in known]


def handles(session: Session) -> list[int]:
    """The handles of all objects that this session sees, without a look at their attributes. Raises :class:`Cryptoki`."""
    library, doing = session.provider.library, f"searching {session.token} for all objects"
    rv, begin = function(library, FIND_OBJECTS_INIT, _Ulong, ctypes.c_void_p, _Ulong)
    check(rv or begin(session.raw.handle, None, 0), doing)
    _rv, find = function(library, FIND_OBJECTS, _Ulong, _Ulongs, _Ulong, _Ulongs)
    _rv, end = function(library, FIND_OBJECTS_FINAL, _Ulong)
    batch, count, found = (_Ulong * _BATCH)(), _Ulong(), []
    try:
        while True:
            check(find(session.raw.handle, batch, _BATCH, ctypes.byref(count)), doing)
            if count.value == 0:
                break
            found += list(batch[: count.value])
    finally:
        end(session.raw.handle)
    return found
