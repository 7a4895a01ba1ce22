# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""kms_config on real tokens: four steps, every refusal, no PIN anywhere but in the file, and what a crash leaves."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.files import writing
from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.files.toml_text import parse
from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.kms import kms_config as engine
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.errors import KeyfleetError
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.kms.request import KmsConfigRequest
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.plan import Context, Outcome
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.tokens.secret import Secret
from hsm_fixture import PIN, SO_PIN, SOFTHSM, Hsm

CANARIES = {"pin": "canary-pin-71", "so_pin": "canary-so-72", "token": "canary-token-73", "db": "canary-db-74"}
SETTINGS = {
    "default_username": "ops",
    "http": {"port": 9998, "api_token_id": CANARIES["token"]},
    "db": {"database_type": "postgresql", "database_url": f"postgresql://kms:{CANARIES['db']}@db/kms"},
}


def ready(hsm: Hsm, *labels: str, pin: str = PIN) -> None:
    """Tokens made by another program."""
    for label in labels:
        hsm.softhsm_util("--init-token", "--free", "--label", label, "--so-pin", SO_PIN, "--pin", pin)


def entry(hsm: Hsm, name: str = "primary", *tokens: dict[str, Any], **options: Any) -> dict[str, Any]:
    """One of hsm_instances; its token has the instance's name."""
    base = {"name": name, "model": "softhsm2", "library": SOFTHSM, "environment": hsm.environment, "admins": ["ops"]}
    return {**base, "tokens": list(tokens) or [{"label": name, "pin": PIN}], **options}


def path(hsm: Hsm) -> Path:
    return hsm.scratch / "cosmian" / "kms.toml"


def run(hsm: Hsm, *instances: dict[str, Any], check: bool = False, **args: Any) -> dict[str, Any]:
    return hsm.run("kms_config", check=check, **{"instances": list(instances), "config_path": str(path(hsm)), **args})


def four_steps(hsm: Hsm, *instances: dict[str, Any], **args: Any) -> dict[str, Any]:
    """Check, apply, check, apply. Returns the answer of the first apply."""
    predicted, done, again, kept = [run(hsm, *instances, check=check, **args) for check in (True, False, True, False)]
    assert not any(answer.get("failed") for answer in (predicted, done, again, kept)), done
    assert [answer["changed"] for answer in (predicted, done, again, kept)] == [True, True, False, False]
    assert predicted["diff"] == done["diff"]
    assert done["diff"]["before"] != done["diff"]["after"]
    settled = done["diff"]["after"].replace("(secret, changed)", "(secret)")
    assert again["diff"]["before"] == again["diff"]["after"] == kept["diff"]["after"] == settled
    assert predicted["instances"] == done["instances"] == again["instances"] == kept["instances"]
    assert [answer["differs"] for answer in (predicted, done, again, kept)] == [True, True, False, False]
    return done


def refused(hsm: Hsm, code: str, *instances: dict[str, Any], **args: Any) -> str:
    """Run in check mode and for real: the same error, and the file as it was. Returns the message."""
    before = path(hsm).read_bytes() if path(hsm).is_file() else None
    messages = []
    for check in (True, False):
        answer = run(hsm, *instances, check=check, **args)
        assert answer.get("failed"), answer
        assert answer["changed"] is False
        assert answer["failure"]["code"] == code, answer["msg"]
        messages.append(answer["msg"])
    assert messages[0] == messages[1]
    assert (path(hsm).read_bytes() if path(hsm).is_file() else None) == before
    if not path(hsm).parent.exists():
        assert not list(hsm.scratch.glob("**/.keyfleet-*"))
    return messages[0]


def written(hsm: Hsm) -> dict[str, Any]:
    return parse(path(hsm).read_text())


def slot(hsm: Hsm, label: str) -> int:
    """The slot's number by another program's word."""
    found = re.findall(r"Slot (\d+)\n(?:.*\n)*?\s+Label:\s+(\S*)", hsm.softhsm_util("--show-slots"))
    return {name: int(number) for number, name in found}[label]


def test_four_steps(hsm: Hsm) -> None:
    ready(hsm, "primary", "standby", "second")
    open_token = {"label": "second", "login": False}
    instances = [entry(hsm), entry(hsm, "standby", {"label": "standby", "pin": PIN}, open_token, model="SoftHSM2")]
    done = four_steps(hsm, *instances, settings=SETTINGS)
    primary, standby, second = (slot(hsm, label) for label in ("primary", "standby", "second"))
    assert written(hsm) == {
        **SETTINGS,
        "hsm_instances": [
            {"hsm_model": "softhsm2", "hsm_admin": ["ops"], "hsm_slot": [primary], "hsm_password": [PIN]},
            {
                "hsm_model": "softhsm2",
                "hsm_admin": ["ops"],
                "hsm_slot": [standby, second],
                "hsm_password": [PIN, "<NO_LOGIN>"],
            },
        ],
    }
    assert "\n[[hsm_instances]]\n" in path(hsm).read_text()
    assert done["config_path"] == str(path(hsm))
    assert done["instances"] == [
        {"name": "primary", "prefix": "hsm::softhsm2", "model": "softhsm2", "slots": [primary]},
        {"name": "standby", "prefix": "hsm::softhsm2_1", "model": "softhsm2", "slots": [standby, second]},
    ]
    assert stat.S_IMODE(path(hsm).stat().st_mode) == 0o400
    assert len(done["warnings"]) == 1 and "registry: there is none at" in str(done["warnings"])
    assert not Path(hsm.registry).exists()


def test_a_change_and_its_diff(hsm: Hsm) -> None:
    ready(hsm, "primary")
    run(hsm, entry(hsm), settings=SETTINGS)
    settings = {**SETTINGS, "http": {"port": 9999, "api_token_id": "canary-token-new"}}
    done = four_steps(hsm, entry(hsm, admins=["ops", "audit"]), settings=settings)
    before, after = done["diff"]["before"], done["diff"]["after"]
    assert "port = 9998" in before
    assert "port = 9999" in after
    assert 'api_token_id = "(secret)"' in before
    assert 'api_token_id = "(secret, changed)"' in after
    assert 'database_url = "postgresql://(secret)@db/kms"' in after
    assert '"audit"' in after
    assert "canary" not in done["_raw"]
    assert done["diff"]["before_header"] == done["diff"]["after_header"] == str(path(hsm))


def test_a_changed_pin_shows_as_changed(hsm: Hsm) -> None:
    ready(hsm, "primary")
    run(hsm, entry(hsm))
    hsm.tool("--change-pin", "--new-pin", "canary-new", token="primary")
    done = four_steps(hsm, entry(hsm, "primary", {"label": "primary", "pin": "canary-new"}))
    assert '"(secret, changed)"' in done["diff"]["after"]
    assert "canary" not in done["_raw"]
    assert written(hsm)["hsm_instances"][0]["hsm_password"] == ["canary-new"]


def test_mode_drift_is_mended_and_told(hsm: Hsm) -> None:
    ready(hsm, "primary")
    run(hsm, entry(hsm))
    path(hsm).chmod(0o644)
    done = four_steps(hsm, entry(hsm))
    assert "mode 0644" in done["diff"]["before"]
    assert "mode 0400" in done["diff"]["after"]
    assert stat.S_IMODE(path(hsm).stat().st_mode) == 0o400
    assert "others could read what it held" in json.dumps(done["warnings"])


def test_comments_and_the_order_of_keys_are_no_change(hsm: Hsm) -> None:
    ready(hsm, "primary")
    run(hsm, entry(hsm), settings={"info": False, "http": {"port": 1, "hostname": "h"}})
    text = "# by hand\n" + path(hsm).read_text()
    path(hsm).chmod(0o600)
    path(hsm).write_text(text)
    path(hsm).chmod(0o400)
    kept = run(hsm, entry(hsm), settings={"http": {"hostname": "h", "port": 1}, "info": False})
    assert kept["changed"] is False
    assert kept["diff"]["before"] == kept["diff"]["after"]
    assert path(hsm).read_text() == text


def test_pin_files_are_read_on_the_target(hsm: Hsm) -> None:
    ready(hsm, "primary")
    file = hsm.scratch / "pin"
    file.write_text(f"{PIN}\n")
    file.chmod(0o600)
    token = {"label": "primary", "pin_file": str(file)}
    four_steps(hsm, entry(hsm, "primary", token))
    assert written(hsm)["hsm_instances"][0]["hsm_password"] == [PIN]
    file.chmod(0o644)
    message = refused(hsm, "pin_file_unsafe", entry(hsm, "primary", token))
    assert message.startswith(f"instances[0] (primary).tokens[0] (label 'primary').pin_file: {file} has mode 0644")
    file.unlink()
    real = run(hsm, entry(hsm, "primary", token))
    assert real["failure"]["code"] == "pin_file_missing"
    check = run(hsm, entry(hsm, "primary", token), check=True)
    assert "the PIN is taken as one to come" in json.dumps(check["warnings"])


def test_new_pin_counts_once_the_token_has_it(hsm: Hsm) -> None:
    hsm.register("primary", tokens=[hsm.token("primary")])
    changing = hsm.token("primary", new_pin="pin-5582")
    changing.pop("pin")
    early = run(hsm, entry(hsm, "primary", changing))
    assert early["failure"]["code"] == "pin_not_changed"
    assert "run hsm_instance first" in early["msg"]
    assert run(hsm, entry(hsm, "primary", changing), check=True)["changed"] is True
    hsm.register("primary", tokens=[changing])
    four_steps(hsm, entry(hsm, "primary", changing))
    assert written(hsm)["hsm_instances"][0]["hsm_password"] == ["pin-5582"]


def test_slots_by_serial_and_by_number(hsm: Hsm) -> None:
    ready(hsm, "primary", "second")
    numbers = [slot(hsm, "primary"), slot(hsm, "second")]
    # SoftHSM2 makes the slot's number from the last digits of the serial.
    serials = re.findall(r"Serial number:\s*([0-9a-f]+)$", hsm.softhsm_util("--show-slots"), re.MULTILINE)
    serial = next(serial for serial in serials if int(serial[-8:], 16) & 0x7FFFFFFF == numbers[0])
    tokens = [{"serial": serial, "pin": PIN}, {"slot": hex(numbers[1]), "pin": PIN}]
    assert four_steps(hsm, entry(hsm, "primary", *tokens))["instances"][0]["slots"] == numbers


def test_what_the_unit_has_to_give_the_server(hsm: Hsm) -> None:
    ready(hsm, "primary")
    done = run(hsm, entry(hsm), settings={"db": {"sqlite_path": "/srv/kms"}, "logging": {"rolling_log_dir": "/var/log/cosmian"}})
    configuration = Path(hsm.environment["SOFTHSM2_CONF"])
    (tokens,) = re.findall(r"^directories.tokendir *= *(\S+)", configuration.read_text(), re.MULTILINE)
    library = done["unit"]["environment"].pop("SOFTHSM2_PKCS11_LIB")
    assert Path(library).name == "libsofthsm2.so"
    assert done["unit"] == {"environment": hsm.environment, "writable_paths": sorted([tokens, "/srv/kms"])}
    # The server has one library for a model: nothing of this is known where nothing is served.
    assert run(hsm)["unit"] == {"environment": {}, "writable_paths": []}


def test_the_first_check_on_a_bare_host(hsm: Hsm) -> None:
    wanted = entry(hsm, "primary", hsm.token("primary"))
    check = run(hsm, wanted, check=True)
    assert check["changed"] is True
    assert check["instances"] == [{"name": "primary", "prefix": "hsm::softhsm2", "model": "softhsm2", "slots": [None]}]
    assert "(the slot of the new token, label 'primary')" in check["diff"]["after"]
    assert "is not there yet" in json.dumps(check["warnings"])
    real = run(hsm, wanted)
    assert real["failure"]["code"] == "no_token"
    assert "Run hsm_instance first" in real["msg"]
    assert not path(hsm).parent.exists()


def test_a_check_without_the_library(hsm: Hsm) -> None:
    missing = entry(hsm, library="/opt/nowhere.so")
    check = run(hsm, missing, check=True)
    assert check["changed"] is True
    assert "there is no PKCS#11 library at /opt/nowhere.so" in json.dumps(check["warnings"])
    real = run(hsm, missing)
    assert real["failure"]["code"] == "library_missing"
    assert real["msg"].startswith("instances[0] (primary).library: there is no PKCS#11 library at /opt/nowhere.so")


def test_a_check_before_the_library_is_configured(hsm: Hsm) -> None:
    os.unlink(hsm.environment["SOFTHSM2_CONF"])
    check = run(hsm, entry(hsm, "primary", hsm.token("primary")), check=True)
    assert check.get("failed") is None, check
    assert check["instances"][0]["slots"] == [None]
    assert run(hsm, entry(hsm), check=True)["failure"]["code"] == "library_init_failed"


def test_a_pin_that_the_server_would_take_for_none(hsm: Hsm) -> None:
    message = refused(hsm, "pin_invalid", entry(hsm, tokens=[{"label": "primary", "pin": "<NO_LOGIN>"}]))
    assert "the PIN is <NO_LOGIN>" in message and "login: false" in message


def test_all_problems_of_a_call_at_once(hsm: Hsm) -> None:
    pin = hsm.scratch / "pin"
    pin.write_text("1234")
    pin.chmod(0o640)
    bad_file = entry(hsm, "c", {"label": "c", "pin_file": str(pin)})
    instances = [entry(hsm, "a", model="luna"), entry(hsm, "b", tokens=[]), bad_file, entry(hsm, "a")]
    message = refused(hsm, "invalid_input", *instances, settings={"hsm_model": "x", "tsl": {}})
    assert message.startswith("6 problems in the input:")
    places = (
        "settings.hsm_model:",
        "settings.tsl:",
        "(a).model:",
        "(b).tokens:",
        "(a).name:",
        "pin_file:",
    )
    assert all(place in message for place in places), message


def test_the_installed_server_says_which_names_it_knows(hsm: Hsm) -> None:
    """By the double, which prints what version 5.26 does."""
    ready(hsm, "primary")
    double = Path(__file__).parents[2] / "doubles" / "cosmian_kms" / "server.py"
    server = hsm.scratch / "cosmian_kms"
    server.write_text(f'#!/bin/sh\nexec {sys.executable} {double} "$@"\n')
    server.chmod(0o755)
    settings = {"audit": {}, "notices": {}, "keyset_warn_depth": 3, "http": {"port": 1}}
    message = refused(hsm, "invalid_input", entry(hsm), settings=settings, server_path=str(server))
    assert message.startswith("2 problems in the input:")
    assert f"settings.audit: the installed server ({server}) does not know it" in message and "settings.notices: the server" in message
    # Without one, and with one that prints nothing of the kind, version 5.28 counts.
    assert "settings.audit" not in refused(hsm, "invalid_input", entry(hsm), settings=settings, server_path="/nowhere")
    unchecked = {"settings": settings, "settings_unchecked": ["notices"]}
    done = run(hsm, entry(hsm), server_path="/bin/true", check=True, **unchecked)
    assert "/bin/true does not say which settings it knows" in str(done["warnings"])
    assert "settings.notices: is not checked" in str(done["warnings"]) and "settings.audit" not in str(done["warnings"])
    del settings["audit"]
    assert run(hsm, entry(hsm), server_path=str(server), **unchecked)["changed"] is True
    assert written(hsm)["notices"] == {}


def test_a_slot_that_is_named_twice(hsm: Hsm) -> None:
    ready(hsm, "primary")
    twice = [{"label": "primary", "pin": PIN}, {"slot": str(slot(hsm, "primary")), "pin": PIN}]
    message = refused(hsm, "invalid_input", entry(hsm, "primary", *twice))
    assert "(primary).tokens[1]" in message
    assert "name each slot once" in message
    other = entry(hsm, "other", {"label": "primary", "pin": PIN}, model="other")
    assert "instances[1] (other).tokens[0]" in refused(hsm, "invalid_input", entry(hsm), other)


def test_two_libraries_for_one_model(hsm: Hsm) -> None:
    ready(hsm, "primary", "standby")
    copied = str(hsm.scratch / "copy.so")
    shutil.copy(SOFTHSM, copied)
    message = refused(hsm, "invalid_input", entry(hsm), entry(hsm, "standby", library=copied))
    assert f"instances[1] (standby).library: is {copied}" in message
    linked = hsm.scratch / "link.so"
    linked.symlink_to(SOFTHSM)
    four_steps(hsm, entry(hsm), entry(hsm, "standby", library=str(linked)))


def test_each_library_sees_its_own_environment_only(hsm: Hsm, tmp_path: Path) -> None:
    """The one needs a variable that the other does not have; looked at after one another in one run."""
    ready(hsm, "primary")
    copied = str(hsm.scratch / "copy.so")
    shutil.copy(SOFTHSM, copied)
    blind = entry(hsm, "blind", {"label": "primary", "pin": PIN}, model="other", library=copied, environment={})
    answer = run(hsm, entry(hsm), blind)
    assert answer["failed"]
    assert "instances[1] (blind)" in answer["msg"] or copied in answer["msg"]


def test_two_environments_for_one_library(hsm: Hsm) -> None:
    ready(hsm, "primary", "standby")
    message = refused(hsm, "invalid_input", entry(hsm), entry(hsm, "standby", environment={"SOFTHSM2_CONF": "/other"}))
    assert "instances[1] (standby).environment: SOFTHSM2_CONF is '/other'" in message
    assert "one process with one environment" in message


def test_tokens_that_are_not_there_are_told_together(hsm: Hsm) -> None:
    ready(hsm, "primary")
    gone = [entry(hsm, name) for name in ("a", "b")]
    message = refused(hsm, "no_token", entry(hsm), *gone)
    assert message.startswith("2 tokens cannot be used, nothing was written:")
    assert "instances[1] (a).tokens[0] (label 'a'): no token answers" in message
    assert "instances[2] (b).tokens[0] (label 'b'): no token answers" in message


def test_admins_give_warnings(hsm: Hsm) -> None:
    ready(hsm, "primary")
    assert "nobody may administer" in json.dumps(run(hsm, entry(hsm, admins=[]))["warnings"])
    assert written(hsm)["hsm_instances"][0]["hsm_admin"] == []
    assert "everyone may administer" in json.dumps(run(hsm, entry(hsm, admins=["*"]))["warnings"])


def test_no_instances(hsm: Hsm) -> None:
    done = four_steps(hsm, settings={"info": False})
    assert "will serve no HSM" in json.dumps(done["warnings"])
    assert written(hsm) == {"info": False}


def test_a_prefix_moves_only_when_asked_for(hsm: Hsm) -> None:
    ready(hsm, "a", "b", "c")
    a, b, c = (entry(hsm, name) for name in "abc")
    run(hsm, a, b)
    number = slot(hsm, "b")
    message = refused(hsm, "renumbering", b)
    assert f"slot {number} of model softhsm2 would move from hsm::softhsm2_1 to hsm::softhsm2" in message
    assert "allow_renumber: true" in message
    refused(hsm, "renumbering", b, a)
    refused(hsm, "renumbering", c, a, b)
    assert run(hsm, a, b, c)["changed"] is True
    assert run(hsm, a, b)["changed"] is True
    done = four_steps(hsm, b, allow_renumber=True)
    assert done["instances"][0]["prefix"] == "hsm::softhsm2"


def test_the_registry_has_a_say_in_prefixes(hsm: Hsm) -> None:
    for name in "ab":
        hsm.register(name, tokens=[hsm.token(name)])
    a, b = (entry(hsm, name, hsm.token(name)) for name in "ab")
    message = refused(hsm, "renumbering", b)
    assert "instance 'b' would move from hsm::softhsm2_1 to hsm::softhsm2" in message
    ready(hsm, "c")
    stolen = refused(hsm, "renumbering", a, entry(hsm, "c"))
    assert "hsm::softhsm2_1 would move from instance 'b', which is registered and not declared, to instance 'c'" in stolen
    four_steps(hsm, a, b)
    four_steps(hsm, b, allow_renumber=True)


def test_an_instance_that_the_file_names_is_not_removed(hsm: Hsm) -> None:
    for name in "ab":
        hsm.register(name, tokens=[hsm.token(name)])
    a, b = (entry(hsm, name, hsm.token(name)) for name in "ab")
    run(hsm, a, b, check=True)
    assert hsm.run("hsm_instance", check=True, name="b", state="absent")["changed"] is True
    run(hsm, a, b)
    answer = hsm.run("hsm_instance", name="b", state="absent")
    assert answer["failure"]["code"] == "in_use" and answer["failure"]["details"]["files"] == [str(path(hsm))]
    run(hsm, a)
    assert hsm.run("hsm_instance", name="b", state="absent")["changed"] is True
    events = sqlite3.connect(hsm.registry).execute("SELECT subject, details FROM event WHERE action = 'write_config'")
    assert events.fetchall() == [
        (str(path(hsm)), '{"instances": ["a", "b"]}'),
        (str(path(hsm)), '{"instances": ["a"]}'),
    ]


def test_an_instance_that_others_refer_to_leaves_the_file_by_name_only(hsm: Hsm) -> None:
    for name in "ab":
        hsm.register(name, tokens=[hsm.token(name)])
    a, b = (entry(hsm, name, hsm.token(name)) for name in "ab")
    gone = {"name": "b", "state": "absent"}
    hsm.run("hsm_group", name="cards", connections=[{"instance": "a"}, {"instance": "b"}])
    hsm.run("hsm_key", instance="b", keys=[{"label": "dek-1", "type": "AES"}])
    run(hsm, a, b)
    for declared in ([a], [a, gone], [a, {**gone, "force": True}]):
        assert "these groups have a connection to it: 'cards'" in refused(hsm, "in_use", *declared)
    hsm.run("hsm_group", name="cards", connections=[{"instance": "a"}])
    for declared in ([a], [a, gone]):
        assert "1 virtual key refers to it: 'dek-1'" in refused(hsm, "in_use", *declared)
    four_steps(hsm, a, {**gone, "force": True})
    assert hsm.run("hsm_instance", name="b", state="absent", force=True)["changed"] is True
    assert run(hsm, a, gone)["changed"] is False


def test_a_reference_that_a_crash_kept_out_is_mended(hsm: Hsm) -> None:
    hsm.register("a", tokens=[hsm.token("a")])
    wanted = entry(hsm, "a", hsm.token("a"))
    run(hsm, wanted)
    with sqlite3.connect(hsm.registry) as connection:
        connection.execute("DELETE FROM config_reference")
    assert run(hsm, wanted)["changed"] is False
    assert hsm.run("hsm_instance", name="a", state="absent")["failure"]["code"] == "in_use"


def test_an_instance_that_the_registry_does_not_know(hsm: Hsm) -> None:
    hsm.register("a", tokens=[hsm.token("a")])
    ready(hsm, "stranger")
    done = run(hsm, entry(hsm, "a", hsm.token("a")), entry(hsm, "stranger"))
    assert "does not know 'stranger'" in json.dumps(done["warnings"])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"hsm_password = canary", "is not valid TOML (at line 1, column 16)"),
        (b'[[hsm_instances]]\nhsm_password = ["canary\n', "is not valid TOML (at line 2"),
        (b"\xff\xfe", "is not UTF-8 text"),
        (b'[[hsm_instances]]\nhsm_model = "softhsm2"\nhsm_slot = "canary"\n', "hsm_slot is no list of slot numbers"),
    ],
)
def test_a_broken_file_is_not_replaced(hsm: Hsm, content: bytes, words: str) -> None:
    ready(hsm, "primary")
    path(hsm).parent.mkdir()
    path(hsm).write_bytes(content)
    message = refused(hsm, "config_invalid", entry(hsm))
    assert words in message
    assert "Mend the file, or move it away" in message
    assert "canary" not in message


def test_what_is_no_file_is_not_replaced(hsm: Hsm) -> None:
    ready(hsm, "primary")
    path(hsm).mkdir(parents=True)
    assert "is not a regular file" in refused(hsm, "config_invalid", entry(hsm))
    path(hsm).rmdir()
    path(hsm).symlink_to("/etc/hostname")
    assert "is not a regular file" in refused(hsm, "config_invalid", entry(hsm))
    path(hsm).unlink()
    path(hsm).parent.rmdir()
    path(hsm).parent.write_text("a file where the folder should be")
    assert "cannot be read: Not a directory" in refused(hsm, "config_unreadable", entry(hsm))


def converge(hsm: Hsm, *instances: dict[str, Any]) -> Outcome:
    """The module without a process of its own."""
    for instance in instances:
        instance["tokens"] = [
            {name: Secret(value) if name in ("pin", "so_pin") else value for name, value in token.items()} for token in instance["tokens"]
        ]
    options = {"registry": hsm.registry, "settings": {}, "config_path": str(path(hsm)), "allow_renumber": False}
    options |= {"state": "present", "allow_low_pin_count": False, "proven": [], "packaged_unit": True, "environment": {}}
    options |= {"server_path": "", "settings_unchecked": []}
    request = KmsConfigRequest.parse({**options, "instances": list(instances)})
    return engine.converge(request, Context(check_mode=False, run="r", warn=print))


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_file(hsm: Hsm, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    ready(hsm, "primary")
    run(hsm, entry(hsm))
    before = path(hsm).read_bytes()

    def broken(*_args: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writing.os, call, broken)
    with pytest.raises(KeyfleetError, match="cannot be written: No space left on device") as caught:
        converge(hsm, entry(hsm, admins=["new"]))
    assert caught.value.code == "config_unwritable"
    assert path(hsm).read_bytes() == before
    assert os.listdir(path(hsm).parent) == ["kms.toml"]


def test_a_write_that_fails_leaves_no_reference(hsm: Hsm, monkeypatch: pytest.MonkeyPatch) -> None:
    hsm.register("a", tokens=[hsm.token("a")])

    def killed(*_args: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(engine, "replacing", killed)
    with pytest.raises(KeyboardInterrupt):
        converge(hsm, entry(hsm, "a", hsm.token("a")))
    assert hsm.run("hsm_instance", name="a", state="absent")["changed"] is True


def test_what_does_not_read_back_is_not_written(hsm: Hsm, monkeypatch: pytest.MonkeyPatch) -> None:
    ready(hsm, "primary")
    monkeypatch.setattr(engine, "render", lambda document: 'info = "other"\n')
    with pytest.raises(KeyfleetError, match="does not read back as it was written"):
        converge(hsm, entry(hsm))
    assert not path(hsm).exists()


def test_no_secret_is_anywhere_but_in_the_file(hsm: Hsm) -> None:
    secret = {"pin": CANARIES["pin"], "so_pin": CANARIES["so_pin"]}
    instances = [
        entry(hsm, "a", {"label": "a", "initialize": True, **secret}),
        entry(hsm, "b", {"label": "b", **secret}),
    ]
    ready(hsm, "a", "b", pin=CANARIES["pin"])
    hsm.register("a", tokens=instances[0]["tokens"])
    answers = [run(hsm, *instances, check=check, settings=SETTINGS) for check in (True, False, True, False)]
    assert [answer["changed"] for answer in answers] == [True, True, False, False]
    answers.append(run(hsm, *instances, settings={**SETTINGS, "htpp": {}}))
    answers.append(run(hsm, *instances, entry(hsm, "gone", {"label": "gone", **secret}), settings=SETTINGS))
    answers.append(run(hsm, *reversed(instances), settings=SETTINGS))
    assert [bool(answer.get("failed")) for answer in answers] == [False] * 4 + [True] * 3
    assert not any("canary" in answer["_raw"] for answer in answers)
    assert not any("9998" in text for text in [answers[0]["_raw"]]) or "port = 9998" in answers[0]["diff"]["after"]
    holders = [file for file in hsm.scratch.rglob("*") if file.is_file() and b"canary" in file.read_bytes()]
    assert holders == [path(hsm)]


@pytest.mark.parametrize(
    "broken",
    [
        {"tokens": ["canary-pin"]},
        {"tokens": [{"label": "a", "pinn": "canary-pin"}]},
        {"tokens": [{"label": "a", "login": "canary-pin"}]},
        {"tokens": [{"label": "a", "user_type": "canary-pin"}]},
        {"max_sessions": "canary-pin"},
        {"pin": "canary-pin"},
    ],
)
def test_refused_arguments_are_not_shown(hsm: Hsm, broken: dict[str, Any]) -> None:
    answer = run(hsm, entry(hsm, **broken), settings=SETTINGS)
    assert answer["failed"]
    assert "canary" not in answer["_raw"]
    assert answer["invocation"]["module_args"]["config_path"] == str(path(hsm))


def test_no_secret_is_in_the_system_log(hsm: Hsm) -> None:
    ready(hsm, "primary", pin=CANARIES["pin"])
    program = (
        "import sys, syslog; syslog.syslog = lambda *args: print(*args, file=sys.stderr)\n"
        "sys.modules['systemd'] = None\n"
        "from ansible_collections.keyfleet.hsm.plugins.modules.kms_config import main; main()"
    )
    args = {
        "registry": hsm.registry,
        "config_path": str(path(hsm)),
        "instances": [entry(hsm, "primary", {"label": "primary", "pin": CANARIES["pin"]})],
        "settings": SETTINGS,
    }
    done = subprocess.run(
        [sys.executable, "-c", program],
        input=json.dumps({"ANSIBLE_MODULE_ARGS": args}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert json.loads(done.stdout)["changed"] is True
    assert "Invoked with" in done.stderr
    assert str(path(hsm)) in done.stderr
    assert "canary" not in done.stderr + done.stdout


def test_harmless_values_are_not_masked(hsm: Hsm) -> None:
    """A port in the settings, or digits of a PIN in a slot, stay readable."""
    ready(hsm, "primary")
    digits = str(slot(hsm, "primary"))[:4]
    hsm.tool("--change-pin", "--new-pin", digits, token="primary")
    answer = run(
        hsm,
        entry(hsm, "primary", {"label": "primary", "pin": digits}),
        settings={"http": {"port": int(digits)}, "default_username": str(path(hsm).parent)},
    )
    assert answer["instances"][0]["slots"] == [slot(hsm, "primary")]
    assert f"port = {digits}" in answer["diff"]["after"]
    assert answer["config_path"] == str(path(hsm))


def test_an_ordinary_user_in_a_folder_of_its_own(hsm: Hsm) -> None:
    """Imported as root, since this interpreter may be out of the user's reach, and run as nobody."""
    nobody = 65534
    for folder in hsm.scratch.parents:
        if folder.stat().st_mode & 0o001 == 0:
            folder.chmod(folder.stat().st_mode | 0o011)
    ready(hsm, "primary")
    for item in (hsm.scratch, *hsm.scratch.rglob("*")):
        os.chown(item, nobody, nobody)
    program = (
        "import importlib, os, pkgutil, tomli_w, pkcs11._pkcs11, ansible.module_utils as parts\n"
        # Ansible imports its JSON profiles when they are needed, which is too late behind a folder that nobody may enter.
        "for found in pkgutil.walk_packages([parts.__path__[0] + '/_internal'], parts.__name__ + '._internal.'):\n"
        "    importlib.import_module(found.name)\n"
        "try:\n    import tomllib\nexcept ImportError:\n    import tomli\n"
        "from ansible_collections.keyfleet.hsm.plugins.modules.kms_config import main\n"
        f"os.setgroups([]); os.setgid({nobody}); os.setuid({nobody}); main()"
    )

    def run_as_nobody(**options: Any) -> dict[str, Any]:
        args = {"registry": hsm.registry, "config_path": str(path(hsm)), "instances": [entry(hsm)], "packaged_unit": False, **options}
        command = [sys.executable, "-c", program]
        payload = json.dumps({"ANSIBLE_MODULE_ARGS": args})
        done = subprocess.run(command, input=payload, capture_output=True, text=True, check=False, cwd="/")
        assert done.stdout, done.stderr
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    assert [run_as_nobody().get("changed") for _time in range(2)] == [True, False]
    assert path(hsm).stat().st_uid == nobody
    assert stat.S_IMODE(path(hsm).stat().st_mode) == 0o400
    hidden = run_as_nobody(config_path="/root/cosmian/kms.toml")
    assert hidden["failure"]["code"] == "config_unreadable", hidden
    assert "become: true" in hidden["msg"]
    assert run_as_nobody(config_path="/etc/kms-of-nobody.toml")["failure"]["code"] == "config_unwritable"
    assert run_as_nobody(registry="/root/keyfleet/registry.db")["failure"]["code"] == "registry_unavailable"


def test_a_disk_that_is_full_at_the_commit_leaves_the_old_file(primary: Hsm) -> None:
    """The file and the answer agree: what the registry cannot take is not in the file, either."""
    served = entry(primary, tokens=[{"label": "payments", "pin": PIN}])
    assert run(primary, served, registry=primary.registry)["changed"] is True
    before = path(primary).read_bytes()
    with closing(sqlite3.connect(primary.registry)) as held:
        held.execute("SELECT count(*) FROM event").fetchone()
        held.execute("INSERT INTO event (run, at, action, subject, details) VALUES ('t', 't', 't', 't', '{}')")
        held.commit()
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (Path(f"{primary.registry}-wal").stat().st_size + 1, limits[1]))
        args = {"instances": [served], "config_path": str(path(primary)), "registry": primary.registry, "settings": SETTINGS}
        try:
            process = primary.start("kms_config", args)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        answer = primary.finish(process)
    assert answer["failure"]["code"] == "registry_write_failed" and answer["changed"] is False, answer
    assert path(primary).read_bytes() == before and [item.name for item in path(primary).parent.iterdir()] == ["kms.toml"]
    assert run(primary, served, registry=primary.registry, settings=SETTINGS)["changed"] is True
