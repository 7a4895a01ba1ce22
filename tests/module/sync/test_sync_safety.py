# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""hsm_sync where a mistake would cost a state or a key: which record is whose, what is not removed, what is not copied."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml
from hsm_fixture import PIN, SOFTHSM, Hsm, Pair, four_steps, ok, usage

AES = {"label": "dek", "type": "AES", "extractable": True}
EC = {"label": "sig", "type": "EC"}

_EDIT = """
import datetime, json, os, sys, pkcs11
from pkcs11 import Attribute as A
library, token, pin, edits = sys.argv[1:]
session = pkcs11.lib(library).get_token(token_label=token).open(rw=True, user_pin=pin)
for raw in list(session.get_objects({A.TOKEN: True})):
    change = json.loads(edits).get(raw[A.LABEL], {})
    for name, value in (change or {}).items():
        raw[A[name]] = bytes.fromhex(value) if name == "ID" else value
    if change is None:
        raw.destroy()
for made in json.loads(edits).get("", []):
    key_id = made.pop("ID").encode()
    may = {A.ENCRYPT: True, A.DECRYPT: True, A.EXTRACTABLE: True, A.SENSITIVE: True, **{A[name]: value for name, value in made.items()}}
    may |= {name: datetime.date(2027, 1, 1) for name in may if name == A.END_DATE}
    session.generate_key(pkcs11.KeyType.AES, 256, id=key_id, label=key_id.decode(), store=True, template=may)
sys.stdout.flush()
os._exit(0)
"""


def edit(hsm: Hsm, edits: dict[str, Any], token: str = "payments") -> None:
    """Another program changes attributes by label, destroys (None), or makes AES keys (under the empty label)."""
    environment = {**os.environ, **hsm.environment}
    subprocess.run([sys.executable, "-c", _EDIT, SOFTHSM, token, PIN, json.dumps(edits)], env=environment, check=True)


def make(tool: Any, label: str, key_id: str, *more: str) -> None:
    tool("--keygen", "--key-type", "AES:32", "--label", label, "--id", key_id, "--extractable", *more)


def instance(hsm: Hsm, **args: Any) -> dict[str, Any]:
    return ok(hsm.run("hsm_sync", instance="primary", **args))


def note(pair: Pair, label: str, name: str) -> None:
    """A run died while it made a key of this label."""
    with closing(sqlite3.connect(pair.hsm.registry)) as registry:
        registry.execute(
            "INSERT INTO pending_key SELECT token.id, ?, ?, 1, 0, 0, 'dead', '2026-01-01T00:00:00Z' FROM token "
            "JOIN instance ON instance.id = instance_id WHERE name = ?",
            (label, label.encode(), name),
        )
        registry.commit()


# Which record is whose, and what is not removed


def test_a_group_takes_over_a_key_that_was_renamed_with_its_state(pair: Pair) -> None:
    ok(pair.hsm.keys(EC, AES))
    for label in ("sig", "dek"):
        ok(pair.hsm.keys({"label": label, "state": "compromised"}))
    edit(pair.hsm, {"sig": {"LABEL": "sig-2"}, "dek": {"LABEL": "dek-2"}})
    assert {entry["field"] for entry in ok(pair.sync(check=True))["drift"]} == {"label"}
    four_steps(lambda check: pair.sync(check=check, refresh=["label"]))
    assert {label: state for label, (state, _may) in pair.records().items()} == {"sig-2": "compromised", "dek-2": "compromised"}
    assert pair.records(None) == {}


def test_what_a_dead_run_was_at_work_on_stays(pair: Pair) -> None:
    ok(pair.keys(AES))
    edit(pair.hsm, {"dek": None})
    note(pair, "dek", "standby")
    done = ok(pair.sync(prune=True))
    assert done["pruned"] == [] and "'dek' not pruned: a run that was cut off" in str(done["warnings"])


# What is not copied


def test_a_compromised_key_is_not_copied_under_another_name(pair: Pair) -> None:
    ok(pair.keys(AES))
    ok(pair.keys({"label": "dek", "state": "compromised"}))
    edit(pair.hsm, {"dek": {"LABEL": "dek-2", "ID": "09"}})
    for check in (True, False):
        answer = ok(pair.sync(repair="wrap", check=check))
        assert answer["repaired"] == [] and "compromised" in answer["not_repaired"][0]["reason"]
    assert not usage(pair.tool_b, "dek-2")


def test_pairs_of_another_program_are_copied(pair: Pair) -> None:
    """pkcs11-tool gives the public half of an EC pair CKA_DERIVE."""
    pair.tool("--keypairgen", "--key-type", "EC:prime256v1", "--label", "e", "--id", "01", "--extractable")
    ok(pair.sync())
    done = four_steps(lambda check: pair.sync(check=check, repair="wrap"))
    assert len(done["repaired"]) == 1 and usage(pair.tool_b, "e", "privkey")


def test_a_copy_is_not_weaker(pair: Pair) -> None:
    dated = {"ID": "dated", "END_DATE": 1}
    edit(pair.hsm, {"": [{"ID": "nocopy", "COPYABLE": False}, {"ID": "plain"}, {"ID": "forever", "DESTROYABLE": False}, dated]})
    planned, done = (ok(pair.sync(check=check, repair="wrap")) for check in (True, False))
    assert [entry["label"] for entry in planned["repaired"]] == [entry["label"] for entry in done["repaired"]] == ["nocopy", "plain"]
    assert {entry["label"]: entry["code"] for entry in done["not_repaired"]} == {"dated": "not_carried", "forever": "not_carried"}
    copied = pair.tool_b("--list-objects", "--type", "secrkey")
    assert "nocopy" in copied and "forever" not in copied and "dated" not in copied
    environment = {**os.environ, **pair.standby.environment}
    code = (
        "import os, sys, pkcs11\nfrom pkcs11 import Attribute as A\n"
        f"session = pkcs11.lib({SOFTHSM!r}).get_token(token_label='payments-b').open(user_pin={PIN!r})\n"
        "print({raw[A.LABEL]: raw[A.COPYABLE] for raw in session.get_objects()}, flush=True)\nos._exit(0)"
    )
    shown = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True).stdout
    assert yaml.safe_load(shown.replace("True", "true").replace("False", "false")) == {"nocopy": False, "plain": True}


# The file for Git


def exported(path: Path) -> tuple[list[str], dict[str, str]]:
    document = yaml.safe_load(path.read_text())
    return [entry["label"] for entry in document["keys"]], {other["label"]: other["reason"] for other in document["others"]}


def test_what_is_listed_can_be_fed_back(pair: Pair, tmp_path: Path) -> None:
    path = tmp_path / "e.yml"
    ok(pair.hsm.keys(AES, {**AES, "label": "stays"}))
    pair.tool("--keypairgen", "--key-type", "RSA:2048", "--label", "half", "--id", "01")
    pair.tool("--delete-object", "--type", "pubkey", "--label", "half")
    for _time in range(2):
        make(pair.tool, "twice", "02")
    make(pair.tool, "{{ 6 * 7 }}", "03")
    pair.tool("--keygen", "--key-type", "AES:32", "--id", "04")
    edit(pair.hsm, {"dek": None})
    instance(pair.hsm, export=str(path))
    declared, others = exported(path)
    assert declared == ["stays"] and "{{" not in path.read_text()
    assert others["dek"] == "not in the HSM" and "half a pair" in others["half"] and others[""] == "it has no label"
    assert "several keys" in others["twice"] and "template" in others["\\x7b\\x7b 6 * 7 }}"]
    assert ok(pair.hsm.keys(*yaml.safe_load(path.read_text())["keys"]))["changed"] is False


def test_the_file_is_the_same_whichever_member_serves(pair: Pair, tmp_path: Path) -> None:
    path = tmp_path / "e.yml"
    ok(pair.keys(AES, {**AES, "label": "here"}))
    ok(pair.sync(export=str(path)))
    before = path.read_bytes()
    pair.away(pair.hsm)
    ok(pair.sync(export=str(path)))
    assert path.read_bytes() == before
    pair.back(pair.hsm)
    edit(pair.hsm, {"here": None})
    ok(pair.sync(export=str(path)))
    assert exported(path) == (["dek"], {"here": "not in the HSM"})


def test_a_name_as_long_as_can_be(pair: Pair, tmp_path: Path) -> None:
    make(pair.tool, "k1", "01")
    path = tmp_path / ("a" * 251 + ".yml")
    instance(pair.hsm, export=str(path))
    assert exported(path)[0] == ["k1"]


@pytest.mark.parametrize(("state", "why"), [("destroyed", "it is destroyed"), ("absent", "no record of it")])
def test_what_a_group_has_ended_is_not_copied_back(pair: Pair, state: str, why: str) -> None:
    ok(pair.group(apply_changes=True))
    ok(pair.keys({"label": "dek", "type": "AES", "extractable": True}))
    assert ok(pair.sync(repair="wrap"))["repaired"]
    ok(pair.keys({"label": "dek", "state": state}))
    answer = ok(pair.sync(repair="wrap"))
    assert answer["repaired"] == [] and why in answer["not_repaired"][0]["reason"]
    assert usage(pair.tool, "dek") == set()


def test_a_device_error_while_a_copy_is_verified_is_one(pair: Pair, library: str) -> None:
    """The copy is undone where that can be done; where not, what may be left is told, and the next run finishes it."""
    ok(pair.keys({"label": "tls", "type": "EC", "extractable": True}))
    tokens, scratch = [pair.hsm.token("payments-b")], pair.standby.scratch

    def behind(plan: str) -> None:
        environment = {**pair.standby.environment, "FAULT_REAL": SOFTHSM, "FAULT_PLAN": plan, "FAULT_LOG": str(scratch / "fault.log")}
        ok(pair.hsm.run("hsm_instance", **pair.hsm.instance("standby", tokens=tokens, library=library, environment=environment)))

    behind("C_Sign:2:after=0x30")
    undone = pair.sync(repair="wrap")
    assert undone["failed"] is True and undone["changed"] is False
    assert undone["failure"]["code"] == undone["not_repaired"][0]["code"] == "CKR_DEVICE_ERROR"
    assert "differs" not in undone["msg"] and pair.tool_b("--list-objects") == ""
    behind("C_Sign:1:before=0x30:on")
    left = pair.sync(repair="wrap")
    assert left["failed"] is left["changed"] is True and left["failure"]["code"] == "CKR_DEVICE_ERROR"
    assert "may still be on the token" in left["msg"] and pair.tool_b("--list-objects").count("Object;") == 2
    behind("")
    assert [entry["label"] for entry in ok(pair.sync(repair="wrap"))["repaired"]] == ["tls"]
    assert ok(pair.sync(repair="wrap"))["changed"] is False and pair.tool_b("--list-objects").count("Object;") == 2
