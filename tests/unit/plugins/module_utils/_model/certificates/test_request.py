# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options of hsm_certificate, checked without a token."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.certificates.request import CertificateRequest, parse_certificate
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.certificates.spec import EXTENDED_KEY_USAGES, KEY_USAGES
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.tokens.connection_request import ConnectionRequest, Login
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.tokens.secret import Secret
from ansible_collections.keyfleet.hsm.plugins.module_utils._module.options import CERTIFICATE, CONNECTION, PIN_SAFETY, PROVIDER, merge
from cryptography import x509

SUBJECT = {"CN": "web01.example.com"}
PEM = "-----BEGIN CERTIFICATE-----"


def parse(**params: Any) -> tuple[Any, list[str]]:
    return parse_certificate({"key_label": "web-tls", **params})


def test_defaults() -> None:
    spec, problems = parse()
    assert problems == []
    assert (spec.state, spec.rsa_padding, spec.digest, spec.valid_days, spec.renew_before) == ("present", "pkcs1", None, None, 0)
    assert not (spec.wants_request or spec.imports or spec.self_signed or spec.writes_token)


@pytest.mark.parametrize(
    ("params", "request_wanted", "writes"),
    [
        ({"subject": SUBJECT}, True, False),
        ({"subject": SUBJECT, "csr_path": "/a.csr"}, True, False),
        ({"subject": SUBJECT, "csr_path": "/a.csr", "content": PEM}, True, True),
        ({"subject": SUBJECT, "content": PEM}, False, True),
        ({"subject": SUBJECT, "self_signed": {}}, False, True),
        ({"src": "/a.pem"}, False, True),
        ({"state": "absent", "subject": SUBJECT}, False, True),
    ],
)
def test_what_is_asked_for(params: dict[str, Any], request_wanted: bool, writes: bool) -> None:
    spec, problems = parse(**params)
    assert problems == [] and (spec.wants_request, spec.writes_token) == (request_wanted, writes)


def test_usages_are_put_in_order_and_renamed() -> None:
    spec, problems = parse(
        subject=SUBJECT,
        key_usage=["cRLSign", "nonRepudiation", "contentCommitment", "digitalSignature"],
        extended_key_usage=["clientAuth", "1.2.3.4", "2.999.1"],
    )
    assert problems == [] and spec.key_usage == ("digitalSignature", "contentCommitment", "cRLSign")
    assert spec.extended_key_usage == (EXTENDED_KEY_USAGES["clientAuth"], "1.2.3.4", "2.999.1")


def test_the_choices_are_the_usages() -> None:
    assert sorted(CERTIFICATE["key_usage"]["choices"]) == sorted([*KEY_USAGES, "nonRepudiation"])


@pytest.mark.parametrize(
    ("params", "problem"),
    [
        ({"key_label": ""}, "key_label: is empty"),
        ({"key_label": "a\x00"}, "key_label: 'a\\x00' contains a character"),
        ({"key_label": "a "}, "begins or ends with a blank"),
        ({"subject": SUBJECT, "key_usage": []}, "key_usage: is empty"),
        ({"subject": SUBJECT, "key_usage": ["decipherOnly"]}, "without keyAgreement"),
        ({"subject": SUBJECT, "key_usage": ["keyCertSign"]}, "keyCertSign is for a CA"),
        ({"subject": SUBJECT, "key_usage": ["keyCertSign"], "basic_constraints": {"ca": False}}, "keyCertSign is for a CA"),
        ({"subject": SUBJECT, "extended_key_usage": []}, "extended_key_usage: is empty"),
        ({"subject": SUBJECT, "extended_key_usage": ["3.1"]}, "is no usage that is known"),
        ({"subject": SUBJECT, "extended_key_usage": ["1.40"]}, "is no usage that is known"),
        ({"subject": SUBJECT, "extended_key_usage": ["1"]}, "is no usage that is known"),
        ({"subject": SUBJECT, "extended_key_usage": ["1.2.03"]}, "is no usage that is known"),
        ({"subject": SUBJECT, "key_usage": ["keyCertSign"], "basic_constraints": {"ca": True, "path_length": -1}}, "-1 is not in 0 to 255"),
        ({"subject": SUBJECT, "key_usage": ["keyCertSign"], "basic_constraints": {"ca": True, "path_length": 2**70}}, "is not in 0 to 255"),
        ({"subject": SUBJECT, "basic_constraints": {"ca": True, "path_length": 0}}, "goes with key_usage: [keyCertSign] only"),
        ({"subject": SUBJECT, "key_usage": ["digitalSignature"], "basic_constraints": {"ca": True}}, "key_usage: without keyCertSign"),
        ({"subject": SUBJECT, "basic_constraints": {"path_length": 0}}, "only a CA has one"),
        ({"subject_alt_names": ["DNS:a"]}, "subject: is missing: subject_alt_names needs"),
        ({"csr_path": "/x.csr"}, "subject: is missing: csr_path needs"),
        ({"self_signed": {}}, "subject: is missing: self_signed needs"),
        ({"key_usage": ["cRLSign"]}, "subject: is missing: key_usage needs"),
        ({"src": "/a", "content": PEM}, "give one of content, src and self_signed; found content and src"),
        ({"content": ""}, "content: holds no certificate"),
        ({"subject": SUBJECT, "self_signed": {"valid_days": 36501}}, "36501 is out of range"),
        ({"renew_before": "30"}, "renew_before: '30' is no duration"),
        ({"subject": SUBJECT, "self_signed": {"valid_days": 7}, "renew_before": "1w"}, "is not less than the 7 days"),
    ],
)
def test_single_problems(params: dict[str, Any], problem: str) -> None:
    _spec, problems = parse(**params)
    assert len(problems) == 1 and problem in problems[0], problems


@pytest.mark.parametrize(
    ("oid", "good"),
    [
        ("2.25.340282366920938463463374607431768211455", True),
        ("2.25.340282366920938463463374607431768211456", False),
        (f"1.2.{'9' * 39}", False),
        (f"2.{2**128 - 1 - 80}", True),
        (f"2.{2**128 - 80}", False),
        ("1.2" + ".1" * 29, True),
        ("1.2" + f".{2**28}" * 13, False),
        ("1.2" + f".{2**28 - 1}" * 15, True),
        ("1.2" + f".{2**28 - 1}" * 15 + ".128", True),
        ("1.2" + f".{2**28 - 1}" * 15 + ".16384", False),
    ],
)
def test_an_oid_is_accepted_when_it_can_be_written(oid: str, good: bool) -> None:
    _spec, problems = parse(subject=SUBJECT, extended_key_usage=[oid])
    assert (problems == []) is good
    if good:
        assert x509.ExtendedKeyUsage([x509.ObjectIdentifier(oid)]).public_bytes()


def test_less_than_the_days_is_no_problem() -> None:
    spec, problems = parse(subject=SUBJECT, self_signed={"valid_days": 7}, renew_before="6d23h59m59s")
    assert problems == [] and spec.valid_days == 7 and spec.renew_before == 7 * 86400 - 1


def test_absent_looks_at_nothing_else() -> None:
    assert parse(state="absent", csr_path="relative", renew_before="?", content="x")[1] == []


def requested(**options: Any) -> CertificateRequest:
    """With the defaults that Ansible fills in."""
    spec = merge(CONNECTION, PROVIDER, PIN_SAFETY, CERTIFICATE)
    defaults = {name: option.get("default") for name, option in spec.items()}
    return CertificateRequest.parse({**defaults, "registry": "/r.db", "key_label": "web-tls", **options})


def test_a_whole_request() -> None:
    found = requested(instance="primary", pin=Secret("canary"), subject=SUBJECT, self_signed={"valid_days": 7})
    assert found.connection == ConnectionRequest("primary", login=Login(Secret("canary")))
    assert found.spec is not None and (found.spec.key_label, found.spec.valid_days) == ("web-tls", 7)
    assert (found.registry, found.problems) == ("/r.db", ()) and "canary" not in repr(found)


def test_a_wrong_connection_leaves_the_certificate_to_be_looked_at() -> None:
    found = requested(src="/a.pem")
    assert found.spec is not None and found.spec.src == "/a.pem"
    assert [problem.partition(":")[0] for problem in found.problems] == ["instance"]


def test_every_problem_is_told_at_once() -> None:
    found = requested(
        key_label=" web",
        pin=Secret("1"),
        pin_file="relative",
        subject={"CN": "a", "commonName": "b", "countryName": "Germany", "commonname": "c", "O": "", "serialNumber": 7},
        subject_alt_names=["web01", "DNS:ü.example", "IP:192.0.2.0/24", "email:x", "URI:web01", "DNS:a", "dns:a"],
        key_usage=["keyCertSign", "encipherOnly"],
        extended_key_usage=["serverauth", "clientAuth", "1.3.6.1.5.5.7.3.2"],
        basic_constraints={"path_length": 1},
        csr_path="web01.csr",
        content="-----BEGIN PRIVATE KEY-----",
        self_signed={"valid_days": 0},
        renew_before="a month",
    )
    parts = (
        "instance: give either instance, or library",
        "pin: give pin or pin_file, not both",
        "key_label: ' web' begins or ends with a blank",
        "subject.commonName: is the same as CN",
        "subject.countryName: 'Germany' is no country code",
        "subject.commonname: is no name that a subject can hold: did you mean commonName?",
        "subject.O: is empty",
        "subject.serialNumber: 7 is a number in YAML",
        "subject_alt_names[0]: 'web01' has no kind",
        "subject_alt_names[1]: 'ü.example' contains a character outside ASCII",
        "subject_alt_names[2]: '192.0.2.0/24' is no IP address",
        "subject_alt_names[3]: 'x' is no mail address",
        "subject_alt_names[4]: 'web01' is no URI",
        "subject_alt_names[6]: 'dns:a' stands there twice",
        "key_usage: encipherOnly and decipherOnly mean nothing without keyAgreement",
        "extended_key_usage[0]: 'serverauth' is no usage that is known",
        "extended_key_usage[2]: '1.3.6.1.5.5.7.3.2' stands there twice",
        "basic_constraints.path_length: only a CA has one",
        "key_usage: keyCertSign is for a CA",
        "content: give one of content, src and self_signed; found content and self_signed",
        "content: holds a private key",
        "self_signed.valid_days: 0 is out of range",
        "renew_before: 'a month' is no duration",
    )
    assert found.spec is None and len(found.problems) == len(parts)
    for problem, part in zip(found.problems, parts, strict=True):
        assert part in problem
