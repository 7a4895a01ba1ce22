# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""Addresses for other programs: PKCS#11 URIs (RFC 7512). A PIN is never part of one."""

from __future__ import annotations

from urllib.parse import quote, unquote

from .tokens.identity import TokenIdentity

CERTIFICATE = "cert"
# CKA_CLASS in the words of a URI, by our words.
URI_TYPES = {"secret": "secret-key", "private": "private", "public": "public", "certificate": CERTIFICATE, "data": "data"}


def _text(value: str) -> str:
    """Percent-encoded UTF-8. What a token gave that is no UTF-8 goes back to its bytes."""
    return quote(value.encode("utf-8", "surrogateescape"), safe="")


def pkcs11_uri(token: str = "", serial: str = "", label: str = "", key_id: bytes = b"", kind: str = "") -> str:
    """The URI of an object, or with nothing but ``token`` and ``serial`` that of a token. What is empty is left out.

    ``kind`` is a key of :data:`URI_TYPES`. All of CKA_ID is percent-encoded, as section 2.3 of RFC 7512 wants it.
    """
    parts = {
        "token": _text(token),
        "serial": _text(serial),
        "id": "".join(f"%{byte:02X}" for byte in key_id),
        "object": _text(label),
        "type": URI_TYPES[kind] if kind else "",
    }
    return "pkcs11:" + ";".join(f"{name}={value}" for name, value in parts.items() if value)


def uri_in(token: TokenIdentity, label: str, key_id: bytes, kind: str) -> str:
    """The URI of an object of this token: with the token's label, and with its serial number where that tells it from others."""
    return pkcs11_uri(token.label, token.serial if token.serial_tells else "", label, key_id, kind)


def uri_parts(uri: str) -> dict[str, str] | None:
    """The attributes of a URI's path, decoded. None where it is not one."""
    scheme, _colon, path = uri.strip().partition(":")
    pairs = [part.partition("=") for part in path.partition("?")[0].split(";") if part]
    if scheme != "pkcs11" or any(not equals for _name, equals, _value in pairs):
        return None
    return {name: unquote(value, errors="surrogateescape") for name, _equals, value in pairs}
