# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every way in which a registration can go wrong: its own clear error, and nothing changed."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.keyfleet.hsm.plugins.module_utils._cryptoki import locks
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.errors import TokenError
from hsm_fixture import PIN, SO_PIN, Hsm, calls


def refused(hsm: Hsm, code: str, *, check_registry: bool = True, **args: Any) -> str:
    """Run in check mode and for real: the same error, and no registry made. Returns the message."""
    messages = []
    was_there = Path(hsm.registry).exists()
    for check in (True, False):
        answer = hsm.run("hsm_instance", check=check, **args)
        assert Path(hsm.registry).exists() is was_there
        assert answer.get("failed"), answer
        assert answer["failure"]["code"] == code, answer["msg"]
        messages.append(answer["msg"])
    assert messages[0] == messages[1]
    if check_registry:
        listed = hsm.run("hsm_status") if Path(hsm.registry).exists() else {"instances": []}
        assert listed["instances"] == []
    return messages[0]


def ready(hsm: Hsm, label: str = "payments", pin: str = PIN) -> None:
    """A token made by another program."""
    hsm.softhsm_util("--init-token", "--free", "--label", label, "--so-pin", SO_PIN, "--pin", pin)


def tokens(*entries: dict[str, Any]) -> dict[str, Any]:
    return {"tokens": list(entries)}


def test_wrong_pin_is_tried_once_and_then_not_again(hsm: Hsm) -> None:
    ready(hsm)
    wrong = hsm.instance(**tokens({"label": "payments", "pin": "000000"}))
    first = hsm.run("hsm_instance", **wrong)
    assert first["failure"]["code"] == "pin_incorrect"
    assert first["failure"]["details"]["pin_state"] == "low"
    assert "tried once" in first["msg"]
    message = refused(hsm, "pin_count_low", **wrong)
    assert "allow_low_pin_count: true" in message and "No login was tried now" in message
    right = hsm.instance(**tokens({"label": "payments", "pin": PIN}))
    refused(hsm, "pin_count_low", **right)
    good = hsm.run("hsm_instance", allow_low_pin_count=True, **right)
    assert good["instance"]["tokens"][0]["pin_state"] == "ok"
    assert hsm.run("hsm_instance", **right)["changed"] is False


def test_no_pin(hsm: Hsm) -> None:
    ready(hsm)
    message = refused(hsm, "pin_missing", **hsm.instance(**tokens({"label": "payments"})))
    assert "tokens[0] (label 'payments')" in message and "pin_file" in message


def test_two_tokens_that_match_are_listed(hsm: Hsm) -> None:
    ready(hsm)
    ready(hsm)
    message = refused(hsm, "several_tokens", **hsm.instance(**tokens({"label": "payments", "pin": PIN})))
    assert message.startswith("2 tokens answer to label 'payments'") and message.count("serial") >= 2
    # Asked to create it, the same doubt is no reason to make a third.
    refused(hsm, "several_tokens", **hsm.instance())


def test_none_that_matches_lists_what_is_there(hsm: Hsm) -> None:
    ready(hsm, "ledger")
    for selector in ({"label": "payments"}, {"serial": "0000"}, {"slot": "77"}):
        message = refused(hsm, "no_token", **hsm.instance(**tokens({**selector, "pin": PIN})))
        assert "'ledger' (slot" in message


def test_uninitialised_slot_is_named(hsm: Hsm) -> None:
    refused(hsm, "token_not_initialized", **hsm.instance(**tokens({"slot": 0, "pin": PIN})))


def test_missing_library(hsm: Hsm) -> None:
    message = refused(hsm, "library_missing", **hsm.instance(library="/nonexistent/libhsm.so"))
    assert "/nonexistent/libhsm.so" in message
    message = refused(hsm, "library_missing", **{**hsm.instance(), "model": "luna", "library": None})
    assert "/usr/safenet/lunaclient/lib/libCryptoki2_64.so" in message


@pytest.mark.parametrize("kind", ["text", "other library", "folder"])
def test_a_file_that_is_no_pkcs11_library(hsm: Hsm, kind: str) -> None:
    path = hsm.scratch / "lib.so"
    if kind == "text":
        path.write_text("not a library\n")
    elif kind == "folder":
        path.mkdir()
    else:
        shutil.copy(next(Path("/lib").glob("*-linux-gnu/libz.so.1")), path)
    message = refused(hsm, "library_invalid", **hsm.instance(library=str(path)))
    assert str(path) in message


def test_broken_vendor_configuration(hsm: Hsm) -> None:
    (hsm.scratch / "softhsm2.conf").write_text("objectstore.backend = nonsense\n")
    message = refused(hsm, "library_init_failed", **hsm.instance())
    assert "CKR_GENERAL_ERROR" in message and "environment" in message


@pytest.mark.parametrize(
    ("mode", "content", "code"),
    [
        (0o644, PIN, "pin_file_unsafe"),
        (0o660, PIN, "pin_file_unsafe"),
        (0o600, "", "pin_file_empty"),
        (0o600, "\n", "pin_file_empty"),
        (None, None, "pin_file_missing"),
        (0o600, b"\xff\xfe", "pin_file_invalid"),
    ],
)
def test_pin_files_that_cannot_be_used(hsm: Hsm, mode: int | None, content: str | bytes | None, code: str) -> None:
    ready(hsm)
    path = hsm.scratch / "pin"
    if mode is not None and content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        path.chmod(mode)
    message = refused(hsm, code, **hsm.instance(**tokens({"label": "payments", "pin_file": str(path)})))
    assert str(path) in message
    # The refusal cost no try.
    assert hsm.run("hsm_instance", **hsm.instance(**tokens({"label": "payments", "pin": PIN})))["changed"] is True


def test_a_pin_file_of_another_user_and_a_fifo(hsm: Hsm) -> None:
    ready(hsm)
    path = hsm.scratch / "pin"
    path.write_text(PIN)
    path.chmod(0o600)
    os.chown(path, 12345, 12345)
    refused(hsm, "pin_file_unsafe", **hsm.instance(**tokens({"label": "payments", "pin_file": str(path)})))
    path.unlink()
    os.mkfifo(path, 0o600)
    refused(hsm, "pin_file_unsafe", **hsm.instance(**tokens({"label": "payments", "pin_file": str(path)})))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"pin-7391\r\n", "has a line break"),
        (b"\xef\xbb\xbfpin-7391\n", "has a byte order mark"),
        (b"pin-7391\0\n", "has a NUL byte"),
        (b"pin-7391 \n", "has a blank at its beginning or end"),
        (b"\tpin-7391", "has a blank at its beginning or end"),
        (b"pin-7391\n\n", "has a line break"),
        (b"\npin-7391\n", "has a line break"),
        (b"\xef\xbb\xbf pin-7391 \0\r\n\r\n", "has a byte order mark"),
    ],
)
def test_what_an_editor_puts_into_a_pin_file_is_refused_with_what_mends_it(primary: Hsm, content: bytes, problem: str) -> None:
    spied, log = primary.spied()
    path = primary.scratch / "pins" / "payments"
    path.write_bytes(content)
    entry = {"label": "payments", "pin_file": str(path)}
    declared = {**primary.instance(tokens=[entry]), "library": spied.library, "environment": spied.environment}
    change = {**declared, "tokens": [{**entry, "new_pin": "998877"}]}
    new = {**declared, "name": "new", "tokens": [{**primary.token("new", pin_file=str(path)), "pin": None}]}
    answers = [primary.run("hsm_instance", **one) for one in (declared, change, new)]
    answers.append(primary.keys({"label": "k", "type": "AES"}, pin_file=str(path)))
    for answer in answers:
        assert answer["failure"]["code"] == "pin_file_invalid" and problem in answer["msg"] and PIN not in answer["msg"], answer
    assert logins(log) == 0 and len(list((primary.scratch / "tokens").iterdir())) == 1
    command = answers[0]["msg"].partition("Run: ")[2]
    subprocess.run(["bash", "-c", command], check=True)
    assert path.read_bytes() in (b"pin-7391\n", b"pin-7391") and stat.S_IMODE(path.stat().st_mode) == 0o600
    assert primary.run("hsm_instance", **primary.instance(tokens=[entry]))["changed"] is False


@pytest.mark.parametrize("pin", ["pin-7391\n", "pin-7391\r", " pin-7391", "pin-7391\t", "\ufeffpin-7391"])
def test_a_pin_that_yaml_has_a_newline_in_is_refused(hsm: Hsm, pin: str) -> None:
    for option in ("pin", "so_pin", "new_pin"):
        message = refused(hsm, "invalid_input", **hsm.instance(tokens=[hsm.token(**{option: pin})]))
        assert f"tokens[0].{option}: has a" in message and "is not tried" in message
    assert "pin: has a" in hsm.keys({"label": "k", "type": "AES"}, library=hsm.library, instance=None, token_label="x", pin=pin)["msg"]
    assert list((hsm.scratch / "tokens").iterdir()) == []


@pytest.mark.parametrize("pin", ["12", "1" * 256])
def test_a_pin_of_a_length_that_no_pin_of_the_token_has_is_not_tried(primary: Hsm, pin: str) -> None:
    spied, log = primary.spied()
    declared = {**primary.instance(), "library": spied.library, "environment": spied.environment}
    path = primary.scratch / "pins" / "other"
    path.write_text(pin)
    path.chmod(0o600)
    answers = [
        primary.run("hsm_instance", **{**declared, "tokens": [entry]})
        for entry in (
            {"label": "payments", "pin_file": str(path)},
            {"label": "payments", "pin": pin},
            {"label": "payments", "pin_file": str(path), "new_pin": "998877"},
            {"label": "payments", "so_pin": pin, "user_type": "so"},
        )
    ]
    for answer in answers:
        assert answer["failure"]["code"] == "pin_not_accepted" and "4 to 255 bytes" in answer["msg"], answer
    direct = {"library": spied.library, "environment": spied.environment, "instance": None, "token_label": "payments"}
    assert primary.keys({"label": "k", "type": "AES"}, pin=pin, **direct)["failure"]["code"] == "pin_not_accepted"
    assert logins(log) == 0


@pytest.mark.parametrize("new_pin", [None, "998877"])
def test_a_pin_that_differs_from_the_proven_file_is_not_tried(primary: Hsm, new_pin: str | None) -> None:
    spied, log = primary.spied()
    path = primary.scratch / "pins" / "payments"
    entry = {"label": "payments", "pin": "000000", "pin_file": str(path), **({"new_pin": new_pin} if new_pin else {})}
    args = {**primary.instance(tokens=[entry]), "library": spied.library, "environment": spied.environment}
    answer = primary.run("hsm_instance", **args)
    assert answer["failure"]["code"] == "pin_differs" and f"rm {path}" in answer["msg"]
    assert logins(log) == 0 and path.read_text() == PIN + "\n"
    # Another program changed the PIN: what the message says is what helps.
    primary.tool("--change-pin", "--new-pin", "000000")
    subprocess.run(["rm", str(path)], check=True)
    assert primary.run("hsm_instance", **args)["changed"] is True
    assert path.read_text() == f"{new_pin or '000000'}\n"


KEY_FILE = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIA==\n-----END PRIVATE KEY-----\n"


@pytest.mark.parametrize("created", [True, False])
@pytest.mark.parametrize(
    ("content", "code"),
    [
        (KEY_FILE, "pin_file_invalid"),
        ("[service]\nport = 1\n", "pin_file_invalid"),
        ("SQLite format 3\0", "pin_file_invalid"),
        # Another token's PIN, for all that is known, and whoever can read it.
        ("918273\n", "pin_differs"),
    ],
)
@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_a_file_that_is_no_pin_file_of_the_token_is_never_overwritten(hsm: Hsm, content: str, code: str, mode: int, created: bool) -> None:
    if created:
        hsm.softhsm_util("--init-token", "--free", "--label", "payments", "--so-pin", SO_PIN, "--pin", PIN)
    path = hsm.scratch / "file"
    path.write_text(content)
    path.chmod(mode)
    for check in (True, False):
        answer = hsm.run("hsm_instance", **hsm.instance(tokens=[hsm.token(pin_file=str(path))]), check=check)
        assert answer["failure"]["code"] == code and "overwritten" in answer["msg"], answer
        assert not answer["changed"] and path.read_text() == content
    assert ("payments" in hsm.tool("--list-token-slots", pin=None, token="")) is created


def test_files_that_are_two_things_are_refused_before_anything_is_written(hsm: Hsm) -> None:
    one, two = hsm.token("one"), hsm.token("two")
    so = hsm.scratch / "so"
    so.write_text(SO_PIN)
    so.chmod(0o600)
    same = str(hsm.scratch / "same")
    for tokens, problem in (
        ([{**one, "pin_file": hsm.registry}], "tokens[0] (label 'one').pin_file: is the registry"),
        ([{**one, "pin_file": f"{hsm.registry}-wal"}], "tokens[0] (label 'one').pin_file: is the registry"),
        (
            [{**one, "so_pin": None, "so_pin_file": str(so), "pin_file": f"{so.parent}/./so"}],
            ".pin_file: is tokens[0] (label 'one').so_pin_file",
        ),
        (
            [{**one, "pin_file": same}, {**two, "pin_file": same, "pin": "918273"}],
            "tokens[0] (label 'one').pin_file: is tokens[1] (label 'two').pin_file",
        ),
        (
            [{**one, "pin_file": same, "new_pin": "918273"}, {**two, "pin_file": same}],
            ".pin_file: is tokens[1] (label 'two').pin_file as well",
        ),
    ):
        for check in (True, False):
            answer = hsm.run("hsm_instance", **hsm.instance(tokens=tokens), check=check)
            assert answer["failure"]["code"] == "invalid_input" and problem in answer["msg"], answer
    assert so.read_text() == SO_PIN and not (hsm.scratch / "registry.db").exists()
    assert "one" not in hsm.tool("--list-token-slots", pin=None, token="")
    # One PIN for both is no loss.
    assert hsm.run("hsm_instance", **hsm.instance(tokens=[{**one, "pin_file": same}, {**two, "pin_file": same}]))["changed"] is True


def test_errors_of_several_tokens_come_together(hsm: Hsm) -> None:
    ready(hsm)
    missing = {"label": "payments", "pin_file": str(hsm.scratch / "none")}
    message = refused(hsm, "several", **hsm.instance(**tokens(missing, {"label": "ledger", "pin": PIN})))
    assert "2 tokens cannot be used" in message and "no token answers to label 'ledger'" in message


def test_one_bad_token_keeps_the_good_one_from_being_created(hsm: Hsm) -> None:
    refused(hsm, "no_token", **hsm.instance(**tokens(hsm.token(), {"label": "ledger", "pin": PIN})))
    assert "payments" not in hsm.tool("--list-slots", pin=None, token="")


def test_validate_false_saves_what_fails_and_says_why(hsm: Hsm) -> None:
    ready(hsm)
    args = hsm.instance(validate=False, **tokens({"label": "ledger", "pin": PIN}))
    planned, done = (hsm.run("hsm_instance", check=check, **args) for check in (True, False))
    assert planned["diff"] == done["diff"]
    assert done["changed"] is True
    token = done["instance"]["tokens"][0]
    assert token["accessible"] is False
    assert token["code"] == "no_token" and "no token answers" in token["error"]
    assert hsm.run("hsm_instance", **args)["changed"] is False
    gone = hsm.instance("gone", validate=False, library="/nonexistent/libhsm.so", **tokens({"label": "x", "pin": PIN}))
    saved = hsm.run("hsm_instance", **gone)
    assert saved["instance"]["tokens"][0]["code"] == "library_missing"
    assert saved["instance"]["prefix"] == "hsm::softhsm2_1"


def test_an_initialised_token_is_never_initialised_again(primary: Hsm) -> None:
    primary.keys({"label": "dek-1", "type": "AES"})
    other = primary.token(so_pin="11112222", pin="000000")
    pin_file = primary.scratch / "pins" / "payments"
    pin_file.rename(pin_file.with_name("kept"))
    answer = primary.run("hsm_instance", **primary.instance(tokens=[other]))
    assert answer["failure"]["code"] == "pin_incorrect"
    pin_file.with_name("kept").rename(pin_file)
    assert "dek-1" in primary.tool("--list-objects")
    assert (primary.scratch / "pins" / "payments").read_text() == PIN + "\n"


def test_another_token_under_the_same_label_is_noticed(primary: Hsm) -> None:
    primary.keys({"label": "dek-1", "type": "AES"})
    for path in (primary.scratch / "tokens").iterdir():
        shutil.move(path, primary.scratch / "away")
    ready(primary)
    for module, args in (("hsm_key", {"keys": [{"label": "dek-1", "type": "AES"}]}), ("hsm_sync", {})):
        answer = primary.run(module, instance="primary", **args)
        assert answer["failure"]["code"] == "token_changed", answer
    status = primary.run("hsm_status")
    assert status["healthy"] is False
    assert status["instances"][0]["slots"][0]["code"] == "token_changed"
    answer = primary.run("hsm_instance", **primary.instance())
    assert answer["failure"]["code"] == "renumbering"
    assert primary.run("hsm_instance", allow_renumber=True, **primary.instance())["changed"] is True


def test_star_admin_is_warned_of(hsm: Hsm) -> None:
    answer = hsm.run("hsm_instance", **hsm.instance(admins=["*"]))
    assert any("everyone may administer" in str(warning) for warning in answer["warnings"])


def test_registry_that_is_none(hsm: Hsm) -> None:
    Path(hsm.registry).write_text("this is no database, although it is long enough to be looked at as one\n" * 20)
    refused(hsm, "registry_invalid", check_registry=False, **hsm.instance())


def logins(log: Path) -> int:
    return calls(log)["C_Login"] + calls(log)["C_SetPIN"] if log.exists() else 0


def test_two_entries_for_one_token_cost_no_try(hsm: Hsm) -> None:
    ready(hsm)
    spied, log = hsm.spied()
    serial = hsm.softhsm_util("--show-slots").split("Serial number:")[1].split()[0]
    entries = tokens({"label": "payments", "pin": "000000"}, {"serial": serial, "pin": "000000"})
    refused(spied, "invalid_input", **spied.instance(**entries))
    assert logins(log) == 0


@pytest.mark.parametrize("option", ["so_pin", "pin", "new_pin"])
def test_a_pin_that_no_token_takes_is_refused_before_anything_is_made(hsm: Hsm, option: str) -> None:
    message = refused(hsm, "pin_not_accepted", **hsm.instance(tokens=[hsm.token(**{option: "12"})]))
    assert f"tokens[0] (label 'payments').{'pin' if option == 'new_pin' else option}: its length" in message
    assert "4 to 255 bytes" in message
    assert list((hsm.scratch / "tokens").iterdir()) == []


def test_a_wrong_old_pin_leaves_no_trace_that_the_next_run_follows(primary: Hsm) -> None:
    spied, log = primary.spied()
    pin_file = primary.scratch / "pins" / "payments"
    entry = {"label": "payments", "pin": "000000", "pin_file": str(pin_file), "new_pin": "555555"}
    args = {**primary.instance(), "library": spied.library, "environment": spied.environment}
    pin_file.unlink()
    wrong = primary.run("hsm_instance", **{**args, "tokens": [entry]})
    assert wrong["failure"]["code"] == "pin_incorrect" and logins(log) == 1
    assert not Path(f"{pin_file}.new").exists()
    log.unlink()
    good = primary.run("hsm_instance", allow_low_pin_count=True, **{**args, "tokens": [{**entry, "pin": PIN}]})
    assert good["instance"]["tokens"][0]["accessible"] is True, good
    assert pin_file.read_text() == "555555\n"


def test_a_pin_file_that_cannot_be_trusted_does_not_say_that_the_pin_is_old(primary: Hsm) -> None:
    spied, log = primary.spied()
    pin_file = primary.scratch / "pins" / "payments"
    entry = {"label": "payments", "pin": PIN, "pin_file": str(pin_file), "new_pin": "555555"}
    args = {**primary.instance(), "library": spied.library, "environment": spied.environment, "tokens": [entry]}
    assert primary.run("hsm_instance", **args)["changed"] is True
    log.unlink()
    pin_file.chmod(0o640)
    assert primary.run("hsm_instance", **args)["failure"]["code"] == "pin_file_unsafe"
    assert logins(log) == 0


def test_another_unfinished_change_is_finished_first(primary: Hsm) -> None:
    pin_file = primary.scratch / "pins" / "payments"
    primary.tool("--change-pin", "--new-pin", "111111")
    pending = Path(f"{pin_file}.new")
    pending.write_text("111111\n")
    pending.chmod(0o600)
    entry = {"label": "payments", "pin_file": str(pin_file), "new_pin": "222222"}
    answer = primary.run("hsm_instance", **primary.instance(tokens=[entry]))
    assert answer["failure"]["code"] == "pin_change_unfinished"
    assert pending.read_text() == "111111\n"
    for new_pin in ("111111", "222222"):
        done = primary.run("hsm_instance", **primary.instance(tokens=[{**entry, "new_pin": new_pin}]))
        assert done["instance"]["tokens"][0]["pin_state"] == "ok", done


def test_a_registered_token_that_is_away_is_not_replaced(primary: Hsm) -> None:
    home = next((primary.scratch / "tokens").iterdir())
    shutil.move(home, primary.scratch / "away")
    for check in (True, False):
        answer = primary.run("hsm_instance", check=check, **primary.instance())
        assert answer["failure"]["code"] == "no_token" and "is not there" in answer["msg"]
    assert list((primary.scratch / "tokens").iterdir()) == []
    shutil.move(primary.scratch / "away", home)
    assert primary.run("hsm_instance", **primary.instance())["changed"] is False


def test_a_database_of_another_program_is_left_as_it_was(hsm: Hsm) -> None:
    with closing(sqlite3.connect(hsm.registry)) as other:
        other.execute("CREATE TABLE theirs (a)")
    before = Path(hsm.registry).read_bytes()
    refused(hsm, "registry_invalid", check_registry=False, **hsm.instance())
    assert Path(hsm.registry).read_bytes() == before


def test_a_fifo_in_the_place_of_a_lock_holds_nobody_up(hsm: Hsm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "lock_folder", lambda: tmp_path)
    lock = locks.HostLock("the library", "x")
    os.mkfifo(lock.path)
    with pytest.raises(TokenError, match="not a regular file"):
        lock.acquire()


def test_a_pin_without_quotes_is_warned_of(hsm: Hsm) -> None:
    answer = hsm.run("hsm_instance", **hsm.instance(tokens=[hsm.token(pin=219345)]))
    assert any("tokens[0].pin: is a number in YAML" in str(warning) for warning in answer["warnings"])
    assert "219345" not in str(answer["warnings"])
    for option in ("pin", "so_pin", "new_pin"):
        answer = hsm.run("hsm_instance", **hsm.instance(tokens=[hsm.token(**{option: False})]))
        assert f".{option}: is a truth value, and a text belongs there" in answer["msg"] and not answer.get("warnings")


def test_a_refused_choice_in_keys_is_shown(hsm: Hsm) -> None:
    answer = hsm.keys({"label": "k", "type": "EC", "curve": "secp256r1"})
    assert "P-256" in answer["msg"] and "secp256r1" in answer["msg"]
