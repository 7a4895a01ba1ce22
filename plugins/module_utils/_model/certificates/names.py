# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""Names in requests and certificates: what a subject may hold, checked without any library."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from ..quoting import quoted

_PRINTABLE = re.compile(r"[A-Za-z0-9 '()+,./:=?-]*\Z")  # PrintableString, X.680 section 41.4
_COUNTRY = re.compile(r"[A-Za-z]{2}\Z")


@dataclass(frozen=True)
class NameType:
    """One attribute type of a subject: ``longest`` in characters (RFC 5280, appendix A.1; X.520), ``charset`` of its ASN.1 string."""

    name: str
    short: str | None
    oid: str
    longest: int
    charset: str = "utf8"


NAME_TYPES = (
    NameType("commonName", "CN", "2.5.4.3", 64),
    NameType("surname", "SN", "2.5.4.4", 32768),
    NameType("serialNumber", None, "2.5.4.5", 64, "printable"),
    NameType("countryName", "C", "2.5.4.6", 2, "country"),
    NameType("localityName", "L", "2.5.4.7", 128),
    NameType("stateOrProvinceName", "ST", "2.5.4.8", 128),
    NameType("streetAddress", "street", "2.5.4.9", 128),
    NameType("organizationName", "O", "2.5.4.10", 64),
    NameType("organizationalUnitName", "OU", "2.5.4.11", 64),
    NameType("title", None, "2.5.4.12", 64),
    NameType("businessCategory", None, "2.5.4.15", 128),
    NameType("postalCode", None, "2.5.4.17", 40),
    NameType("givenName", "GN", "2.5.4.42", 32768),
    NameType("generationQualifier", None, "2.5.4.44", 32768),
    NameType("dnQualifier", None, "2.5.4.46", 32768, "printable"),
    NameType("pseudonym", None, "2.5.4.65", 128),
    NameType("organizationIdentifier", None, "2.5.4.97", 32768),
    NameType("userId", "UID", "0.9.2342.19200300.100.1.1", 256),
    NameType("domainComponent", "DC", "0.9.2342.19200300.100.1.25", 63, "ascii"),
    NameType("emailAddress", None, "1.2.840.113549.1.9.1", 255, "ascii"),
)
_BY_NAME = {name: entry for entry in NAME_TYPES for name in (entry.name, entry.short) if name}
_LOWER = {name.lower(): name for name in _BY_NAME}


def _value_problem(kind: NameType, value: Any) -> str | None:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return f"{quoted(value)} is a number in YAML, which drops leading zeros: put it in quotes"
    if not isinstance(value, str):
        return f"{quoted(value)} is no text: give a text, or a list of texts"
    if not value.strip():
        return "is empty: give it a value, or leave it out"
    if any(ord(char) < 32 or ord(char) == 127 for char in value):
        return f"{quoted(value)} contains a control character: leave it out"
    if any(0xD800 <= ord(char) <= 0xDFFF for char in value):
        return f"{quoted(value)} is not valid UTF-8: give it in UTF-8"
    if kind.charset == "country":
        return None if _COUNTRY.match(value) else f"{quoted(value)} is no country code: give its two letters (ISO 3166), for example DE"
    if len(value) > kind.longest:
        return f"is {len(value)} characters long: at most {kind.longest} are allowed (RFC 5280), shorten it"
    if kind.name == "commonName" and len(value.encode()) > kind.longest:  # the library counts this one's bytes
        return f"takes {len(value.encode())} bytes in UTF-8: at most {kind.longest} can be written, shorten it"
    if kind.charset == "ascii" and not value.isascii():
        return f"{quoted(value)} contains a character outside ASCII: use ASCII, for a domain its xn-- form"
    if kind.charset == "printable" and not _PRINTABLE.match(value):
        return f"{quoted(value)} may hold letters, digits, blanks and '()+,-./:=? only: leave the others out"
    return None


def parse_subject(subject: Mapping[str, Any]) -> tuple[tuple[tuple[str, str], ...], list[str]]:
    """The subject as pairs of a dotted OID and a text, in the order given, and every problem in words that name the option."""
    pairs: list[tuple[str, str]] = []
    problems: list[str] = []
    seen: dict[str, str] = {}
    if not subject:
        problems.append("subject: is empty: give at least commonName, or leave it out")
    for name, given in subject.items():
        kind = _BY_NAME.get(name)
        if kind is None:
            close = get_close_matches(name.lower(), _LOWER, n=1)
            known = ", ".join(entry.short or entry.name for entry in NAME_TYPES)
            hint = f"did you mean {_LOWER[close[0]]}?" if close else f"use one of {known}"
            problems.append(f"subject.{name}: is no name that a subject can hold: {hint}")
            continue
        if kind.oid in seen:
            problems.append(f"subject.{name}: is the same as {seen[kind.oid]}: give one of them, with a list where there are several")
            continue
        seen[kind.oid] = name
        values = given if isinstance(given, list) else [given]
        if not values:
            problems.append(f"subject.{name}: is empty: give it a value, or leave it out")
        for value in values:
            problem = _value_problem(kind, value)
            if problem:
                problems.append(f"subject.{name}: {problem}")
            else:
                pairs.append((kind.oid, value))
    return tuple(pairs), problems
