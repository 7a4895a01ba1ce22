# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""Other names of a subject, its subjectAltName (RFC 5280, section 4.2.1.6): what it may hold, checked without any library."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Sequence

from ..der import UTF8_STRING, der_value
from ..quoting import quoted
from .names import parse_subject
from .oids import is_oid

_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_DNS = re.compile(rf"(?:\*\.)?{_LABEL}(?:\.{_LABEL})*\Z")
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"  # RFC 5322, section 3.2.3: without quotes and comments, which the library takes apart
_EMAIL = re.compile(rf"{_ATOM}(?:\.{_ATOM})*@{_LABEL}(?:\.{_LABEL})*\Z")
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[\x21-\x7e]+\Z")
_MAX_DNS = 253  # RFC 1035, section 2.3.4, without the root's dot
_MAX_OTHER = 255  # characters of an otherName, and bytes in hex
_HEX = re.compile(r"[0-9A-Fa-f]{2}(?::?[0-9A-Fa-f]{2})+\Z")


def _dns(value: str) -> str:
    if not value.isascii():
        raise ValueError("contains a character outside ASCII: give its xn-- form (RFC 5280, section 7.2)")
    if len(value) > _MAX_DNS or not _DNS.match(value):
        raise ValueError("is no DNS name: give one such as web01.example.com or *.example.com, without a dot at its end")
    if re.fullmatch(r"[0-9.]+", value):
        raise ValueError("is an address: write it behind IP:")
    return value


def _ip(value: str) -> str:
    if "%" in value:
        raise ValueError("has a zone, which a certificate has no place for: leave out what stands behind the %")
    try:
        return str(ipaddress.ip_address(value))
    except ValueError:
        raise ValueError("is no IP address: give one such as 192.0.2.7 or 2001:db8::7, without a mask") from None


def _email(value: str) -> str:
    if not value.isascii() or not _EMAIL.match(value):
        raise ValueError("is no mail address: give one such as ops@example.com, in ASCII")
    return value


def _uri(value: str) -> str:
    if not _URI.match(value):
        raise ValueError("is no URI: give a whole one in ASCII, with its scheme, such as https://example.com/ (RFC 5280, section 4.2.1.6)")
    return value


def _rid(value: str) -> str:
    if not is_oid(value):
        raise ValueError("is no OID: give one such as 1.3.6.1.4.1.311.20.2.3")
    return value


def _other(value: str) -> str:
    """As ``OID;hex of the DER value``."""
    oid, semicolon, rest = value.partition(";")
    if not semicolon or not is_oid(oid):
        raise ValueError("is no otherName: give OID;UTF8:text, or OID; and the DER of its value in hex")
    if rest.startswith("UTF8:"):
        text = rest[len("UTF8:") :]
        if not text or len(text) > _MAX_OTHER or not text.isprintable():
            raise ValueError(f"needs a text behind UTF8: of 1 to {_MAX_OTHER} printable characters")
        return f"{oid};{der_value(UTF8_STRING, text.encode()).hex()}"
    if not _HEX.match(rest) or len(der := rest.replace(":", "").lower()) > 2 * _MAX_OTHER or int(der[2:4], 16) != len(der) // 2 - 2:
        raise ValueError("is no otherName: behind the OID, give UTF8:text, or the DER of its value in hex, of at most 129 bytes")
    return f"{oid};{der}"


# Characters that RFC 4514, section 2.4, has a backslash before.
_SPECIAL = re.compile(r'([\\",+<>;=])')


def _escaped(value: str) -> str:
    text = _SPECIAL.sub(r"\\\1", value)
    if text.startswith(("#", " ")):
        text = f"\\{text}"
    return f"{text[:-1]}\\ " if text.endswith(" ") and len(text) > 1 else text


def _directory(value: str) -> str:
    """A name in the form of RFC 4514, with dotted OIDs, so that any library knows its parts."""
    pairs: list[tuple[str, str]] = []
    for part in re.split(r"(?<!\\),", value):
        name, equals, text = part.partition("=")
        plain = re.sub(r"\\(.)", r"\1", text.strip())
        found, problems = parse_subject({name.strip(): plain})
        if not equals or problems or re.search(r"(?<!\\)[+<>;\"]", text):
            why = problems[0].removeprefix("subject.") if problems else 'a value stands behind =, and a backslash before " + < > ;'
            raise ValueError(f"is no directory name: give one such as CN=web01,O=Example,C=DE ({why})")
        pairs += found
    return ",".join(f"{oid}={_escaped(text)}" for oid, text in pairs)


_KINDS: dict[str, Callable[[str], str]] = {
    "DNS": _dns,
    "IP": _ip,
    "email": _email,
    "URI": _uri,
    "RID": _rid,
    "dirName": _directory,
    "otherName": _other,
}
_BY_PREFIX = {name.lower(): name for name in _KINDS}
_EACH = ", ".join(f"{name}:" for name in _KINDS)


def parse_alt_names(names: Sequence[str]) -> tuple[tuple[tuple[str, str], ...], list[str]]:
    """subjectAltName entries as pairs of a kind and a text, and every problem with its place.

    Texts come back in one form: addresses as they are written canonically, an ``otherName`` as ``OID;hex``, a ``dirName`` as in RFC 4514
    with dotted OIDs.
    """
    pairs: list[tuple[str, str]] = []
    problems: list[str] = []
    if not names:
        problems.append("subject_alt_names: is empty: name one at least, or leave it out")
    for index, text in enumerate(names):
        prefix, colon, value = text.partition(":")
        kind = _BY_PREFIX.get(prefix.lower())
        if not colon or kind is None:
            problems.append(f"subject_alt_names[{index}]: {quoted(text)} has no kind that is known: write one of {_EACH} before it")
            continue
        try:
            pair = (kind, _KINDS[kind](value))
        except ValueError as error:
            problems.append(f"subject_alt_names[{index}]: {quoted(value)} {error}")
            continue
        if pair in pairs:
            problems.append(f"subject_alt_names[{index}]: {quoted(text)} stands there twice: give each name once")
        pairs.append(pair)
    return tuple(pairs), problems
