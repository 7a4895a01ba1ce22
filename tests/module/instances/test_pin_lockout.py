# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""PIN safety on a token that really locks: opencryptoki's software token, three wrong PINs."""

from __future__ import annotations

from typing import Any

import pytest
from hsm_fixture import Hsm
from swtok import LABEL, PIN


def attempt(hsm: Hsm, locking: dict[str, Any], pin: str, *, allow: bool = False) -> dict[str, Any]:
    tokens = [{"label": LABEL, "pin": pin}]
    return hsm.run("hsm_instance", **locking, tokens=tokens, allow_low_pin_count=allow)


def outcome(answer: dict[str, Any]) -> tuple[str, str | None]:
    failure = answer["failure"]
    return failure["code"], failure["details"].get("pin_state")


def test_a_run_never_takes_the_last_try_by_itself(hsm: Hsm, locking: dict[str, Any]) -> None:
    assert attempt(hsm, locking, PIN)["instance"]["tokens"][0]["pin_state"] == "ok"
    assert outcome(attempt(hsm, locking, "111111")) == ("pin_incorrect", "low")
    for _run in range(5):
        assert outcome(attempt(hsm, locking, "111111")) == ("pin_count_low", "low")
    assert outcome(attempt(hsm, locking, "111111", allow=True)) == ("pin_incorrect", "final_try")
    for _run in range(5):
        stopped = attempt(hsm, locking, PIN)
        assert outcome(stopped) == ("pin_final_try", "final_try")
        assert "one try is left before it locks" in stopped["msg"]
    # One try left, the right PIN, and the operator's word: the count is full again.
    good = attempt(hsm, locking, PIN, allow=True)
    assert good["instance"]["tokens"][0]["pin_state"] == "ok"
    assert attempt(hsm, locking, PIN)["changed"] is False


def test_a_locked_token_says_so_everywhere(hsm: Hsm, locking: dict[str, Any]) -> None:
    pin_file = hsm.scratch / "pin"
    pin_file.write_text(PIN + "\n")
    pin_file.chmod(0o600)
    tokens = [{"label": LABEL, "pin_file": str(pin_file)}]
    assert hsm.run("hsm_instance", **locking, tokens=tokens)["changed"] is True
    for _try in range(3):
        attempt(hsm, locking, "111111", allow=True)
    for allow in (False, True):
        assert outcome(attempt(hsm, locking, PIN, allow=allow)) == ("pin_locked", "locked")
    key = hsm.keys({"label": "dek-1", "type": "AES"}, instance="ock")
    assert key["failure"]["code"] == "pin_locked"
    assert hsm.run("hsm_sync", instance="ock")["failure"]["code"] == "pin_locked"
    slot = hsm.run("hsm_status")["instances"][0]["slots"][0]
    assert (slot["accessible"], slot["pin_state"], slot["code"]) == (False, "locked", "pin_locked")
    # Saved all the same, when the operator says so.
    saved = hsm.run("hsm_instance", **locking, tokens=tokens, validate=False, description="locked since tonight")
    assert saved["changed"] is True and saved["instance"]["tokens"][0]["pin_state"] == "locked"


def test_a_type_that_the_token_lacks_is_told_with_what_it_can(hsm: Hsm, locking: dict[str, Any]) -> None:
    direct = {"library": locking["library"], "token_label": LABEL, "pin": PIN, "instance": None}
    answer = hsm.keys({"label": "ec", "type": "EC"}, {"label": "aes", "type": "AES"}, **direct)
    assert answer["failure"]["code"] == "cannot_plan"
    assert "cannot generate EC keys" in answer["msg"] and "AES_KEY_GEN" in answer["msg"]


@pytest.mark.parametrize(
    "key",
    [
        {"label": "keyfleet aes", "type": "AES", "size": 256, "operations": ["encrypt", "decrypt"]},
        {"label": "keyfleet rsa", "type": "RSA", "size": 2048, "operations": ["sign", "verify"]},
    ],
)
def test_keys_four_steps_on_another_provider(hsm: Hsm, locking: dict[str, Any], key: dict[str, Any]) -> None:
    direct = {"library": locking["library"], "token_label": LABEL, "pin": PIN, "instance": None}
    gone = {"label": key["label"], "state": "absent"}
    hsm.keys(gone, **direct)
    planned, done = (hsm.keys(key, check=check, **direct) for check in (True, False))
    assert planned["diff"] == done["diff"] and done["changed"] is True
    made = done["keys"][0]
    assert made["sensitive"] is True and made["extractable"] is False and made["operations"] == key["operations"]
    for check in (True, False):
        assert hsm.keys(key, check=check, **direct)["changed"] is False
    for check in (True, False):
        assert hsm.keys(gone, check=check, **direct)["changed"] is True
    assert hsm.keys(gone, **direct)["changed"] is False
