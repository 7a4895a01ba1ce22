# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Certificates and faults on purpose: what is told, what is kept, and what the next run mends."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Any

import pytest
from faulty import Faulty, crashed, with_plan

DEVICE_ERROR, GENERAL_ERROR = "0x30", "0x5"
LABEL = "web-tls"
ONE: dict[str, Any] = {"subject": {"CN": "web01.example.com"}, "self_signed": {}}
TWO: dict[str, Any] = {"subject": {"CN": "web02.example.com"}, "self_signed": {}}


def ok(answer: dict[str, Any]) -> dict[str, Any]:
    assert not answer.get("failed"), answer
    return answer


def certificate(faulty: Faulty, **options: Any) -> dict[str, Any]:
    return faulty.hsm.run("hsm_certificate", **{"instance": "primary", "key_label": LABEL, **options})


def stored(faulty: Faulty) -> int:
    return faulty.hsm.tool("--list-objects", "--type", "cert").count("Certificate Object")


@pytest.fixture
def keyed(faulty: Faulty) -> Faulty:
    ok(faulty.hsm.keys({"label": LABEL, "type": "EC"}))
    return faulty


def test_a_store_that_fails_keeps_the_old_certificate(keyed: Faulty) -> None:
    first = ok(certificate(keyed, **ONE))
    path = keyed.hsm.scratch / "web02.csr"
    with_plan(keyed, f"C_CreateObject:1:before={DEVICE_ERROR}")
    answer = certificate(keyed, **TWO)
    assert answer["failure"]["code"] == "CKR_DEVICE_ERROR" and answer["changed"] is False
    assert keyed.calls()["C_DestroyObject"] == 0
    # The file had been written already, and this is told.
    answer = certificate(keyed, **TWO, csr_path=str(path))
    assert answer["changed"] is True and f"Before that: the request was written to {path}" in answer["msg"]
    with_plan(keyed, "")
    assert ok(certificate(keyed))["fingerprint"] == first["fingerprint"]
    done = ok(certificate(keyed, **TWO, csr_path=str(path)))
    assert done["changed"] is True and list(done["diff"]["after"]) == [f"certificate {LABEL}"] and stored(keyed) == 1


def test_an_error_after_the_certificate_was_stored_is_found_out(keyed: Faulty) -> None:
    ok(certificate(keyed, **ONE))
    with_plan(keyed, f"C_CreateObject:1:after={GENERAL_ERROR}")
    done = ok(certificate(keyed, **TWO))
    assert done["subject"] == "CN=web02.example.com" and stored(keyed) == 1
    with_plan(keyed, "")
    assert ok(certificate(keyed, **TWO))["changed"] is False


@pytest.mark.parametrize("plan", ["C_CreateObject:1:kill", "C_DestroyObject:1:before=0x30"])
def test_a_replacement_that_stops_in_the_middle_leaves_both(keyed: Faulty, plan: str) -> None:
    ok(certificate(keyed, **ONE))
    with_plan(keyed, plan)
    answer = certificate(keyed, **TWO)
    assert answer["failed"] is answer["changed"] is True and "the next run" in answer["msg"]
    if plan.endswith("kill"):
        crashed(answer, "C_CreateObject")
    else:
        assert "the new certificate was stored" in answer["msg"] and "finishes it" in answer["msg"]
    assert stored(keyed) == 2
    with_plan(keyed, "")
    done = ok(certificate(keyed, **TWO))
    assert done["changed"] is True and done["subject"] == "CN=web02.example.com" and stored(keyed) == 1
    assert done["diff"]["after"] == {} and keyed.calls()["C_CreateObject"] == 0
    assert ok(certificate(keyed, **TWO))["changed"] is False


def test_a_signature_that_fails_leaves_everything_as_it_was(keyed: Faulty) -> None:
    first = ok(certificate(keyed, **ONE))
    path = keyed.hsm.scratch / "web02.csr"
    # python-pkcs11 gives a buffer, so each signature is one call: the request's goes well, the certificate's does not.
    with_plan(keyed, f"C_Sign:2:before={DEVICE_ERROR}")
    answer = certificate(keyed, **TWO, csr_path=str(path))
    assert answer["failure"]["code"] == "CKR_DEVICE_ERROR" and answer["changed"] is False
    assert "signing with key 'web-tls' failed" in answer["msg"]
    assert not path.exists() and ok(certificate(keyed))["fingerprint"] == first["fingerprint"]


def test_a_pair_whose_halves_do_not_belong_together(keyed: Faulty) -> None:
    hsm = keyed.hsm
    ok(hsm.keys({"label": "other", "type": "EC"}))
    public = hsm.scratch / "other.der"
    hsm.tool("--read-object", "--type", "pubkey", "--label", "other", "--output-file", str(public))
    hsm.tool("--delete-object", "--type", "pubkey", "--label", LABEL)
    hsm.tool("--write-object", str(public), "--type", "pubkey", "--label", LABEL, "--id", LABEL.encode().hex())
    path = hsm.scratch / "web01.csr"
    for options in (ONE, {"subject": ONE["subject"], "csr_path": str(path)}):
        answer = certificate(keyed, **options)
        assert answer["failure"]["code"] == "bad_signature" and answer["changed"] is False
    assert stored(keyed) == 0 and not path.exists()


@pytest.mark.parametrize("function", ["C_FindObjectsInit", "C_FindObjects", "C_GetAttributeValue"])
@pytest.mark.parametrize("first", [1, 2, 5, 9, 13])
def test_an_error_is_no_absent_certificate(keyed: Faulty, function: str, first: int) -> None:
    before = ok(certificate(keyed, **ONE))
    with_plan(keyed, " ".join(f"{function}:{number}:before={DEVICE_ERROR}" for number in range(first, 200)))
    for options in (ONE, {"state": "absent"}):
        answer = certificate(keyed, **options)
        if answer.get("failed"):
            assert answer["failure"]["code"] == "CKR_DEVICE_ERROR" and answer["changed"] is False, answer
        else:
            # The fault came too late to be met.
            assert keyed.calls()[function] < first or answer["changed"] is (options != ONE), answer
        assert keyed.calls()["C_CreateObject"] == 0
        keyed.log.unlink()
        if options == ONE:
            assert stored(keyed) == 1
    with_plan(keyed, "")
    if stored(keyed):
        assert ok(certificate(keyed))["fingerprint"] == before["fingerprint"]


def test_a_glitch_in_reading_attributes_changes_nothing(keyed: Faulty) -> None:
    """python-pkcs11 drops the error of the first of its two calls: what it could not read must not count as absent."""
    ok(certificate(keyed, **ONE))
    with_plan(keyed, "")
    ok(certificate(keyed, **ONE))
    total = keyed.calls()["C_GetAttributeValue"]
    for number in range(1, total + 1):
        with_plan(keyed, f"C_GetAttributeValue:{number}:before={DEVICE_ERROR}")
        answer = certificate(keyed, **ONE)
        assert answer["changed"] is False, (number, answer)
        assert keyed.calls()["C_CreateObject"] == keyed.calls()["C_DestroyObject"] == 0
    # The bulk read of the certificate is the last one. When it fails, each attribute is asked for: two calls each.
    for number in range(1, 9):
        faults = (total, total + number)
        with_plan(keyed, " ".join(f"C_GetAttributeValue:{fault}:before={DEVICE_ERROR}" for fault in faults))
        answer = certificate(keyed, **ONE)
        assert answer["changed"] is False, (number, answer)
        assert keyed.calls()["C_CreateObject"] == keyed.calls()["C_DestroyObject"] == 0
    assert stored(keyed) == 1


def test_a_registry_that_cannot_be_written_is_told(keyed: Faulty) -> None:
    with closing(sqlite3.connect(keyed.hsm.registry)) as registry:
        registry.execute("CREATE TRIGGER full BEFORE INSERT ON event BEGIN SELECT RAISE(ABORT, 'full'); END")
        registry.commit()
    answer = certificate(keyed, **ONE)
    assert answer["failure"]["code"] == "registry_write_failed" and answer["changed"] is True
    assert "the new certificate was stored" in answer["msg"] and stored(keyed) == 1
    assert ok(certificate(keyed, **ONE))["changed"] is False


@pytest.mark.parametrize("kind", ["rsa:2048", "EC:prime256v1"])
def test_a_key_that_wants_the_pin_at_each_use_gets_it_once_and_a_refused_one_is_remembered(faulty: Faulty, kind: str) -> None:
    faulty.hsm.tool("--keypairgen", "--key-type", kind, "--label", LABEL, "--id", LABEL.encode().hex(), "--always-auth")
    request = {"subject": ONE["subject"], "csr_path": str(faulty.hsm.scratch / "web.csr")}
    with_plan(faulty, "C_Login:2:before=0xa0")  # CKR_PIN_INCORRECT to the context-specific login
    answer = certificate(faulty, **request)
    assert answer["failure"]["code"] == "pin_incorrect" and faulty.calls()["C_Login"] == 2
    with_plan(faulty, "")
    answer = certificate(faulty, **request)
    assert answer["failure"]["code"] == "pin_not_tried" and not faulty.log.exists()
    assert ok(certificate(faulty, **request, allow_low_pin_count=True))["changed"] is True
    assert faulty.calls()["C_Login"] == 2
