# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""C_Initialize with arguments, which python-pkcs11 does not have: NSS and YubiHSM want a text, others a flag. And C_Finalize where
python-pkcs11 takes a library for finalised that may not be: after one of the two failed."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from importlib import import_module
from typing import Any

from .._model.errors import Cryptoki
from .._model.tokens.starting import Starting
from .binding import pkcs11
from .function_list import FINALIZE, INITIALIZE, check, function

_OS_LOCKING_OK = 2
_kept: list[Any] = []  # python-pkcs11 unloads a library whose object goes, and a use after that crashes
_used: set[str] = set()  # libraries that were initialised in this process


class _Arguments(ctypes.Structure):
    """CK_C_INITIALIZE_ARGS. NSS calls the last one LibraryParameters."""

    _fields_ = [("mutex_functions", ctypes.c_void_p * 4), ("flags", ctypes.c_ulong), ("reserved", ctypes.c_char_p)]


def _call(library: str, index: int, argument: int | None) -> int:
    rv, call = function(library, index, ctypes.c_void_p)
    return rv or int(call(argument))


def finalize(library: str) -> int:
    """What C_Finalize returns. The library is one that this process has loaded."""
    return _call(library, FINALIZE, None)


class Initialized:
    """As python-pkcs11's ``lib``, as far as :class:`.provider.Provider` uses it. Raises :class:`Cryptoki`."""

    def __init__(self, library: str, starting: Starting) -> None:
        self.initialized = False
        self._library = library
        flags = _OS_LOCKING_OK if starting.os_locking else 0
        self._arguments = _Arguments(flags=flags, reserved=starting.init_args.encode("utf-8") or None)
        # Without __init__, which would initialise it.
        kind = import_module("pkcs11._pkcs11").lib
        self._lib = kind.__new__(kind, library)
        _kept.append(self._lib)
        self._initialize()

    def _initialize(self) -> None:
        check(_call(self._library, INITIALIZE, ctypes.addressof(self._arguments)), f"initialising {self._library}")
        self.initialized = True

    def finalize(self) -> None:
        self.initialized = False
        check(finalize(self._library), f"closing {self._library}")

    def reinitialize(self) -> None:
        self.finalize()
        self._initialize()

    @property
    def get_slots(self) -> Callable[[], list[Any]]:
        found: Callable[[], list[Any]] = self._lib.get_slots
        return found


def load(library: str, starting: Starting) -> Any:
    """The library, loaded and initialised. Raises :class:`Cryptoki`, or python-pkcs11's error."""
    try:
        lib = pkcs11.lib(library) if starting.plain else Initialized(library, starting)
    except (pkcs11.PKCS11Error, Cryptoki):
        if library in _used:
            finalize(library)  # it may have taken effect
        raise
    _used.add(library)
    return lib
