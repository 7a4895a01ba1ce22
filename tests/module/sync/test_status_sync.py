# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""hsm_status and hsm_sync on real tokens."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hsm_fixture import PIN, Hsm, calls, ok


def slots(answer: dict[str, Any], name: str = "primary") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = next(entry["slots"] for entry in answer["instances"] if entry["name"] == name)
    return found


@pytest.fixture
def fleet(primary: Hsm) -> Hsm:
    """Two instances of one model, the second with two tokens."""
    primary.register("standby", tokens=[primary.token("second"), primary.token("third")])
    return primary


@pytest.mark.parametrize("probe", ["login", "roundtrip"])
def test_all_is_well(fleet: Hsm, probe: str) -> None:
    for check in (True, False):
        answer = ok(fleet.run("hsm_status", check=check, probe=probe, require="all"))
        assert answer["changed"] is False and answer["healthy"] is True
        assert [entry["prefix"] for entry in answer["instances"]] == ["hsm::softhsm2", "hsm::softhsm2_1"]
        assert {slot["accessible"] for entry in answer["instances"] for slot in entry["slots"]} == {True}
        numbers = [slot["slot_id"] for slot in slots(answer, "standby")]
        assert numbers == sorted(numbers)
    one = ok(fleet.run("hsm_status", instances=["standby"]))
    assert one["undeclared"] == {"instances": [], "tokens": [], "groups": []}
    assert [entry["prefix"] for entry in one["instances"]] == ["hsm::softhsm2_1"]


def test_a_round_trip_is_made_and_leaves_nothing(hsm: Hsm) -> None:
    spied, log = hsm.spied()
    spied.register()
    log.unlink()
    ok(spied.run("hsm_status", probe="login"))
    only_login = calls(log)
    assert only_login["C_Login"] == 1 and only_login["C_Encrypt"] == 0
    log.unlink()
    ok(spied.run("hsm_status", probe="roundtrip"))
    tripped = calls(log)
    assert tripped["C_Login"] == 1 and tripped["C_Encrypt"] >= 1 and tripped["C_Decrypt"] >= 1
    log.unlink()
    held = ok(spied.run("hsm_status_info", holdings=True))
    assert calls(log)["C_Login"] == 1 and calls(log)["C_CreateObject"] == 0
    [slot] = slots(held)
    assert slot["certificates"] == [] and slot["versions"]["model"] == "SoftHSM v2" and slot["versions"]["firmware"] == "2.6"
    assert held["keys_recorded"] == [] and held["groups"] == []
    assert "Object" not in spied.tool("--list-objects")


def test_one_broken_hsm_does_not_hide_the_others(fleet: Hsm) -> None:
    tokens = fleet.scratch / "tokens"
    serial = slots(fleet.run("hsm_status"))[0]["serial"]
    home = next(path for path in tokens.iterdir() if (path / "token.object").read_bytes().find(serial.encode()) >= 0)
    shutil.move(home, fleet.scratch / "away")
    answer = ok(fleet.run("hsm_status", require="any"))
    broken = slots(answer)[0]
    assert answer["healthy"] is False
    assert (broken["accessible"], broken["code"], broken["serial"]) == (False, "no_token", serial)
    assert all(slot["accessible"] for slot in slots(answer, "standby"))
    required = fleet.run("hsm_status", require="all")
    assert required["failed"] and "2 of 3 tokens are accessible" in required["msg"] and "primary slot" in required["msg"]
    assert required["instances"] == answer["instances"]
    shutil.move(fleet.scratch / "away", home)
    assert ok(fleet.run("hsm_status", require="all"))["healthy"] is True


def test_a_library_that_is_gone_and_a_pin_file_that_is_gone(fleet: Hsm) -> None:
    copy = fleet.scratch / "libcopy.so"
    shutil.copy(fleet.library, copy)
    fleet.register("primary", library=str(copy))
    copy.unlink()
    (fleet.scratch / "pins" / "third").unlink()
    answer = ok(fleet.run("hsm_status"))
    assert slots(answer)[0]["code"] == "library_missing"
    codes = {slot["label"]: slot["code"] for slot in slots(answer, "standby")}
    assert codes == {"second": None, "third": "pin_file_missing"}


def test_a_wrong_pin_is_tried_once_however_often_the_token_is_registered(primary: Hsm) -> None:
    twin = {"label": "payments", "pin_file": str(primary.scratch / "pins" / "twin"), "pin": PIN}
    primary.register("twin", tokens=[twin])
    for name in ("payments", "twin"):
        path = primary.scratch / "pins" / name
        path.write_text("000000\n")
    log = primary.scratch / "spy.log"
    spied, _log = primary.spied()
    with closing(sqlite3.connect(primary.registry)) as registry:
        registry.execute("UPDATE instance SET library = ?, environment = ?", (spied.library, json.dumps(spied.environment)))
        registry.commit()
    answer = ok(primary.run("hsm_status"))
    assert [slots(answer, name)[0]["code"] for name in ("primary", "twin")] == ["pin_incorrect", "pin_not_tried"]
    assert calls(log)["C_Login"] == 1
    again = ok(primary.run("hsm_status"))
    found = [(slots(again, name)[0]["code"], slots(again, name)[0]["pin_state"]) for name in ("primary", "twin")]
    # The first file is known to be wrong, the second one was not tried; the flag speaks for both.
    assert found == [("pin_not_tried", "low"), ("pin_count_low", "low")]
    assert calls(log)["C_Login"] == 1


def test_what_is_registered_and_not_declared(fleet: Hsm) -> None:
    ok(fleet.run("hsm_group", name="cards", connections=[{"instance": "primary"}]))
    declared = {"instances": [{"name": "standby", "tokens": [{"label": "second"}]}]}
    told = ok(fleet.run("hsm_status", instances=[], declared=declared))
    assert told["undeclared"] == {"instances": ["primary"], "tokens": [{"instance": "standby", "token": "third"}], "groups": ["cards"]}
    assert "not declared: instance 'primary', token 'third' of instance 'standby', group 'cards'." in str(told["warnings"])
    refused = fleet.run("hsm_status", instances=[], declared=declared, undeclared="refuse")
    assert refused["failure"] == {"code": "undeclared", "details": told["undeclared"]}


def test_a_caller_mistake_is_no_device_fault(primary: Hsm) -> None:
    (primary.scratch / "pins" / "payments").write_text("000000\n")
    slot = slots(ok(primary.run("hsm_status")))[0]
    assert (slot["accessible"], slot["device_fault"], slot["pin_state"]) == (False, False, "low")


def test_no_registry_and_unknown_instance(hsm: Hsm) -> None:
    assert hsm.run("hsm_status")["failure"]["code"] == "registry_missing"
    assert ok(hsm.run("hsm_status", instances=[], declared={}))["undeclared"]["instances"] == []
    checked = ok(hsm.run("hsm_status", check=True, require="all"))
    assert checked["instances"] == [] and checked["healthy"] is False
    hsm.register()
    assert hsm.run("hsm_status", instances=["typo"])["failure"]["code"] == "no_instance"
    assert hsm.run("hsm_status", timeout=0)["failure"]["code"] == "invalid_input"
    assert not Path("/var/lib/keyfleet/registry.db").exists()


def test_sync_four_steps(primary: Hsm) -> None:
    for number in range(5):
        primary.tool("--keygen", "--key-type", "AES:32", "--label", f"k{number}", "--id", f"6b3{number}")
    primary.tool("--keypairgen", "--key-type", "EC:prime256v1", "--label", "pair", "--id", "70")
    planned = ok(primary.run("hsm_sync", check=True, instance="primary"))
    done = ok(primary.run("hsm_sync", instance="primary"))
    assert planned["diff"] == done["diff"] and planned["added"] == done["added"]
    assert planned["changed"] is done["changed"] is True
    assert done["summary"] == {"added": 6, "known": 0, "missing": 0, "drifted": 0}
    slot = primary.register()["tokens"][0]["slot"]
    assert done["added"] == [f"hsm::softhsm2::{slot}::k{number}" for number in range(5)] + [f"hsm::softhsm2::{slot}::p"]
    for check in (True, False):
        again = ok(primary.run("hsm_sync", check=check, instance="primary"))
        assert again["changed"] is False and again["added"] == []
        assert again["summary"] == {"added": 0, "known": 6, "missing": 0, "drifted": 0}


def test_sync_only_appends_and_reports_the_rest_unless_asked(primary: Hsm) -> None:
    ok(primary.keys({"label": "dek-1", "type": "AES"}, {"label": "gone", "type": "AES"}, {"label": "narrow", "type": "AES"}))
    primary.tool("--delete-object", "--type", "secrkey", "--label", "gone")
    primary.tool("--keygen", "--key-type", "AES:32", "--label", "new", "--id", "6e6577")
    with closing(sqlite3.connect(primary.registry)) as registry:
        registry.execute("UPDATE virtual_key SET operations = '[\"encrypt\"]' WHERE label = 'narrow'")
        registry.execute("UPDATE virtual_key SET label = 'misspelt' WHERE label = 'dek-1'")
        registry.commit()
    answer = ok(primary.run("hsm_sync", instance="primary"))
    base = f"hsm::softhsm2::{primary.register()['tokens'][0]['slot']}"
    assert answer["added"] == [f"{base}::new"]
    assert answer["missing"] == [f"{base}::gone"]
    assert answer["drift"] == [
        {"uid": f"{base}::dek-1", "field": "label", "virtual": "misspelt", "hsm": "dek-1"},
        {"uid": f"{base}::narrow", "field": "operations", "virtual": ["encrypt"], "hsm": ["encrypt", "decrypt"]},
    ]
    assert answer["summary"] == {"added": 1, "known": 2, "missing": 1, "drifted": 2}
    after = ok(primary.run("hsm_sync", instance="primary"))
    assert after["changed"] is False and after["missing"] == answer["missing"] and after["drift"] == answer["drift"]
    asked = ok(primary.run("hsm_sync", instance="primary", prune=True, refresh=["label"]))
    assert asked["pruned"] == answer["missing"] and [entry["field"] for entry in asked["refreshed"]] == ["label"]


def test_sync_of_several_tokens_is_all_or_nothing(primary: Hsm) -> None:
    primary.register(tokens=[primary.token(), primary.token("second")])
    for token in ("payments", "second"):
        primary.tool("--keygen", "--key-type", "AES:32", "--label", token, "--id", "01", token=token)
    (primary.scratch / "pins" / "second").rename(primary.scratch / "pin.away")
    failed = primary.run("hsm_sync", instance="primary")
    assert failed["failure"]["code"] == "pin_file_missing"
    (primary.scratch / "pin.away").rename(primary.scratch / "pins" / "second")
    answer = ok(primary.run("hsm_sync", instance="primary"))
    assert answer["summary"]["added"] == 2 and answer["document"] is None
    one = ok(primary.run("hsm_sync", instance="primary", token_label="second"))
    assert one["summary"] == {"added": 0, "known": 1, "missing": 0, "drifted": 0}
    assert [entry["label"] for entry in one["document"]["keys"]] == ["second"]


def test_sync_reads_once(hsm: Hsm) -> None:
    spied, log = hsm.spied()
    spied.register()
    ok(spied.keys(*({"label": f"k{number}", "type": "AES"} for number in range(50))))
    log.unlink()
    ok(spied.run("hsm_sync", instance="primary"))
    made = calls(log)
    assert (made["C_Login"], made["C_FindObjectsInit"]) == (1, 1)
    assert made["C_GetAttributeValue"] <= 4 * 50
