# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tokens that refuse what a probe asks for, one thing after the other."""

from __future__ import annotations

import time
from typing import Any

import pytest
from faulty import Faulty, with_plan
from hsm_fixture import HANG, Hsm, ok

GENERAL_ERROR, DEVICE_ERROR, NOT_SUPPORTED, INVALID = "0x5", "0x30", "0x54", "0x70"


def plan(answer: str, **calls: int) -> str:
    """The first so many calls of these functions get this answer."""
    return " ".join(f"{name}:{call}:before={answer}" for name, times in calls.items() for call in range(1, times + 1))


def probed(faulty: Faulty, faults: str) -> dict[str, Any]:
    with_plan(faulty, faults)
    slot: dict[str, Any] = ok(faulty.hsm.run("hsm_status"))["instances"][0]["slots"][0]
    return slot


@pytest.mark.parametrize(
    ("faults", "held", "refused"),
    [
        ("", "AES_ECB", []),
        (plan(INVALID, C_EncryptInit=1), "AES_CBC", ["AES_ECB"]),
        (plan(INVALID, C_EncryptInit=2), "AES_GCM", ["AES_ECB", "AES_CBC"]),
        (plan(GENERAL_ERROR, C_GenerateKey=3), "EC", ["AES_ECB", "AES_CBC", "AES_GCM"]),
        (plan(NOT_SUPPORTED, C_GenerateKey=3, C_GenerateKeyPair=1), "RSA", ["AES_ECB", "AES_CBC", "AES_GCM", "EC"]),
        (plan(NOT_SUPPORTED, C_GenerateKey=3, C_GenerateKeyPair=2), "random", ["AES_ECB", "AES_CBC", "AES_GCM", "EC", "RSA"]),
    ],
    ids=lambda value: value if value in ("AES_ECB", "AES_CBC", "AES_GCM", "EC", "RSA", "random") else "",
)
def test_what_is_refused_leads_to_the_next(faulty: Faulty, faults: str, held: str, refused: list[str]) -> None:
    slot = probed(faulty, faults)
    assert (slot["accessible"], slot["probe"], list(slot["probe_refused"])) == (True, held, refused), slot
    assert faulty.calls()["C_Login"] == 1 and faulty.labels() == []


def test_a_key_that_is_there_outweighs_a_doubt_and_random_numbers_do_not(faulty: Faulty) -> None:
    faults = plan(GENERAL_ERROR, C_GenerateKey=3, C_GenerateKeyPair=2)
    ill = probed(faulty, faults)
    assert (ill["accessible"], ill["code"], ill["device_fault"], ill["probe"]) == (False, "CKR_GENERAL_ERROR", True, None)
    assert set(ill["probe_refused"].values()) == {"CKR_GENERAL_ERROR"} and faulty.calls()["C_GenerateRandom"] == 0
    with_plan(faulty, "")
    ok(faulty.hsm.keys({"label": "dek", "type": "AES"}, {"label": "sig", "type": "EC"}))
    assert probed(faulty, faults)["probe"] == "key"
    # One key that cannot be used says nothing of the token, all of them do.
    assert probed(faulty, f"{faults} {plan(INVALID, C_SignInit=1)}")["probe"] == "key"
    refused = plan(NOT_SUPPORTED, C_GenerateKey=3, C_GenerateKeyPair=2)
    broken = probed(faulty, f"{refused} {plan(GENERAL_ERROR, C_SignInit=1, C_EncryptInit=1)}")
    assert (broken["accessible"], broken["code"]) == (False, "CKR_GENERAL_ERROR")


def test_a_fault_is_the_answer_at_once(faulty: Faulty) -> None:
    slot = probed(faulty, plan(DEVICE_ERROR, C_GenerateKey=1))
    assert (slot["accessible"], slot["code"], slot["device_fault"]) == (False, "CKR_DEVICE_ERROR", True)
    assert faulty.calls()["C_GenerateKey"] == 1 and faulty.calls()["C_GenerateKeyPair"] == 0


def test_a_token_that_refuses_everything_is_not_accessible_and_not_ill(faulty: Faulty) -> None:
    faults = plan(NOT_SUPPORTED, C_GenerateKey=3, C_GenerateKeyPair=2, C_GenerateRandom=1)
    slot = probed(faulty, faults)
    assert (slot["accessible"], slot["code"], slot["device_fault"]) == (False, "CKR_FUNCTION_NOT_SUPPORTED", False)
    assert list(slot["probe_refused"]) == ["AES_ECB", "AES_CBC", "AES_GCM", "EC", "RSA", "random"]
    assert faulty.register(faults)["failure"]["code"] == "CKR_FUNCTION_NOT_SUPPORTED"


def codes(hsm: Hsm) -> dict[str, list[str | None]]:
    """The codes of each instance's tokens in the order of their labels, found within two deadlines and what a start takes."""
    begun = time.monotonic()
    answer = ok(hsm.run("hsm_status", timeout=HANG))
    assert time.monotonic() - begun < 2 * HANG
    slots = {entry["name"]: sorted(entry["slots"], key=lambda slot: str(slot["label"])) for entry in answer["instances"]}
    assert all(slot["device_fault"] is (slot["code"] is not None) for found in slots.values() for slot in found)
    return {name: [slot["code"] for slot in found] for name, found in slots.items()}


def test_a_hang_costs_the_token_its_deadline_and_nobody_else_anything(faulty: Faulty) -> None:
    hsm = faulty.hsm
    ok(faulty.register(tokens=[hsm.token(), hsm.token("qa"), hsm.token("rota")]))
    ok(hsm.run("hsm_instance", **hsm.instance("healthy", tokens=[hsm.token("other")])))
    with_plan(faulty, "C_Login:2:hang")
    assert codes(hsm) == {"primary": [None, "probe_timeout", None], "healthy": [None]}
    with_plan(faulty, "C_Login:2:crash")
    assert codes(hsm) == {"primary": [None, "probe_crashed", None], "healthy": [None]}
    # The library as a whole: its tokens do not wait for it one after the other.
    with_plan(faulty, "C_Initialize:1:hang")
    assert codes(hsm) == {"primary": ["probe_timeout"] * 3, "healthy": [None]}
