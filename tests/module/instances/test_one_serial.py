# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tokens whose serial number does not tell one from the other: SoftHSM2's, behind a library that gives all of them the same one."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hsm_fixture import SO_PIN, SOFTHSM, Hsm, four_steps, ok

PINS = {"pay": "pin-7391", "web": "pin-1847"}


@pytest.fixture
def alike(hsm: Hsm, library: str) -> Hsm:
    return Hsm(hsm.scratch, library, {"FAULT_REAL": SOFTHSM, "FAULT_SERIAL": "123"})


def entries(hsm: Hsm) -> list[dict[str, Any]]:
    return [hsm.token(label, pin=pin) for label, pin in PINS.items()]


def rows(hsm: Hsm, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(hsm.registry)) as registry:
        return registry.execute(query).fetchall()


def test_two_tokens_of_one_serial_number_are_two(alike: Hsm) -> None:
    """Created, given another PIN, used by a group, copied from one to the other."""
    done = four_steps(lambda check: alike.run("hsm_instance", check=check, **alike.instance(tokens=entries(alike))))
    assert [token["serial"] for token in done["instance"]["tokens"]] == ["123", "123"]
    changed = [entries(alike)[0], {"label": "web", "pin_file": str(alike.scratch / "pins" / "web"), "new_pin": "112233"}]
    assert ok(alike.run("hsm_instance", **alike.instance(tokens=changed)))["changed"] is True
    alike.tool("--list-objects", pin="112233", token="web")
    alike.tool("--list-objects", pin=PINS["pay"], token="pay")

    refused = alike.run("hsm_instance", **alike.instance("third", tokens=[{"serial": "123", "pin": PINS["pay"]}]))
    assert refused["failure"]["code"] == "several_tokens" and "Name one of them by label." in refused["msg"]

    both = [{"instance": "primary", "token_label": label} for label in PINS]
    ok(alike.run("hsm_group", name="both", connections=both))
    ok(alike.keys({"label": "dek", "type": "AES", "extractable": True}, instance=None, group="both"))
    synced = ok(alike.run("hsm_sync", group="both", repair="wrap"))
    assert synced["changed"] is True
    assert all("dek" in alike.tool("--list-objects", pin=pin, token=label) for label, pin in (("pay", PINS["pay"]), ("web", "112233")))
    # A group of one of them does not claim what is on the other.
    ok(alike.run("hsm_group", name="both", state="absent", force=True))
    ok(alike.run("hsm_group", name="one", connections=both[:1]))
    ok(alike.keys({"label": "dek", "type": "AES"}, instance=None, group="one"))
    ok(alike.run("hsm_key", instance="primary", token_label="web", keys=[{"label": "dek", "state": "absent"}]))
    assert "dek" in alike.tool("--list-objects", pin=PINS["pay"], token="pay")


def test_a_wrong_pin_is_its_tokens_alone(alike: Hsm) -> None:
    alike.register(tokens=entries(alike))
    alike.register("again", tokens=[entries(alike)[1]])
    Path(alike.scratch, "pins", "pay").write_text("000000")
    for codes in ([{"pay": "pin_incorrect", "web": None}, {"web": None}], [{"pay": "pin_not_tried", "web": None}, {"web": None}]):
        instances = alike.run("hsm_status", require="none")["instances"]
        assert [{slot["label"]: slot["code"] for slot in instance["slots"]} for instance in instances] == codes
    refusals = "SELECT refused_pin_file FROM token ORDER BY id"
    assert [bool(marks) for (marks,) in rows(alike, refusals)] == [True, False, False]
    # Nor is one that is declared in the place of another taken for it.
    assert alike.run("hsm_sync", instance="again", pin="000000")["failure"]["code"] == "pin_incorrect"
    assert rows(alike, refusals)[2] == ("option",)
    alike.register("again", tokens=[{"label": "pay", "login": False}])
    assert rows(alike, refusals)[2] == (None,)


def test_tokens_that_only_their_slots_tell_apart(alike: Hsm) -> None:
    """No serial number, and one label: they are declared, called and exported by their slots."""
    alike.extra_environment["FAULT_SERIAL"] = "0000000000000000"
    for _time in range(2):
        alike.softhsm_util("--init-token", "--free", "--label", "same", "--so-pin", SO_PIN, "--pin", PINS["pay"])
    told = alike.run("hsm_instance", **alike.instance(tokens=[{"label": "same", "pin": PINS["pay"]}]))
    assert told["failure"]["code"] == "several_tokens" and "Name one of them by slot." in told["msg"]
    slots = [token["slot"] for token in told["failure"]["details"]["tokens"]]
    pin_files = [alike.scratch / f"pin-{slot}" for slot in slots]
    tokens = [{"slot": str(slot), "pin": PINS["pay"], "pin_file": str(file)} for slot, file in zip(slots, pin_files, strict=True)]
    done = four_steps(lambda check: alike.run("hsm_instance", check=check, **alike.instance(tokens=tokens)))
    assert [token["slot"] for token in done["instance"]["tokens"]] == slots
    told = alike.keys({"label": "dek", "type": "AES"})
    assert told["failure"]["code"] == "several_tokens" and "say which with slot" in told["msg"]
    ok(alike.keys({"label": "dek", "type": "AES"}, slot=str(slots[1])))
    export = alike.scratch / "export.yml"
    ok(alike.run("hsm_sync", instance="primary", slot=str(slots[1]), export=str(export)))
    assert f"slot: {slots[1]}" in export.read_text() and "token_label" not in export.read_text()
