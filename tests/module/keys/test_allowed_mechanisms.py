# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Keys for certain mechanisms only, as the token itself says and does."""

from __future__ import annotations

from faulty import Faulty, with_plan
from hsm_fixture import Hsm, four_steps, ok

PSS = {"label": "pss", "type": "RSA", "size": 2048, "allowed_mechanisms": ["SHA384_RSA_PKCS_PSS", "SHA256_RSA_PKCS_PSS"]}
ECB = {"label": "ecb", "type": "AES", "allowed_mechanisms": ["AES_ECB"], "source": {"content": "00" * 16}}
GCM = {"label": "gcm", "type": "AES", "allowed_mechanisms": ["AES_GCM", "0x80000001"]}
TYPE_INVALID = "0x12"


def test_a_key_does_what_is_allowed_and_nothing_else(primary: Hsm) -> None:
    four_steps(lambda check: primary.keys(PSS, ECB, GCM, check=check))
    assert "Allowed mechanisms: SHA256-RSA-PKCS-PSS,SHA384-RSA-PKCS-PSS" in primary.tool("--list-objects", "--type", "privkey")
    declared = {key["label"]: key for key in ok(primary.run("hsm_sync", instance="primary"))["document"]["keys"]}
    assert declared["gcm"]["allowed_mechanisms"] == sorted(GCM["allowed_mechanisms"])
    ok(primary.keys({"label": "gcm", "type": "AES", "generation": 2}))
    assert not ok(primary.keys({**GCM, "generation": 2}))["changed"]  # it is as restricted as the first
    other = primary.keys({**GCM, "allowed_mechanisms": ["AES_GMC"]})
    assert "there is no mechanism AES_GMC; did you mean AES_" in other["msg"]
    other = primary.keys({**GCM, "allowed_mechanisms": ["SHA256_RSA_PKCS"]})
    assert "AES keys are used with none of SHA256_RSA_PKCS, and the key could do nothing" in other["msg"]
    other = primary.keys({**PSS, "allowed_mechanisms": ["RSA_PKCS"]})
    assert "allowed_mechanisms is SHA256_RSA_PKCS_PSS, SHA384_RSA_PKCS_PSS, asked for RSA_PKCS" in other["msg"]
    path = primary.scratch / "pss.csr"
    request = {"instance": "primary", "key_label": "pss", "subject": {"commonName": "a"}, "csr_path": str(path)}
    refused = primary.run("hsm_certificate", **request)
    assert refused["failure"]["code"] == "cannot_sign" and "(CKA_ALLOWED_MECHANISMS)" in refused["msg"] and not path.exists()
    ok(primary.run("hsm_certificate", **request, rsa_padding="pss"))


def test_such_a_key_is_used_before_it_counts(faulty: Faulty) -> None:
    with_plan(faulty, "")
    ok(faulty.hsm.keys(PSS))
    assert faulty.calls()["C_Verify"] == 1


def test_a_token_without_the_attribute_is_named(faulty: Faulty) -> None:
    # It refuses the key, and the same for a session; what it would take is one without the attribute.
    with_plan(faulty, " ".join(f"C_GenerateKey:{call}:before={TYPE_INVALID}" for call in (1, 2)))
    answer = faulty.hsm.keys(GCM, {"label": "after", "type": "AES"})
    assert "takes no CKA_ALLOWED_MECHANISMS for key 'gcm'" in answer["failed_keys"][0]["error"] and faulty.labels() == ["after"]
