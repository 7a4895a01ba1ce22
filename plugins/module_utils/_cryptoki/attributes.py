# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""The one reader of attributes: what an object does not have or does not give is left out, and an error is never taken for that.

Names are without ``CKA_``. Both functions raise python-pkcs11's errors.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from functools import cache
from typing import Any

from .binding import pkcs11
from .direct import UNDECODABLE, is_direct, read_at_once
from .errors import rv_name

# What a token answers for an attribute that an object does not have, or does not give. FUNCTION_FAILED is python-pkcs11's word for a
# value that is not there although the call went well.
_ABSENT = frozenset({"CKR_ATTRIBUTE_TYPE_INVALID", "CKR_ATTRIBUTE_SENSITIVE"})
_PERHAPS_ABSENT = _ABSENT | {"CKR_FUNCTION_FAILED"}


def read_value(raw: Any, name: str) -> Any:
    """One attribute that must be there: absent is an error like others.

    Two calls read it. Where the first fails and the second does not, python-pkcs11 says FUNCTION_FAILED: asked once more, a passing
    fault is over, and a lasting one has its own name.
    """
    attribute = pkcs11.Attribute[name]
    try:
        return raw[attribute]
    except pkcs11.FunctionFailed:
        return raw[attribute]


@cache
def _numbered(names: tuple[str, ...]) -> tuple[list[Any], dict[int, str]]:
    """The attributes as python-pkcs11 has them, and their names by number."""
    wanted = [pkcs11.Attribute[name] for name in names]
    return wanted, {int(attribute): name for attribute, name in zip(wanted, names, strict=True)}


def _in_bulk(raw: Any, names: tuple[str, ...]) -> dict[str, Any]:
    """What one read of all gives. Nothing where the provider refuses it, python-pkcs11 cannot decode a value, or all are absent."""
    wanted, numbers = _numbered(names)
    try:
        return {numbers[int(number)]: value for number, value in raw.get_attributes(wanted).items()}
    except (pkcs11.PKCS11Error, *UNDECODABLE):  # python-pkcs11 cannot decode one of them
        return {}  # each is read by itself then, and a fault shows there


def read(raw: Any, names: Iterable[str], *, known_by: Collection[str] = ()) -> dict[str, Any]:
    """Those of several attributes that the object gives, by name. Absent, refused and undecodable ones are left out.

    ``known_by`` are those that the object is recognised by, or protected by. They are read by themselves where the bulk read
    left them out, and must not be missing because of a word that stands for a fault, too.
    """
    wanted = tuple(names)
    at_once = read_at_once(raw, wanted) if is_direct(raw) else None
    found, doubtful = at_once or (_in_bulk(raw, wanted) if len(wanted) > 1 else {}, frozenset[str]())
    for name in [name for name in wanted if name not in found and (not found or name in known_by or name in doubtful)]:
        try:
            found[name] = read_value(raw, name)
        except UNDECODABLE:  # there, and python-pkcs11 cannot decode it
            continue
        except pkcs11.PKCS11Error as error:
            if rv_name(error) not in (_ABSENT if name in known_by else _PERHAPS_ABSENT):
                raise
    return found
