# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""The functions of a loaded PKCS#11 library, for the few calls that python-pkcs11 does not make, or makes in several."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

from .._model.errors import Cryptoki
from .._model.faults import is_device_fault, number_name

# Places in CK_FUNCTION_LIST: a version (two bytes, padded to a pointer) and then the functions in the order of PKCS#11 3.1, section 5.
INITIALIZE, FINALIZE, GET_INFO, GET_TOKEN_INFO, INIT_TOKEN, DESTROY_OBJECT = 0, 1, 2, 6, 9, 22
GET_ATTRIBUTE_VALUE, SET_ATTRIBUTE_VALUE, FIND_OBJECTS_INIT, FIND_OBJECTS, FIND_OBJECTS_FINAL = range(24, 29)
ENCRYPT_INIT, ENCRYPT, ENCRYPT_FINAL, GENERATE_KEY, GENERATE_KEY_PAIR = 29, 30, 32, 58, 59

OK, BUFFER_TOO_SMALL = 0, 0x150
# Those of PKCS#11 3.1, section 6.1, that python-pkcs11 has an exception for; :func:`number_name` knows the others.
_NAMES = {
    0x02: "CKR_HOST_MEMORY",
    0x03: "CKR_SLOT_ID_INVALID",
    0x05: "CKR_GENERAL_ERROR",
    0x06: "CKR_FUNCTION_FAILED",
    0x07: "CKR_ARGUMENTS_BAD",
    0x10: "CKR_ATTRIBUTE_READ_ONLY",
    0x11: "CKR_ATTRIBUTE_SENSITIVE",
    0x12: "CKR_ATTRIBUTE_TYPE_INVALID",
    0x13: "CKR_ATTRIBUTE_VALUE_INVALID",
    0x20: "CKR_DATA_INVALID",
    0x30: "CKR_DEVICE_ERROR",
    0x31: "CKR_DEVICE_MEMORY",
    0x32: "CKR_DEVICE_REMOVED",
    0x50: "CKR_FUNCTION_CANCELED",
    0x60: "CKR_KEY_HANDLE_INVALID",
    0x62: "CKR_KEY_SIZE_RANGE",
    0x63: "CKR_KEY_TYPE_INCONSISTENT",
    0x70: "CKR_MECHANISM_INVALID",
    0x71: "CKR_MECHANISM_PARAM_INVALID",
    0x82: "CKR_OBJECT_HANDLE_INVALID",
    0x90: "CKR_OPERATION_ACTIVE",
    0x91: "CKR_OPERATION_NOT_INITIALIZED",
    0xA0: "CKR_PIN_INCORRECT",
    0xA1: "CKR_PIN_INVALID",
    0xA2: "CKR_PIN_LEN_RANGE",
    0xA3: "CKR_PIN_EXPIRED",
    0xA4: "CKR_PIN_LOCKED",
    0xB0: "CKR_SESSION_CLOSED",
    0xB1: "CKR_SESSION_COUNT",
    0xB3: "CKR_SESSION_HANDLE_INVALID",
    0xB5: "CKR_SESSION_READ_ONLY",
    0xB6: "CKR_SESSION_EXISTS",
    0xD0: "CKR_TEMPLATE_INCOMPLETE",
    0xD1: "CKR_TEMPLATE_INCONSISTENT",
    0xE0: "CKR_TOKEN_NOT_PRESENT",
    0xE1: "CKR_TOKEN_NOT_RECOGNIZED",
    0xE2: "CKR_TOKEN_WRITE_PROTECTED",
    0x100: "CKR_USER_ALREADY_LOGGED_IN",
    0x101: "CKR_USER_NOT_LOGGED_IN",
    0x102: "CKR_USER_PIN_NOT_INITIALIZED",
    0x120: "CKR_RANDOM_SEED_NOT_SUPPORTED",
    0x121: "CKR_RANDOM_NO_RNG",
    0x130: "CKR_DOMAIN_PARAMS_INVALID",
    BUFFER_TOO_SMALL: "CKR_BUFFER_TOO_SMALL",
}


class _FunctionList(ctypes.Structure):
    _fields_ = [("version", ctypes.c_ubyte * 2), ("functions", ctypes.c_void_p * (GENERATE_KEY_PAIR + 1))]


def function(library: str, index: int, *arguments: Any) -> tuple[int, Any]:
    """A function of the library's list, by its place in it and the types of its arguments; first, what asking for it returned.

    The library is loaded and initialised already: dlopen gives the same copy again.
    """
    function_list = ctypes.POINTER(_FunctionList)()
    rv = int(ctypes.CDLL(library).C_GetFunctionList(ctypes.byref(function_list)))
    if rv != 0:
        return rv, None
    return rv, ctypes.CFUNCTYPE(ctypes.c_ulong, *arguments)(function_list.contents.functions[index])


Ulong, Ulongs = ctypes.c_ulong, ctypes.POINTER(ctypes.c_ulong)


class Attribute(ctypes.Structure):
    """CK_ATTRIBUTE."""

    _fields_ = [("type", ctypes.c_ulong), ("value", ctypes.c_char_p), ("length", ctypes.c_ulong)]


class Mechanism(ctypes.Structure):
    """CK_MECHANISM."""

    _fields_ = [("mechanism", ctypes.c_ulong), ("parameter", ctypes.c_void_p), ("length", ctypes.c_ulong)]


_Attributes, _Bytes = ctypes.POINTER(Attribute), ctypes.c_char_p
# After the session, which is the first argument of all.
_ARGUMENTS: dict[int, tuple[Any, ...]] = {
    DESTROY_OBJECT: (Ulong,),
    GET_ATTRIBUTE_VALUE: (Ulong, _Attributes, Ulong),
    SET_ATTRIBUTE_VALUE: (Ulong, _Attributes, Ulong),
    FIND_OBJECTS_INIT: (_Attributes, Ulong),
    FIND_OBJECTS: (Ulongs, Ulong, Ulongs),
    FIND_OBJECTS_FINAL: (),
    ENCRYPT_INIT: (ctypes.POINTER(Mechanism), Ulong),
    ENCRYPT: (_Bytes, Ulong, _Bytes, Ulongs),
    ENCRYPT_FINAL: (_Bytes, Ulongs),
    GENERATE_KEY: (ctypes.POINTER(Mechanism), _Attributes, Ulong, Ulongs),
    GENERATE_KEY_PAIR: (ctypes.POINTER(Mechanism), _Attributes, Ulong, _Attributes, Ulong, Ulongs, Ulongs),
}


def is_shared(library: str) -> bool:
    """Whether every caller gets the same functions. p11-kit gives each its own, and what python-pkcs11 has begun is not known by ours."""
    lists = [ctypes.POINTER(_FunctionList)() for _call in range(2)]
    asked = [int(ctypes.CDLL(library).C_GetFunctionList(ctypes.byref(one))) for one in lists]
    return asked == [OK, OK] and ctypes.addressof(lists[0].contents) == ctypes.addressof(lists[1].contents)


class SessionFunctions:
    """Calls of one session: they return what the library does."""

    def __init__(self, library: str, session: int) -> None:
        self._library, self._session = library, session
        self._known: dict[int, Callable[..., int]] = {}

    def __call__(self, index: int, *arguments: Any) -> int:
        call = self._known.get(index)
        if call is None:
            rv, call = function(self._library, index, Ulong, *_ARGUMENTS[index])
            if call is None:
                return rv
            self._known[index] = call
        return call(self._session, *arguments)


def check(rv: int, doing: str) -> None:
    """Raise :class:`Cryptoki` for a return value that is not CKR_OK, as :func:`.errors.calling` does for python-pkcs11's calls."""
    if rv != 0:
        name = _NAMES.get(rv) or number_name(rv)
        raise Cryptoki(f"{doing} failed: {name}", rv=name, device=is_device_fault(name))
