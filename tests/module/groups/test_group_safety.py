# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Ways in which a group could lose a key, make it twice, or take one for another. Each was one once."""

from __future__ import annotations

import json
import sqlite3
import time
from contextlib import closing
from typing import Any

import pytest
from hsm_fixture import Hsm, Pair, four_steps, ok, usage

AES = {"label": "dek-1", "type": "AES", "size": 256}
EC = {"label": "web", "type": "EC", "curve": "P-256", "operations": ["sign", "verify"]}


def make(pair: Pair, label: str, key_id: str = "01") -> None:
    pair.tool("--keygen", "--key-type", "AES:32", "--label", label, "--id", key_id)


def note(pair: Pair, label: str, token: str = "payments") -> None:
    """What a run that died leaves in the registry."""
    with closing(sqlite3.connect(pair.hsm.registry)) as registry:
        (row,) = registry.execute("SELECT id FROM token WHERE label = ?", (token,)).fetchone()
        registry.execute("INSERT INTO pending_key VALUES (?, ?, ?, 0, 1, 0, 'dead', '2026-01-01T00:00:00Z')", (row, label, label.encode()))
        registry.commit()


def refused(answer: dict[str, Any], *words: str) -> None:
    assert answer.get("failed") and answer["changed"] is False, answer
    assert all(word in answer["msg"] for word in words), answer["msg"]


# Whose key it is


@pytest.mark.parametrize("edited", ["public only", "id"])
def test_a_groups_key_is_known_by_half_of_what_it_is_called(pair: Pair, edited: str) -> None:
    ok(pair.keys(EC))
    if edited == "id":
        for kind in ("privkey", "pubkey"):
            pair.tool("--set-id", "77", "--type", kind, "--id", b"web".hex())
    else:
        ok(pair.keys({"label": "web", "state": "public_only"}))
    ok(pair.group("other", apply_changes=True))
    gone = {"label": "web", "state": "absent"}
    refused(pair.hsm.keys(gone), "belongs to group 'payments'")
    refused(pair.keys(gone, group="other"), "belongs to group 'payments'")
    assert usage(pair.tool, "web", "privkey") and "web" in pair.records()


def test_the_same_token_through_another_instance(pair: Pair) -> None:
    ok(pair.keys(AES))
    pair.hsm.register("again")
    refused(pair.hsm.run("hsm_key", instance="again", keys=[{"label": "dek-1", "state": "absent"}]), "belongs to group 'payments'")
    assert usage(pair.tool, "dek-1")


def test_the_other_member_is_the_groups_too(pair: Pair) -> None:
    ok(pair.keys(AES))
    refused(pair.hsm.run("hsm_key", instance="standby", keys=[AES]), "belongs to group 'payments'")
    assert usage(pair.tool_b, "dek-1") == set()
    # A copy that is brought along is not another key under its name.
    source = {"content": "00112233445566778899aabbccddeeff", "format": "hex"}
    ok(pair.hsm.run("hsm_key", instance="standby", keys=[{"label": "dek-1", "type": "AES", "source": source}]))


@pytest.mark.parametrize("wish", [{"type": "EC", "curve": "P-384", "on_mismatch": "replace"}, {"state": "deactivated", "enforce": True}])
def test_own_scan_does_nothing_to_a_stranger(pair: Pair, wish: dict[str, object]) -> None:
    pair.tool("--keypairgen", "--key-type", "EC:prime256v1", "--label", "web", "--id", "01", "--usage-sign")
    ok(pair.group("mine", key_scan="own", apply_changes=True))
    refused(pair.keys({"label": "web", **wish}, group="mine"))
    assert "sign" in usage(pair.tool, "web", "privkey") and pair.records("mine") == {}


@pytest.mark.parametrize("wish", [{"type": "AES", "operations": ["decrypt"]}, {"state": "deactivated", "enforce": True}])
def test_a_group_does_not_change_what_only_another_has(pair: Pair, wish: dict[str, object]) -> None:
    ok(pair.keys(AES))
    ok(pair.group("other", apply_changes=True))
    refused(pair.keys({"label": "dek-1", **wish}, group="other"), "belongs to group 'payments'")
    ok(pair.keys(AES, group="other"))  # now it has it too, and the first group's policy still keeps it in the HSM
    refused(pair.keys({"label": "dek-1", "state": "absent"}, group="other"), "'payments' too", "apply_changes: false")
    assert usage(pair.tool, "dek-1") == {"encrypt", "decrypt"}


def test_what_is_ended_is_the_key_that_was_recorded(pair: Pair) -> None:
    ok(pair.group(apply_changes=True))
    ok(pair.keys(AES))
    pair.tool("--delete-object", "--type", "secrkey", "--label", "dek-1")
    make(pair, "dek-1", b"dek-1".hex())
    refused(pair.keys({"label": "dek-1", "state": "compromised", "enforce": True}), "another key than the one that was recorded")
    assert "encrypt" in usage(pair.tool, "dek-1")


def test_a_key_of_another_type_under_a_recorded_name(pair: Pair) -> None:
    ok(pair.keys(AES))
    pair.tool("--delete-object", "--type", "secrkey", "--label", "dek-1")
    ok(pair.hsm.run("hsm_group", name="payments", state="absent", force=True))
    ok(pair.hsm.keys({"label": "dek-1", "type": "DES3"}))
    with closing(sqlite3.connect(pair.hsm.registry)) as registry:
        registry.execute("UPDATE virtual_key SET type = 'AES', fingerprint = NULL")
        registry.commit()
    ok(pair.group())
    refused(pair.keys({"label": "dek-1", "type": "DES3"}), "type DES3, recorded AES")


def test_the_policy_counts_that_is_in_force_under_the_lock(pair: Pair) -> None:
    ok(pair.group(apply_changes=True))
    ok(pair.keys(AES))
    holder = pair.hsm.fork(
        "hsm_key",
        {
            "registry": pair.hsm.registry,
            "group": "payments",
            "keys": [{"label": f"rsa-{number}", "type": "RSA", "size": 4096} for number in range(3)],
        },
    )
    deadline = time.monotonic() + 60
    while not pair.rows("SELECT label FROM pending_key") and time.monotonic() < deadline:
        time.sleep(0.01)
    waiting = pair.hsm.fork(
        "hsm_key", {"registry": pair.hsm.registry, "group": "payments", "keys": [{"label": "dek-1", "state": "absent"}]}
    )
    ok(pair.group(apply_changes=False))
    ok(pair.hsm.finish(holder))
    ok(pair.hsm.finish(waiting))
    assert usage(pair.tool, "dek-1") and "dek-1" not in pair.records()


# Failover


def test_rotation_goes_on_from_the_record(pair: Pair) -> None:
    ok(pair.group(apply_changes=True))
    ok(pair.keys({"label": "kek", "type": "AES", "size": 128, "operations": ["wrap", "unwrap"]}))
    pair.away(pair.hsm)
    refused(pair.keys({"label": "kek", "type": "AES", "generation": 2, "previous": "destroy"}), "last found on another token")
    rotated = {"label": "kek", "type": "AES", "generation": 2, "previous": "deactivate"}
    refused(pair.keys(rotated), "nobody can tell whether 'kek@2' is there already")
    done = ok(pair.keys(rotated, on_unreachable="generate"))
    assert (done["keys"][0]["size"], done["keys"][0]["operations"]) == (128, ["wrap", "unwrap"])
    assert {label: state for label, (state, _operations) in pair.records().items()} == {"kek": "deactivated", "kek@2": "active"}


def test_rotation_keeps_narrowed_operations_narrow(pair: Pair) -> None:
    ok(pair.keys(AES))
    ok(pair.keys({**AES, "operations": ["decrypt"]}))
    ok(pair.keys({"label": "dek-1", "type": "AES", "generation": 2}))
    assert pair.records()["dek-1@2"] == ("active", ["decrypt"])


def test_a_key_that_a_dead_run_may_have_made_elsewhere_is_not_made(pair: Pair) -> None:
    note(pair, "dek-1")
    pair.away(pair.hsm)
    refused(pair.keys(AES), "may have made it", "instance 'primary'")


def test_an_id_is_given_once_in_a_group(pair: Pair) -> None:
    ok(pair.keys({**AES, "id": "01"}))
    pair.away(pair.hsm)
    refused(pair.keys({"label": "b", "type": "AES", "id": "01"}), "on another member")


# States and records


def test_an_ambiguous_label_is_not_guessed(pair: Pair) -> None:
    ok(pair.group(apply_changes=True))
    make(pair, "x", "01")
    make(pair, "x", "02")
    ok(pair.sync())
    ok(pair.keys({"label": "x", "id": "01", "state": "destroyed"}))
    pair.tool("--delete-object", "--type", "secrkey", "--id", "02")
    for state in ("present", "active"):
        refused(pair.keys({"label": "x", "type": "AES", "state": state}))
    refused(pair.keys({"label": "x", "state": "compromised"}), "several records")


def test_a_replace_that_was_cut_off_goes_on(pair: Pair) -> None:
    """The note says that a run of ours destroyed the key in order to make another."""
    ok(pair.group(apply_changes=True))
    ok(pair.keys(AES))
    pair.tool("--delete-object", "--type", "secrkey", "--label", "dek-1")
    note(pair, "dek-1")
    assert ok(pair.keys(AES))["applied"][0]["action"] == "create"


def test_the_instance_moves_no_state_along_with_operations(pair: Pair) -> None:
    ok(pair.keys({**AES, "state": "pre-active"}))
    refused(pair.hsm.keys({**AES, "state": "active", "operations": ["decrypt"]}), "belongs to group 'payments'")


def test_certificates_know_a_state_on_every_member(pair: Pair) -> None:
    ok(pair.keys({**EC, "extractable": True}))
    ok(pair.sync(repair="wrap"))
    ok(pair.keys({"label": "web", "state": "compromised"}))
    for instance in ("primary", "standby"):
        answer = pair.hsm.run("hsm_certificate", instance=instance, key_label="web", subject={"CN": "web"}, self_signed={"valid_days": 3})
        assert answer["failure"]["code"] == "cannot_sign"


def test_taking_a_key_over_does_not_make_it_younger(pair: Pair) -> None:
    make(pair, "old")
    ok(pair.hsm.run("hsm_sync", instance="primary"))
    with closing(sqlite3.connect(pair.hsm.registry)) as registry:
        registry.execute("UPDATE virtual_key SET created_at = '2020-01-01T00:00:00Z'")
        registry.commit()
    before = pair.rows("SELECT id, created_at, origin FROM virtual_key")
    ok(pair.keys({"label": "old", "type": "AES"}))
    assert pair.rows("SELECT id, created_at, origin FROM virtual_key") == before and set(pair.records()) == {"old"}
    rotated = {"label": "old", "type": "AES", "max_age": "30d", "operations": ["encrypt", "decrypt"]}
    assert ok(pair.keys(rotated))["keys"][0]["generation"] == 2


@pytest.mark.parametrize("check", [True, False])
def test_what_replaces_a_suspended_key_is_active(pair: Pair, check: bool) -> None:
    ok(pair.group(apply_changes=True))
    ok(pair.keys({**AES, "size": 128}))
    ok(pair.keys({"label": "dek-1", "state": "suspended"}))
    assert ok(pair.keys({**AES, "on_mismatch": "replace"}, check=check))["keys"][0]["state"] == "present"


@pytest.mark.parametrize("state", ["deactivated", "compromised"])
def test_check_mode_shows_what_enforce_leaves(pair: Pair, state: str) -> None:
    ok(pair.group(apply_changes=True))
    ok(pair.keys(EC))
    wish = {"label": "web", "state": state, "enforce": True}
    planned, done = ok(pair.keys(wish, check=True)), ok(pair.keys(wish))
    assert planned["keys"] == done["keys"] and done["keys"][0]["operations"] == ["verify"]


def test_a_neighbour_does_not_become_a_generation(primary: Hsm) -> None:
    ok(primary.keys({"label": "a@2", "type": "AES", "size": 128}))
    refused(primary.keys({"label": "a", "type": "AES", "size": 256}), "'a@2' would count as the second generation")
    both = primary.keys({"label": "b@2", "type": "AES", "size": 128}, {"label": "b", "type": "AES", "size": 256})
    refused(both, "'b@2' would count as the second generation")


def test_what_is_gone_is_shown_by_its_own_id(pair: Pair) -> None:
    ok(pair.group(apply_changes=True))
    ok(pair.keys({**AES, "id": "0a0b"}))
    done = four_steps(lambda check: pair.keys({"label": "dek-1", "state": "destroyed"}, check=check))
    assert done["keys"][0]["id"] == "0a0b" and done["keys"][0]["current"] is False
    assert pair.rows("SELECT kind, fingerprint IS NULL FROM virtual_key") == [("secret", 0)]


def test_the_first_check_of_a_play_that_makes_and_suspends(pair: Pair, hsm: Hsm) -> None:
    for state in ("suspended", "deactivated", "compromised", "destroyed"):
        planned = ok(pair.keys({"label": "new", "state": state}, check=True))
        assert planned["changed"] and planned["keys"][0]["state"] == state
        assert ok(hsm.run("hsm_key", check=True, group="typo", keys=[{"label": "new", "state": state}]))["changed"]
    refused(pair.keys({"label": "new", "state": "suspended"}), "there is no key")


def test_a_busy_token_is_not_passed_over(pair: Pair, library: str) -> None:
    """CKR_SESSION_COUNT: the HSM is there, and full. Another member would split the group."""
    environment = {**pair.hsm.environment, "FAULT_REAL": pair.hsm.library, "FAULT_PLAN": ""}
    ok(pair.hsm.run("hsm_instance", **{**pair.hsm.instance(), "library": library, "environment": environment}))
    faulty = {**environment, "FAULT_PLAN": "C_OpenSession:1:before=0xB1"}
    with closing(sqlite3.connect(pair.hsm.registry)) as registry:
        registry.execute("UPDATE instance SET environment = ? WHERE name = 'primary'", (json.dumps(faulty),))
        registry.commit()
    answer = pair.keys(AES)
    assert answer["failure"]["code"] == "CKR_SESSION_COUNT" and usage(pair.tool_b, "dek-1") == set()
