# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options of gateway_certificate, checked without a file."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.certificates.gateway_request import GatewayCertificateRequest, mode_of
from ansible_collections.keyfleet.hsm.plugins.module_utils._module.options import GATEWAY_CERTIFICATE
from hypothesis import given
from hypothesis import strategies as st

NAME = "gateway1.example.com"
PATH = "/etc/fortanix/pki/cert.p12"


def parse(**options: Any) -> GatewayCertificateRequest:
    """With the defaults that Ansible fills in; a self-signed certificate unless a source is given."""
    params = {name: option.get("default") for name, option in GATEWAY_CERTIFICATE.items()}
    names = {} if "source" in options else {"common_name": NAME}
    return GatewayCertificateRequest.parse({**params, "path": PATH, **names, **options})


def test_defaults() -> None:
    request = parse()
    assert request.problems == ()
    assert (request.key, request.mode, request.on_mismatch, request.renew_before) == ("EC P-256", 0o400, "fail", 30 * 24 * 3600)
    assert request.certificate is not None
    assert (request.certificate.alt_names, request.certificate.valid_days) == ((("DNS", NAME),), 365)
    assert (request.certificate.ca, request.certificate.key_usage) == (False, ("digitalSignature",))


def test_a_source_has_names_of_its_own() -> None:
    request = parse(source="/srv/given.p12")
    assert request.problems == () and request.certificate is None


@pytest.mark.parametrize(("size", "kind"), [(None, "RSA 3072"), (2048, "RSA 2048"), (4096, "RSA 4096")])
def test_rsa(size: int | None, kind: str) -> None:
    request = parse(key_type="RSA", key_size=size)
    assert request.problems == () and request.key == kind
    assert request.certificate is not None and request.certificate.key_usage == ("digitalSignature", "keyEncipherment")


@pytest.mark.parametrize(
    ("name", "pair"),
    [(NAME, ("DNS", NAME)), ("gateway1", ("DNS", "gateway1")), ("192.0.2.7", ("IP", "192.0.2.7")), ("2001:DB8::7", ("IP", "2001:db8::7"))],
)
def test_the_common_name_is_what_clients_check(name: str, pair: tuple[str, str]) -> None:
    request = parse(common_name=name)
    assert request.problems == () and request.certificate is not None and request.certificate.alt_names == (pair,)


def test_a_common_name_for_people_with_names_for_clients() -> None:
    request = parse(common_name="My gateway", subject_alt_names=["dns:gateway1"])
    assert request.problems == () and request.certificate is not None and request.certificate.alt_names == (("DNS", "gateway1"),)


@pytest.mark.parametrize(("given", "mode"), [("0400", 0o400), ("440", 0o440), ("0o600", 0o600), (0o640, 0o640), (256, 0o400)])
def test_modes(given: Any, mode: int) -> None:
    assert mode_of(given) == mode


@given(st.integers(min_value=-1, max_value=0o10000))
def test_no_mode_lets_others_read(mode: int) -> None:
    try:
        taken = mode_of(mode)
    except ValueError as error:
        assert "does not suit a private key" in str(error)
    else:
        assert taken & 0o137 == 0 and taken & 0o400


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"source": "/a.p12", "common_name": "x", "key_size": 2048}, "source: goes without common_name and key_size"),
        ({"common_name": None}, "common_name: is missing"),
        ({"common_name": ""}, "common_name: is empty"),
        ({"common_name": "x" * 65}, "common_name: is 65 characters long"),
        ({"common_name": "My gateway"}, "subject_alt_names: is missing, and common_name 'My gateway' is no host name"),
        ({"subject_alt_names": []}, "subject_alt_names: is empty"),
        ({"subject_alt_names": ["gateway1"]}, "subject_alt_names[0]: 'gateway1' has no kind"),
        ({"key_size": 2048}, "key_size: only an RSA key has a choice"),
        ({"valid_days": 0}, "valid_days: 0 is out of range"),
        ({"valid_days": 30}, "renew_before: is not less than the 30 days of valid_days"),
        ({"renew_before": "soon"}, "renew_before: 'soon' is no duration"),
        ({"mode": "0644"}, "mode: 0644 does not suit a private key"),
        ({"mode": 400}, "mode: 0620 does not suit a private key"),
        ({"mode": "u=r"}, "mode: 'u=r' is no mode"),
        ({"mode": None}, "mode: is no mode"),
        ({"mode": True}, "mode: is no mode"),
        ({"source": PATH}, "source: is the same file as path"),
    ],
)
def test_bad_input(options: dict[str, Any], words: str) -> None:
    (problem,) = parse(**options).problems
    assert words in problem


def test_every_problem_is_told_at_once() -> None:
    wrong = parse(common_name="", subject_alt_names=["x"], key_size=2048, valid_days=0, mode="0777", renew_before="1")
    names = [problem.partition(":")[0] for problem in wrong.problems]
    assert names == ["common_name", "subject_alt_names[0]", "valid_days", "key_size", "renew_before", "mode"]
