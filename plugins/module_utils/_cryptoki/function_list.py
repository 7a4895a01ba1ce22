# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""The functions of a loaded PKCS#11 library, for the few calls that python-pkcs11 does not make."""

from __future__ import annotations

import ctypes
from typing import Any

from .._model.errors import Cryptoki
from .._model.faults import is_device_fault, number_name

# Places in CK_FUNCTION_LIST: a version (two bytes, padded to a pointer) and then the functions in the order of PKCS#11 3.1, section 5.
INITIALIZE, FINALIZE, GET_INFO, GET_TOKEN_INFO, INIT_TOKEN, DESTROY_OBJECT = 0, 1, 2, 6, 9, 22
FIND_OBJECTS_INIT, FIND_OBJECTS, FIND_OBJECTS_FINAL = 26, 27, 28

_NAMES = {
    0x05: "CKR_GENERAL_ERROR",
    0x06: "CKR_FUNCTION_FAILED",
    0x07: "CKR_ARGUMENTS_BAD",
    0x30: "CKR_DEVICE_ERROR",
    0x31: "CKR_DEVICE_MEMORY",
    0x32: "CKR_DEVICE_REMOVED",
    0xA0: "CKR_PIN_INCORRECT",
    0xA1: "CKR_PIN_INVALID",
    0xA2: "CKR_PIN_LEN_RANGE",
    0xA4: "CKR_PIN_LOCKED",
    0xB6: "CKR_SESSION_EXISTS",
    0xE0: "CKR_TOKEN_NOT_PRESENT",
    0xE1: "CKR_TOKEN_NOT_RECOGNIZED",
    0xE2: "CKR_TOKEN_WRITE_PROTECTED",
}


class _FunctionList(ctypes.Structure):
    _fields_ = [("version", ctypes.c_ubyte * 2), ("functions", ctypes.c_void_p * (FIND_OBJECTS_FINAL + 1))]


def function(library: str, index: int, *arguments: Any) -> tuple[int, Any]:
    """A function of the library's list, by its place in it and the types of its arguments; first, what asking for it returned.

    The library is loaded and initialised already: dlopen gives the same copy again.
    """
    function_list = ctypes.POINTER(_FunctionList)()
    rv = int(ctypes.CDLL(library).C_GetFunctionList(ctypes.byref(function_list)))
    if rv != 0:
        return rv, None
    return rv, ctypes.CFUNCTYPE(ctypes.c_ulong, *arguments)(function_list.contents.functions[index])


def check(rv: int, doing: str) -> None:
    """Raise :class:`Cryptoki` for a return value that is not CKR_OK, as :func:`.errors.calling` does for python-pkcs11's calls."""
    if rv != 0:
        name = _NAMES.get(rv) or number_name(rv)
        raise Cryptoki(f"{doing} failed: {name}", rv=name, device=is_device_fault(name))
