# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""hsm_group: four steps, order, refusals, removal, and what it forbids hsm_instance."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.records import GroupRecord, VirtualKey
from ansible_collections.keyfleet.hsm.plugins.module_utils._registry import groups, virtual_keys
from ansible_collections.keyfleet.hsm.plugins.module_utils._registry.database import open_database
from hsm_fixture import PIN, SO_PIN, Hsm, calls, ok

PRIMARY = {"instance": "primary", "token_label": "payments"}
STANDBY = {"instance": "standby", "token_label": "payments-b"}
AUDIT = {"instance": "standby", "token_label": "audit"}
NO_DIFF: dict[str, Any] = {"before": {}, "after": {}}


@pytest.fixture
def pair(hsm: Hsm) -> Hsm:
    """Two instances, the second with two tokens."""
    hsm.register()
    hsm.register("standby", tokens=[hsm.token("payments-b"), hsm.token("audit")])
    return hsm


def run(hsm: Hsm, *connections: dict[str, Any], check: bool = False, **options: Any) -> dict[str, Any]:
    given = {"connections": list(connections)} if connections else {}
    return hsm.run("hsm_group", check=check, **{"name": "payments", **given, **options})


def labels(answer: dict[str, Any]) -> list[str]:
    """The tokens of the group that came back; their priorities are 1 to n."""
    connections = ok(answer)["group"]["connections"]
    assert [entry["priority"] for entry in connections] == list(range(1, len(connections) + 1))
    return [entry["token_label"] for entry in connections]


def warnings(answer: dict[str, Any]) -> list[str]:
    """Their texts, which Ansible wraps."""
    return [warning["event"]["msg"] if isinstance(warning, dict) else warning for warning in answer.get("warnings", [])]


def rows(hsm: Hsm, query: str, *values: Any) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(hsm.registry)) as registry:
        found = registry.execute(query, values).fetchall()
        registry.commit()
    return found


def members(hsm: Hsm) -> list[tuple[int, str]]:
    """The rows of the table, with the labels of their tokens."""
    query = "SELECT priority, label FROM group_member JOIN token ON token.id = token_id ORDER BY priority"
    return list(rows(hsm, query))


def events(hsm: Hsm) -> list[tuple[str, str]]:
    query = "SELECT action, subject FROM event WHERE action LIKE '%group' OR action = 'forget_key' ORDER BY id"
    return list(rows(hsm, query))


def record_key(hsm: Hsm, group: str, label: str, token: str = "payments") -> None:
    """A virtual key of a group, as a run that made it on this token would have left it."""
    (group_id,) = rows(hsm, "SELECT id FROM hsm_group WHERE name = ?", group)[0]
    (token_id,) = rows(hsm, "SELECT id FROM token WHERE label = ?", token)[0]
    key = VirtualKey(token_id, "secret", label.encode(), label, "AES", 256, None, ("encrypt",), "hsm_key", group_id=group_id)
    with open_database(hsm.registry, run="test") as database, database.transaction():
        virtual_keys.add(database, [(label, key)])


def test_four_steps(pair: Hsm) -> None:
    wanted: dict[str, Any] = {"description": "card keys", "apply_changes": True, "key_scan": "own"}
    planned = run(pair, PRIMARY, STANDBY, check=True, **wanted)
    assert planned["group"]["id"] is planned["group"]["created_at"] is None
    assert rows(pair, "SELECT * FROM hsm_group") == []
    done = run(pair, PRIMARY, STANDBY, **wanted)
    assert planned["changed"] is done["changed"] is True
    assert planned["diff"] == done["diff"]
    assert done["diff"]["before"] == {}
    assert done["diff"]["after"] == {
        "group payments": {
            "description": "card keys",
            "connections": [{"priority": 1, **PRIMARY}, {"priority": 2, **STANDBY}],
            "apply_changes": True,
            "key_scan": "own",
        }
    }
    slots = dict(rows(pair, "SELECT label, slot FROM token"))
    group = done["group"]
    assert group["connections"] == [
        {"priority": 1, **PRIMARY, "slot": int(slots["payments"])},
        {"priority": 2, **STANDBY, "slot": int(slots["payments-b"])},
    ]
    assert planned["group"] == {**group, "id": None, "created_at": None, "updated_at": None}
    assert {key: group[key] for key in ("name", *wanted)} == {"name": "payments", **wanted}
    for check in (True, False):
        again = run(pair, PRIMARY, STANDBY, check=check, **wanted)
        assert again["changed"] is False
        assert again["diff"] == NO_DIFF
        assert again["group"] == group
        assert again["forgotten"] == []
        assert warnings(again) == []
    assert events(pair) == [("create_group", "payments")]


def test_defaults(pair: Hsm) -> None:
    """A token need not be named where the instance has one."""
    first = run(pair, {"instance": "primary"})
    assert labels(first) == ["payments"]
    assert (first["group"]["description"], first["group"]["apply_changes"], first["group"]["key_scan"]) == ("", False, "all")
    run(pair, PRIMARY, description="card keys", apply_changes=True)
    back = run(pair, PRIMARY)
    assert back["changed"] is True
    assert back["group"] == {**first["group"], "updated_at": back["group"]["updated_at"]}


def test_the_list_is_edited(pair: Hsm) -> None:
    """To the top, added in the middle, to the bottom, deleted; each in check mode first."""
    first = run(pair, PRIMARY, STANDBY)["group"]
    for step in ([STANDBY, PRIMARY], [STANDBY, AUDIT, PRIMARY], [AUDIT, PRIMARY, STANDBY], [STANDBY]):
        before = members(pair)
        planned = run(pair, *step, check=True)
        assert members(pair) == before
        done = run(pair, *step)
        assert planned["changed"] is done["changed"] is True
        assert planned["diff"] == done["diff"]
        assert labels(planned) == labels(done) == [entry["token_label"] for entry in step]
        assert members(pair) == list(enumerate(labels(done), 1))
        assert done["diff"]["after"]["group payments"]["connections"] == [{"priority": n, **entry} for n, entry in enumerate(step, 1)]
        assert done["group"]["id"] == first["id"]
        assert run(pair, *step)["changed"] is False
    assert events(pair) == [("create_group", "payments"), *[("change_group", "payments")] * 4]


def test_numbers_are_normalised(pair: Hsm) -> None:
    given = [PRIMARY, {**STANDBY, "priority": 40}, {**AUDIT, "priority": 7}]
    assert labels(run(pair, *given)) == ["audit", "payments-b", "payments"]
    assert members(pair) == [(1, "audit"), (2, "payments-b"), (3, "payments")]
    assert run(pair, AUDIT, STANDBY, PRIMARY)["changed"] is False


def test_updated_moves_on_a_change_only(pair: Hsm) -> None:
    created = run(pair, PRIMARY)["group"]["created_at"]
    rows(pair, "UPDATE hsm_group SET updated_at = '2000-01-01T00:00:00Z'")
    assert run(pair, PRIMARY)["group"]["updated_at"] == "2000-01-01T00:00:00Z"
    assert run(pair, PRIMARY, STANDBY, check=True)["group"]["updated_at"] == "2000-01-01T00:00:00Z"
    changed = run(pair, PRIMARY, STANDBY)["group"]
    assert changed["updated_at"] >= created == changed["created_at"]


def test_a_token_by_serial_and_by_slot(pair: Hsm) -> None:
    found = {label: (serial, slot) for label, serial, slot in rows(pair, "SELECT label, serial, slot FROM token")}
    by_serial = {"instance": "standby", "token_serial": found["audit"][0]}
    by_slot = {"instance": "standby", "slot": hex(int(found["payments-b"][1]))}
    assert labels(run(pair, by_serial, by_slot)) == ["audit", "payments-b"]
    assert run(pair, AUDIT, STANDBY)["changed"] is False


def test_the_scan_mode_is_fixed(pair: Hsm) -> None:
    run(pair, PRIMARY, key_scan="own")
    for check in (True, False):
        refused = run(pair, STANDBY, key_scan="all", check=check)
        assert refused["failure"] == {"code": "key_scan_fixed", "details": {"key_scan": "own", "asked": "all"}}
        assert "It is 'own', and 'all' is asked for" in refused["msg"]
        assert "declare a new group" in refused["msg"]
    assert members(pair) == [(1, "payments")]
    kept = run(pair, STANDBY)
    assert kept["group"]["key_scan"] == "own"
    assert run(pair, STANDBY, key_scan="own")["changed"] is False


def test_all_problems_at_once(pair: Hsm) -> None:
    wrong = [
        {"instance": "nowhere"},
        {"instance": "standby"},
        {"instance": "primary", "token_label": "audit"},
        {"instance": "primary", "priority": 0},
        {"instance": "primary", "slot": "x"},
    ]
    answer = run(pair, *wrong, name="a b")
    assert answer["failure"]["code"] == "invalid_input"
    problems = answer["failure"]["details"]["problems"]
    assert [problem.partition(": ")[0] for problem in problems] == [
        "name",
        "connections[3].priority",
        "connections[4].slot",
        "connections[0].instance",
        "connections[1].token_label",
        "connections[2].token_label",
    ]
    assert f"there is no instance 'nowhere' in {pair.registry}; registered: 'primary', 'standby'" in problems[3]
    assert "has several tokens ('payments-b', 'audit')" in problems[4]
    assert "has no token with label 'audit'; it has 'payments'" in problems[5]
    assert rows(pair, "SELECT * FROM hsm_group") == []


def test_an_instance_without_tokens(pair: Hsm) -> None:
    pair.register("empty", tokens=[])
    answer = run(pair, PRIMARY, {"instance": "empty"})
    assert answer["failure"]["details"]["problems"] == ["connections[1]: instance 'empty' has no tokens: declare them with hsm_instance."]


def test_a_token_is_named_once(pair: Hsm) -> None:
    """Also by two selectors, and through two instances."""
    twice = run(pair, {**PRIMARY, "priority": 2}, STANDBY, {"instance": "primary", "priority": 1})
    assert twice["failure"]["details"]["problems"] == [
        "connections[2]: names the same token as connections[0]: token 'payments' of instance 'primary': name it once"
    ]
    pin_file = str(pair.scratch / "pins" / "payments")
    pair.register("mirror", tokens=[{"label": "payments", "pin_file": pin_file}])
    mirrored = run(pair, PRIMARY, {"instance": "mirror"})
    assert mirrored["failure"]["code"] == "invalid_input"
    assert "token 'payments' of instance 'mirror' and token 'payments' of instance 'primary' both have serial" in mirrored["msg"]
    spied, log = pair.spied()
    spied.register("watched", tokens=[{"label": "payments", "pin_file": pin_file}])
    assert calls(log)["C_Login"]
    assert "both have serial" in run(pair, PRIMARY, {"instance": "watched"})["msg"]
    # A serial number alone says nothing: it is unique among the tokens of one maker.
    rows(pair, "UPDATE instance SET model = 'other' WHERE name IN ('primary', 'watched')")
    assert len(labels(run(pair, PRIMARY, {"instance": "watched"}))) == 2


def test_the_security_officers_token_is_refused(pair: Hsm) -> None:
    officer = {"label": "payments", "user_type": "so", "pin": SO_PIN}
    pair.run("hsm_instance", **pair.instance(tokens=[officer], validate=False))
    answer = run(pair, STANDBY, PRIMARY)
    (problem,) = answer["failure"]["details"]["problems"]
    assert problem.startswith("connections[1]: token 'payments' of instance 'primary' is registered with user_type: so")


def test_check_mode_on_a_bare_host(hsm: Hsm) -> None:
    """As the first task of a play would leave it: nothing is there, and the diff is the one of the real run."""
    wanted = [{"instance": "primary"}, STANDBY]
    planned = run(hsm, *wanted, check=True)
    assert planned["changed"] is True
    assert [entry["slot"] for entry in planned["group"]["connections"]] == [None, None]
    assert labels(planned) == [None, "payments-b"]
    (warning,) = warnings(planned)
    assert warning.startswith("registry: there is none at")
    assert "taken for one that an earlier task of this play would register" in warning
    assert not Path(hsm.registry).exists()
    hsm.register()
    half = run(hsm, *wanted, check=True)
    assert labels(half) == ["payments", "payments-b"]
    (warning,) = warnings(half)
    assert warning.startswith("connections[1].instance: there is no instance 'standby'")
    hsm.register("standby", tokens=[hsm.token("audit")])
    without = run(hsm, *wanted, check=True)
    assert warnings(without)[0].startswith("connections[1].token_label: instance 'standby' has no token")
    hsm.register("standby", tokens=[hsm.token("payments-b")])
    done = run(hsm, *wanted)
    assert planned["diff"] == half["diff"] == without["diff"] == done["diff"]


def test_check_mode_of_a_group_that_gets_an_instance_to_come(pair: Hsm) -> None:
    run(pair, PRIMARY)
    planned = run(pair, PRIMARY, {"instance": "third"}, check=True)
    pair.register("third", tokens=[pair.token("third")])
    done = run(pair, PRIMARY, {"instance": "third"})
    assert planned["changed"] is done["changed"] is True
    assert planned["diff"] == done["diff"]


def test_without_a_registry(hsm: Hsm) -> None:
    assert run(hsm, PRIMARY)["failure"]["code"] == "registry_missing"
    for check in (True, False):
        assert run(hsm, {**PRIMARY, "priority": 0}, check=check)["failure"]["code"] == "invalid_input"
        gone = run(hsm, state="absent", check=check)
        assert (gone["changed"], gone["group"], gone["forgotten"]) == (False, None, [])
    assert not Path(hsm.registry).exists()


def test_removal_four_steps(pair: Hsm) -> None:
    made = run(pair, PRIMARY, STANDBY)["group"]
    run(pair, STANDBY, name="other")
    planned = run(pair, state="absent", check=True)
    done = run(pair, state="absent")
    for answer in (planned, done):
        assert answer["changed"] is True
        assert answer["group"] == made
        assert answer["forgotten"] == []
    assert planned["diff"] == done["diff"]
    assert done["diff"]["after"] == {}
    assert done["diff"]["before"]["group payments"]["connections"] == [{"priority": 1, **PRIMARY}, {"priority": 2, **STANDBY}]
    for check in (True, False):
        again = run(pair, state="absent", check=check)
        assert (again["changed"], again["group"]) == (False, None)
    assert members(pair) == [(1, "payments-b")]
    assert events(pair)[-1] == ("remove_group", "payments")


def test_a_group_with_keys_is_removed_by_force_only(pair: Hsm) -> None:
    run(pair, PRIMARY, STANDBY)
    run(pair, PRIMARY, name="other")
    pair.tool("--keygen", "--key-type", "AES:32", "--label", "dek-0")
    names = [f"dek-{number}" for number in range(12)]
    for name in names:
        record_key(pair, "payments", name)
    record_key(pair, "other", "theirs")
    for check in (True, False):
        refused = run(pair, state="absent", check=check)
        assert refused["failure"] == {"code": "in_use", "details": {"virtual_keys": names}}
        assert "12 virtual keys" in refused["msg"]
        assert "'dek-9' and 2 more" in refused["msg"]
        assert "'dek-10'" not in refused["msg"]
        assert "force: true, which removes the records and never the keys in the HSM" in refused["msg"]
    planned = run(pair, state="absent", force=True, check=True)
    assert len(rows(pair, "SELECT * FROM virtual_key")) == 13
    done = run(pair, state="absent", force=True)
    assert planned["forgotten"] == done["forgotten"] == names
    assert planned["group"] == done["group"]
    assert rows(pair, "SELECT label FROM virtual_key") == [("theirs",)]
    assert events(pair)[2:] == [*(("forget_key", name) for name in names), ("remove_group", "payments")]
    assert "dek-0" in pair.tool("--list-objects")


def test_keys_of_a_connection_that_leaves_stay(pair: Hsm) -> None:
    run(pair, PRIMARY, STANDBY, AUDIT)
    record_key(pair, "payments", "dek-1")
    record_key(pair, "payments", "dek-2")
    record_key(pair, "payments", "dek-3", token="audit")
    expected = [
        "group 'payments': 2 virtual keys were last found on token 'payments' of instance 'primary', which is no member any more: run "
        "hsm_sync.",
        "group 'payments': 1 virtual key was last found on token 'audit' of instance 'standby', which is no member any more: run hsm_sync.",
    ]
    assert warnings(run(pair, AUDIT, PRIMARY)) == []
    run(pair, PRIMARY, STANDBY, AUDIT)
    for check in (True, False):
        assert warnings(run(pair, STANDBY, check=check)) == expected
    assert len(rows(pair, "SELECT * FROM virtual_key")) == 3
    assert warnings(run(pair, STANDBY)) == []


def test_an_instance_in_a_group_is_not_removed(pair: Hsm) -> None:
    """Nor one of its tokens; not even by force. A change that keeps the token is none of a group's business."""
    run(pair, STANDBY)
    run(pair, STANDBY, AUDIT, name="other")
    for options in ({}, {"force": True}):
        for check in (True, False):
            refused = pair.run("hsm_instance", check=check, name="standby", state="absent", **options)
            details = refused["failure"]["details"]
            assert refused["failure"]["code"] == "in_use" and details["groups"] == ["other", "payments"]
            of_tokens = {token["label"]: token["groups"] for token in details["tokens"]}
            assert of_tokens == {"payments-b": ["other", "payments"], "audit": ["other"]}
            assert "'other', 'payments'. Take it out of those groups first with hsm_group" in refused["msg"]
        fewer = pair.run("hsm_instance", **pair.instance("standby", tokens=[pair.token("payments-b")], **options))
        assert fewer["failure"] == {"code": "in_use", "details": {"groups": ["other"]}}
    swapped = [pair.token("audit"), pair.token("payments-b")]
    changed = pair.run("hsm_instance", **pair.instance("standby", description="site B", tokens=swapped))
    assert ok(changed)["changed"] is True
    assert [label for _priority, label in members(pair) if label == "payments-b"] == ["payments-b"] * 2
    run(pair, STANDBY, name="other")
    assert ok(pair.run("hsm_instance", **pair.instance("standby", tokens=[pair.token("payments-b")])))["changed"] is True
    run(pair, state="absent")
    run(pair, PRIMARY, name="other")
    assert ok(pair.run("hsm_instance", name="standby", state="absent"))["changed"] is True


def test_no_hsm_and_no_pkcs11_is_needed(pair: Hsm) -> None:
    """Behind a library that would log each call, with an interpreter that lacks python-pkcs11."""
    spied, log = pair.spied()
    spied.register(tokens=[{"label": "payments", "pin_file": str(pair.scratch / "pins" / "payments")}])
    log.unlink()
    module = "ansible_collections.keyfleet.hsm.plugins.modules.hsm_group"
    program = f"import sys; sys.modules['pkcs11'] = None; from {module} import main; main()"
    args = {"registry": pair.registry, "name": "payments", "connections": [PRIMARY]}
    payload = json.dumps({"ANSIBLE_MODULE_ARGS": args})
    done = subprocess.run([sys.executable, "-c", program], input=payload, capture_output=True, text=True, check=False)
    assert ok(json.loads(done.stdout))["changed"] is True
    assert not log.exists()
    assert PIN not in done.stdout + done.stderr


def test_runs_at_the_same_time(pair: Hsm) -> None:
    """One makes the group, the others find it made."""
    args = {"registry": pair.registry, "name": "payments", "connections": [PRIMARY, STANDBY]}
    answers = [pair.finish(process) for process in [pair.fork("hsm_group", args) for _number in range(4)]]
    assert sorted(ok(answer)["changed"] for answer in answers) == [False, False, False, True]
    assert len({answer["group"]["id"] for answer in answers}) == 1
    assert events(pair) == [("create_group", "payments")]


def test_nothing_is_believed_from_before_the_write_lock(pair: Hsm) -> None:
    """A run that waits for another to finish looks at the registry afterwards: the group that it would have made is there."""
    (token_id,) = rows(pair, "SELECT id FROM token WHERE label = 'payments'")[0]
    args = {"registry": pair.registry, "name": "payments", "connections": [PRIMARY], "key_scan": "all"}
    with open_database(pair.registry, run="test") as database:
        with database.transaction():
            waiting = pair.fork("hsm_group", args)
            time.sleep(2)
            assert waiting.poll() is None
            groups.save(database, GroupRecord("payments", members=(token_id,)))
        answer = pair.finish(waiting)
    assert ok(answer)["changed"] is False
