# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""How attributes are unpacked, so that one odd value does not end a bulk read or a search."""

from __future__ import annotations

import sys
from typing import Any

from .binding import pkcs11


def _ulong(raw: bytes) -> int:
    # "L" of python-pkcs11 is the machine's CK_ULONG; some providers answer with fewer bytes.
    return int.from_bytes(raw, sys.byteorder)


def _enum_or_number(members: Any) -> Any:
    def unpack(raw: bytes) -> Any:
        number = _ulong(raw)
        try:
            return members(number)
        except ValueError:
            return number

    return unpack


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "backslashreplace")


def attribute_mapper() -> Any:
    """python-pkcs11's mapper, taught what it stumbles over: vendor classes and key types, and labels that are not UTF-8."""
    from pkcs11.attributes import AttributeMapper

    mapper = AttributeMapper()
    for name, members in (("CLASS", pkcs11.ObjectClass), ("KEY_TYPE", pkcs11.KeyType), ("CERTIFICATE_TYPE", pkcs11.CertificateType)):
        attribute = pkcs11.Attribute[name]
        mapper.register_handler(attribute, mapper.attribute_types[attribute][0], _enum_or_number(members))
    # python-pkcs11 cannot take lists apart: see .allowed.
    mapper.register_handler(pkcs11.Attribute.ALLOWED_MECHANISMS, bytes, bytes)
    mapper.register_handler(pkcs11.Attribute.LABEL, mapper.attribute_types[pkcs11.Attribute.LABEL][0], _text)
    return mapper
