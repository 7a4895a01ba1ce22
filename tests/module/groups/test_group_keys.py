# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""hsm_key with a group: which connection serves, and what the group's policy lets through to the HSM."""

from __future__ import annotations

import pytest
from hsm_fixture import Hsm, Pair, four_steps, ok, usage

AES = {"label": "dek-1", "type": "AES", "size": 256}
NARROW = {**AES, "operations": ["decrypt"]}
EC = {"label": "web", "type": "EC", "curve": "P-256", "operations": ["sign", "verify"]}


def texts(answer: dict[str, object]) -> str:
    """All warnings of an answer as one text."""
    return str(answer.get("warnings", ""))


@pytest.mark.parametrize("apply_changes", [False, True])
def test_a_new_virtual_key_makes_its_key_whatever_the_policy(pair: Pair, apply_changes: bool) -> None:
    ok(pair.group(apply_changes=apply_changes))
    done = four_steps(lambda check: pair.keys({**AES, "operations": ["encrypt", "wrap"]}, EC, check=check))
    assert done["served_by"] == {
        "priority": 1,
        "instance": "primary",
        "token_label": "payments",
        "slot": pair.hsm.register()["tokens"][0]["slot"],
    }
    assert usage(pair.tool, "dek-1") == {"encrypt", "wrap"}
    assert usage(pair.tool, "web", "privkey") == {"sign"}
    assert usage(pair.tool_b, "dek-1") == set()
    assert pair.records() == {"dek-1": ("active", ["encrypt", "wrap"]), "web": ("active", ["sign", "verify"])}


def test_the_next_connection_serves_when_the_first_is_away(pair: Pair) -> None:
    ok(pair.keys(AES))
    pair.away(pair.hsm)
    done = ok(pair.keys({"label": "dek-2", "type": "AES"}, on_unreachable="generate"))
    assert (done["served_by"]["priority"], done["served_by"]["instance"]) == (2, "standby")
    assert "connection 1 (instance 'primary', token 'payments') could not be reached" in texts(done)
    assert usage(pair.tool_b, "dek-2") == {"encrypt", "decrypt"}
    # It was recorded on the first one, so the second one has to get it from there: another key of that name is none.
    refused = pair.keys(AES)
    assert refused["failure"]["code"] == "cannot_plan" and "repair: wrap" in refused["msg"]
    assert usage(pair.tool_b, "dek-1") == set()
    pair.back(pair.hsm)
    for label in ("dek-1", "dek-2"):
        answer = pair.keys({**AES, "label": label})
        assert answer["changed"] is False and bool(answer.get("failed")) is (label == "dek-2"), answer
    assert usage(pair.tool, "dek-2") == set()


def test_both_away_is_one_error_with_both_causes(pair: Pair) -> None:
    before = pair.rows("SELECT count(*) FROM event")
    for which in (pair.hsm, pair.standby):
        pair.away(which)
    for answer in (pair.keys(AES), pair.sync(), pair.sync(check=True)):
        assert answer["failure"]["code"] == "no_connection"
        assert [cause["instance"] for cause in answer["failure"]["details"]["connections"]] == ["primary", "standby"]
        assert answer["msg"].count("CKR_GENERAL_ERROR") == 2
        assert "instance 'primary'" in answer["msg"] and "instance 'standby'" in answer["msg"]
    assert pair.records() == {} and pair.rows("SELECT count(*) FROM event") == before


def test_a_token_that_is_gone_is_passed_over_too(pair: Pair) -> None:
    """The library works and has no such token: nothing is known of its keys."""
    for folder in (pair.hsm.scratch / "tokens").iterdir():
        folder.rename(pair.hsm.scratch / folder.name)
    assert ok(pair.keys(AES, on_unreachable="generate"))["served_by"]["priority"] == 2


@pytest.mark.parametrize("fault", ["pin", "exchanged"])
def test_a_fault_that_somebody_has_to_look_at_is_not_passed_over(pair: Pair, fault: str) -> None:
    if fault == "pin":
        (pair.hsm.scratch / "pins" / "payments").write_text("000000\n")
    else:
        for folder in (pair.hsm.scratch / "tokens").iterdir():
            folder.rename(pair.hsm.scratch / folder.name)
        pair.hsm.softhsm_util("--init-token", "--free", "--label", "payments", "--so-pin", "12345678", "--pin", "pin-7391")
    answer = pair.keys(AES)
    assert answer["failure"]["code"] == {"pin": "pin_incorrect", "exchanged": "token_changed"}[fault]
    assert "group 'payments', connection 1" in answer["msg"]
    assert usage(pair.tool_b, "dek-1") == set() and pair.records() == {}


def test_one_pin_is_not_tried_on_several_tokens(pair: Pair) -> None:
    for more in ({"pin": "pin-7391"}, {"pin_file": str(pair.hsm.scratch / "pins" / "payments")}):
        for answer in (pair.keys(AES, **more), pair.sync(**more)):
            assert answer["failure"]["code"] == "invalid_input" and "one PIN is not tried on all" in answer["msg"]
    ok(pair.group("alone", connections=[{"instance": "standby"}]))
    assert ok(pair.keys(AES, group="alone", pin="pin-7391"))["changed"]


def test_what_contradicts_a_group(pair: Pair) -> None:
    for more in ({"instance": "primary"}, {"token_label": "payments"}, {"library": "/usr/lib/softhsm/libsofthsm2.so"}):
        assert pair.keys(AES, **more)["failure"]["code"] == "invalid_input"
    unknown = pair.keys(AES, group="typo")
    assert unknown["failure"]["code"] == "no_group" and "'payments'" in unknown["msg"]
    assert ok(pair.keys(AES, group="typo", check=True))["changed"]


# Updates


def test_narrowed_operations_stay_on_the_virtual_key(pair: Pair) -> None:
    ok(pair.keys(AES))
    done = four_steps(lambda check: pair.keys(NARROW, check=check))
    assert done["keys"][0]["operations"] == ["decrypt"]
    assert usage(pair.tool, "dek-1") == {"encrypt", "decrypt"}
    assert pair.records()["dek-1"] == ("active", ["decrypt"])
    synced = ok(pair.sync(refresh=["id", "label"]))
    assert [(entry["field"], entry["virtual"], entry["hsm"]) for entry in synced["drift"]] == [
        ("operations", ["decrypt"], ["encrypt", "decrypt"])
    ]
    assert pair.records()["dek-1"] == ("active", ["decrypt"])
    # Not asked about, it stays; the entry shows what the virtual key may do.
    plain = ok(pair.keys(AES))
    assert plain["changed"] is False and plain["keys"][0]["operations"] == ["decrypt"]


def test_with_the_policy_they_reach_the_hsm(pair: Pair) -> None:
    ok(pair.keys(AES))
    ok(pair.keys(NARROW))
    ok(pair.group(apply_changes=True))
    assert ok(pair.sync())["changed"] is False
    assert usage(pair.tool, "dek-1") == {"encrypt", "decrypt"}  # a sync reads only
    four_steps(lambda check: pair.keys(NARROW, check=check))
    assert usage(pair.tool, "dek-1") == {"decrypt"}
    assert ok(pair.sync())["drift"] == []


# Deletion, deactivation, the private half


def test_absent_without_the_policy_forgets_the_virtual_key_only(pair: Pair) -> None:
    ok(pair.keys(AES, EC))
    done = four_steps(lambda check: pair.keys({"label": "dek-1", "state": "absent"}, {"label": "web", "state": "absent"}, check=check))
    assert [entry["action"] for entry in done["applied"]] == ["forget", "forget"]
    assert usage(pair.tool, "dek-1") and usage(pair.tool, "web", "privkey")
    assert pair.records() == {}
    assert ok(pair.sync())["summary"]["added"] == 2


def test_absent_with_the_policy_destroys_the_key(pair: Pair) -> None:
    ok(pair.group(apply_changes=True))
    ok(pair.keys(AES))
    done = four_steps(lambda check: pair.keys({"label": "dek-1", "state": "absent"}, check=check))
    assert usage(pair.tool, "dek-1") == set() and pair.records() == {}
    assert "The other members are not touched" in texts(done) and "also recorded" not in texts(done)


@pytest.mark.parametrize("apply_changes", [False, True])
def test_public_only_reaches_the_hsm_with_the_policy(pair: Pair, apply_changes: bool) -> None:
    ok(pair.group(apply_changes=apply_changes))
    ok(pair.keys(EC))
    done = four_steps(lambda check: pair.keys({"label": "web", "state": "public_only"}, check=check))
    assert done["keys"][0]["state"] == "public_only"
    assert bool(usage(pair.tool, "web", "privkey")) is not apply_changes
    assert pair.rows("SELECT kind, operations FROM virtual_key") == [("public", '["verify"]')]
    synced = ok(pair.sync())
    assert (synced["added"], synced["missing"], synced["summary"]["known"]) == ([], [], 1)
    assert {entry["field"] for entry in synced["drift"]} == (set() if apply_changes else {"kind", "operations"})


# Several groups, and none


def test_own_scan_leaves_other_keys_alone(pair: Pair) -> None:
    pair.tool("--keygen", "--key-type", "AES:32", "--label", "stranger", "--id", "01")
    ok(pair.group("mine", key_scan="own", apply_changes=True))
    ok(pair.keys(AES, group="mine"))
    kept = ok(pair.keys({"label": "stranger", "state": "absent"}, group="mine"))
    assert kept["changed"] is False and "does not belong to group 'mine'" in texts(kept)
    assert "there is no key" in pair.keys({"label": "stranger", "state": "destroyed"}, group="mine")["msg"]
    assert usage(pair.tool, "stranger")
    # Named, it becomes the group's.
    assert ok(pair.keys({"label": "stranger", "type": "AES"}, group="mine"))["applied"][0]["action"] == "record"
    ok(pair.keys({"label": "stranger", "state": "absent"}, group="mine"))
    assert usage(pair.tool, "stranger") == set()


def test_who_names_the_instance_cannot_end_a_groups_key(pair: Pair) -> None:
    ok(pair.keys(AES))
    answer = pair.hsm.keys({**AES, "size": 128, "on_mismatch": "replace"})
    assert answer["failure"]["code"] == "cannot_plan" and "belongs to group 'payments'" in answer["msg"]
    assert usage(pair.tool, "dek-1") and pair.records()["dek-1"][0] == "active"
    assert ok(pair.hsm.keys(AES))["changed"] is False  # nor is it recorded twice
    assert pair.records(None) == {}


def test_the_instance_changes_operations_and_the_group_reports_it(pair: Pair) -> None:
    ok(pair.keys(AES))
    ok(pair.hsm.keys(NARROW))
    assert usage(pair.tool, "dek-1") == {"decrypt"}
    assert [entry["field"] for entry in ok(pair.sync())["drift"]] == ["operations"]
    assert pair.records()["dek-1"] == ("active", ["encrypt", "decrypt"])
    assert pair.rows("SELECT count(*) FROM event WHERE action = 'change_key'") == [(1,)]


# What was lost or exchanged behind our back


def test_a_vanished_key_is_made_again_when_no_member_has_it_and_that_was_said(pair: Pair) -> None:
    ok(pair.keys(AES))
    pair.tool("--delete-object", "--type", "secrkey", "--label", "dek-1")
    again = {**AES, "on_vanished": "recreate"}
    pair.away(pair.standby)
    refused = pair.keys(again)
    assert "connection 2 (instance 'standby', token 'payments-b') cannot be reached" in refused["msg"], refused["msg"]
    pair.back(pair.standby)
    assert four_steps(lambda check: pair.keys(again, check=check))["applied"][0]["action"] == "create"
    assert len(pair.rows("SELECT label FROM virtual_key")) == 1


def test_another_key_under_a_recorded_name_is_noticed(pair: Pair) -> None:
    ok(pair.keys(AES))
    pair.tool("--delete-object", "--type", "secrkey", "--label", "dek-1")
    pair.tool("--keygen", "--key-type", "AES:32", "--label", "dek-1", "--id", AES["label"].encode().hex())
    refused = pair.keys(AES)
    assert refused["failure"]["code"] == "cannot_plan" and "another key than the one that was recorded" in refused["msg"]
    assert "fingerprint" in {entry["field"] for entry in ok(pair.sync())["drift"]}


def test_rotation_in_a_group(pair: Pair) -> None:
    ok(pair.keys(AES))
    done = four_steps(lambda check: pair.keys({**AES, "generation": 2, "previous": "deactivate"}, check=check))
    assert done["keys"][0]["other_generations"][0]["state"] == "deactivated"
    assert {label: state for label, (state, _operations) in pair.records().items()} == {"dek-1": "deactivated", "dek-1@2": "active"}
    four_steps(lambda check: pair.keys({**AES, "generation": 2, "previous": "destroy"}, check=check))
    assert set(pair.records()) == {"dek-1@2"}
    assert usage(pair.tool, "dek-1")  # the policy holds it back from the HSM


def test_what_an_instance_recorded_goes_with_the_key_into_the_group(pair: Pair) -> None:
    ok(pair.hsm.keys({**AES, "generation": 2}))
    made = pair.rows("SELECT made_at, generation FROM virtual_key")
    done = ok(pair.keys({**AES, "generation": 2}))
    assert [entry["action"] for entry in done["applied"]] == ["record"]
    assert pair.records(None) == {} and set(pair.records()) == {"dek-1@2"}
    assert pair.rows("SELECT made_at, generation FROM virtual_key") == made


def test_a_generation_that_another_program_made_goes_into_the_group_as_such(pair: Pair) -> None:
    for label in ("dek-1", "dek-1@2"):
        pair.tool("--keygen", "--key-type", "AES:32", "--label", label, "--id", label.encode().hex())
    ok(pair.hsm.run("hsm_sync", instance="primary"))
    ok(pair.group(apply_changes=True))
    done = four_steps(lambda check: pair.keys({"label": "dek-1", "type": "AES", "generation": 2}, check=check))
    assert [entry["action"] for entry in done["applied"]] == ["record"]
    assert pair.rows("SELECT label, generation FROM virtual_key WHERE group_id IS NOT NULL") == [("dek-1@2", 2)]
    four_steps(lambda check: pair.keys({"label": "dek-1", "generation": 1, "state": "destroyed"}, check=check))
    assert ok(pair.keys({"label": "dek-1", "type": "AES"}))["keys"][0]["generation"] == 2


def test_a_change_records_the_generation_that_was_declared(pair: Pair) -> None:
    for label in ("dek-1", "dek-1@2"):
        pair.tool("--keygen", "--key-type", "AES:32", "--label", label, "--id", label.encode().hex())
    ok(pair.sync())
    ok(pair.group(apply_changes=True))
    four_steps(lambda check: pair.keys({"label": "dek-1", "generation": 2, "state": "suspended"}, check=check))
    assert pair.rows("SELECT generation FROM virtual_key WHERE label = 'dek-1@2'") == [(2,)]


@pytest.mark.parametrize(
    ("fault", "served"),
    [("missing", 2), ("invalid", 2), ("C_OpenSession:1:before=0x30", 2), ("C_OpenSession:1:before=0x7", None)],
)
def test_what_is_out_of_reach_and_what_is_a_mistake(pair: Pair, library: str, fault: str, served: int | None) -> None:
    nothing = pair.hsm.scratch / "nothing.so"
    if fault == "invalid":
        nothing.write_text("no library\n")
    environment = {**pair.hsm.environment, "FAULT_REAL": pair.hsm.library, "FAULT_PLAN": fault}
    behind = {"library": library, "environment": environment} if ":" in fault else {"library": str(nothing)}
    ok(pair.hsm.run("hsm_instance", **{**pair.hsm.instance(), **behind, "validate": False}))
    answer = pair.keys(AES, on_unreachable="generate")
    assert answer.get("served_by", {}).get("priority") == served, answer
    assert bool(usage(pair.tool_b, "dek-1")) is (served == 2)


def test_a_fault_of_the_second_names_that_of_the_first_too(pair: Pair) -> None:
    pair.away(pair.hsm)
    (pair.hsm.scratch / "pins" / "payments-b").write_text("000000\n")
    answer = pair.keys(AES)
    assert answer["failure"]["code"] == "pin_incorrect" and "group 'payments', connection 2" in answer["msg"]
    assert "Before that, connection 1 (instance 'primary', token 'payments') could not be reached" in answer["msg"]


def test_the_record_of_a_member_that_left_goes_to_the_one_that_serves(pair: Pair) -> None:
    """What the copy's token does not say of it stays as it was recorded."""
    ok(pair.keys({**AES, "extractable": True}))
    ok(pair.sync(repair="wrap"))
    known = pair.rows("SELECT size, fingerprint, made_at, state FROM virtual_key")
    ok(pair.group(connections=[{"instance": "standby"}]))
    four_steps(lambda check: pair.keys(AES, check=check))
    assert pair.rows("SELECT size, fingerprint, made_at, state FROM virtual_key") == known
    standby = pair.rows("SELECT token.id FROM token JOIN instance ON instance.id = token.instance_id WHERE instance.name = 'standby'")
    assert pair.rows("SELECT token_id FROM virtual_key") == standby


def test_a_private_half_that_was_given_up_does_not_come_back_by_itself(pair: Pair) -> None:
    ok(pair.keys(EC))
    ok(pair.keys({"label": "web", "state": "public_only"}))
    assert "was left with its public half" in pair.keys(EC)["msg"]
    ok(pair.keys({"label": "web", "state": "suspended"}))
    assert pair.rows("SELECT kind, operations FROM virtual_key") == [("public", '["verify"]')]
    ok(pair.keys({"label": "web", "state": "absent"}))
    four_steps(lambda check: pair.keys(EC, check=check))
    assert pair.rows("SELECT kind, operations FROM virtual_key") == [("private", '["sign", "verify"]')]


def test_absent_forgets_what_is_the_groups_and_what_was_named(pair: Pair) -> None:
    ok(pair.hsm.keys(AES))
    assert ok(pair.keys({"label": "dek-1", "state": "absent"}))["changed"] is False
    assert set(pair.records(None)) == {"dek-1"}
    for number in ("01", "02"):
        pair.tool("--keygen", "--key-type", "AES:32", "--label", "twin", "--id", number)
    ok(pair.sync())
    ok(pair.keys({"label": "twin", "id": "01", "state": "absent"}))
    assert pair.rows("SELECT hex(key_id) FROM virtual_key WHERE label = 'twin'") == [("02",)]


def test_a_key_of_two_groups_is_ended_by_either_and_the_other_is_named(pair: Pair) -> None:
    for name, scan in (("a", "all"), ("b", "all"), ("c", "own")):
        ok(pair.group(name, key_scan=scan, apply_changes=True))
    ok(pair.keys(AES, group="a"))
    gone = {"label": "dek-1", "state": "absent"}
    assert "belongs to group 'a' and not to 'b'" in pair.keys(gone, group="b")["msg"]
    ok(pair.sync(group="b"))
    done = ok(pair.keys(gone, group="b"))
    assert "was also recorded by group 'a'," in texts(done) and usage(pair.tool, "dek-1") == set()
    assert len(ok(pair.sync(group="a"))["missing"]) == 1
    assert "belongs to group 'a'" in pair.keys(AES, group="c")["msg"]  # its label is taken, though the key is lost


def test_the_groups_own_record_counts_before_one_that_is_in_no_group(pair: Pair) -> None:
    value = {"label": "dek-1", "type": "AES", "source": {"content": "00112233445566778899aabbccddeeff", "format": "hex"}}
    ok(pair.hsm.run("hsm_key", instance="standby", keys=[value]))
    ok(pair.keys(value))
    ok(pair.keys({**value, "operations": ["decrypt"]}))
    pair.away(pair.hsm)
    served = ok(pair.keys(value))
    assert served["served_by"]["instance"] == "standby"
    assert served["changed"] is False and served["keys"][0]["operations"] == ["decrypt"]


def test_a_member_with_another_key_of_that_name_does_not_serve_it(pair: Pair) -> None:
    """A copy by wrapping has no check value in SoftHSM: it is computed."""
    ok(pair.hsm.run("hsm_key", instance="standby", keys=[{**AES, "extractable": True}]))
    ok(pair.group("back", connections=[{"instance": "standby"}, {"instance": "primary"}]))
    ok(pair.sync(group="back", repair="wrap"))
    ok(pair.group("back", state="absent", force=True))
    ok(pair.hsm.run("hsm_key", instance="standby", keys=[{"label": "dek-1", "state": "absent"}]))
    ok(pair.hsm.run("hsm_key", instance="standby", keys=[AES]))
    ok(pair.group("other", connections=[{"instance": "standby"}, {"instance": "primary"}]))
    ok(pair.keys(AES, group="other"))
    pair.away(pair.standby)
    assert "another key than the one that was recorded" in pair.keys(AES, group="other")["msg"]


def test_what_was_narrowed_or_suspended_stays_so_when_something_else_changes(pair: Pair) -> None:
    ok(pair.keys(AES, {**AES, "label": "dek-2"}))
    ok(pair.keys(NARROW, {"label": "dek-2", "state": "suspended"}))
    ok(pair.keys({"label": "dek-1", "state": "suspended"}, {**NARROW, "label": "dek-2"}))
    assert pair.records() == {"dek-1": ("suspended", ["decrypt"]), "dek-2": ("suspended", ["decrypt"])}
    ok(pair.group(apply_changes=True))
    ok(pair.keys({"label": "dek-1", "state": "destroyed"}))
    assert pair.records()["dek-1"] == ("destroyed", ["decrypt"])


def test_only_the_groups_own_record_narrows_its_key(pair: Pair) -> None:
    """The HSM was changed since the instance recorded the key."""
    ok(pair.hsm.keys(NARROW))
    direct = {"library": pair.hsm.library, "environment": pair.hsm.environment, "token_label": "payments", "pin": "pin-7391"}
    ok(pair.hsm.run("hsm_key", keys=[{**AES, "operations": ["encrypt", "decrypt"]}], **direct))
    done = four_steps(lambda check: pair.keys(AES, check=check))
    assert done["keys"][0]["operations"] == ["encrypt", "decrypt"] == pair.records()["dek-1"][1]


def test_a_later_generation_keeps_its_number_without_its_private_half(pair: Pair) -> None:
    ok(pair.group(apply_changes=True))
    ok(pair.keys({**EC, "generation": 2}))
    done = ok(pair.keys({"label": "web", "generation": 2, "state": "public_only"}))
    assert "went from connection 1 (instance 'primary', token 'payments') only" in texts(done)
    assert pair.rows("SELECT kind, generation FROM virtual_key") == [("public", 2)]
    assert pair.rows("SELECT count(*) FROM event WHERE action = 'remove_private'") == [(1,)]


def test_no_registry_yet(hsm: Hsm) -> None:
    planned = ok(hsm.run("hsm_key", check=True, group="payments", keys=[AES]))
    assert planned["changed"] and "+ key dek-1: type AES, size 256, " in planned["diff"]["prepared"]
    assert hsm.run("hsm_key", group="payments", keys=[AES])["failure"]["code"] == "registry_missing"
