# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""hsm_key on a real token: four steps for each type, attributes read back, mismatches, batches."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from faulty import Faulty, with_plan
from hsm_fixture import PIN, SO_PIN, Hsm, calls, four_steps, ok

KEYS: dict[str, dict[str, Any]] = {
    "aes": {"label": "dek-1", "type": "AES", "size": 128, "operations": ["encrypt", "decrypt"]},
    "aes-default": {"label": "dek-1", "type": "AES"},
    "aes-kek": {"label": "kek", "type": "AES", "size": 256, "operations": ["wrap", "unwrap"]},
    "aes-mac": {"label": "mac", "type": "AES", "size": 192, "operations": ["sign", "verify"]},
    "aes-decrypt": {"label": "old", "type": "AES", "operations": ["decrypt"]},
    "rsa": {"label": "ca", "type": "RSA", "size": 2048, "operations": ["sign", "verify"]},
    "rsa-decrypt": {"label": "mail", "type": "RSA", "size": 2048, "operations": ["encrypt", "decrypt"]},
    "ec": {"label": "web-tls", "type": "EC", "curve": "P-256", "operations": ["sign", "verify"]},
    "ec-384": {"label": "web-tls", "type": "EC", "curve": "P-384"},
    "ec-derive": {"label": "agree", "type": "EC", "curve": "P-521", "operations": ["derive"]},
    "ec-brainpool": {"label": "passport", "type": "EC", "curve": "brainpoolP512r1"},
    "ec-k1": {"label": "ledger", "type": "EC", "curve": "secp256k1", "operations": ["sign", "verify", "derive"]},
    "id": {"label": "with id", "type": "AES", "id": "00ff10"},
    "open": {"label": "open", "type": "AES", "sensitive": False, "extractable": True},
    "fixed": {"label": "fixed", "type": "AES", "modifiable": False, "destroyable": False},
}
ABSENT = {"type": None, "size": None, "curve": None, "operations": [], "state": "absent"}


@pytest.mark.parametrize("name", list(KEYS))
def test_four_steps(primary: Hsm, name: str) -> None:
    key = KEYS[name]
    planned = ok(primary.keys(key, check=True))
    assert key["label"] not in primary.tool("--list-objects")
    done = ok(primary.keys(key))
    assert planned["changed"] is done["changed"] is True
    assert planned["diff"] == done["diff"]
    made = done["keys"][0]
    assert all(answer["key_results"] == answer["keys"] for answer in (planned, done))
    predicted = {**planned["keys"][0], **{name: made[name] for name in ("public_key", "fingerprint")}}
    assert predicted == made
    assert planned["applied"] == done["applied"] == [{"index": 0, "label": key["label"], "action": "create"}]
    for check in (True, False):
        again = ok(primary.keys(key, check=check))
        assert again["changed"] is False
        assert again["diff"] == {"before": {}, "after": {}}
        assert again["keys"][0] == made
        assert again["applied"] == again["failed_keys"] == again["not_attempted"] == []
    for option in ("type", "size", "curve", "operations"):
        if option in key:
            assert made[option] == key[option]
    assert made["sensitive"] is key.get("sensitive", True)
    assert made["extractable"] is key.get("extractable", False)
    assert made["local"] is True
    assert made["id"] == key.get("id", key["label"].encode().hex())


@pytest.mark.parametrize("name", ["aes", "rsa", "ec"])
def test_absent_four_steps(primary: Hsm, name: str) -> None:
    key = KEYS[name]
    ok(primary.keys(key, {"label": "stays", "type": "AES"}))
    gone = {"label": key["label"], "state": "absent"}
    planned = ok(primary.keys(gone, check=True))
    assert key["label"] in primary.tool("--list-objects")
    done = ok(primary.keys(gone))
    assert planned["diff"] == done["diff"]
    assert planned["changed"] is done["changed"] is True
    assert done["keys"][0].items() >= ABSENT.items()
    objects = primary.tool("--list-objects")
    assert f"label:      {key['label']}" not in objects and "stays" in objects
    for check in (True, False):
        again = ok(primary.keys(gone, check=check))
        assert again["changed"] is False
    assert ok(primary.run("hsm_sync", instance="primary"))["summary"] == {"added": 0, "known": 1, "missing": 0, "drifted": 0}


def test_public_keys_are_real(primary: Hsm) -> None:
    answer = ok(primary.keys(KEYS["rsa"], KEYS["ec-384"], KEYS["aes"]))
    rsa_key, ec_key, aes_key = answer["keys"]
    loaded = load_pem_public_key(rsa_key["public_key"].encode())
    assert isinstance(loaded, rsa.RSAPublicKey) and loaded.key_size == 2048
    loaded_ec = load_pem_public_key(ec_key["public_key"].encode())
    assert isinstance(loaded_ec, ec.EllipticCurvePublicKey) and loaded_ec.curve.name == "secp384r1"
    assert aes_key["public_key"] is None


def test_attributes_as_another_program_sees_them(primary: Hsm) -> None:
    ok(primary.keys(KEYS["aes"], KEYS["ec"]))
    listing = primary.tool("--list-objects")
    aes = listing[listing.index("Secret Key Object") :].split("\n\n")[0]
    assert "Usage:      encrypt, decrypt\n" in aes
    assert "sensitive" in aes and "never extractable" in aes
    private = listing[listing.index("Private Key Object") :]
    assert "Usage:      sign\n" in private


def test_uid_routes_to_the_key(primary: Hsm) -> None:
    slot = primary.register()["tokens"][0]["slot"]
    answer = ok(primary.keys({"label": "a::b", "type": "AES"}, {"label": "odd", "type": "AES", "id": "ff00"}))
    assert [key["uid"] for key in answer["keys"]] == [f"hsm::softhsm2::{slot}::a::b", f"hsm::softhsm2::{slot}::odd"]


def test_operations_change_and_one_way_attributes_are_flagged(primary: Hsm) -> None:
    ok(primary.keys(KEYS["open"], KEYS["ec"]))
    tighter = {"label": "open", "type": "AES", "operations": ["encrypt"], "sensitive": True, "extractable": False}
    planned = ok(primary.keys(tighter, check=True))
    done = ok(primary.keys(tighter))
    assert planned["diff"] == done["diff"]
    assert [str(text) for text in planned["warnings"]] == [str(text) for text in done["warnings"]]
    assert any("extractable = false cannot be undone" in str(text) for text in done["warnings"])
    assert planned["keys"] == done["keys"]
    assert done["keys"][0].items() >= {"operations": ["encrypt"], "sensitive": True, "extractable": False}.items()
    assert ok(primary.keys(tighter))["changed"] is False
    # What was not said is not compared.
    assert ok(primary.keys({"label": "open", "type": "AES"}))["changed"] is False


MISMATCHES: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    (KEYS["aes"], {"label": "dek-1", "type": "AES", "size": 256}, "size is 128, asked for 256"),
    (KEYS["ec"], {"label": "web-tls", "type": "EC", "curve": "P-384"}, "curve is P-256, asked for P-384"),
    (KEYS["fixed"], {"label": "fixed", "type": "AES", "operations": ["encrypt"]}, "not modifiable"),
]


@pytest.mark.parametrize(("there", "asked", "reason"), MISMATCHES)
def test_mismatch_fails_and_changes_nothing(primary: Hsm, there: dict[str, Any], asked: dict[str, Any], reason: str) -> None:
    before = ok(primary.keys(there))["keys"]
    for check in (True, False):
        answer = primary.keys({"label": "new", "type": "AES"}, asked, check=check)
        assert answer["failure"]["code"] == "cannot_plan"
        assert reason in answer["msg"] and "keys[1]" in answer["msg"]
    assert "new" not in primary.tool("--list-objects")
    assert ok(primary.keys(there))["keys"] == before


def test_mismatch_keep_and_replace(primary: Hsm) -> None:
    before = ok(primary.keys(KEYS["aes"]))["keys"][0]
    asked = {"label": "dek-1", "type": "AES", "size": 256}
    for check in (True, False):
        kept = ok(primary.keys({**asked, "on_mismatch": "keep"}, check=check))
        assert kept["changed"] is False
        assert kept["keys"][0] == {**before, "mismatches": ["size is 128, asked for 256"]}
    planned = ok(primary.keys({**asked, "on_mismatch": "replace"}, check=True))
    done = ok(primary.keys({**asked, "on_mismatch": "replace"}))
    assert planned["diff"] == done["diff"]
    assert done["diff"]["prepared"] == "1 key: +0 -/+1 ~0 -0 =0\n-/+ key dek-1: destroyed and made anew, size 128 -> 256\n"
    assert done["keys"][0]["size"] == 256
    assert done["applied"][0]["action"] == "replace"
    assert ok(primary.keys({**asked, "on_mismatch": "replace"}))["changed"] is False
    assert primary.tool("--list-objects").count("label:      dek-1") == 1


def test_several_matches_are_listed_and_narrowed_by_id(primary: Hsm) -> None:
    for key_id in ("01", "02"):
        primary.tool("--keygen", "--key-type", "AES:32", "--label", "twin", "--id", key_id)
    for entry in ({"label": "twin", "type": "AES"}, {"label": "twin", "state": "absent"}):
        answer = primary.keys(entry)
        assert answer["failure"]["code"] == "cannot_plan"
        assert answer["msg"].count("handle") == 2 and "CKA_ID 01" in answer["msg"]
    ok(primary.keys({"label": "twin", "state": "absent", "id": "02"}))
    assert primary.tool("--list-objects").count("twin") == 1


def test_absent_with_an_id_takes_nothing_else(primary: Hsm) -> None:
    for key_id in ("01", "02"):
        primary.tool("--keygen", "--key-type", "AES:32", "--label", "dup", "--id", key_id)
    gone = {"label": "dup", "id": "01", "state": "absent"}
    assert ok(primary.keys(gone))["changed"] is True
    for check in (True, False):
        assert ok(primary.keys(gone, check=check))["changed"] is False
    assert primary.tool("--list-objects").count("dup") == 1


def test_a_session_without_a_login_is_not_believed(primary: Hsm) -> None:
    ok(primary.keys(KEYS["aes"], KEYS["ec"]))
    for token in ({"label": "payments", "login": False}, {"label": "payments", "user_type": "so", "so_pin": SO_PIN}):
        primary.register(tokens=[token])
        answer = primary.keys({"label": "web-tls", "state": "absent"})
        assert answer["failure"]["code"] == "login_needed"
        assert primary.run("hsm_sync", instance="primary")["failure"]["code"] == "login_needed"
    assert primary.tool("--list-objects").count("web-tls") == 2


def test_an_edited_id_makes_no_second_record(primary: Hsm) -> None:
    ok(primary.keys(KEYS["aes"]))
    with closing(sqlite3.connect(primary.registry)) as registry:
        registry.execute("UPDATE virtual_key SET key_id = x'aa'")
        registry.commit()
    assert ok(primary.keys({"label": "dek-1", "type": "AES"}))["applied"][0]["action"] == "record"
    assert ok(primary.run("hsm_sync", instance="primary"))["summary"] == {"added": 0, "known": 1, "missing": 0, "drifted": 0}


def test_all_stale_records_of_a_label_are_forgotten(primary: Hsm) -> None:
    for key_id in ("01", "02"):
        primary.tool("--keygen", "--key-type", "AES:32", "--label", "d", "--id", key_id)
    ok(primary.run("hsm_sync", instance="primary"))
    for key_id in ("01", "02"):
        primary.tool("--delete-object", "--type", "secrkey", "--id", key_id)
    assert ok(primary.keys({"label": "d", "state": "absent"}))["applied"][0]["action"] == "forget"
    assert ok(primary.run("hsm_instance", name="primary", state="absent"))["changed"] is True


def test_an_id_in_use_is_refused(primary: Hsm) -> None:
    ok(primary.keys(KEYS["id"]))
    answer = primary.keys({"label": "other", "type": "AES", "id": "00ff10"})
    assert "CKA_ID 00ff10 belongs to 'with id' already" in answer["msg"]
    ok(primary.keys({"label": "with id", "state": "absent"}, {"label": "other", "type": "AES", "id": "00ff10"}))


def test_keys_of_another_program_become_managed(primary: Hsm) -> None:
    primary.tool("--keygen", "--key-type", "AES:32", "--label", "found", "--id", "666f756e64")
    planned = ok(primary.keys({"label": "found", "type": "AES"}, check=True))
    done = ok(primary.keys({"label": "found", "type": "AES"}))
    assert planned["diff"] == done["diff"]
    assert done["applied"] == [{"index": 0, "label": "found", "action": "record"}]
    assert done["keys"][0]["local"] is True
    assert ok(primary.keys({"label": "found", "type": "AES"}))["changed"] is False
    # Destroyed behind our back, then asked to be absent: the record goes.
    primary.tool("--delete-object", "--type", "secrkey", "--label", "found")
    assert ok(primary.run("hsm_sync", instance="primary"))["summary"]["missing"] == 1
    gone = ok(primary.keys({"label": "found", "state": "absent"}))
    assert gone["applied"][0]["action"] == "forget"
    assert ok(primary.run("hsm_sync", instance="primary"))["summary"]["missing"] == 0


def test_a_key_that_vanished_is_made_again_when_that_was_said(primary: Hsm) -> None:
    ok(primary.keys(KEYS["aes"]))
    primary.tool("--delete-object", "--type", "secrkey", "--label", "dek-1")
    for check in (True, False):
        answer = primary.keys(KEYS["aes"], KEYS["ec"], check=check)
        assert answer["changed"] is False and "'dek-1' is gone from the token" in answer["msg"], answer
    assert len(primary.tool("--list-objects").split("label:")) == 1
    again = {**KEYS["aes"], "on_vanished": "recreate"}
    done = four_steps(lambda check: primary.keys(again, check=check))
    assert done["applied"][0]["action"] == "create" and any("was recorded" in str(text) for text in done["warnings"])


def test_a_record_follows_what_was_asked_for_by_name(primary: Hsm) -> None:
    ok(primary.keys({"label": "dek-1", "type": "AES", "size": 128}))
    primary.tool("--delete-object", "--type", "secrkey", "--label", "dek-1")
    ok(primary.keys({"label": "dek-1", "type": "AES", "size": 256, "on_vanished": "recreate"}))
    assert ok(primary.run("hsm_sync", instance="primary"))["drift"] == []
    with closing(sqlite3.connect(primary.registry)) as registry:
        registry.execute("UPDATE virtual_key SET operations = '[\"encrypt\"]'")
        registry.commit()
    assert len(ok(primary.run("hsm_sync", instance="primary"))["drift"]) == 1
    wanted = {"label": "dek-1", "type": "AES", "operations": ["encrypt", "decrypt"]}
    planned, done = (ok(primary.keys(wanted, check=check)) for check in (True, False))
    assert planned["diff"] == done["diff"] and done["applied"][0]["action"] == "record"
    assert ok(primary.run("hsm_sync", instance="primary"))["drift"] == []
    assert ok(primary.keys(wanted))["changed"] is False


def test_eviden_pairs_are_whole(primary: Hsm) -> None:
    """The Eviden server gives the public half the id and label with _pk behind it."""
    primary.tool("--keypairgen", "--key-type", "EC:prime256v1", "--label", "srv", "--id", b"srv".hex())
    # pkcs11-tool cannot rename one half only by label, so the public half is written anew under its own name.
    pem = primary.scratch / "pub.der"
    primary.tool("--read-object", "--type", "pubkey", "--label", "srv", "--output-file", str(pem))
    primary.tool("--delete-object", "--type", "pubkey", "--label", "srv")
    primary.tool("--write-object", str(pem), "--type", "pubkey", "--label", "srv_pk", "--id", b"srv_pk".hex())
    assert ok(primary.run("hsm_sync", instance="primary"))["summary"]["added"] == 1
    found = ok(primary.keys({"label": "srv", "type": "EC"}))
    assert found["changed"] is False
    assert found["keys"][0]["public_key"].startswith("-----BEGIN PUBLIC KEY-----")


def test_direct_connection_needs_no_registry(primary: Hsm) -> None:
    direct = {"instance": None, "library": primary.library, "environment": primary.environment, "pin": PIN, "registry": "/nonexistent/r"}
    for selector in ({"token_label": "payments"}, {"slot": str(primary.register()["tokens"][0]["slot"])}):
        key = {"label": f"k-{next(iter(selector))}", "type": "AES"}
        done = ok(primary.keys(key, **direct, **selector))
        assert done["changed"] is True and done["keys"][0]["uid"] is None
        assert ok(primary.keys(key, **direct, **selector))["changed"] is False


def test_the_token_must_be_said_where_there_are_several(primary: Hsm) -> None:
    primary.register(tokens=[primary.token(), primary.token("second")])
    answer = primary.keys(KEYS["aes"])
    assert answer["failure"]["code"] == "several_tokens" and "'payments', 'second'" in answer["msg"]
    ok(primary.keys(KEYS["aes"], token_label="second"))
    assert "dek-1" in primary.tool("--list-objects", token="second")
    assert primary.keys(KEYS["aes"], token_label="third")["failure"]["code"] == "token_not_declared"


def test_bad_input_is_reported_at_once(primary: Hsm) -> None:
    answer = primary.keys(
        {"label": "", "type": "AES"},
        {"label": "a", "type": "AES", "size": 100},
        {"label": "b", "type": "EC", "size": 256},
        {"label": "c", "type": "EC", "operations": ["encrypt"]},
        {"label": "d", "type": "RSA", "curve": "P-256"},
        {"label": "e", "type": "AES", "id": "xyz"},
        {"label": "f"},
        {"label": "g", "type": "AES"},
        {"label": "g", "type": "AES"},
        {"label": "h", "type": "AES", "operations": []},
        {"label": "i", "type": "AES", "id": "67"},
        pin="1",
        pin_file="relative",
    )
    assert answer["failure"]["code"] == "invalid_input"
    problems = answer["failure"]["details"]["problems"]
    for part in (
        "pin: give pin or pin_file, not both",
        "pin_file: is not an absolute path",
        "keys[0].label: is empty",
        "keys[1] (a).size: 100 is no size of AES keys: use one of 128, 192, 256",
        "keys[2] (b).size: an EC key has a curve",
        "keys[3] (c).operations: EC keys cannot encrypt: use sign, verify, derive",
        "keys[4] (d).curve: RSA keys have no curve",
        "keys[5] (e).id: 'xyz' is not hex",
        "keys[6] (f).type: is missing",
        "keys[8] (g).label: keys[7] has the same label",
        "keys[9] (h).operations: is empty",
        "keys[10] (i).id: keys[7] has the same CKA_ID 67",
    ):
        assert any(part in problem for problem in problems), part
    assert len(problems) == 12


def test_unregistered_instance(primary: Hsm) -> None:
    answer = primary.keys(KEYS["aes"], instance="typo")
    assert answer["failure"]["code"] == "no_instance" and "registered: 'primary'" in answer["msg"]
    planned = ok(primary.keys(KEYS["aes"], instance="typo", check=True))
    assert planned["changed"] is True and any("In check mode it is taken for one" in str(text) for text in planned["warnings"])


def test_a_thousand_keys_in_one_login_and_one_search(hsm: Hsm) -> None:
    spied, log = hsm.spied()
    spied.register()
    keys = [{"label": f"dek-{number:04}", "type": "AES", "size": 256} for number in range(1000)]
    log.unlink()
    done = ok(spied.keys(*keys))
    assert done["summary"]["created"] == 1000
    assert done["diff"]["prepared"].startswith("1,000 keys: +1,000 ~0 -0 =0\n")
    made = calls(log)
    assert (made["C_Login"], made["C_FindObjectsInit"], made["C_GenerateKey"], made["C_OpenSession"]) == (1, 1, 1000, 1)
    # A key is made, read back and, by its check value, used once: in four calls.
    assert (made["C_EncryptInit"], made["C_Encrypt"], made["C_DecryptInit"]) == (1000, 1000, 0)
    assert made.total() <= 4 * 1000 + 40
    log.unlink()
    again = ok(spied.keys(*keys))
    assert again["changed"] is False
    for answer in (done, again):
        assert registered_bytes(answer) <= 40_000
    unchanged = calls(log)
    assert (unchanged["C_Login"], unchanged["C_FindObjectsInit"], unchanged["C_GenerateKey"]) == (1, 1, 0)
    # One read of all attributes a key, and nothing else that grows with them.
    assert unchanged["C_GetAttributeValue"] <= 1000 + 5 and unchanged.total() <= 1000 + 40
    assert unchanged["C_SetAttributeValue"] == unchanged["C_EncryptInit"] == 0
    # A mistake of all of them is one line, and the answer is not much longer than that.
    refused = spied.keys(*({**key, "size": 128} for key in keys))
    assert "size is 256, asked for 128: dek-0000, dek-0001, " in refused["msg"] and "and 990 more" in refused["msg"]
    assert registered_bytes(refused) <= 4_000


def test_a_change_and_a_removal_are_one_call_each_whatever_was_read_before(hsm: Hsm) -> None:
    """Handles come in any order, and the first of a sort is asked more than the others: the number of calls is the same."""
    spied, log = hsm.spied()
    spied.register()
    keys = [{"label": f"dek-{number}", "type": "AES"} for number in range(12)]
    ok(spied.keys(*keys))
    for change, wanted, reads in (
        ({"operations": ["encrypt"]}, {"C_SetAttributeValue": 12}, 2 * 12),  # looked at, and read back
        ({"state": "absent"}, {"C_DestroyObject": 12}, 12),
    ):
        log.unlink()
        ok(spied.keys(*({**key, **change} for key in keys)))
        made = calls(log)
        assert {name: made[name] for name in wanted} == wanted
        assert made["C_GetAttributeValue"] <= reads + 5


def test_functions_that_only_python_pkcs11_can_call_are_left_to_it(faulty: Faulty) -> None:
    """p11-kit's client gives each caller functions of its own, and a session of one is unknown to the others."""
    kinds = ("Ed25519", "DES3", "GENERIC_SECRET")
    keys = [*(KEYS[name] for name in ("aes", "aes-kek", "aes-mac", "rsa", "ec", "ec-derive", "open")), {"label": "gone", "type": "AES"}]
    keys[:0] = [{"label": kind, "type": kind} for kind in kinds]
    with_plan(faulty, "", FAULT_OWN_LISTS="1")
    planned, done = (ok(faulty.hsm.keys(*keys, check=check)) for check in (True, False))
    assert planned["diff"] == done["diff"] and done["summary"]["created"] == len(keys)
    assert ok(faulty.hsm.keys(*keys))["changed"] is False
    assert ok(faulty.hsm.keys({"label": "gone", "state": "absent"}))["changed"] is True
    with_plan(faulty, "")
    again = ok(faulty.hsm.keys(*keys[:-1]))
    assert again["changed"] is False and again["key_results"] == [entry for entry in done["key_results"] if entry["label"] != "gone"]


def test_a_range_is_many_keys_in_one_line(primary: Hsm) -> None:
    keys = [{"label": "dek-[08:12]", "type": "AES"}, {"label": "kek", "type": "AES"}]
    ok(primary.keys({"label": "dek-11", "type": "AES"}))
    planned, done = (ok(primary.keys(*keys, check=check)) for check in (True, False))
    assert planned["diff"] == done["diff"]
    lines = [line.partition(":")[0] for line in done["diff"]["prepared"].splitlines() if "dek-" in line]
    assert lines == ["+ key dek-[08"] and "dek-[08:12] (4 keys): " in done["diff"]["prepared"]
    assert [(entry["index"], entry["label"]) for entry in done["key_results"]] == [
        *((0, f"dek-{number:02}") for number in range(8, 13)),
        (1, "kek"),
    ]
    assert {entry["state"] for entry in done["key_results"]} == {"present"} and len(done["applied"]) == 5
    assert ok(primary.keys(*keys))["changed"] is False
    # The other generations of one key of a range are no concern of the others.
    rotated = ok(primary.keys({**keys[0], "generation": 2, "previous": "destroy"}))
    assert rotated["summary"]["created"] == rotated["summary"]["deleted"] == 5
    assert "+ key dek-[08:12]@2 (5 keys)" in rotated["diff"]["prepared"]
    gone = ok(primary.keys({"label": "dek-[08:12]", "generation": 2, "state": "absent"}))
    assert gone["summary"]["deleted"] == 5 and "- key dek-[08:12]@2 (5 keys)" in gone["diff"]["prepared"]


def registered_bytes(answer: dict[str, Any]) -> int:
    """What a playbook that registers the result keeps of it: Ansible leaves the arguments out, and there is a diff only with --diff."""
    return len(json.dumps({name: value for name, value in answer.items() if name not in ("invocation", "diff", "_raw")}))


def test_two_runs_at_the_same_moment(primary: Hsm) -> None:
    keys = [{"label": f"k-{number}", "type": "AES"} for number in range(40)]
    keys.append({"label": "pair", "type": "EC"})
    for _round in range(2):
        started = [primary.fork("hsm_key", {"registry": primary.registry, "instance": "primary", "keys": keys}) for _run in range(3)]
        answers = [ok(primary.finish(process)) for process in started]
        assert sorted(len(answer["applied"]) for answer in answers) == [0, 0, 41]
        listing = primary.tool("--list-objects")
        assert listing.count("Secret Key Object") == 40 and listing.count("Private Key Object") == 1
        assert ok(primary.run("hsm_sync", instance="primary"))["summary"] == {"added": 0, "known": 41, "missing": 0, "drifted": 0}
        ok(primary.keys(*({"label": key["label"], "state": "absent"} for key in keys)))


def test_registering_at_the_same_moment_makes_one_token(hsm: Hsm) -> None:
    started = [hsm.fork("hsm_instance", {"registry": hsm.registry, **hsm.instance()}) for _run in range(4)]
    answers = [ok(hsm.finish(process)) for process in started]
    assert len({answer["instance"]["id"] for answer in answers}) == 1
    assert {answer["instance"]["tokens"][0]["accessible"] for answer in answers} == {True}
    assert len(list((hsm.scratch / "tokens").iterdir())) == 1
