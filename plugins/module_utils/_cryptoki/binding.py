# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""The one import of python-pkcs11, so that the files beside it can be read without it."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from importlib import import_module
from typing import Any

from .._model.keys.post_quantum import PARAMETER_SETS

try:
    pkcs11: Any = import_module("pkcs11")
except ImportError:
    pkcs11 = None  # _module.runtime reports it before anything here is called


def _is_of_a_destructor(error: BaseException | None, outermost: Any) -> bool:
    return (
        pkcs11 is not None
        and isinstance(error, pkcs11.PKCS11Error)
        and str(outermost and outermost.tb_frame.f_code.co_name).endswith("_finalize")
    )


def _quiet() -> None:
    """A search of python-pkcs11 that could not begin raises its error once more when it is deleted: Cython prints that like an error that
    nobody caught, and hands it to Python as one that cannot be raised. The run has the first."""
    uncaught, unraisable = sys.excepthook, sys.unraisablehook

    def not_caught(kind: type[BaseException], error: BaseException, trace: Any) -> None:
        if not _is_of_a_destructor(error, trace):
            uncaught(kind, error, trace)

    def not_raised(given: Any) -> None:
        if not _is_of_a_destructor(given.exc_value, given.exc_traceback):
            unraisable(given)

    sys.excepthook, sys.unraisablehook = not_caught, not_raised


_quiet()


# Mechanisms that python-pkcs11 has no names for (PKCS#11 3.1, header pkcs11t.h).
_MORE = {"SHA224_KEY_GEN": 0x4004, "SHA256_KEY_GEN": 0x4005, "SHA384_KEY_GEN": 0x4006, "SHA512_KEY_GEN": 0x4007}
_MORE_NAMES = {number: name for name, number in _MORE.items()}


def mechanism(name: str) -> Any:
    """python-pkcs11's member for a mechanism's name without ``CKM_``. It puts an underscore before historical ones."""
    if name in _MORE and name not in pkcs11.Mechanism.__members__:
        unnamed = int.__new__(pkcs11.Mechanism, _MORE[name])  # it takes members only
        unnamed._name_, unnamed._value_ = name, _MORE[name]
        return unnamed
    return pkcs11.Mechanism[name if name in pkcs11.Mechanism.__members__ else f"_{name}"]


def mechanism_name(number: int) -> str:
    """The name without ``CKM_``, in hex for one that has none here."""
    try:
        return str(pkcs11.Mechanism(number).name).lstrip("_")
    except ValueError:
        return _MORE_NAMES.get(number, hex(number))


def key_type(name: str) -> Any:
    """The same for a key type's name without ``CKK_``."""
    return pkcs11.KeyType[name if name in pkcs11.KeyType.__members__ else f"_{name}"]


def type_attributes(name: str, ckk: str) -> dict[Any, Any]:
    """What tells a type (its name, and CKA_KEY_TYPE without ``CKK_``) in the template of an object that is made from its value."""
    known = PARAMETER_SETS.get(name)
    more = {} if known is None else {pkcs11.Attribute.PARAMETER_SET: known.number}
    return {pkcs11.Attribute.KEY_TYPE: key_type(ckk), **more}


def typed(raw: Any, ckk: str) -> Any:
    """``raw`` with its key type (without ``CKK_``) told: python-pkcs11 would ask the token at the key's first use, and lose the cause of a
    failure."""
    raw.key_type = key_type(ckk)
    return raw


def able(raw: Any, operations: Iterable[str]) -> None:
    """Give an object the methods of operations of which the token does not say whether it has them: python-pkcs11 leaves those out, and
    the token is to decide."""
    mixins = [getattr(import_module("pkcs11._pkcs11"), f"{operation.capitalize()}Mixin") for operation in operations]
    missing = [mixin for mixin in mixins if not isinstance(raw, mixin)]
    if missing:
        raw.__class__ = type(type(raw).__name__, (*missing, type(raw)), {})
