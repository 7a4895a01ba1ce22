# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""kms_config proves each PIN once before it is written, and probes with the PINs of the file. Logins are counted at the library."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from faulty import Faulty
from hsm_fixture import PIN, SO_PIN, Hsm, calls, ok

WRONG = "999999"


def ready(hsm: Hsm, *labels: str) -> None:
    for label in labels:
        hsm.softhsm_util("--init-token", "--free", "--label", label, "--so-pin", SO_PIN, "--pin", PIN)


def entry(hsm: Hsm, name: str, *tokens: dict[str, Any], **options: Any) -> dict[str, Any]:
    base = {"name": name, "model": "softhsm2", "library": hsm.library, "environment": hsm.environment, "admins": ["ops"]}
    return {**base, "tokens": list(tokens), **options}


def path(hsm: Hsm) -> Path:
    return hsm.scratch / "cosmian" / "kms.toml"


def run(hsm: Hsm, *instances: dict[str, Any], **options: Any) -> dict[str, Any]:
    return hsm.run("kms_config", **{"instances": list(instances), "config_path": str(path(hsm)), **options})


def pin_file(hsm: Hsm, pin: str = PIN) -> str:
    file = hsm.scratch / "pin"
    file.touch(mode=0o600)
    file.write_text(pin)
    return str(file)


def test_each_pin_is_proven_by_one_login(hsm: Hsm) -> None:
    ready(hsm, "a", "b", "open")
    spied, log = hsm.spied()
    a = entry(spied, "a", {"label": "a", "pin_file": pin_file(hsm)}, {"label": "open", "login": False})
    b = entry(spied, "b", {"label": "b", "pin": PIN})
    seen = ok(run(spied, a, b, check=True))
    assert (calls(log)["C_Login"], calls(log)["C_OpenSession"]) == (2, 3)
    # A later task of the same run has them proven.
    assert ok(run(spied, a, b, proven=seen["proven"]))["changed"] is True
    assert calls(log)["C_Login"] == 2
    # Not once the PIN file was written again: then it may hold another PIN.
    pin_file(hsm)
    assert ok(run(spied, a, b, proven=seen["proven"]))["changed"] is False
    assert calls(log)["C_Login"] == 3
    # What is refused for another reason costs no attempt.
    pin_file(hsm, WRONG)
    assert run(spied, b, a)["failure"]["code"] == "renumbering"
    assert calls(log)["C_Login"] == 3


def test_a_pin_that_is_refused_is_not_written_and_not_tried_again(hsm: Hsm) -> None:
    ready(hsm, "a", "b", "c")
    spied, log = hsm.spied()
    file = pin_file(hsm)
    instances = [entry(spied, name, {"label": name, "pin_file": file}) for name in "ab"]
    ok(run(spied, *instances))
    before, good = path(hsm).read_bytes(), calls(log)["C_Login"]
    pin_file(hsm, WRONG)
    answer = run(spied, *instances, entry(spied, "c", {"label": "c", "pin": PIN}), check=True)
    # All tokens that refuse it at once, each with its place.
    assert answer["failure"]["code"] == "pin_incorrect" and answer["msg"].startswith("2 tokens cannot be used")
    assert "instances[0] (a).tokens[0] (label 'a'): token 'a'" in answer["msg"] and WRONG not in answer["_raw"]
    assert calls(log)["C_Login"] == good + 3
    assert run(spied, *instances)["failure"]["code"] == "pin_count_low"
    assert calls(log)["C_Login"] == good + 3 and path(hsm).read_bytes() == before


def test_a_refusal_is_remembered_of_a_token_that_flags_nothing(faulty: Faulty) -> None:
    hsm = faulty.hsm
    token = {"label": "payments", "pin_file": pin_file(hsm)}

    def ask(plan: str, registry: str, **options: Any) -> str:
        declared = entry(hsm, "primary", token, library=faulty.library, environment=faulty.environment(plan))
        answer = run(hsm, declared, registry=registry, **options)
        return str(answer.get("failure", {}).get("code"))

    # One that is registered, and one that is not, by a registry that is not there yet.
    for registry in (hsm.registry, str(hsm.scratch / "other" / "registry.db")):
        faulty.log.unlink(missing_ok=True)
        refusing = "C_Login:1:before=0xa0"
        codes = [ask(refusing, registry, check=True), ask("", registry), ask("", registry, state="present", check=True)]
        assert codes == ["pin_incorrect", "pin_not_tried", "pin_not_tried"]
        assert faulty.calls()["C_Login"] == 1 and not path(hsm).exists()
        assert ask("", registry, allow_low_pin_count=True) == "None"
        path(hsm).unlink()


def test_a_token_that_is_to_get_its_pin(hsm: Hsm) -> None:
    """As a run leaves it that was killed between the token and its PIN. The next hsm_instance sets it."""
    hsm.tool("--init-token", "--slot-index", "0", "--label", "half", "--so-pin", SO_PIN, pin=None, token="")
    served = entry(hsm, "a", hsm.token("half"))
    seen = ok(run(hsm, served, check=True))
    assert (seen["complete"], seen["proven"]) == (False, []) and "taken as one to come" in str(seen["warnings"])
    assert run(hsm, served)["failure"]["code"] == "pin_not_initialized"


def test_a_token_that_was_replaced_gets_no_pin(hsm: Hsm) -> None:
    hsm.register("primary", tokens=[hsm.token("payments")])
    hsm.softhsm_util("--delete-token", "--token", "payments")
    ready(hsm, "payments")
    spied, log = hsm.spied()
    answer = run(spied, entry(spied, "primary", {"label": "payments", "pin": PIN}))
    assert answer["failure"]["code"] == "token_changed" and calls(log)["C_Login"] == 0


def test_the_probe_takes_the_pins_of_the_file(hsm: Hsm) -> None:
    ready(hsm, "a", "b", "gone")
    spied, log = hsm.spied()
    declared = {name: {"label": name, "pin": PIN} for name in ("a", "b", "gone")}
    instances = [entry(spied, "one", declared["a"], declared["gone"]), entry(spied, "two", declared["b"])]
    assert run(spied, *instances, state="probed")["failure"]["code"] == "config_unreadable"
    slots = {one["name"]: one["slots"] for one in ok(run(spied, *instances))["instances"]}
    before, logins = path(hsm).read_bytes(), calls(log)["C_Login"]
    hsm.softhsm_util("--delete-token", "--token", "gone")
    hsm.tool("--change-pin", "--new-pin", WRONG, token="b")

    def probed(*given: dict[str, Any]) -> dict[int, tuple[str, bool, str | None]]:
        answer = ok(run(spied, *given, state="probed"))
        assert answer["changed"] is False and path(hsm).read_bytes() == before and PIN not in answer["_raw"]
        entries = answer["probed"]
        return {slot["slot_id"]: (one["prefix"], slot["accessible"], slot["code"]) for one in entries for slot in one["slots"]}

    a, gone, b = *slots["one"], *slots["two"]
    # A PIN that is declared and is not in the file is not tried, nor one that is in the file alone.
    other = [instances[0], entry(spied, "two", {"label": "b", "pin": "another"})]
    expected = {a: ("hsm::softhsm2", True, None), gone: ("hsm::softhsm2", False, "no_token")}
    assert probed(*other) == {**expected, b: ("hsm::softhsm2_1", False, "pin_differs")}
    assert calls(log)["C_Login"] == logins + 1
    assert probed(*instances) == {**expected, b: ("hsm::softhsm2_1", False, "pin_incorrect")}
    assert calls(log)["C_Login"] == logins + 3
    assert probed(*instances)[b] == ("hsm::softhsm2_1", False, "pin_count_low")


def test_the_key_that_wraps_the_servers_keys(hsm: Hsm) -> None:
    """It is looked at in the session that proves the PIN."""
    hsm.register("primary", tokens=[hsm.token("payments")])
    spied, log = hsm.spied()
    served = entry(spied, "primary", {"label": "payments", "pin": PIN})
    slot = ok(run(spied, served))["instances"][0]["slots"][0]
    settings = {"settings": {"key_encryption_key": f"hsm::softhsm2::{slot}::kek", "default_username": "ops"}}
    logins = calls(log)["C_Login"]
    # To come, as far as check mode knows: so it is not taken for proven.
    seen = ok(run(spied, served, check=True, **settings))
    assert (seen["complete"], seen["proven"]) == (False, []) and "is not there" in str(seen["warnings"])
    answer = run(spied, served, proven=seen["proven"], **settings)
    assert answer["failure"]["code"] == "kek_unusable" and "is not there. Create it with hsm_key" in answer["msg"]
    assert calls(log)["C_Login"] == logins + 2
    kek = {"label": "kek", "type": "AES", "size": 256, "operations": ["wrap", "unwrap"]}
    ok(hsm.keys(kek, {"label": "web", "type": "EC", "curve": "P-256"}))
    for check in (True, False):
        answer = run(spied, served, check=check, **settings)
        assert answer["failure"]["code"] == "kek_unusable" and "does not permit encrypt and decrypt" in answer["msg"]
    ok(hsm.keys({**kek, "operations": ["encrypt", "decrypt"]}))
    done = ok(run(spied, served, **settings))
    assert done["changed"] is True and "tokens[0] (label 'payments'): the server cannot use these keys" in str(done["warnings"])
    assert "EC ('web')" in str(done["warnings"]) and "nobody can be" not in str(done["warnings"])
    assert "nobody can be ops" in str(run(spied, served, check=True)["warnings"])


def test_what_the_unit_of_the_server_cannot_do(hsm: Hsm) -> None:
    ready(hsm, "a")
    served = entry(hsm, "a", {"label": "a", "pin": PIN})
    link = hsm.scratch / "tls"
    link.symlink_to("/root")
    wrong = {"tls": {"tls_cert_file": f"{link}/cert.pem", "tls_key_file": "/home/ops/key.pem"}, "db": {"database_url": "secret://db"}}
    answer = run(hsm, served, settings=wrong)
    assert answer["msg"].startswith("3 problems in the input:") and "secret://db" not in answer["msg"]
    assert f"settings.tls.tls_cert_file: {link}/cert.pem is below /root or /home" in answer["msg"]
    given = {"settings": {**wrong, "tls": {}}, "environment": {"KMS_SECRET_BACKEND": "vault"}}
    ok(run(hsm, served, **given))
    # Another owner's files, and root's group may not write them.
    (folder,) = [path.parent for path in hsm.scratch.rglob("token.object")]
    os.chown(folder / "token.object", 65534, 65534)
    for check in (True, False):
        answer = run(hsm, served, check=check, **given)
        assert answer["failure"]["code"] == "invalid_input" and f"cannot write {folder}/token.object (owner 65534" in answer["msg"]
        assert f"chown -R root {folder}" in answer["msg"]
    assert ok(run(hsm, served, packaged_unit=False, **given))["changed"] is False
