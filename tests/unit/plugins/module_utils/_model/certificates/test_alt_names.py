# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Alternative names: what is accepted can be built by the library, the rest is told with a way out."""

from __future__ import annotations

import pytest
from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.x509.building import general_name
from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.x509.reading import alt_name
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.certificates.alt_names import parse_alt_names
from asn1crypto import core
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st


def test_alt_names() -> None:
    given_names = ["DNS:web01.example.com", "dns:*.example.com", "IP:2001:DB8::7", "email:ops@example.com", "URI:urn:x:1"]
    assert parse_alt_names(given_names) == (
        (
            ("DNS", "web01.example.com"),
            ("DNS", "*.example.com"),
            ("IP", "2001:db8::7"),
            ("email", "ops@example.com"),
            ("URI", "urn:x:1"),
        ),
        [],
    )


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("web01", "has no kind"),
        ("x400:1", "write one of DNS:, IP:, email:, URI:, RID:, dirName:, otherName: before it"),
        ("RID:1", "is no OID"),
        ("RID:web", "is no OID"),
        ("dirName:web", "is no directory name"),
        ("dirName:CN=", "is no directory name"),
        ("dirName:CN=a+O=b", "is no directory name"),
        ("dirName:XX=a", "is no name that a subject can hold"),
        ("dirName:C=DEU", "is no country code"),
        ("otherName:1.2.3", "is no otherName"),
        ("otherName:a;UTF8:b", "is no otherName"),
        ("otherName:1.2.3;UTF8:", "needs a text behind UTF8:"),
        ("otherName:1.2.3;b", "the DER of its value in hex"),
        ("otherName:1.2.3;0c0361", "the DER of its value in hex"),
        ("DNS:", "is no DNS name"),
        ("DNS:web01.", "is no DNS name"),
        ("DNS:a..b", "is no DNS name"),
        ("DNS:-a.example", "is no DNS name"),
        ("DNS:a.*.example", "is no DNS name"),
        ("DNS:" + "a." * 127 + "a", "is no DNS name"),
        ("DNS:192.0.2.7", "write it behind IP:"),
        ("DNS:bücher.example", "xn-- form"),
        ("IP:192.0.2.0/24", "without a mask"),
        ("IP:web01", "is no IP address"),
        ("IP:fe80::1%eth0", "has a zone"),
        ("email:ops", "is no mail address"),
        ("email:a(b)@example.com", "is no mail address"),
        ("email:<ops@example.com", "is no mail address"),
        ("email:a,b@example.com", "is no mail address"),
        ("email:a b@example.com", "is no mail address"),
        ("URI:/path", "is no URI"),
        ("URI:https://exämple.com", "is no URI"),
    ],
)
def test_alt_names_that_are_refused(name: str, problem: str) -> None:
    _pairs, problems = parse_alt_names(["DNS:ok", name])
    assert len(problems) == 1 and problem in problems[0] and problems[0].startswith("subject_alt_names[1]: ")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("RID:1.2.3.4", "RID:1.2.3.4"),
        ("dirName:CN=web01, O=Example", "dirName:CN=web01,O=Example"),
        ("dirname:commonName=a\\,b\\=c,C=DE", "dirName:CN=a\\,b=c,C=DE"),
        ("otherName:1.3.6.1.4.1.311.20.2.3;UTF8:a@b.c", "otherName:1.3.6.1.4.1.311.20.2.3;0c056140622e63"),
        ("otherName:1.2.3;0C:03:61:62:63", "otherName:1.2.3;0c03616263"),
    ],
)
def test_other_kinds_are_built_and_read_as_they_were_given(name: str, text: str) -> None:
    pairs, problems = parse_alt_names([name])
    assert problems == []
    built = general_name(*pairs[0])
    parsed = x509.SubjectAlternativeName([built]).public_bytes()
    assert len(parsed) > 4
    assert alt_name(built) == text


@given(st.dictionaries(st.sampled_from(["CN", "O", "OU", "C", "DC", "UID", "title", "emailAddress"]), st.text(max_size=20), min_size=1))
def test_directory_names_that_are_accepted_are_built(parts: dict[str, str]) -> None:
    pairs, problems = parse_alt_names(["dirName:" + ",".join(f"{name}={value}" for name, value in parts.items())])
    if not problems:
        assert isinstance(general_name(*pairs[0]).value, x509.Name)


@given(st.text(max_size=300))
def test_other_names_that_are_accepted_are_built(text: str) -> None:
    pairs, problems = parse_alt_names([f"otherName:1.2.3;UTF8:{text}"])
    if not problems:
        built = general_name(*pairs[0])
        assert core.UTF8String.load(built.value, strict=True).native == text


def test_the_same_name_twice() -> None:
    assert "stands there twice" in parse_alt_names(["IP:2001:db8::1", "IP:2001:DB8:0::1"])[1][0]
    assert parse_alt_names([])[1] == ["subject_alt_names: is empty: name one at least, or leave it out"]


@given(st.text(alphabet="ab1!#$%&'*+/=?^_`{|}~-.\"(),:;<>@[\\] ", max_size=12))
def test_mail_addresses_that_are_accepted_can_be_built(local: str) -> None:
    pairs, _problems = parse_alt_names([f"email:{local}@example.com"])
    assert all(x509.RFC822Name(value).value == f"{local}@example.com" for _kind, value in pairs)


@given(st.sampled_from(["DNS", "IP", "email", "URI"]), st.text(max_size=40))
def test_alt_names_that_are_accepted_can_be_built(kind: str, value: str) -> None:
    pairs, problems = parse_alt_names([f"{kind}:{value}"])
    if not problems:
        types = {"DNS": x509.DNSName, "email": x509.RFC822Name, "URI": x509.UniformResourceIdentifier}
        assert kind == "IP" or types[kind](pairs[0][1]).value == value
