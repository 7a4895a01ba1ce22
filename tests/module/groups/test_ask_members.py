# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A group never makes a second key: before it generates one, every member that can be reached is asked for it."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from faulty import build_fault_library
from hsm_fixture import SOFTHSM, Pair, calls, four_steps, ok, usage

PAN = {"label": "pan-2", "type": "AES"}


def refused(answer: dict[str, Any], *words: str) -> None:
    assert answer.get("failed") and answer["changed"] is False and answer["failure"]["code"] == "cannot_plan", answer
    assert all(word in answer["msg"] for word in words), answer["msg"]


def on_standby(pair: Pair, *args: str) -> None:
    """Another program's key: the registry knows nothing of it, as after its loss."""
    pair.tool_b("--keygen", "--key-type", "AES:32", "--label", "pan-2", "--id", b"pan-2".hex(), *args)


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize("wish", [{}, {"label": "new-name", "id": b"pan-2".hex()}, {"type": "EC"}])
def test_what_another_member_has_is_not_made(pair: Pair, wish: dict[str, str], *, check: bool) -> None:
    on_standby(pair)
    refused(
        pair.keys({**PAN, **wish}, {"label": "other", "type": "AES"}, check=check),
        "connection 2 (instance 'standby'",
        "on_elsewhere: adopt",
    )
    assert pair.records() == {} and usage(pair.tool, "pan-2") == usage(pair.tool, "other") == set()


def test_it_is_adopted_copied_and_kept(pair: Pair) -> None:
    on_standby(pair, "--extractable")
    adopted = four_steps(lambda check: pair.keys(PAN, check=check, on_elsewhere="adopt"))
    (entry,) = adopted["keys"]
    assert (entry["state"], entry["id"]) == ("elsewhere", b"pan-2".hex())
    assert entry["uid"].startswith("hsm::softhsm2_1::") and pair.rows("SELECT subject FROM event")[-1] == (entry["uid"],)
    assert any("copy it (hsm_sync with repair: wrap)" in str(text) for text in adopted["warnings"])
    assert usage(pair.tool, "pan-2") == set()
    refused(pair.keys(PAN), "'pan-2' is not on the token that serves", "repair: wrap")
    assert ok(pair.sync(repair="wrap"))["repaired"][0]["label"] == "pan-2"
    assert ok(pair.keys(PAN, on_elsewhere="adopt"))["keys"][0]["state"] == "present"
    assert usage(pair.tool, "pan-2") == usage(pair.tool_b, "pan-2") != set()


def test_what_is_adopted_is_not_asked_about_on_the_token_that_serves(pair: Pair) -> None:
    """A copy by wrapping has no check value in SoftHSM, and a handle that is another key's here."""
    ok(pair.keys({**PAN, "extractable": True}))
    ok(pair.sync(repair="wrap"))
    pair.tool("--delete-object", "--type", "secrkey", "--label", "pan-2")
    pair.tool("--keygen", "--key-type", "AES:32", "--label", "other", "--id", "01")
    ok(pair.group(state="absent", force=True))
    ok(pair.group())
    ok(pair.keys(PAN, on_elsewhere="adopt"))
    assert pair.rows("SELECT label, fingerprint FROM virtual_key WHERE group_id IS NOT NULL") == [("pan-2", None)]


def test_a_member_that_cannot_be_reached_is_the_operators_decision(pair: Pair) -> None:
    pair.away(pair.standby)
    for check in (True, False):
        refused(
            pair.keys(PAN, check=check),
            "connection 2 (instance 'standby', token 'payments-b') cannot be reached",
            "on_unreachable: generate",
        )
    assert usage(pair.tool, "pan-2") == set()
    # An import brings its value along, and needs nobody's answer.
    ok(pair.keys({"label": "brought", "type": "AES", "source": {"content": "00112233445566778899aabbccddeeff", "format": "hex"}}))
    four_steps(lambda check: pair.keys(PAN, check=check, on_unreachable="generate"))
    ok(pair.keys(PAN))  # what is there asks nobody


def test_a_member_that_does_not_answer_for_another_reason_is_looked_at(pair: Pair) -> None:
    (pair.hsm.scratch / "pins" / "payments-b").write_text("000000\n")
    answer = pair.keys(PAN, on_unreachable="generate")
    assert answer["failure"]["code"] == "pin_incorrect" and "connection 2" in answer["msg"] and answer["changed"] is False, answer
    assert usage(pair.tool, "pan-2") == set()


def test_asking_is_one_login_and_one_search_each(pair: Pair) -> None:
    spied, log = pair.hsm.spied()
    environment = {**pair.standby.environment, **spied.extra_environment}
    spied.register()
    spied.register("standby", tokens=[spied.token("payments-b")], environment=environment)
    log.unlink()
    ok(pair.keys(PAN, {"label": "pan-3", "type": "AES"}))
    made = calls(log)
    assert (made["C_Login"], made["C_FindObjectsInit"], made["C_GenerateKey"]) == (3, 3, 2)  # what serves twice, the other once
    log.unlink()
    ok(pair.keys(PAN))
    assert calls(log)["C_Login"] == 1


@pytest.mark.parametrize("fault", ["C_Finalize:1:before=0x80000042", "C_Initialize:2:after=0x6"])
def test_a_library_that_does_not_end_serves_the_next_member(pair: Pair, tmp_path: Path, fault: str) -> None:
    """Both members have one library with two configurations: left initialised, it would be asked for the other's tokens."""
    library = build_fault_library(tmp_path)
    with closing(sqlite3.connect(pair.hsm.registry)) as registry:
        for name, which in (("primary", pair.hsm), ("standby", pair.standby)):
            environment = json.dumps({**which.environment, "FAULT_REAL": SOFTHSM, "FAULT_PLAN": fault})
            registry.execute("UPDATE instance SET library = ?, environment = ? WHERE name = ?", (library, environment, name))
        registry.commit()
    answer = pair.keys(PAN)
    if fault.startswith("C_Initialize"):  # no less an error, and called by its name
        refused(answer, "could not be initialised: CKR_FUNCTION_FAILED")
    else:
        assert ok(answer)["keys"][0]["state"] == "present"
