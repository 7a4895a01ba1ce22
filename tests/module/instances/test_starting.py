# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Arguments of C_Initialize: with NSS, which works with them only, and as another program sees them."""

from __future__ import annotations

from pathlib import Path

import pytest
from faulty import Faulty, crashed
from hsm_fixture import PIN, Hsm, ok
from nss_pin import LABEL, new_database


def test_nss_without_p11_kit(tmp_path: Path) -> None:
    hsm, instance = Hsm(tmp_path), {**new_database(tmp_path, PIN), "name": "primary"}
    text, library, token = instance.pop("init_args"), instance["library"], instance["tokens"][0]
    refused = hsm.run("hsm_instance", **instance)
    assert refused["failure"]["code"] == "library_init_failed" and "init_args" in refused["msg"]
    ok(hsm.run("hsm_instance", **instance, init_args=text))
    keys = [{"label": "dek", "type": "AES"}, {"label": "sig", "type": "EC"}, {"label": "mac", "type": "GENERIC_SECRET"}]
    assert [entry["action"] for entry in ok(hsm.keys(*keys))["applied"]] == ["create"] * 3
    assert ok(hsm.keys(*keys))["changed"] is False
    assert ok(hsm.run("hsm_status", require="all"))["healthy"] is True
    assert ok(hsm.run("hsm_sync", instance="primary"))["summary"]["known"] == 3
    direct = {"library": library, "init_args": text, "token_label": LABEL, "pin_file": token["pin_file"]}
    assert ok(hsm.call("hsm_key", {**direct, "keys": keys}))["changed"] is False


def test_what_the_library_gets(hsm: Hsm) -> None:
    spied, log = hsm.spied()
    spied.register(os_locking=True)
    assert ok(spied.run("hsm_instance", **spied.instance(os_locking=True)))["changed"] is False
    log.unlink()
    ok(spied.run("hsm_status", require="all"))
    assert "CKF_OS_LOCKING_OK" in log.read_text()
    changed = ok(spied.run("hsm_instance", **spied.instance()))
    assert changed["changed"] is True and changed["diff"]["before"]["instance primary"]["os_locking"] is True
    log.unlink()
    ok(spied.run("hsm_status", require="all"))
    assert "CKF_OS_LOCKING_OK" not in log.read_text()


def test_what_belongs_to_a_library(primary: Hsm) -> None:
    answer = primary.run("hsm_key", instance="primary", init_args="a\nb", os_locking=True, keys=[{"label": "a", "type": "AES"}])
    assert len(answer["failure"]["details"]["problems"]) == 3 and "one line" in answer["msg"]


def test_validate_false_keeps_all_that_is_declared(hsm: Hsm) -> None:
    """The HSM is not there yet. Instance, token and PIN file are, and the same task with the HSM finds them."""
    library = hsm.scratch / "later.so"
    args = hsm.instance(library=str(library), validate=False)
    planned, done = (hsm.run("hsm_instance", check=check, **args) for check in (True, False))
    assert planned["diff"] == done["diff"] and done["changed"] is True and planned["changed"] is True
    assert Path(args["tokens"][0]["pin_file"]).read_text() == f"{PIN}\n" and PIN not in done["_raw"]
    assert ok(hsm.run("hsm_instance", **args))["changed"] is False
    library.symlink_to(hsm.library)
    assert ok(hsm.run("hsm_instance", **args))["instance"]["tokens"][0]["accessible"] is True
    ok(hsm.keys({"label": "dek", "type": "AES"}))


@pytest.mark.parametrize("validate", [True, False])
def test_validate_false_leads_out_of_a_crash(hsm: Hsm, library: str, validate: bool) -> None:
    faulty = Faulty(hsm, library)
    faulty.hsm.token()
    plan = faulty.environment("C_GetSlotList:1:crash")
    answer = hsm.run("hsm_instance", **{**hsm.instance(validate=validate), "library": library, "environment": plan})
    if validate:
        crashed(answer, "C_GetSlotList")
        return
    (token,) = ok(answer)["instance"]["tokens"]
    assert token["code"] == "library_crashed" and "C_GetSlotList" in token["error"]
    assert Path(token["pin_file"]).exists() and any("C_GetSlotList" in str(text) for text in answer["warnings"])
    assert ok(faulty.register())["instance"]["tokens"][0]["accessible"] is True


def test_validate_false_keeps_no_pin_that_was_refused(primary: Hsm) -> None:
    pin_file = primary.scratch / "pins" / "other"
    args = primary.instance(tokens=[primary.token(pin="000000", pin_file=str(pin_file))], validate=False)
    answer = ok(primary.run("hsm_instance", **args))
    assert answer["instance"]["tokens"][0]["code"] == "pin_incorrect" and not pin_file.exists()
