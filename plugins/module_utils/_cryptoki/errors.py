# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""python-pkcs11's exceptions, as return values by their PKCS#11 names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from .._model import underway
from .._model.errors import Cryptoki
from .._model.faults import is_device_fault, number_name
from .binding import pkcs11

_WORD = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_CODE = re.compile(r"0x[0-9a-fA-F]+")
_SPELT_OTHERWISE = {"CKR_TOKEN_NOT_RECOGNISED": "CKR_TOKEN_NOT_RECOGNIZED", "CKR_FUNCTION_CANCELLED": "CKR_FUNCTION_CANCELED"}


def rv_name(error: BaseException) -> str:
    """The ``CKR_`` name of a python-pkcs11 exception; a number where PKCS#11 has no name for it.

    python-pkcs11 has a class for most return values and gives the others as ``Unmapped error code 0x…``.
    """
    match = _CODE.search(str(error))
    if type(error).__name__ == "PKCS11Error":
        return number_name(int(match.group(), 16)) if match else "CKR_GENERAL_ERROR"
    name = f"CKR_{_WORD.sub('_', type(error).__name__).upper()}"
    return _SPELT_OTHERWISE.get(name, name)


@contextmanager
def calling(doing: str, function: str = "", *, writes: bool = False) -> Iterator[None]:
    """Turn a python-pkcs11 exception of the body into :class:`Cryptoki`. ``doing`` says in plain words what was tried, ``function`` which
    C function that is. ``writes``: to the token, and then it is done when the body ends well."""
    try:
        with underway.calling(underway.Call(doing, function, writes)):
            yield
    except pkcs11.PKCS11Error as error:
        rv = rv_name(error)
        raise Cryptoki(f"{doing} failed: {rv}", rv=rv, device=is_device_fault(rv)) from error
