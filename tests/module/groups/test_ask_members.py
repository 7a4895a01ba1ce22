# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A group never makes a second key: before it generates one, every member that can be reached is asked for it."""

from __future__ import annotations

from typing import Any

import pytest
from hsm_fixture import Pair, calls, four_steps, ok, usage

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
    assert [(entry["state"], entry["uid"], entry["id"]) for entry in adopted["keys"]] == [("elsewhere", None, b"pan-2".hex())]
    assert any("copy it with hsm_sync and repair: wrap" in str(text) for text in adopted["warnings"])
    assert usage(pair.tool, "pan-2") == set()
    refused(pair.keys(PAN), "'pan-2' is not on the token that serves", "repair: wrap")
    assert ok(pair.sync(repair="wrap"))["repaired"][0]["label"] == "pan-2"
    assert ok(pair.keys(PAN, on_elsewhere="adopt"))["keys"][0]["state"] == "present"
    assert usage(pair.tool, "pan-2") == usage(pair.tool_b, "pan-2") != set()


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
