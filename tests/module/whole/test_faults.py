# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Faults on purpose: what is told, what is not repeated, and what the next run mends."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from faulty import Faulty, crashed, with_plan
from hsm_fixture import HANG, Hsm, ok

DEVICE_ERROR, TEMPLATE_INCONSISTENT, GENERAL_ERROR = "0x30", "0xd1", "0x5"
KEYS = [{"label": f"k{number}", "type": "AES"} for number in range(6)]
PAIRS = [{"label": f"p{number}", "type": "EC"} for number in range(3)]


def refused(function: str, first: int) -> str:
    """A template that is refused on each rung, from this call on."""
    return " ".join(f"{function}:{call}:before={TEMPLATE_INCONSISTENT}" for call in range(first, first + 3))


def labels(answer: dict[str, Any], part: str) -> list[str]:
    return [entry["label"] for entry in answer[part]]


def test_a_device_fault_stops_the_batch_and_says_what_was_done(faulty: Faulty) -> None:
    with_plan(faulty, f"C_GenerateKey:3:before={DEVICE_ERROR}")
    answer = faulty.hsm.keys(*KEYS)
    assert answer["failed"] is True and answer["changed"] is True
    assert answer["failure"]["code"] == "CKR_DEVICE_ERROR"
    assert labels(answer, "applied") == ["k0", "k1"]
    assert labels(answer, "failed_keys") == ["k2"]
    assert labels(answer, "not_attempted") == ["k3", "k4", "k5"]
    assert [key["state"] for key in answer["keys"]] == ["present", "present", "failed", "absent", "absent", "absent"]
    head, *lines = answer["diff"]["prepared"].splitlines()
    assert head == "6 keys: +2 ~0 -0 =4" and [line.partition(":")[0] for line in lines] == ["+ key k0", "+ key k1"]
    assert answer["summary"]["created"] == 2 and answer["summary"]["failed"] == 1 and answer["summary"]["not_attempted"] == 3
    assert faulty.labels() == ["k0", "k1"]
    with_plan(faulty, "")
    assert labels(ok(faulty.hsm.keys(*KEYS)), "applied") == ["k2", "k3", "k4", "k5"]
    assert faulty.labels() == [key["label"] for key in KEYS]


def test_a_callers_mistake_does_not_stop_the_others(faulty: Faulty) -> None:
    with_plan(faulty, refused("C_GenerateKey", 2))
    answer = faulty.hsm.keys(*KEYS)
    assert labels(answer, "applied") == ["k0", "k2", "k3", "k4", "k5"]
    assert answer["failed_keys"][0]["code"] == "CKR_TEMPLATE_INCONSISTENT"
    assert answer["not_attempted"] == []
    assert "1 of 6 keys failed, 5 were applied, 0 were not attempted" in answer["msg"]
    with_plan(faulty, "")
    assert labels(ok(faulty.hsm.keys(*KEYS, {"label": "k9", "type": "AES"})), "applied")[0] == "k1"


def test_an_error_after_the_key_was_made_is_found_out(faulty: Faulty) -> None:
    with_plan(faulty, f"C_GenerateKey:2:after={GENERAL_ERROR} C_GenerateKeyPair:1:after={GENERAL_ERROR}")
    answer = ok(faulty.hsm.keys(*KEYS, *PAIRS))
    assert len(answer["applied"]) == 9
    assert faulty.labels() == sorted([key["label"] for key in KEYS] + 2 * [key["label"] for key in PAIRS])
    assert ok(faulty.hsm.keys(*KEYS, *PAIRS))["changed"] is False


def test_nothing_is_recorded_for_a_key_that_cannot_be_used(faulty: Faulty) -> None:
    with_plan(faulty, f"C_Encrypt:1:before={GENERAL_ERROR}")
    answer = faulty.hsm.keys(*KEYS[:1])
    assert answer["failed"] is True and answer["changed"] is True
    assert "was made but cannot be used" in answer["failed_keys"][0]["error"]
    # The next run finds a key that nobody has vouched for, and tries it before it counts.
    again = faulty.hsm.keys(*KEYS[:1])
    assert again["failure"]["code"] == "cannot_plan" and "exists, and using it once failed" in again["msg"]
    with_plan(faulty, "")
    assert labels(ok(faulty.hsm.keys(*KEYS[:1])), "applied") == ["k0"]


@pytest.mark.parametrize("function", ["C_FindObjectsInit", "C_FindObjects", "C_GetAttributeValue"])
def test_a_search_that_fails_is_no_empty_token(faulty: Faulty, function: str) -> None:
    ok(faulty.hsm.keys({"label": "there", "type": "AES"}))
    # python-pkcs11 asks for attributes twice and then one by one: a single refusal costs nothing.
    with_plan(faulty, " ".join(f"{function}:{number}:before={DEVICE_ERROR}" for number in range(1, 200)))
    answer = faulty.hsm.keys(*KEYS)
    assert answer["failed"] is True and answer["changed"] is False, answer
    assert answer["failure"]["code"] == "CKR_DEVICE_ERROR"
    assert faulty.hsm.run("hsm_sync", instance="primary")["failure"]["code"] == "CKR_DEVICE_ERROR"
    assert faulty.calls()["C_GenerateKey"] == 0
    assert faulty.labels() == ["there"]


def test_a_slot_that_cannot_be_read_is_no_reason_to_create_a_token(hsm: Hsm, library: str) -> None:
    ok(hsm.run("hsm_instance", **hsm.instance()))
    before = sorted((hsm.scratch / "tokens").iterdir())
    faulty = Faulty(hsm, library)
    plan = " ".join(f"C_GetTokenInfo:{number}:before={DEVICE_ERROR}" for number in range(1, 20))
    answer = faulty.register(plan, "other")
    assert answer["failure"]["code"] == "CKR_DEVICE_ERROR"
    assert sorted((hsm.scratch / "tokens").iterdir()) == before
    assert faulty.calls()["C_InitToken"] == faulty.calls()["C_Login"] == 0


def test_a_slot_that_cannot_be_read_is_not_taken_for_no_free_slot(hsm: Hsm, library: str) -> None:
    """SoftHSM has one free slot, the last: unread, it may hold one."""
    ok(hsm.run("hsm_instance", **hsm.instance()))
    faulty, tokens = Faulty(hsm, library), hsm.scratch / "tokens"
    shutil.copytree(tokens, hsm.scratch / "before")
    codes = []
    for number in range(1, 16):
        answer = faulty.register(f"C_GetTokenInfo:{number}:before={DEVICE_ERROR}", f"other{number}", tokens=[hsm.token(f"b{number}")])
        codes += [answer["failure"]["code"]] if answer.get("failed") else []
        shutil.rmtree(tokens)
        shutil.copytree(hsm.scratch / "before", tokens)
    assert set(codes) == {"CKR_DEVICE_ERROR"}, codes


@pytest.mark.parametrize("function", ["C_FindObjectsInit", "C_FindObjects", "C_FindObjectsFinal", "C_GetAttributeValue", "C_DestroyObject"])
def test_nothing_but_the_answer_is_printed(faulty: Faulty, function: str) -> None:
    """python-pkcs11 raises once more when a search that failed is deleted, and Python prints what a destructor raises."""
    ok(faulty.hsm.keys(KEYS[0]))
    with_plan(faulty, f"{function}:1:before={DEVICE_ERROR}:on")
    for module, args in (("hsm_key", {"keys": [{**KEYS[0], "state": "absent"}]}), ("hsm_sync", {})):
        out, err = faulty.start(module, {"instance": "primary", **args}).communicate(timeout=60)
        assert err == "" and json.loads(out), err
        if module == "hsm_key":
            assert json.loads(out)["failure"]["code"] == "CKR_DEVICE_ERROR"


def test_a_failed_login_is_not_repeated(faulty: Faulty) -> None:
    for rv in (GENERAL_ERROR, DEVICE_ERROR, "0xa0"):
        with_plan(faulty, f"C_Login:1:before={rv}")
        assert faulty.hsm.keys(*KEYS)["failed"] is True
        assert faulty.calls()["C_Login"] == 1


def test_a_hiccup_at_start_up_is_retried(faulty: Faulty) -> None:
    with_plan(faulty, f"C_Initialize:1:before={GENERAL_ERROR}")
    assert labels(ok(faulty.hsm.keys(*KEYS[:1])), "applied") == ["k0"]
    assert faulty.calls()["C_Initialize"] == 2


@pytest.mark.parametrize("fault", ["hang", "crash"])
def test_status_survives_a_provider_that_hangs_or_crashes(faulty: Faulty, fault: str) -> None:
    ok(faulty.hsm.run("hsm_instance", **faulty.hsm.instance("healthy", tokens=[faulty.hsm.token("other")])))
    with_plan(faulty, f"C_Login:1:{fault}")
    answer = ok(faulty.hsm.run("hsm_status", **({"timeout": HANG} if fault == "hang" else {})))
    codes = {entry["name"]: entry["slots"][0]["code"] for entry in answer["instances"]}
    assert codes == {"primary": "probe_timeout" if fault == "hang" else "probe_crashed", "healthy": None}
    slot = answer["instances"][0]["slots"][0]
    assert slot["device_fault"] is True and slot["label"] == "payments"
    assert f"{'hung' if fault == 'hang' else 'crashed'} in C_Login while opening a session" in slot["error"]


@pytest.mark.parametrize("number", range(1, 7))
def test_a_run_killed_in_the_middle_is_finished_by_the_next(faulty: Faulty, number: int) -> None:
    with_plan(faulty, f"C_GenerateKey:{number}:kill")
    answer = faulty.hsm.keys(*KEYS)
    done = crashed(answer, "C_GenerateKey")
    assert answer["changed"] is True and f"generating key 'k{number - 1}'" in answer["msg"]
    assert [text for text in done if "generating" in text] == [f"generating key 'k{index}'" for index in range(number - 1)]
    with_plan(faulty, "")
    answer = ok(faulty.hsm.keys(*KEYS))
    # What was made has no record yet: records are written together, and the notes of what was begun tell of each key.
    assert [entry["action"] for entry in answer["applied"]] == ["record"] * number + ["create"] * (6 - number)
    assert faulty.labels() == [key["label"] for key in KEYS]
    assert ok(faulty.hsm.run("hsm_sync", instance="primary"))["summary"] == {"added": 0, "known": 6, "missing": 0, "drifted": 0}


@pytest.mark.parametrize("plan", ["C_InitToken:1:kill", "C_InitPIN:1:kill", "C_Login:1:kill", "C_Login:2:kill"])
def test_a_registration_killed_in_the_middle_is_finished_by_the_next(hsm: Hsm, library: str, plan: str) -> None:
    faulty = Faulty(hsm, library)
    args = {**hsm.instance(), "library": library, "environment": faulty.environment(plan)}
    crashed(hsm.run("hsm_instance", **args), plan.partition(":")[0])
    assert len(list((hsm.scratch / "tokens").iterdir())) == 1
    answer = ok(faulty.register())
    assert answer["changed"] is True and answer["instance"]["tokens"][0]["accessible"] is True
    assert len(list((hsm.scratch / "tokens").iterdir())) == 1
    assert ok(faulty.register())["changed"] is False


def test_destroying_half_a_pair_is_told_and_finished(faulty: Faulty) -> None:
    ok(faulty.hsm.keys(*PAIRS))
    with_plan(faulty, f"C_DestroyObject:2:before={DEVICE_ERROR}")
    gone = [{"label": key["label"], "state": "absent"} for key in PAIRS]
    answer = faulty.hsm.keys(*gone)
    assert answer["failed"] is True and answer["changed"] is True
    assert "its other half is destroyed already" in answer["failed_keys"][0]["error"]
    with_plan(faulty, "")
    assert len(ok(faulty.hsm.keys(*gone))["applied"]) == 3
    assert faulty.labels() == []
    assert ok(faulty.hsm.run("hsm_sync", instance="primary"))["summary"]["missing"] == 0


def test_a_replacement_that_fails_says_that_the_old_key_is_gone(faulty: Faulty) -> None:
    ok(faulty.hsm.keys({"label": "dek", "type": "AES", "size": 128}))
    with_plan(faulty, refused("C_GenerateKey", 1))
    wanted = {"label": "dek", "type": "AES", "size": 256, "on_mismatch": "replace"}
    answer = faulty.hsm.keys(wanted)
    assert answer["failed"] is True and answer["changed"] is True
    assert "the key that was to be replaced is destroyed" in answer["failed_keys"][0]["error"]
    assert [line.partition(",")[0] for line in answer["diff"]["prepared"].splitlines()] == ["1 key: +0 ~0 -1 =0", "- key dek: type AES"]
    assert answer["keys"][0]["state"] == "failed" and answer["keys"][0]["size"] is None
    with_plan(faulty, "")
    assert ok(faulty.hsm.keys(wanted))["keys"][0]["size"] == 256


def test_a_registration_that_stops_half_way_says_how_far_it_came(hsm: Hsm, library: str) -> None:
    faulty = Faulty(hsm, library)
    args = {**hsm.instance(), "library": library, "environment": faulty.environment(f"C_InitPIN:1:before={DEVICE_ERROR}")}
    answer = hsm.run("hsm_instance", **args)
    assert answer["failure"]["code"] == "CKR_DEVICE_ERROR" and answer["changed"] is True
    assert "Before that: token label 'payments' was created." in answer["msg"]
    assert ok(faulty.register())["instance"]["tokens"][0]["accessible"] is True


def test_a_new_pin_that_the_token_refuses_leaves_the_old_one_in_force(faulty: Faulty) -> None:
    pin_file = faulty.hsm.scratch / "pins" / "payments"
    tokens = [{"label": "payments", "pin_file": str(pin_file), "new_pin": "998877"}]
    args = {**faulty.hsm.instance(tokens=tokens), "library": faulty.library}
    refused = faulty.hsm.run("hsm_instance", **{**args, "environment": faulty.environment("C_SetPIN:1:before=0xa1")})
    assert refused["failure"]["code"] == "pin_not_accepted" and "still in force" in refused["msg"]
    assert not Path(f"{pin_file}.new").exists()
    # A device error says nothing about which PIN is in force: the new one is kept.
    broken = faulty.hsm.run("hsm_instance", **{**args, "environment": faulty.environment(f"C_SetPIN:1:before={DEVICE_ERROR}")})
    assert broken["failure"]["code"] == "CKR_DEVICE_ERROR"
    assert Path(f"{pin_file}.new").exists()


@pytest.mark.parametrize("second", range(2, 12))
def test_a_glitch_in_reading_attributes_costs_no_key(faulty: Faulty, second: int) -> None:
    """python-pkcs11 drops the error of the first of its two calls: what it could not read must not count as different."""
    wanted = {"label": "prod", "type": "AES", "size": 256, "on_mismatch": "replace"}
    ok(faulty.hsm.keys(wanted))
    for first in range(1, 5):
        plan = f"C_GetAttributeValue:{first}:before={DEVICE_ERROR} C_GetAttributeValue:{first + second}:before={DEVICE_ERROR}"
        with_plan(faulty, plan)
        answer = faulty.hsm.keys(wanted)
        assert answer["changed"] is False, (plan, answer)
        assert faulty.calls()["C_DestroyObject"] == faulty.calls()["C_GenerateKey"] == 0, plan


def test_a_pin_file_that_was_refused_is_not_tried_again_by_anyone(faulty: Faulty) -> None:
    """On a token that flags nothing: the refusal is made by the fault library, the real token never hears of it."""
    with_plan(faulty, "C_Login:1:before=0xa0")
    hsm = faulty.hsm
    codes = []
    for module, args in (("hsm_status", {}), ("hsm_status", {}), ("hsm_key", {"keys": KEYS}), ("hsm_sync", {})):
        answer = hsm.run(module, **({} if module == "hsm_status" else {"instance": "primary"}), **args)
        codes.append(answer["failure"]["code"] if "failure" in answer else answer["instances"][0]["slots"][0]["code"])
    pin_file = hsm.scratch / "pins" / "payments"
    declared = {"tokens": [{"label": "payments", "pin_file": str(pin_file)}]}
    codes.append(faulty.register("C_Login:1:before=0xa0", **declared)["failure"]["code"])
    assert codes == ["pin_incorrect", *["pin_not_tried"] * 4]
    assert faulty.calls()["C_Login"] == 1
    # The operator's word is one more try, a good one ends the matter, and so does a file that was written anew.
    with_plan(faulty, "")
    assert ok(hsm.keys(*KEYS, allow_low_pin_count=True))["changed"] is True
    assert ok(hsm.run("hsm_status", require="all"))["healthy"] is True
    with_plan(faulty, "C_Login:1:before=0xa0")
    assert hsm.keys(*KEYS)["failure"]["code"] == "pin_incorrect"
    pin_file.write_text(pin_file.read_text())
    with_plan(faulty, "")
    assert ok(hsm.keys(*KEYS))["changed"] is False


LOGGING_IN: dict[str, dict[str, Any]] = {
    "hsm_certificate": {"instance": "primary", "key_label": "k0", "subject": {"CN": "k0"}, "csr_path": "/srv/k0.csr"},
    "hsm_info": {"token_label": "payments"},
    "hsm_instance": {},
    "hsm_key": {"instance": "primary", "keys": KEYS},
    "hsm_status": {},
    "hsm_status_info": {},
    "hsm_sync": {"instance": "primary"},
}


@pytest.mark.parametrize("check", [False, True])
@pytest.mark.parametrize("module", LOGGING_IN)
def test_every_module_remembers_a_refusal(faulty: Faulty, module: str, check: bool) -> None:
    """Also that of a run in check mode, which costs a try like any other."""
    plan, hsm = "C_Login:1:before=0xa0", faulty.hsm
    with_plan(faulty, plan)
    pin_file = str(hsm.scratch / "pins" / "payments")
    # Without an instance the library is named, and the PIN file.
    direct = {"library": faulty.library, "environment": faulty.environment(plan), "pin_file": pin_file} if module == "hsm_info" else {}
    for code in ("pin_incorrect", "pin_not_tried"):
        if module == "hsm_instance":
            answer = faulty.register(plan, check=check, tokens=[{"label": "payments", "pin_file": pin_file}])
        else:
            answer = hsm.run(module, check=check, **LOGGING_IN[module], **direct)
        slots = [slot for instance in answer.get("instances", []) for slot in instance["slots"]]
        assert code in [answer.get("failure", {}).get("code"), *(slot["code"] for slot in slots)], answer
    assert faulty.calls()["C_Login"] == 1


AFTER = f"after={DEVICE_ERROR}"


def test_a_destroy_that_fails_after_its_effect_is_found_out_by_the_next_run(faulty: Faulty) -> None:
    """The session that was refused cannot tell: some libraries hide from it what they could not destroy."""
    gone = [{**key, "state": "absent"} for key in (KEYS[0], PAIRS[0])]
    ok(faulty.hsm.keys(KEYS[0], PAIRS[0]))
    with_plan(faulty, f"C_DestroyObject:1:{AFTER}")
    for applied, failed, left in (([], "k0", ["p0", "p0"]), (["k0"], "p0", ["p0"])):
        answer = faulty.hsm.keys(*gone)
        assert answer["failed"] is answer["changed"] is True and "does not prove that it is gone" in answer["msg"]
        assert (labels(answer, "applied"), labels(answer, "failed_keys"), faulty.labels()) == (applied, [failed], left)
    with_plan(faulty, "")
    assert labels(ok(faulty.hsm.keys(*gone)), "applied") == ["p0"] and faulty.labels() == []
    assert ok(faulty.hsm.keys(*gone))["changed"] is False


def test_an_attribute_that_is_written_in_spite_of_the_error_is_found_out(faulty: Faulty) -> None:
    ok(faulty.hsm.keys({**KEYS[0], "operations": ["encrypt", "decrypt"]}))
    less = {**KEYS[0], "operations": ["encrypt"]}
    with_plan(faulty, f"C_SetAttributeValue:1:{AFTER}")
    assert ok(faulty.hsm.keys(less))["key_results"][0]["operations"] == ["encrypt"]
    with_plan(faulty, "")
    assert ok(faulty.hsm.keys(less))["changed"] is False


def test_what_was_written_of_two_attributes_is_told(faulty: Faulty) -> None:
    ok(faulty.hsm.keys({**KEYS[0], "operations": ["encrypt", "decrypt", "sign", "verify"]}))
    less = {**KEYS[0], "operations": ["encrypt", "decrypt"]}
    with_plan(faulty, f"C_SetAttributeValue:2:before={DEVICE_ERROR}")
    answer = faulty.hsm.keys(less)
    assert answer["failed"] is answer["changed"] is True and answer["failure"]["code"] == "CKR_DEVICE_ERROR"
    (entry,) = answer["key_results"]
    assert len(entry["operations"]) == 3 and entry["state"] == "failed"
    becomes = ", ".join(entry["operations"])
    assert f"~ key k0: operations [encrypt, decrypt, sign, verify] -> [{becomes}]\n" in answer["diff"]["prepared"]
    with_plan(faulty, "")
    assert ok(faulty.hsm.keys(less))["changed"] is True


@pytest.mark.parametrize(
    ("plan", "wanted"),
    [
        (f"C_DestroyObject:1:{AFTER}", {**KEYS[0], "state": "absent"}),
        (f"C_SetAttributeValue:1:{AFTER}", {**KEYS[0], "operations": ["encrypt"]}),
        (f"C_GenerateKey:1:{AFTER}", KEYS[1]),
    ],
)
def test_what_cannot_be_looked_at_after_an_error_may_have_been_done(faulty: Faulty, plan: str, wanted: dict[str, Any]) -> None:
    ok(faulty.hsm.keys(KEYS[0]))
    with_plan(faulty, f"{plan}:on")
    answer = faulty.hsm.keys(wanted)
    assert answer["failed"] is answer["changed"] is True
    assert "whether it took effect all the same could not be read (CKR_DEVICE_ERROR)" in answer["msg"]
    with_plan(faulty, "")
    ok(faulty.hsm.keys(wanted))
    assert ok(faulty.hsm.keys(wanted))["changed"] is False


@pytest.mark.parametrize("wanted", [{"type": "RSA"}, {"type": "EC", "curve": "P-384"}, {"type": "Ed25519"}], ids=lambda one: one["type"])
@pytest.mark.parametrize(
    "plan", ["C_DestroyObject:1:after=0x30:on", "C_DestroyObject:2:before=0x30", "C_DestroyObject:1:kill", "C_DestroyObject:2:kill"]
)
def test_a_replacement_that_has_destroyed_half_a_pair_converges(faulty: Faulty, plan: str, wanted: dict[str, Any]) -> None:
    ok(faulty.hsm.keys(PAIRS[0]))
    other = {"label": "p0", **wanted, "on_mismatch": "replace"}
    if wanted["type"] == "EC":  # two objects go before: a pair of the session, which showed that the token has the curve
        plan = plan.replace("Object:1", "Object:3").replace("Object:2", "Object:4")
    with_plan(faulty, plan)
    answer = faulty.hsm.keys(other)
    assert answer["failed"] is answer["changed"] is True
    if plan.endswith("kill"):
        crashed(answer, "C_DestroyObject")
    # One more that fails: the note stays until the key is whole.
    with_plan(faulty, f"C_GenerateKeyPair:1:before={DEVICE_ERROR}")
    again = faulty.hsm.keys(other)
    assert again["failure"]["code"] == "CKR_DEVICE_ERROR", again
    with_plan(faulty, "")
    done = ok(faulty.hsm.keys(other))
    assert done["changed"] is True and done["key_results"][0]["type"] == wanted["type"]
    assert len(faulty.labels()) == 2 and ok(faulty.hsm.keys(other))["changed"] is False


def everywhere(function: str, when: str, count: int = 40) -> str:
    return " ".join(f"{function}:{number}:{when}={DEVICE_ERROR}" for number in range(1, count))


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("function", ["C_CloseSession", "C_CloseAllSessions", "C_Logout", "C_Finalize"])
def test_how_a_run_ends_is_not_how_it_went(faulty: Faulty, function: str, when: str) -> None:
    with_plan(faulty, everywhere(function, when))
    answer = ok(faulty.hsm.keys(*KEYS, *PAIRS))
    assert answer["changed"] is True and len(answer["applied"]) == 9
    synced = ok(faulty.hsm.run("hsm_sync", instance="primary"))
    assert synced["changed"] is False and synced["summary"]["known"] == 9
    assert ok(faulty.hsm.run("hsm_status", require="all"))["healthy"] is True
    assert ok(faulty.hsm.keys(*KEYS, *PAIRS))["changed"] is False


def test_what_a_look_made_and_cannot_be_removed_is_no_failure(faulty: Faulty) -> None:
    """hsm_status makes a key for its round trip, which goes with the session at the latest."""
    with_plan(faulty, everywhere("C_DestroyObject", "before"))
    assert ok(faulty.hsm.run("hsm_status", require="all"))["healthy"] is True
    assert faulty.calls()["C_DestroyObject"] == 1
    wanted = {"label": "given", "type": "AES", "source": {"content": "b" * 32, "format": "hex"}}
    assert ok(faulty.hsm.keys(wanted))["changed"] is True
    assert ok(faulty.hsm.keys(wanted))["changed"] is False


@pytest.mark.parametrize("function", ["C_CloseSession", "C_Logout", "C_Finalize"])
def test_how_a_registration_ends_is_not_how_it_went(hsm: Hsm, library: str, function: str) -> None:
    """Only its last call fails: a library that cannot be initialised again in between is another matter."""
    faulty = Faulty(hsm, library)
    ok(faulty.register())
    last = faulty.calls()[function]
    plan = f"{function}:{last}:before={DEVICE_ERROR}" if last else everywhere(function, "before")
    answer = ok(faulty.register(plan, "other", tokens=[hsm.token("other")]))
    assert answer["changed"] is True and answer["instance"]["tokens"][0]["accessible"] is True
    assert ok(faulty.register(plan, "other", tokens=[hsm.token("other")]))["changed"] is False
