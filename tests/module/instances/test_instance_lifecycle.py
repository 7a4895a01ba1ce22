# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""hsm_instance on a real token: four steps, change, removal."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest
from hsm_fixture import PIN, SO_PIN, Hsm


def test_four_steps(hsm: Hsm) -> None:
    first = hsm.run("hsm_instance", check=True, **hsm.instance())
    assert first["changed"] is True
    assert not Path(hsm.registry).exists()
    assert not (hsm.scratch / "pins").exists()
    assert list((hsm.scratch / "tokens").iterdir()) == []
    second = hsm.run("hsm_instance", **hsm.instance())
    assert second["changed"] is True
    assert second["diff"] == first["diff"]
    token = second["instance"]["tokens"][0]
    assert token["accessible"] is True
    assert token["label"] == "payments"
    assert second["instance"]["prefix"] == "hsm::softhsm2"
    third = hsm.run("hsm_instance", check=True, **hsm.instance())
    fourth = hsm.run("hsm_instance", **hsm.instance())
    for answer in (third, fourth):
        assert answer["changed"] is False
        assert answer["diff"] == {"before": {}, "after": {}}
        assert answer["instance"]["id"] == second["instance"]["id"]
        assert answer["instance"]["updated_at"] == second["instance"]["updated_at"]


def test_files_are_the_owners_alone(primary: Hsm) -> None:
    for path in (Path(primary.registry), primary.scratch / "pins" / "payments"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE((primary.scratch / "pins").stat().st_mode) == 0o700
    assert (primary.scratch / "pins" / "payments").read_text() == PIN + "\n"


def test_a_change_shows_before_and_after_and_moves_updated(primary: Hsm) -> None:
    changed = primary.instance(description="card payments", admins=["ops@example.com"], max_sessions=8)
    planned = primary.run("hsm_instance", check=True, **changed)
    done = primary.run("hsm_instance", **changed)
    assert planned["changed"] is done["changed"] is True
    assert planned["diff"] == done["diff"]
    assert done["diff"]["before"]["instance primary"]["max_sessions"] == 1024
    assert done["diff"]["after"]["instance primary"]["max_sessions"] == 8
    assert done["instance"]["admins"] == ["ops@example.com"]
    assert primary.run("hsm_instance", **changed)["changed"] is False


def test_several_tokens_and_selectors(primary: Hsm) -> None:
    serial = primary.register()["tokens"][0]["serial"]
    other = primary.run("hsm_instance", **primary.instance(tokens=[primary.token(), primary.token("second")]))
    assert [token["label"] for token in other["instance"]["tokens"]] == ["payments", "second"]
    slot = other["instance"]["tokens"][1]["slot"]
    pin_files = [str(primary.scratch / "pins" / name) for name in ("payments", "second")]
    tokens = [{"serial": serial, "pin_file": pin_files[0]}, {"slot": hex(slot), "pin_file": pin_files[1]}]
    moved = primary.run("hsm_instance", **primary.instance(tokens=tokens))
    assert moved["instance"]["tokens"][1]["slot"] == slot
    assert [token["accessible"] for token in moved["instance"]["tokens"]] == [True, True]
    twice = primary.run("hsm_instance", **primary.instance(tokens=[{**tokens[0]}, {"label": "payments", "pin_file": pin_files[0]}]))
    assert twice["failed"] and "are the same token" in twice["msg"]


def test_prefixes_count_by_model(primary: Hsm) -> None:
    assert primary.register("standby", tokens=[primary.token("standby")])["prefix"] == "hsm::softhsm2_1"
    assert primary.register("empty", tokens=[])["prefix"] is None
    assert primary.register("third", tokens=[primary.token("third")])["prefix"] == "hsm::softhsm2_2"
    answer = primary.run("hsm_instance", name="primary", state="absent")
    assert answer["failed"] and answer["failure"]["code"] == "renumbering"
    assert "'standby' would move from hsm::softhsm2_1 to hsm::softhsm2" in answer["msg"]
    assert "'third' would move from hsm::softhsm2_2 to hsm::softhsm2_1" in answer["msg"]
    late = primary.run("hsm_instance", **primary.instance("empty", tokens=[primary.token("late")]))
    assert late["failure"]["code"] == "renumbering"
    assert "slots" not in {path.name for path in (primary.scratch / "tokens").iterdir()}
    allowed = primary.run("hsm_instance", name="primary", state="absent", allow_renumber=True)
    assert allowed["changed"] is True
    assert primary.register("standby", tokens=[primary.token("standby")])["prefix"] == "hsm::softhsm2"


def test_refused_renumbering_creates_no_token(primary: Hsm) -> None:
    primary.register("empty", tokens=[])
    primary.register("third", tokens=[primary.token("third")])
    before = sorted(path.name for path in (primary.scratch / "tokens").iterdir())
    late = primary.run("hsm_instance", **primary.instance("empty", tokens=[primary.token("late")]))
    assert late["failure"]["code"] == "renumbering"
    assert sorted(path.name for path in (primary.scratch / "tokens").iterdir()) == before


@pytest.mark.parametrize("check", [True, False])
def test_another_prefix_than_the_expected_one_is_refused_before_a_token_is_made(primary: Hsm, check: bool) -> None:
    before = sorted(path.name for path in (primary.scratch / "tokens").iterdir())
    standby = primary.instance("standby", tokens=[primary.token("standby")])
    answer = primary.run("hsm_instance", check=check, expect_prefix="hsm::softhsm2", **standby)
    assert answer["failed"] and answer["failure"]["code"] == "renumbering"
    assert "instance 'standby' has hsm::softhsm2_1" in answer["msg"] and "'primary' (hsm::softhsm2)" in answer["msg"]
    assert sorted(path.name for path in (primary.scratch / "tokens").iterdir()) == before
    assert primary.run("hsm_instance", check=check, expect_prefix="hsm::softhsm2_1", **standby)["changed"] is True
    # What comes before it in the play may not be there in check mode.
    late = primary.instance("late", tokens=[primary.token("late")])
    answer = primary.run("hsm_instance", check=check, expect_prefix="hsm::softhsm2_7", **late)
    assert bool(answer.get("failed")) is not check
    of_first = primary.run("hsm_instance", check=check, expect_prefix="hsm::softhsm2_1", **primary.instance())
    assert of_first["failed"] and of_first["failure"]["code"] == "renumbering"


def test_removal_four_steps(primary: Hsm) -> None:
    planned = primary.run("hsm_instance", check=True, name="primary", state="absent")
    done = primary.run("hsm_instance", name="primary", state="absent")
    assert planned["changed"] is done["changed"] is True
    assert planned["diff"] == done["diff"]
    assert done["diff"]["after"] == {}
    for check in (True, False):
        assert primary.run("hsm_instance", check=check, name="primary", state="absent")["changed"] is False
    assert "payments" in primary.tool("--list-token-slots", pin=None)


def test_removal_is_refused_while_keys_refer_to_it(primary: Hsm) -> None:
    primary.keys({"label": "dek-1", "type": "AES"})
    refused = primary.run("hsm_instance", name="primary", state="absent")
    assert refused["failure"]["code"] == "in_use"
    assert "'dek-1'" in refused["msg"]
    dropped = primary.run("hsm_instance", **primary.instance(tokens=[primary.token("other")]))
    assert dropped["failure"]["code"] == "in_use"
    forced = primary.run("hsm_instance", name="primary", state="absent", force=True)
    assert forced["changed"] is True
    assert "dek-1" in primary.tool("--list-objects")


def test_a_token_without_a_user_pin_gets_one(hsm: Hsm) -> None:
    """What a run leaves that dies between C_InitToken and C_InitPIN."""
    command = ["pkcs11-tool", "--module", hsm.library, "--slot-index", "0", "--init-token", "--label", "payments", "--so-pin", SO_PIN]
    subprocess.run(command, env={**os.environ, **hsm.environment}, check=True, capture_output=True)
    bare = hsm.run("hsm_instance", **hsm.instance(tokens=[{"label": "payments", "pin": PIN}]))
    assert bare["failure"]["code"] == "pin_not_initialized"
    planned = hsm.run("hsm_instance", check=True, **hsm.instance())
    done = hsm.run("hsm_instance", **hsm.instance())
    assert planned["diff"] == done["diff"]
    assert done["diff"]["after"]["token label 'payments'"] == {"user_pin": "set by the security officer"}
    assert done["instance"]["tokens"][0]["accessible"] is True
    assert hsm.run("hsm_instance", **hsm.instance())["changed"] is False


def test_new_pin_is_changed_once(primary: Hsm) -> None:
    pin_file = str(primary.scratch / "pins" / "payments")
    tokens = [{"label": "payments", "pin_file": pin_file, "new_pin": "998877"}]
    planned = primary.run("hsm_instance", check=True, **primary.instance(tokens=tokens))
    done = primary.run("hsm_instance", **primary.instance(tokens=tokens))
    assert planned["diff"] == done["diff"]
    assert done["changed"] is True
    assert Path(pin_file).read_text() == "998877\n"
    assert not Path(pin_file + ".new").exists()
    assert done["instance"]["tokens"][0]["accessible"] is True
    for check in (True, False):
        again = primary.run("hsm_instance", check=check, **primary.instance(tokens=tokens))
        assert again["changed"] is False
        assert again["instance"]["tokens"][0]["pin_state"] == "ok"


def test_new_pin_by_the_security_officer_when_the_old_one_is_lost(primary: Hsm) -> None:
    pin_file = str(primary.scratch / "pins" / "payments")
    Path(pin_file).unlink()
    tokens = [{"label": "payments", "pin_file": pin_file, "new_pin": "445566"}]
    lost = primary.run("hsm_instance", **primary.instance(tokens=tokens))
    assert lost["failure"]["code"] == "pin_missing"
    done = primary.run("hsm_instance", **primary.instance(tokens=[{**tokens[0], "so_pin": SO_PIN}]))
    assert done["instance"]["tokens"][0]["accessible"] is True
    assert Path(pin_file).read_text() == "445566\n"


def test_an_interrupted_pin_change_is_mended(primary: Hsm) -> None:
    pin_file = primary.scratch / "pins" / "payments"
    tokens = [{"label": "payments", "pin_file": str(pin_file), "new_pin": "998877"}]
    # Cut off after the token took the new PIN and before the file was renamed.
    primary.tool("--change-pin", "--new-pin", "998877")
    pending = Path(f"{pin_file}.new")
    pending.write_text("998877\n")
    pending.chmod(0o600)
    mended = primary.run("hsm_instance", **primary.instance(tokens=tokens))
    assert mended["changed"] is True
    assert pin_file.read_text() == "998877\n"
    assert not pending.exists()
    # Cut off before the token took it: one refused try, then the old PIN again, with consent.
    pin_file.write_text("998877\n")
    pending.write_text("112233\n")
    pending.chmod(0o600)
    tokens[0]["new_pin"] = "112233"
    refused = primary.run("hsm_instance", **primary.instance(tokens=tokens))
    assert refused["failure"]["code"] == "pin_incorrect"
    stopped = primary.run("hsm_instance", **primary.instance(tokens=tokens))
    assert stopped["failure"]["code"] == "pin_count_low"
    mended = primary.run("hsm_instance", allow_low_pin_count=True, **primary.instance(tokens=tokens))
    assert mended["instance"]["tokens"][0]["accessible"] is True
    assert pin_file.read_text() == "112233\n"
