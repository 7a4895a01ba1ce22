# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tokens that refuse to be told that an attribute is false. SoftHSM's own default is then true, for what a key may do."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from faulty import Faulty, with_plan
from hsm_fixture import ok

DECRYPT, EXTRACTABLE = "0x105", "0x162"
GENERAL_ERROR, VALUE_INVALID, READ_ONLY, DOMAIN_PARAMS, CURVE = "0x5", "0x13", "0x10", "0x130", "0x140"
PAIR = {"label": "sig", "type": "RSA", "operations": ["sign", "verify"]}
UNSAID = {"label": "sig", "type": "RSA"}  # signs and verifies, without being told
AFTER = {"label": "after", "type": "AES"}


def private_of(faulty: Faulty, label: str) -> str:
    return faulty.hsm.tool("--list-objects", "--type", "privkey", "--label", label)


@pytest.mark.parametrize(("answer", "calls"), [(GENERAL_ERROR, 3), (VALUE_INVALID, 2)])
def test_what_was_not_asked_for_is_taken_away(faulty: Faulty, answer: str, calls: int) -> None:
    with_plan(faulty, "", FAULT_FALSE=f"{DECRYPT}={answer}")
    made = ok(faulty.hsm.keys(PAIR))
    assert made["keys"][0]["operations"] == ["sign", "verify"] and "decrypt" not in private_of(faulty, "sig")
    # The second rung held, which says what guards the key. Of an unclear answer the token was asked once more, for a key of the session.
    assert faulty.calls()["C_GenerateKeyPair"] == calls and made["keys"][0]["extractable"] is False
    assert ok(faulty.hsm.keys(PAIR))["changed"] is False


def test_an_imported_half_is_made_so_too(faulty: Faulty) -> None:
    key = rsa.generate_private_key(65537, 2048).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    with_plan(faulty, "", FAULT_FALSE=f"{DECRYPT}={GENERAL_ERROR}")
    made = ok(faulty.hsm.keys({**PAIR, "source": {"content": key}}))
    assert made["keys"][0]["operations"] == ["sign", "verify"] and "decrypt" not in private_of(faulty, "sig")


def test_a_guard_is_left_out_last(faulty: Faulty) -> None:
    with_plan(faulty, "", FAULT_FALSE=f"{EXTRACTABLE}={VALUE_INVALID}")
    made = ok(faulty.hsm.keys(PAIR))
    assert made["keys"][0]["extractable"] is False and faulty.calls()["C_GenerateKeyPair"] == 3


def test_a_key_that_may_do_more_is_destroyed_and_the_batch_goes_on(faulty: Faulty) -> None:
    refused = " ".join(f"C_SetAttributeValue:{call}:before={READ_ONLY}" for call in range(1, 9))
    with_plan(faulty, refused, FAULT_FALSE=f"{DECRYPT}={GENERAL_ERROR}")
    answer: dict[str, Any] = faulty.hsm.keys(PAIR, AFTER)
    assert labels(answer["failed_keys"]) == ["sig"] and labels(answer["applied"]) == ["after"] and answer["not_attempted"] == []
    assert "CKA_DECRYPT" in answer["failed_keys"][0]["error"] and "it was destroyed" in answer["failed_keys"][0]["error"]
    assert faulty.labels() == ["after"]


def test_a_refusal_that_nothing_helps_against_does_not_end_the_batch(faulty: Faulty) -> None:
    # Three rungs, and for each a look whether the token takes the same for a session.
    with_plan(faulty, " ".join(f"C_GenerateKeyPair:{call}:before={GENERAL_ERROR}" for call in range(1, 7)))
    answer = faulty.hsm.keys(PAIR, AFTER)
    assert answer["failed_keys"][0]["code"] == "CKR_GENERAL_ERROR" and labels(answer["applied"]) == ["after"]
    assert faulty.calls()["C_GenerateKeyPair"] == 6 and faulty.labels() == ["after"]


def test_what_cannot_be_stored_is_tried_once_and_ends_the_batch(faulty: Faulty) -> None:
    with_plan(faulty, f"C_GenerateKeyPair:1:before={GENERAL_ERROR}")
    answer = faulty.hsm.keys(PAIR, AFTER)
    assert answer["changed"] is False and answer["failed_keys"][0]["code"] == "CKR_GENERAL_ERROR"
    assert "see whether it has room" in answer["failed_keys"][0]["error"] and labels(answer["not_attempted"]) == ["after"]
    assert faulty.calls()["C_GenerateKeyPair"] == 2 and faulty.labels() == []


def test_what_was_made_with_less_said_and_an_error_is_left_for_the_next_run(faulty: Faulty) -> None:
    """The call gave no handle, so nobody knows whose object it is that has the name now: it is told, and not destroyed."""
    with_plan(faulty, f"C_GenerateKeyPair:2:after={VALUE_INVALID}", FAULT_FALSE=f"{DECRYPT}={VALUE_INVALID}")
    answer = faulty.hsm.keys(UNSAID)
    assert answer["changed"] is True and "Left over on the token" in answer["failed_keys"][0]["error"]
    assert faulty.calls()["C_GenerateKeyPair"] == 2 and faulty.calls()["C_DestroyObject"] == 0
    assert "decrypt" in private_of(faulty, "sig")
    finished(faulty)


def test_a_run_that_dies_before_it_took_away_is_finished_by_the_next(faulty: Faulty) -> None:
    with_plan(faulty, "C_SetAttributeValue:1:stop", FAULT_FALSE=f"{DECRYPT}={VALUE_INVALID}")
    assert faulty.hsm.keys(UNSAID)["failed"] is True and "decrypt" in private_of(faulty, "sig")
    finished(faulty)


@pytest.mark.parametrize(("answers", "calls"), [((CURVE,), 1), ((DOMAIN_PARAMS,), 1), ((GENERAL_ERROR, GENERAL_ERROR), 3)])
def test_a_curve_that_the_token_lacks_is_named_and_the_batch_goes_on(faulty: Faulty, answers: tuple[str, ...], calls: int) -> None:
    # What CKR_GENERAL_ERROR means is seen by a pair of the session on this curve, and one on another.
    with_plan(faulty, " ".join(f"C_GenerateKeyPair:{number}:before={answer}" for number, answer in enumerate(answers, 1)))
    answer = faulty.hsm.keys({"label": "sig", "type": "EC", "curve": "secp256k1"}, AFTER)
    (failed,) = answer["failed_keys"]
    assert failed["code"] == "CKR_CURVE_NOT_SUPPORTED" and "does not have the curve secp256k1 (CKR_" in failed["error"]
    assert faulty.calls()["C_GenerateKeyPair"] == calls and faulty.labels() == labels(answer["applied"]) == ["after"]


def test_no_key_is_replaced_by_one_on_a_curve_that_the_token_lacks(faulty: Faulty) -> None:
    with_plan(faulty, "")
    ok(faulty.hsm.keys({"label": "sig", "type": "EC"}))
    for check in (True, False):
        with_plan(faulty, f"C_GenerateKeyPair:1:before={CURVE}")
        answer = faulty.hsm.keys({"label": "sig", "type": "EC", "curve": "secp256k1", "on_mismatch": "replace"}, check=check)
        assert "keys[0] (sig).curve: " in answer["msg"] and "The key that is there was left as it is" in answer["msg"]
    assert faulty.labels() == ["sig", "sig"]


def finished(faulty: Faulty) -> None:
    with_plan(faulty, "")
    planned, done = faulty.hsm.keys(UNSAID, check=True), ok(faulty.hsm.keys(UNSAID))
    assert planned["diff"] == done["diff"] and done["keys"][0]["operations"] == ["sign", "verify"]
    assert "decrypt" not in private_of(faulty, "sig") and faulty.calls()["C_GenerateKeyPair"] == 0
    assert ok(faulty.hsm.keys(UNSAID))["changed"] is False


def labels(entries: list[dict[str, Any]]) -> list[str]:
    return [entry["label"] for entry in entries]
