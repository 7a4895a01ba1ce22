# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every call with which hsm_instance writes to a token, failing before and after its effect: the answer is what the token says."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from faulty import Faulty, with_plan
from hsm_fixture import PIN, SO_PIN, Hsm, ok

DEVICE_ERROR = "0x30"
NEW_PIN = "998877"


def tokens_on(hsm: Hsm) -> int:
    return len(list((hsm.scratch / "tokens").iterdir()))


@pytest.mark.parametrize("function", ["C_InitToken", "C_InitPIN"])
def test_a_write_that_failed_after_its_effect_counts(hsm: Hsm, library: str, function: str) -> None:
    faulty = Faulty(hsm, library)
    done = ok(faulty.register(f"{function}:1:after={DEVICE_ERROR}"))
    assert done["changed"] is True and done["instance"]["tokens"][0]["accessible"] is True
    assert tokens_on(hsm) == 1
    again = ok(faulty.register())
    assert list(again["diff"]["after"]) == ["instance primary"]  # which has its environment without the fault now


@pytest.mark.parametrize(("function", "created"), [("C_InitToken", False), ("C_InitPIN", True)])
def test_a_write_that_failed_before_its_effect_does_not(hsm: Hsm, library: str, function: str, created: bool) -> None:
    faulty = Faulty(hsm, library)
    answer = faulty.register(f"{function}:1:before={DEVICE_ERROR}")
    assert answer["failure"]["code"] == "CKR_DEVICE_ERROR" and answer["changed"] is created
    assert ("token label 'payments' was created" in answer["msg"]) is created
    assert tokens_on(hsm) == int(created)
    assert ok(faulty.register())["instance"]["tokens"][0]["accessible"] is True


USER_PIN_INITIALIZED = {"FAULT_FLAGS": "0x8"}


@pytest.mark.parametrize("cut_off", [False, True])
def test_a_token_whose_flags_tell_of_a_pin_from_its_first_moment_gets_one(hsm: Hsm, library: str, cut_off: bool) -> None:
    """Also by the next run, where ours ended between C_InitToken and C_InitPIN: the token itself says at the login that it has none."""
    hsm.extra_environment.update(USER_PIN_INITIALIZED)
    faulty = Faulty(hsm, library)
    if cut_off:
        faulty.register(f"C_InitPIN:1:before={DEVICE_ERROR}")
        without = [{key: value for key, value in hsm.token().items() if key not in ("initialize", "so_pin")}]
        assert faulty.register(tokens=without)["failure"]["code"] == "pin_not_initialized"
        faulty.log.unlink()
    assert ok(faulty.register())["instance"]["tokens"][0]["accessible"] is True
    assert faulty.calls()["C_InitPIN"] == 1
    hsm.tool("--list-objects")  # another program logs in with it
    assert faulty.register()["changed"] is False


def initialisations(faulty: Faulty) -> int:
    """How often the library is initialised before a token is made, and at the moment that it is."""
    calls = faulty.log.read_text().split()
    return calls[: calls.index("C_InitToken")].count("C_Initialize")


def test_a_library_that_does_not_start_again_after_a_token_was_made(hsm: Hsm, library: str) -> None:
    """A hiccup costs nothing. What lasts is told with the token that is there."""
    faulty = Faulty(hsm, library)
    ok(faulty.register())
    number = initialisations(faulty) + 1
    for label in ("second", "third"):
        faulty.log.unlink()
        broken = range(number, number + (1 if label == "second" else 30))
        plan = " ".join(f"C_Initialize:{which}:before={DEVICE_ERROR}" for which in broken)
        answer = faulty.register(plan, label, tokens=[hsm.token(label)])
        assert faulty.calls()["C_InitToken"] == 1
        assert answer["changed"] is True
        assert bool(answer.get("failed")) is (label == "third")
    assert "token 'third' was created" in answer["msg"] and answer["failure"]["code"] == "CKR_DEVICE_ERROR"
    assert ok(faulty.register("", "third", tokens=[hsm.token("third")]))["instance"]["tokens"][0]["accessible"] is True
    assert hsm.tool("--list-token-slots", pin=None, token="").count("token label") == 3


def changing(faulty: Faulty, plan: str, *, allow_low_pin_count: bool = False, **options: Any) -> dict[str, Any]:
    """Change the PIN of the token that is there. ``options`` are its entry's."""
    pin_file = str(faulty.hsm.scratch / "pins" / "payments")
    faulty.log.unlink(missing_ok=True)
    tokens = [{"label": "payments", "pin_file": pin_file, "new_pin": NEW_PIN, **options}]
    return faulty.register(plan, tokens=tokens, allow_low_pin_count=allow_low_pin_count)


def pending(faulty: Faulty) -> Path:
    return faulty.hsm.scratch / "pins" / "payments.new"


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_pin_change_that_nobody_can_tell_is_told_as_that(faulty: Faulty, when: str) -> None:
    answer = changing(faulty, f"C_SetPIN:1:{when}={DEVICE_ERROR}")
    assert answer["failure"]["code"] == "CKR_DEVICE_ERROR" and answer["changed"] is True
    assert "whether it took effect all the same is not known" in answer["msg"]
    assert faulty.calls()["C_SetPIN"] == 1 and faulty.calls()["C_Login"] == 0
    assert pending(faulty).read_text() == NEW_PIN + "\n"
    again = changing(faulty, "")
    if when == "before":
        assert again["failure"]["code"] == "pin_incorrect" and not pending(faulty).exists()
        again = changing(faulty, "", allow_low_pin_count=True)
    assert ok(again)["instance"]["tokens"][0]["accessible"] is True
    faulty.hsm.tool("--list-objects", pin=NEW_PIN)  # another program logs in with it


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_pin_set_by_the_security_officer_is_finished_by_the_next_run(faulty: Faulty, when: str) -> None:
    """It was set before, so that no flag tells whether it is another one now. The next run costs no try of a wrong one."""
    (faulty.hsm.scratch / "pins" / "payments").unlink()
    answer = changing(faulty, f"C_InitPIN:1:{when}={DEVICE_ERROR}", so_pin="87654321")
    assert answer["failure"]["code"] == "CKR_DEVICE_ERROR" and answer["changed"] is True
    again = ok(changing(faulty, "", so_pin="87654321"))
    assert again["instance"]["tokens"][0]["pin_state"] == "ok" and not pending(faulty).exists()
    assert changing(faulty, "")["changed"] is False


@pytest.mark.parametrize("function", ["C_GetTokenInfo", "C_OpenSession"])
def test_a_new_pin_waits_in_its_file_only_when_the_token_was_asked(faulty: Faulty, function: str) -> None:
    """A fault right before C_SetPIN, wherever it is: the next run goes on from the old PIN, without a try of the new one."""
    ok(changing(faulty, "", pin=PIN, new_pin="112233"))
    before = faulty.log.read_text().split()
    count = before[: before.index("C_SetPIN")].count(function)
    answer = changing(faulty, " ".join(f"{function}:{number}:before={DEVICE_ERROR}" for number in range(count - 1, count + 3)))
    assert answer["failure"]["code"] == "CKR_DEVICE_ERROR" and answer["changed"] is False, answer
    assert faulty.calls()["C_SetPIN"] == 0 and not pending(faulty).exists()
    again = ok(changing(faulty, ""))
    assert faulty.calls()["C_SetPIN"] == 1 and faulty.calls()["C_Login"] == 1
    assert again["instance"]["tokens"][0]["pin_state"] == "ok"


WRONG = "0xa0"


@pytest.mark.parametrize("source", ["option", "file"])
def test_a_wrong_old_pin_is_tried_once(faulty: Faulty, source: str) -> None:
    """On a token that flags nothing: the refusal is made by the fault library, the real token never hears of it."""
    old = {"pin": "000000"} if source == "option" else {}
    if old:
        (faulty.hsm.scratch / "pins" / "payments").unlink()
    codes, tries = [], 0
    for _run in range(5):
        answer = changing(faulty, f"C_SetPIN:1:before={WRONG}", **old)
        codes.append(answer["failure"]["code"])
        tries += faulty.calls()["C_SetPIN"] + faulty.calls()["C_Login"]
    assert codes == ["pin_incorrect", *["pin_not_tried"] * 4] and tries == 1
    assert answer["changed"] is False and not pending(faulty).exists()
    # The operator's word is one more try, and a good one ends the matter.
    good = {"pin": PIN} if source == "option" else {}
    assert ok(changing(faulty, "", allow_low_pin_count=True, **good))["changed"] is True
    assert ok(changing(faulty, "", new_pin="445566", **({"pin": NEW_PIN} if good else {})))["changed"] is True


@pytest.mark.parametrize("source", ["option", "file"])
def test_a_wrong_pin_is_tried_once_before_anything_is_registered(hsm: Hsm, library: str, source: str) -> None:
    """On a token that flags nothing, as with the test above."""
    hsm.softhsm_util("--init-token", "--free", "--label", "payments", "--so-pin", SO_PIN, "--pin", PIN)
    faulty, pin_file = Faulty(hsm, library), hsm.scratch / "pin"
    pin_file.write_text("000000")
    pin_file.chmod(0o600)
    declared = {"label": "payments", **({"pin": "000000"} if source == "option" else {"pin_file": str(pin_file)})}
    codes = []
    for name in ("primary", "primary", "by-another-name"):
        answer = faulty.register(f"C_Login:1:before={WRONG}", name, tokens=[declared])
        codes.append(answer["failure"]["code"])
    assert codes == ["pin_incorrect", "pin_not_tried", "pin_not_tried"] and faulty.calls()["C_Login"] == 1
    assert hsm.run("hsm_status")["instances"] == []
    # A file that was written again is a new try; of an option the operator says that it is another PIN. A good login ends the matter.
    pin_file.write_text(PIN)
    right = {**declared, **({"pin": PIN} if source == "option" else {})}
    ok(faulty.register(tokens=[right], allow_low_pin_count=source == "option"))
    assert ok(faulty.register(tokens=[right]))["changed"] is False


def test_a_refused_pin_that_cannot_be_remembered_is_said(hsm: Hsm) -> None:
    hsm.softhsm_util("--init-token", "--free", "--label", "payments", "--so-pin", SO_PIN, "--pin", PIN)
    declared = hsm.instance(tokens=[{"label": "payments", "pin": "000000"}])
    answer = hsm.run("hsm_instance", **{**declared, "registry": "/proc/none/registry.db"})
    assert answer["failure"]["code"] == "pin_incorrect" and "could not be remembered" in answer["msg"], answer


def test_a_wrong_so_pin_is_tried_once(faulty: Faulty) -> None:
    (faulty.hsm.scratch / "pins" / "payments").unlink()
    codes, tries = [], 0
    for _run in range(3):
        answer = changing(faulty, f"C_Login:1:before={WRONG}", so_pin="00000000")
        codes.append(answer["failure"]["code"])
        tries += faulty.calls()["C_Login"]
    assert codes == ["pin_incorrect", "pin_not_tried", "pin_not_tried"] and tries == 1
    assert ok(changing(faulty, "", allow_low_pin_count=True, so_pin="87654321"))["changed"] is True


def test_a_wrong_pin_in_an_option_is_tried_once_by_all_modules(faulty: Faulty) -> None:
    with_plan(faulty, f"C_Login:1:before={WRONG}")
    codes = []
    for module, args in (("hsm_key", {"keys": [{"label": "k", "type": "AES"}]}), ("hsm_sync", {}), ("hsm_sync", {})):
        codes.append(faulty.hsm.run(module, instance="primary", pin="000000", **args)["failure"]["code"])
    given = [{"label": "payments", "pin": "000000"}]
    codes.append(faulty.register(f"C_Login:1:before={WRONG}", tokens=given)["failure"]["code"])
    assert codes == ["pin_incorrect", *["pin_not_tried"] * 3] and faulty.calls()["C_Login"] == 1
    with_plan(faulty, "")
    # The PIN in the file is another one, and a good login with it says nothing about the option's.
    assert ok(faulty.hsm.run("hsm_sync", instance="primary"))["changed"] is False
    assert faulty.hsm.run("hsm_sync", instance="primary", pin="000000")["failure"]["code"] == "pin_not_tried"
    assert ok(faulty.hsm.run("hsm_sync", instance="primary", pin=PIN, allow_low_pin_count=True))["changed"] is False
    assert ok(faulty.hsm.run("hsm_sync", instance="primary", pin=PIN))["changed"] is False


def test_no_pin_and_no_digest_of_it_is_in_the_registry(faulty: Faulty) -> None:
    (faulty.hsm.scratch / "pins" / "payments").unlink()
    assert changing(faulty, f"C_SetPIN:1:before={WRONG}", pin="000000")["failure"]["code"] == "pin_incorrect"
    with closing(sqlite3.connect(faulty.hsm.registry)) as registry:
        assert registry.execute("SELECT refused_pin_file FROM token").fetchall() == [("option",)]
