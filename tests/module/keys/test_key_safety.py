# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A good key is not destroyed, shadowed or replaced by what only looks like a reason."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.keywrap import aes_key_wrap
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from faulty import Faulty, with_plan
from hsm_fixture import Hsm, ok

KEK = bytes(range(32))


def pem(key: Any) -> str:
    return str(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode())


@pytest.mark.parametrize("state", ["public_only", "deactivated", "absent"])
def test_both_names_that_were_given_must_fit(primary: Hsm, state: str) -> None:
    ok(primary.keys({"label": "web", "type": "EC"}))
    before = primary.tool("--list-objects")
    answer = primary.keys({"label": "web", "id": "ffff", "state": state})
    assert answer["changed"] is False
    assert state == "absent" or "there is no key 'web'" in answer["msg"]
    assert primary.tool("--list-objects") == before


def test_a_label_with_a_number_is_not_taken_for_a_generation(primary: Hsm) -> None:
    ok(primary.keys({"label": "backup@2023", "type": "AES"}))
    made = ok(primary.keys({"label": "backup", "type": "AES"}))
    assert made["applied"] == [{"index": 0, "label": "backup", "action": "create"}]
    both = [{"label": "backup", "type": "AES", "max_age": "90d", "previous": "destroy"}, {"label": "backup@2023", "type": "AES"}]
    again = ok(primary.keys(*both))
    assert again["changed"] is False
    assert [entry["uid"].rpartition("::")[2] for entry in again["keys"]] == ["backup", "backup@2023"]
    rotated = ok(primary.keys({"label": "backup", "type": "AES", "generation": 2, "previous": "destroy"}))
    assert [(entry["label"], entry["action"]) for entry in rotated["applied"]] == [("backup@2", "create"), ("backup", "delete")]
    assert "backup@2023" in primary.tool("--list-objects")


def test_a_replacement_must_be_possible_before_the_old_key_goes(primary: Hsm) -> None:
    ok(primary.keys({"label": "kek", "type": "AES", "operations": ["wrap", "unwrap"], "source": {"content": KEK.hex()}}))
    before = ok(primary.keys({"label": "dek", "type": "DES3"}))["keys"]
    damaged = aes_key_wrap(KEK, bytes(32))[:-8] + bytes(8)
    wanted = {"label": "dek", "type": "AES", "on_mismatch": "replace", "source": {"content": damaged.hex(), "wrapping_key": "kek"}}
    for check in (True, False):
        answer = primary.keys(wanted, check=check)
        assert answer["failed"] is True and answer["changed"] is False, answer
        assert "The key that is there was left as it is" in answer["msg"]
    assert ok(primary.keys({"label": "dek", "type": "DES3"}))["keys"] == before


def test_a_wrapping_key_is_not_destroyed_before_it_is_used(primary: Hsm) -> None:
    ok(primary.keys({"label": "kek", "type": "AES", "operations": ["wrap", "unwrap"], "source": {"content": KEK.hex()}}))
    wrapped = {"content": aes_key_wrap(KEK, bytes(32)).hex(), "wrapping_key": "kek"}
    answer = primary.keys({"label": "kek", "state": "absent"}, {"label": "new", "type": "AES", "source": wrapped})
    assert "may be destroyed by keys[0] (kek) before it is used" in answer["msg"]
    itself = {"label": "kek", "type": "AES", "operations": ["wrap", "unwrap"], "on_mismatch": "replace", "source": wrapped}
    assert "may be destroyed by keys[0] (kek)" in primary.keys(itself)["msg"]
    assert ok(primary.keys({"label": "kek", "type": "AES"}))["changed"] is False


def test_a_replacement_does_not_take_the_id_of_another_key(primary: Hsm) -> None:
    ok(primary.keys({"label": "a", "type": "AES"}, {"label": "b", "type": "AES"}))
    answer = primary.keys({"label": "a", "id": "62", "type": "AES", "on_mismatch": "replace"})
    assert "CKA_ID 62 belongs to 'b' already" in answer["msg"]


def test_an_id_is_that_of_the_first_generation(primary: Hsm) -> None:
    ok(primary.keys({"label": "k", "id": "0102", "type": "AES", "generation": 1}))
    primary.tool("--keygen", "--key-type", "AES:32", "--label", "k@2", "--id", "99")
    found = ok(primary.keys({"label": "k", "id": "0102", "type": "AES", "on_mismatch": "replace"}))
    assert [entry["action"] for entry in found["applied"]] == ["record"] and found["keys"][0]["id"] == "99"


def test_a_deactivated_key_does_not_come_back_by_a_detour(primary: Hsm) -> None:
    key = {"label": "q", "type": "EC", "source": {"content": pem(ec.generate_private_key(ec.SECP256R1()))}}
    ok(primary.keys(key))
    ok(primary.keys({"label": "q", "state": "deactivated"}))
    ok(primary.keys({"label": "q", "state": "public_only"}))
    assert "a deactivated key does not become active again" in primary.keys(key)["msg"]
    primary.tool("--delete-object", "--type", "pubkey", "--label", "q")
    assert "a deactivated key does not become active again" in primary.keys(key)["msg"]
    assert "label:      q\n" not in primary.tool("--list-objects")


@pytest.mark.parametrize("fault", ["C_GetAttributeValue:1:before=0x30", "C_Encrypt:2:after=0x5"])
def test_a_passing_fault_makes_no_other_key_of_an_import(faulty: Faulty, fault: str) -> None:
    key = {"label": "k", "type": "AES", "source": {"content": "00" * 16}, "on_mismatch": "replace"}
    ok(faulty.hsm.keys(key))
    with_plan(faulty, fault)
    faulty.hsm.keys(key)
    assert faulty.calls()["C_DestroyObject"] <= 1  # a copy for a look, in the session
    with_plan(faulty, "")
    assert ok(faulty.hsm.keys(key))["changed"] is False


def test_a_private_key_in_the_wrong_place_is_not_shown(primary: Hsm) -> None:
    secret = pem(ec.generate_private_key(ec.SECP256R1()))
    line = secret.splitlines()[1]
    for entry in (
        {"label": "k", "type": "EC", "source": {"src": secret}},
        {"label": "k", "type": "EC", "id": secret},
        {"label": "k", "type": "EC", "source": {"content": "00", "wrapping_key": "kek", "public_key": secret}},
    ):
        answer = primary.keys(entry)
        assert answer["failed"] is True
        assert line not in answer["_raw"], entry


def test_a_key_that_wants_the_pin_at_each_use_gets_it_once(faulty: Faulty) -> None:
    """When it is found, and when its public half was made anew. A PIN that is refused there is remembered, before and after a write."""
    hsm, card = faulty.hsm, {"label": "card", "type": "EC"}
    hsm.tool("--keypairgen", "--key-type", "EC:prime256v1", "--label", "card", "--id", b"card".hex(), "--always-auth")
    # Logins: the session's, one to see whether the recorded public half is the key's, one to use the whole.
    for repaired, logins in ((False, 2), (True, 3)):
        if repaired:
            hsm.tool("--delete-object", "--type", "pubkey", "--label", "card")
        with_plan(faulty, f"C_Login:{logins}:before=0xa0")  # CKR_PIN_INCORRECT
        answer = hsm.keys(card, repair=repaired)
        assert answer["failure"]["code"] == "pin_incorrect", answer
        assert answer["changed"] is repaired and faulty.calls()["C_Login"] == logins
        with_plan(faulty, "")
        assert hsm.keys(card)["failure"]["code"] == "pin_not_tried" and not faulty.log.exists()
        assert ok(hsm.keys(card, allow_low_pin_count=True))["changed"] is not repaired
        assert faulty.calls()["C_Login"] == (1 if repaired else 2)  # recorded: not used again
