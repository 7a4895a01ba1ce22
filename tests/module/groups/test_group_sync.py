# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""hsm_sync with a group: what it records, what it restores and removes when told so, and the file for Git."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.plugins.filter.core import to_nice_yaml
from hsm_fixture import Hsm, Pair, calls, four_steps, ok

AES = {"label": "dek-1", "type": "AES", "size": 256}
EC = {"label": "web", "type": "EC", "curve": "P-256", "operations": ["sign", "verify"]}


def make(tool: Callable[..., str], *labels: str) -> None:
    """AES keys made by another program; CKA_ID is the label."""
    for label in labels:
        tool("--keygen", "--key-type", "AES:32", "--label", label, "--id", label.encode().hex())


def edit(pair: Pair, statement: str, *values: Any) -> None:
    """Somebody writes into the registry by mistake."""
    with closing(sqlite3.connect(pair.hsm.registry)) as registry:
        registry.execute(statement, values)
        registry.commit()


def serials(pair: Pair) -> list[tuple[Any, ...]]:
    return pair.rows("SELECT id, label, key_id, state, operations, created_at, updated_at FROM virtual_key ORDER BY label")


def test_four_steps(pair: Pair) -> None:
    make(pair.tool, "a", "b")
    pair.tool("--keypairgen", "--key-type", "EC:prime256v1", "--label", "pair", "--id", "70")
    done = four_steps(lambda check: pair.sync(check=check))
    slot = pair.hsm.register()["tokens"][0]["slot"]
    assert done["added"] == [f"hsm::softhsm2::{slot}::{name}" for name in ("a", "b", "p")]
    assert pair.rows("SELECT action, subject FROM event WHERE action = 'add_key' ORDER BY subject") == [
        ("add_key", address) for address in done["added"]
    ]
    before = serials(pair)
    make(pair.tool, "more")
    assert ok(pair.sync())["summary"] == {"added": 1, "known": 3, "missing": 0, "drifted": 0}
    assert [row for row in serials(pair) if row[1] != "more"] == before


def test_scan_modes_on_one_token(pair: Pair) -> None:
    ok(pair.group("mine", key_scan="own"))
    ok(pair.keys(AES, group="mine"))
    make(pair.tool, "stranger")
    assert ok(pair.sync(group="mine"))["summary"] == {"added": 0, "known": 1, "missing": 0, "drifted": 0}
    assert ok(pair.sync())["summary"] == {"added": 2, "known": 0, "missing": 0, "drifted": 0}
    assert (set(pair.records("mine")), set(pair.records())) == ({"dek-1"}, {"dek-1", "stranger"})
    # What is the group's stays managed: its loss is told, a stranger's is not.
    for label in ("dek-1", "stranger"):
        pair.tool("--delete-object", "--type", "secrkey", "--label", label)
    assert len(ok(pair.sync(group="mine"))["missing"]) == 1 and len(ok(pair.sync())["missing"]) == 2


def test_a_group_takes_over_what_was_in_none(pair: Pair) -> None:
    ok(pair.hsm.keys({**AES, "generation": 2}))
    was = pair.rows("SELECT made_at, generation, fingerprint FROM virtual_key")
    done = four_steps(lambda check: pair.sync(check=check))
    assert done["summary"]["added"] == 1 and pair.records(None) == {}
    assert pair.rows("SELECT made_at, generation, fingerprint FROM virtual_key") == was
    assert pair.rows("SELECT count(*) FROM event WHERE action = 'adopt_key'") == [(1,)]


@pytest.mark.parametrize("field", ["id", "label"])
def test_refresh_restores_what_was_edited_by_mistake(pair: Pair, field: str) -> None:
    make(pair.tool, "dek-1", "other")
    ok(pair.sync())
    right = serials(pair)
    edit(
        pair,
        {"id": "UPDATE virtual_key SET key_id = x'00' WHERE label = ?", "label": "UPDATE virtual_key SET label = 'x' WHERE label = ?"}[
            field
        ],
        "dek-1",
    )
    for plain in (pair.sync(), pair.sync(refresh=["label" if field == "id" else "id"])):
        assert [entry["field"] for entry in ok(plain)["drift"]] == [field]
        assert plain["changed"] is False and plain["refreshed"] == []
    done = ok(pair.sync(refresh=[field], check=True))
    four_steps(lambda check: pair.sync(check=check, refresh=[field]))
    assert [(entry["field"], entry["hsm"]) for entry in done["refreshed"]] == [(field, {"id": b"dek-1".hex(), "label": "dek-1"}[field])]
    assert [row[:5] for row in serials(pair)] == [row[:5] for row in right]
    assert pair.rows("SELECT count(*) FROM event WHERE action = 'refresh_key'") == [(1,)]


def test_vanished_keys_are_told_and_removed_only_on_request(pair: Pair) -> None:
    ok(pair.keys(AES, EC))
    pair.tool("--delete-object", "--type", "secrkey", "--label", "dek-1")
    for check in (True, False):
        told = ok(pair.sync(check=check))
        assert told["changed"] is False and len(told["missing"]) == 1 and told["pruned"] == []
    done = four_steps(lambda check: pair.sync(check=check, prune=True))
    assert done["pruned"] == done["missing"] and set(pair.records()) == {"web"}
    assert pair.rows("SELECT count(*) FROM event WHERE action = 'prune_key'") == [(1,)]


def test_what_another_member_has_or_may_have_is_not_pruned(pair: Pair) -> None:
    ok(pair.keys(AES, EC))
    make(pair.tool_b, "dek-1")
    pair.tool("--delete-object", "--type", "secrkey", "--label", "dek-1")
    pair.tool("--delete-object", "--type", "privkey", "--label", "web")
    pair.away(pair.standby)
    unsure = ok(pair.sync(prune=True))
    assert unsure["pruned"] == [] and [entry["instance"] for entry in unsure["unread"]] == ["standby"]
    assert "nothing was pruned" in str(unsure["warnings"])
    pair.back(pair.standby)
    done = ok(pair.sync(prune=True))
    assert [address.rsplit("::", 1)[1] for address in done["pruned"]] == ["web"]
    assert "another member has it" in str(done["warnings"])
    assert "dek-1" in pair.records()


def test_a_removed_members_records_move_to_one_that_serves(pair: Pair) -> None:
    make(pair.tool, "dek-1")
    ok(pair.sync())
    ok(pair.group(connections=[{"instance": "standby"}]))
    lost = ok(pair.sync())
    assert len(lost["missing"]) == 1 and lost["served_by"]["instance"] == "standby"
    ok(pair.group(connections=[{"instance": "standby"}, {"instance": "primary"}]))
    ok(pair.group("other", connections=[{"instance": "standby"}]))
    make(pair.tool_b, "dek-1")
    ok(pair.group(connections=[{"instance": "standby"}]))
    done = four_steps(lambda check: pair.sync(check=check))
    assert done["summary"]["known"] == 1
    standby = pair.rows("SELECT token.id FROM token JOIN instance ON instance.id = token.instance_id WHERE instance.name = 'standby'")
    assert pair.rows("SELECT token_id FROM virtual_key") == standby


def test_a_single_member_is_read_once(pair: Pair) -> None:
    spied, log = pair.hsm.spied()
    spied.register()
    ok(pair.group("alone", connections=[{"instance": "primary"}]))
    make(pair.tool, *(f"k{number}" for number in range(50)))
    log.unlink(missing_ok=True)
    ok(spied.run("hsm_sync", group="alone"))
    made = calls(log)
    assert (made["C_Login"], made["C_FindObjectsInit"]) == (1, 1)
    assert made["C_GetAttributeValue"] <= 4 * 50


def write(tool: Callable[..., str], folder: Path, label: str, *key_id: str) -> None:
    """An AES key with always the same value, so that only its names differ."""
    (folder / "value").write_bytes(bytes(range(16)))
    named = ["--label", label, *(["--id", *key_id] if key_id else [])]
    tool("--write-object", str(folder / "value"), "--type", "secrkey", "--key-type", "AES:16", *named)


def test_what_one_side_does_not_say_is_no_drift(pair: Pair) -> None:
    ok(pair.keys({**AES, "extractable": True}))
    ok(pair.sync(repair="wrap"))
    pair.away(pair.hsm)
    assert ok(pair.sync())["drift"] == []  # SoftHSM says neither size nor check value of a copy
    pair.back(pair.hsm)
    edit(pair, "UPDATE virtual_key SET size = NULL, fingerprint = NULL")
    assert ok(pair.sync())["drift"] == []
    assert ok(pair.keys(AES))["changed"] is False


def test_a_record_is_restored_and_moved_at_once(pair: Pair, tmp_path: Path) -> None:
    for tool in (pair.tool, pair.tool_b):
        write(tool, tmp_path, "dek-1", b"dek-1".hex())
    ok(pair.sync())
    ok(pair.group(connections=[{"instance": "standby"}]))
    edit(pair, "UPDATE virtual_key SET label = 'x'")
    four_steps(lambda check: pair.sync(check=check, refresh=["label"]))
    assert pair.rows("SELECT label FROM virtual_key") == [("dek-1",)]
    assert pair.rows("SELECT count(*) FROM event WHERE action = 'move_key'") == [(1,)]


def test_the_slot_is_the_one_of_this_moment(pair: Pair) -> None:
    slot = pair.hsm.register()["tokens"][0]["slot"]
    edit(pair, "UPDATE token SET slot = 1")
    make(pair.tool, "dek-1")
    done = ok(pair.sync())
    assert done["served_by"]["slot"] == slot and done["added"] == [f"hsm::softhsm2::{slot}::dek-1"]


def test_the_security_officers_token_does_not_serve(pair: Pair) -> None:
    edit(pair, "UPDATE token SET user_type = 'so'")
    assert pair.sync()["failure"]["code"] == "login_needed"


def test_a_private_half_given_up_becomes_the_groups(pair: Pair) -> None:
    ok(pair.keys(EC))
    ok(pair.keys({"label": "web", "state": "public_only"}))
    edit(pair, "UPDATE virtual_key SET group_id = NULL")
    four_steps(lambda check: pair.keys({"label": "web", "state": "public_only"}, check=check))
    assert set(pair.records()) == {"web"} and pair.records(None) == {}


def test_what_another_run_wrote_meanwhile_is_not_overwritten(pair: Pair) -> None:
    """A trigger stands for the other run: it writes after the records were read, and before any of them is changed."""
    ok(pair.group(connections=[{"instance": "primary"}]))
    ok(pair.keys(AES, EC, {**AES, "label": "moved"}))
    ok(pair.hsm.keys({**AES, "label": "loose"}))
    pair.tool("--delete-object", "--type", "secrkey", "--label", "dek-1")
    make(pair.tool, "new")
    edit(pair, "UPDATE virtual_key SET label = 'x' WHERE label = 'web'")
    edit(pair, "UPDATE virtual_key SET token_id = (SELECT max(id) FROM token) WHERE label = 'moved'")
    edit(pair, "CREATE TRIGGER meanwhile AFTER INSERT ON virtual_key BEGIN UPDATE virtual_key SET state = 'suspended'; END")
    done = ok(pair.sync(prune=True, refresh=["label"]))
    assert str(done["warnings"]).count("was changed by another run meanwhile") == 4
    assert set(pair.records()) == {"dek-1", "x", "moved", "new"} and set(pair.records(None)) == {"loose"}
    assert len(pair.rows("SELECT DISTINCT token_id FROM virtual_key")) == 2


# Members


def by_label(answer: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {row["label"]: row for row in answer["members"]}


def places(row: dict[str, Any]) -> dict[str, list[str]]:
    return {name: [entry["instance"] for entry in row[name]] for name in ("have", "lack", "twice", "different", "unknown") if row[name]}


def test_members_are_compared_by_key_and_not_by_label(pair: Pair) -> None:
    source = {"content": "00112233445566778899aabbccddeeff", "format": "hex"}
    shared = {"type": "AES", "source": source}
    ok(pair.hsm.keys({**shared, "label": "same"}, {**AES, "label": "only-here"}, {**AES, "label": "namesake"}))
    ok(
        pair.hsm.run(
            "hsm_key", instance="standby", keys=[{**shared, "label": "same"}, {**AES, "label": "namesake"}, {**AES, "label": "only-there"}]
        )
    )
    found = by_label(ok(pair.sync()))
    assert {label: places(row) for label, row in found.items()} == {
        "only-here": {"have": ["primary"], "lack": ["standby"]},
        "only-there": {"have": ["standby"], "lack": ["primary"]},
        "namesake": {"have": ["primary"], "different": ["standby"]},
    }
    judged = pair.sync(require="covered")
    assert judged["failure"]["code"] == "not_covered" and "has another key under the name 'namesake'." in judged["msg"]
    assert "under the name 'namesake'" in str(ok(pair.sync(require="reported"))["warnings"])
    other = found["namesake"]["different"][0]["fingerprint"]
    assert other and other != found["namesake"]["fingerprint"]


def test_own_scan_compares_own_keys_only(pair: Pair) -> None:
    ok(pair.group("mine", key_scan="own"))
    ok(pair.keys(AES, group="mine"))
    make(pair.tool, "stranger")
    make(pair.tool_b, "another")
    pair.tool_b("--keygen", "--key-type", "AES:32", "--label", "dek-1", "--id", "77")
    ok(pair.hsm.keys({**AES, "label": "stranger"}))  # recorded, but not by this group
    assert places(by_label(ok(pair.sync(group="mine")))["dek-1"]) == {"have": ["primary"], "different": ["standby"]}
    assert set(by_label(ok(pair.sync(group="mine")))) == {"dek-1"}
    assert set(by_label(ok(pair.sync()))) == {"dek-1", "stranger", "another"}


def test_repair_by_wrapping(pair: Pair) -> None:
    ok(pair.keys({**AES, "extractable": True}, {**AES, "label": "stays"}, {**EC, "extractable": True}))
    lacking = pair.sync(require="covered", option_names={"repair": "hsm_sync_repair"})
    assert lacking["failure"]["code"] == "not_covered" and len(lacking["members"]) == 3
    assert "connection 2 (instance 'standby', token 'payments-b') lacks 'dek-1', 'web'." in lacking["msg"]
    assert lacking["msg"].endswith("with hsm_sync_repair: wrap.")
    planned = ok(pair.sync(check=True, repair="wrap", require="covered"))
    assert planned["changed"] and len(planned["members"]) == 3
    done = ok(pair.sync(repair="wrap", require="covered"))
    # What nobody can copy is told, and is no failure.
    assert "2 (instance 'standby', token 'payments-b') lacks 'stays', which cannot be copied" in str(done["warnings"])
    assert planned["diff"] == done["diff"]
    assert [entry["label"] for entry in done["repaired"]] == ["dek-1", "web"]
    assert {entry["to"]["instance"] for entry in done["repaired"]} == {"standby"}
    assert [(entry["label"], "CKA_EXTRACTABLE" in entry["reason"]) for entry in done["not_repaired"]] == [("stays", True)]
    again = ok(pair.sync(repair="wrap"))
    assert again["changed"] is False and [row["label"] for row in again["members"]] == ["stays"]
    # The standby serves them now.
    pair.away(pair.hsm)
    served = ok(pair.keys({**AES, "extractable": True}, {**EC, "extractable": True}))
    assert served["changed"] is False and served["served_by"]["instance"] == "standby"


def test_who_was_passed_over_is_unread(pair: Pair) -> None:
    ok(pair.keys(AES))
    pair.away(pair.hsm)
    answer = ok(pair.sync(prune=True))
    assert [entry["instance"] for entry in answer["unread"]] == ["primary"]
    assert len(answer["missing"]) == 1 and answer["pruned"] == []
    assert "connection 1 (instance 'primary') could not be read" in pair.sync(require="covered")["msg"]


def test_repair_is_for_groups(pair: Pair) -> None:
    for option in ({"repair": "wrap"}, {"require": "covered"}):
        assert pair.hsm.run("hsm_sync", instance="primary", **option)["failure"]["code"] == "invalid_input"


# The file for Git


@pytest.mark.parametrize("ending", ["yml", "json"])
def test_sync_export_commit_converge(pair: Pair, tmp_path: Path, ending: str) -> None:
    make(pair.tool, "k2", "k1")
    pair.tool("--keypairgen", "--key-type", "rsa:2048", "--label", "signer", "--id", "0102")
    pair.tool("--keypairgen", "--key-type", "EC:secp521r1", "--label", "web", "--id", b"web".hex())
    ok(pair.keys({**AES, "generation": 2}, {**AES, "label": "old"}))
    ok(pair.keys({"label": "old", "state": "deactivated"}))
    path = tmp_path / f"payments.{ending}"
    planned = ok(pair.sync(check=True))["document"]
    done = four_steps(lambda check: pair.sync(check=check, export=str(path)))
    assert done["summary"]["added"] == 4 and done["document"] == planned
    text = path.read_text()
    document = done["document"]
    assert text == (f"{json.dumps(document, indent=2)}\n" if ending == "json" else to_nice_yaml(document))
    assert document == (json.loads(text) if ending == "json" else yaml.safe_load(text))
    assert document["group"]["connections"][0] == {"instance": "primary", "token_label": "payments"}
    assert document["others"] == [] and len(document["keys"]) == 6
    assert "pin-7391" not in text and str(pair.hsm.scratch / "pins") not in text
    again = ok(pair.keys(*document["keys"]))
    assert again["changed"] is False, again["diff"]
    # The same registry, written again: byte for byte the same.
    path.unlink()
    ok(pair.sync(export=str(path)))
    assert path.read_text() == text


def test_an_instances_token_is_exported_too(pair: Pair, tmp_path: Path) -> None:
    make(pair.tool, "k1")
    path = tmp_path / "primary.yml"
    document = ok(pair.hsm.run("hsm_sync", instance="primary", export=str(path)))["document"]
    assert document == yaml.safe_load(path.read_text())
    assert (document["instance"], document["token_label"]) == ("primary", "payments")
    assert ok(pair.hsm.keys(*document["keys"]))["changed"] is False


@pytest.mark.parametrize("content", ["somebody: else\n", "---\n- hosts: all\n"])
def test_a_file_of_somebody_else_is_refused_before_anything_is_recorded(pair: Pair, tmp_path: Path, content: str) -> None:
    make(pair.tool, "k1")
    path = tmp_path / "site.yml"
    path.write_text(content)
    for check in (True, False):
        answer = pair.sync(check=check, export=str(path))
        assert answer["failure"]["code"] == "export_unwritable"
    assert path.read_text() == content and pair.records() == {}


def test_where_an_export_cannot_go(pair: Pair, tmp_path: Path) -> None:
    make(pair.tool, "k1")
    for path in ("relative.yml", str(tmp_path / "payments.txt"), str(tmp_path / "missing" / "payments.yml")):
        answer = pair.sync(export=path)
        assert answer["failed"] and "export" in answer["msg"], answer
    assert pair.records() == {}


def test_check_mode_writes_neither_record_nor_file(pair: Pair, tmp_path: Path) -> None:
    make(pair.tool, "k1")
    path = tmp_path / "payments.yml"
    assert ok(pair.sync(check=True, export=str(path), prune=True, refresh=["id"]))["changed"]
    assert not path.exists() and pair.records() == {}


def test_no_group_yet(hsm: Hsm) -> None:
    assert ok(hsm.run("hsm_sync", check=True, group="payments"))["summary"]["added"] == 0
    assert hsm.run("hsm_sync", group="payments")["failure"]["code"] == "registry_missing"
    assert hsm.run("hsm_sync", group="payments", instance="primary")["failure"]["code"] == "invalid_input"
    assert hsm.run("hsm_sync")["failure"]["code"] == "invalid_input"
