# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Subjects and subjectAltNames: what is accepted is what the library can build."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.certificates.names import NAME_TYPES, parse_subject
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

CN, ORGANISATION, UNIT, COUNTRY = "2.5.4.3", "2.5.4.10", "2.5.4.11", "2.5.4.6"


def test_long_and_short_names_in_their_order() -> None:
    subject = {"O": "Example", "commonName": "web01", "OU": ["one", "two"], "C": "DE"}
    assert parse_subject({"O": "ü" * 64, "CN": "ü" * 32})[1] == []
    assert parse_subject(subject) == (((ORGANISATION, "Example"), (CN, "web01"), (UNIT, "one"), (UNIT, "two"), (COUNTRY, "DE")), [])


def test_names_are_those_of_the_library() -> None:
    from cryptography.x509.oid import NameOID

    known = {oid.dotted_string for oid in vars(NameOID).values() if isinstance(oid, x509.ObjectIdentifier)}
    assert {entry.oid for entry in NAME_TYPES} <= known
    assert len({entry.oid for entry in NAME_TYPES}) == len(NAME_TYPES)


@pytest.mark.parametrize(
    ("subject", "problem"),
    [
        ({}, "subject: is empty"),
        ({"cn": "x"}, "did you mean CN?"),
        ({"zzz": "x"}, "use one of CN, SN"),
        ({"CN": "x", "commonName": "y"}, "subject.commonName: is the same as CN"),
        ({"CN": []}, "subject.CN: is empty"),
        ({"CN": "  "}, "subject.CN: is empty"),
        ({"CN": None}, "is no text"),
        ({"CN": {"a": 1}}, "is no text"),
        ({"CN": True}, "is no text"),
        ({"serialNumber": 7}, "is a number in YAML"),
        ({"CN": "a\nb"}, "contains a control character"),
        ({"CN": "x" * 65}, "is 65 characters long: at most 64"),
        ({"CN": "ü" * 33}, "takes 66 bytes in UTF-8: at most 64"),
        ({"O": "a\udcff"}, "is not valid UTF-8"),
        ({"C": "D"}, "is no country code"),
        ({"C": "D1"}, "is no country code"),
        ({"serialNumber": "a_b"}, "may hold letters, digits"),
        ({"emailAddress": "ö@example.com"}, "outside ASCII"),
    ],
)
def test_subjects_that_are_refused(subject: dict[str, Any], problem: str) -> None:
    _pairs, problems = parse_subject(subject)
    assert len(problems) == 1 and problem in problems[0]


@given(st.dictionaries(st.sampled_from([entry.name for entry in NAME_TYPES]), st.text(max_size=70), min_size=1))
def test_what_is_accepted_can_be_built(subject: dict[str, str]) -> None:
    pairs, problems = parse_subject(subject)
    if not problems:
        name = x509.Name([x509.NameAttribute(x509.ObjectIdentifier(oid), value) for oid, value in pairs])
        assert len(list(name)) == len(subject) and name.public_bytes()
