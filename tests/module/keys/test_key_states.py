# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The states of a virtual key: the legal moves, what an illegal one is told, and the events."""

from __future__ import annotations

import pytest
from hsm_fixture import Hsm, Pair, four_steps, ok, usage

AES = {"label": "dek-1", "type": "AES", "size": 256}


def bring(pair: Pair, state: str) -> None:
    """A key in this state."""
    if state in ("pre-active", "active"):
        ok(pair.keys({**AES, "state": state}))
    else:
        ok(pair.keys(AES))
        ok(pair.keys({"label": "dek-1", "state": state}))


@pytest.mark.parametrize("after", ["suspended", "deactivated", "compromised", "destroyed"])
def test_a_move_is_done_once_and_told(pair: Pair, after: str) -> None:
    ok(pair.group(apply_changes=True))
    ok(pair.keys(AES))
    done = four_steps(lambda check: pair.keys({"label": "dek-1", "state": after}, check=check))
    assert done["keys"][0]["state"] == after and pair.records()["dek-1"][0] == after
    assert bool(usage(pair.tool, "dek-1")) is (after != "destroyed")
    events = pair.rows("SELECT action, details FROM event WHERE subject LIKE '%dek-1' ORDER BY id")
    assert len(events) >= 2 and any(f'"{after}"' in details for _action, details in events)
    assert ("destroy_key" if after == "destroyed" else "change_key") in {action for action, _details in events}
    synced = ok(pair.sync())
    assert (synced["added"], synced["missing"], synced["drift"]) == ([], [], [])


def test_suspended_and_back(pair: Pair) -> None:
    ok(pair.keys(AES))
    ok(pair.keys({"label": "dek-1", "state": "suspended"}))
    plain = ok(pair.keys(AES))  # that it is there is all that is asked
    assert plain["changed"] is False and plain["keys"][0]["state"] == "suspended"
    four_steps(lambda check: pair.keys({**AES, "state": "active"}, check=check))
    assert pair.records()["dek-1"][0] == "active"


def test_a_key_is_made_before_it_is_used(pair: Pair) -> None:
    done = four_steps(lambda check: pair.keys({**AES, "state": "pre-active"}, check=check))
    assert done["applied"][0]["action"] == "create" and done["keys"][0]["state"] == "pre-active"
    assert usage(pair.tool, "dek-1") == {"encrypt", "decrypt"}
    done = four_steps(lambda check: pair.keys({**AES, "state": "active", "operations": ["decrypt"]}, check=check))
    assert done["applied"][0]["action"] == "set_state" and pair.records()["dek-1"] == ("active", ["decrypt"])


@pytest.mark.parametrize("state", ["deactivated", "destroyed"])
def test_what_is_out_of_use_does_not_come_back(pair: Pair, state: str) -> None:
    ok(pair.group(apply_changes=True))
    bring(pair, state)
    refused = pair.keys(AES)
    assert f"is {state}" in refused["msg"] and "generation: 2" in refused["msg"]
    ok(pair.keys({**AES, "generation": 2}))
    assert {label: found for label, (found, _operations) in pair.records().items()} == {"dek-1": state, "dek-1@2": "active"}
    assert ok(pair.keys({**AES, "generation": 2, "previous": "deactivate"}))["changed"] is False
    if state == "destroyed":  # what is told of it is not taken back by another entry
        assert ok(pair.keys({**AES, "generation": 2, "previous": "destroy"}))["changed"] is False


def test_a_destroyed_key_is_remembered_until_it_is_absent(pair: Pair) -> None:
    ok(pair.group(apply_changes=True))
    bring(pair, "destroyed")
    assert ok(pair.sync(prune=True))["pruned"] == []
    pair.tool("--keygen", "--key-type", "AES:32", "--label", "dek-1", "--id", b"dek-1".hex())
    assert {found["field"] for found in ok(pair.sync())["drift"]} >= {"state"}
    pair.tool("--delete-object", "--type", "secrkey", "--label", "dek-1")
    four_steps(lambda check: pair.keys({"label": "dek-1", "state": "absent"}, check=check))
    assert pair.records() == {}


def test_a_lost_keys_record_still_moves(pair: Pair) -> None:
    """What is known to be compromised can be said when its HSM is gone, too."""
    ok(pair.keys(AES))
    pair.away(pair.hsm)
    done = ok(pair.keys({"label": "dek-1", "state": "compromised"}))
    assert done["served_by"]["priority"] == 2 and pair.records()["dek-1"][0] == "compromised"


def test_a_key_that_nobody_recorded_moves(pair: Pair) -> None:
    for label in ("dek-1", "dek-2"):
        pair.tool("--keygen", "--key-type", "AES:32", "--label", label, "--id", label.encode().hex())
    four_steps(lambda check: pair.keys({"label": "dek-1", "state": "suspended"}, check=check))
    done = four_steps(lambda check: pair.keys({**AES, "label": "dek-2", "state": "active"}, check=check))
    assert done["applied"][0]["action"] == "record"
    assert {label: state for label, (state, _operations) in pair.records().items()} == {"dek-1": "suspended", "dek-2": "active"}


def test_a_move_takes_the_key_into_the_group(pair: Pair) -> None:
    ok(pair.hsm.keys({**AES, "operations": ["decrypt"]}))
    four_steps(lambda check: pair.keys({"label": "dek-1", "state": "suspended"}, check=check))
    assert pair.records(None) == {} and pair.records() == {"dek-1": ("suspended", ["decrypt"])}
    assert pair.rows("SELECT count(*) FROM event WHERE action = 'adopt_key'") == [(1,)]


def test_what_a_key_out_of_use_may_still_do(pair: Pair) -> None:
    ok(pair.group(apply_changes=True))
    every = ["encrypt", "decrypt", "sign", "verify", "wrap", "unwrap", "derive"]
    ok(pair.keys({**AES, "operations": every, "allow_weak": True}, {**AES, "label": "fixed", "modifiable": False}))
    assert "the key is of type AES" in pair.keys({"label": "dek-1", "type": "RSA", "state": "suspended"})["msg"]
    assert "not modifiable" in pair.keys({"label": "fixed", "state": "deactivated", "enforce": True})["msg"]
    done = four_steps(lambda check: pair.keys({"label": "dek-1", "state": "deactivated", "enforce": True}, check=check))
    assert done["applied"][0]["action"] == "deactivate"
    assert usage(pair.tool, "dek-1") == {"decrypt", "verify", "unwrap"}
    assert pair.records()["dek-1"] == ("deactivated", ["decrypt", "verify", "unwrap"])


def test_states_outside_any_group(primary: Hsm) -> None:
    for state in ("pre-active", "active"):
        four_steps(lambda check, state=state: primary.keys({**AES, "state": state}, check=check))
    four_steps(lambda check: primary.keys({"label": "dek-1", "state": "suspended"}, check=check))
    four_steps(lambda check: primary.keys({"label": "dek-1", "state": "compromised", "enforce": True}, check=check))
    assert usage(primary.tool, "dek-1") == {"decrypt"}
    four_steps(lambda check: primary.keys({"label": "dek-1", "state": "destroyed"}, check=check))
    assert usage(primary.tool, "dek-1") == set()


def test_states_need_a_registry(primary: Hsm) -> None:
    answer = primary.run(
        "hsm_key",
        library=primary.library,
        environment=primary.environment,
        token_label="payments",
        pin="pin-7391",
        keys=[{**AES, "state": "pre-active"}, {"label": "b", "state": "destroyed"}],
    )
    assert len(answer["failure"]["details"]["problems"]) == 2


@pytest.mark.parametrize(("state", "request_works"), [("pre-active", True), ("suspended", False), ("compromised", False)])
def test_what_a_state_lets_a_key_sign(primary: Hsm, state: str, request_works: bool) -> None:
    web = {"label": "web", "type": "EC", "curve": "P-256", "operations": ["sign", "verify"]}
    ok(primary.keys({**web, "state": "pre-active" if state == "pre-active" else "active"}))
    if state != "pre-active":
        ok(primary.keys({"label": "web", "state": state}))
    asked = {"instance": "primary", "key_label": "web", "subject": {"CN": "web.example.com"}}
    answer = primary.run("hsm_certificate", csr_path=str(primary.scratch / "web.csr"), **asked)
    assert bool(answer.get("failed")) is not request_works
    own = primary.run("hsm_certificate", self_signed={"valid_days": 30}, **asked)
    assert own["failure"]["code"] == "cannot_sign" and state in own["msg"]
