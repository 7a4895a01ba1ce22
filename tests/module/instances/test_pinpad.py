# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A token whose PIN a person types at the device: a double in front of SoftHSM, as no such device is here."""

from __future__ import annotations

from typing import Any

from faulty import Faulty, with_plan
from hsm_fixture import PIN, Hsm, ok

AES = {"label": "dek-1", "type": "AES"}


def pad(hsm: Hsm, library: str, typed: str | None) -> Faulty:
    """A token made with the vendor's tools, and the file from which "the person" types; without ``typed`` nobody is there."""
    hsm.softhsm_util("--init-token", "--free", "--label", "payments", "--so-pin", "87654321", "--pin", PIN)
    faulty = Faulty(hsm, library)
    if typed is not None:
        (hsm.scratch / "typed").write_text(typed)
    return faulty


def register(faulty: Faulty, plan: str = "", *, check: bool = False, **token: Any) -> dict[str, Any]:
    """hsm_instance, with the calls of this run alone in the log."""
    faulty.log.unlink(missing_ok=True)
    args = faulty.hsm.instance(tokens=[{"label": "payments", **token}])
    environment = faulty.environment(plan, FAULT_PINPAD=str(faulty.hsm.scratch / "typed"))
    return faulty.hsm.run("hsm_instance", check=check, **{**args, "library": faulty.library, "environment": environment})


def refused(answer: dict[str, Any]) -> str:
    assert answer.get("failed"), answer
    code: str = answer["failure"]["code"]
    return code


def test_every_module_lets_the_device_ask(hsm: Hsm, library: str) -> None:
    faulty = pad(hsm, library, PIN)
    assert ok(register(faulty, login="pinpad", check=True))["changed"] is True
    made = ok(register(faulty, login="pinpad"))
    assert made["changed"] is True and made["instance"]["tokens"][0]["login"] == "pinpad"
    assert faulty.calls()["C_Login"] == 1
    assert ok(register(faulty, login="pinpad"))["changed"] is False
    faulty.log.unlink()
    assert [ok(hsm.keys(AES))["changed"] for _run in range(2)] == [True, False]
    assert faulty.calls()["C_Login"] == 2
    slot = ok(hsm.run("hsm_status"))["instances"][0]["slots"][0]
    assert (slot["accessible"], slot["login"], slot["probe"]) == (True, "pinpad", "AES_ECB")
    ok(hsm.run("hsm_sync", instance="primary"))
    ok(hsm.run("hsm_group", name="solo", connections=[{"instance": "primary", "token_label": "payments"}]))
    assert ok(hsm.keys({"label": "dek-2", "type": "AES"}, instance=None, group="solo"))["changed"] is True
    # A PIN that a task gives has no use there.
    given = hsm.keys(AES, pin=PIN)
    assert "pin: token 'payments' is registered with login: pinpad" in given["msg"] and PIN not in given["_raw"]


def test_a_wrong_pin_is_typed_once(hsm: Hsm, library: str) -> None:
    faulty = pad(hsm, library, PIN)
    ok(register(faulty, login="pinpad"))
    faulty.log.unlink()
    (hsm.scratch / "typed").write_text("111111")
    assert refused(hsm.keys(AES)) == "pin_incorrect"
    assert faulty.calls()["C_Login"] == 1
    # The token's own word stops the next one. Nothing else does: the next PIN is typed anew.
    (hsm.scratch / "typed").write_text(PIN)
    assert refused(hsm.keys(AES)) == "pin_count_low"
    assert ok(hsm.keys(AES, allow_low_pin_count=True))["changed"] is True


def test_nobody_types(hsm: Hsm, library: str) -> None:
    faulty = pad(hsm, library, None)
    answer = register(faulty, login="pinpad")
    assert refused(answer) == "pin_not_typed" and "CKR_FUNCTION_CANCELED" in answer["msg"]
    # A vendor's own word for it.
    answer = register(faulty, "C_Login:1:before=0x80000042", login="pinpad")
    assert refused(answer) == "pin_not_typed" and "0x80000042" in answer["msg"]
    assert faulty.calls()["C_Login"] == 1


def test_without_a_pad_no_login_is_tried(hsm: Hsm, library: str) -> None:
    faulty = pad(hsm, library, PIN)
    ok(register(faulty, login="pinpad"))
    with_plan(faulty, "")
    assert refused(hsm.keys(AES)) == "no_pin_pad"
    assert "C_Login" not in faulty.calls()
