# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a crash leaves of keys: found, named, and mended where that is safe."""

from __future__ import annotations

import random
import sqlite3
import subprocess
import time
from collections import Counter
from contextlib import closing
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from faulty import Faulty, crashed, with_plan
from forked import Forked, answer_of
from hsm_fixture import PIN, SOFTHSM, Hsm, ok

GENERAL_ERROR = "0x5"
RSA = {"label": "ca", "type": "RSA", "size": 2048}
EC = {"label": "web-tls", "type": "EC"}
ED = {"label": "ed", "type": "Ed25519"}
HALVES = {"private": "privkey", "public": "pubkey"}


def lose(hsm: Hsm, half: str, label: str) -> None:
    hsm.tool("--delete-object", "--type", HALVES[half], "--label", label)


def objects(hsm: Hsm) -> Counter[str]:
    return Counter(line.split(";")[0] for line in hsm.tool("--list-objects").splitlines() if "Object" in line)


def forget(hsm: Hsm) -> None:
    """As if no run had ever vouched for a key."""
    with closing(sqlite3.connect(hsm.registry)) as registry:
        registry.execute("DELETE FROM virtual_key")
        registry.commit()


def note(hsm: Hsm, label: str, *, nameless: int = 0) -> None:
    """The note that a run leaves which died while it made this key."""
    with closing(sqlite3.connect(hsm.registry)) as registry:
        row = (label, label.encode(), nameless)
        registry.execute("INSERT INTO pending_key SELECT id, ?, ?, 0, 0, ?, 'dead', '2026-01-01T00:00:00Z' FROM token", row)
        registry.commit()


def notes(hsm: Hsm) -> int:
    with closing(sqlite3.connect(hsm.registry)) as registry:
        return int(registry.execute("SELECT count(*) FROM pending_key").fetchone()[0])


def four_steps(hsm: Hsm, key: dict[str, Any], action: str, **args: Any) -> dict[str, Any]:
    planned, done = (ok(hsm.keys(key, check=check, **args)) for check in (True, False))
    assert planned["diff"] == done["diff"] and planned["changed"] is done["changed"] is True
    assert [entry["action"] for entry in done["applied"]] == [entry["action"] for entry in planned["applied"]] == [action]
    for check in (True, False):
        again = ok(hsm.keys(key, check=check, **args))
        assert again["changed"] is False and again["keys"] == done["keys"]
    entry: dict[str, Any] = done["keys"][0]
    return entry


@pytest.mark.parametrize("key", [RSA, EC, ED, {**RSA, "label": "mail", "operations": ["encrypt", "decrypt"]}], ids=lambda key: key["label"])
def test_a_lost_public_half_is_made_again(primary: Hsm, key: dict[str, Any]) -> None:
    """From the numbers of an RSA private key, from the registry for the others; both are tried against the private half first."""
    whole = ok(primary.keys(key))["keys"][0]
    lose(primary, "public", key["label"])
    refused = primary.keys(key)
    assert refused["failure"]["code"] == "cannot_plan" and "say repair: true to make it again" in refused["msg"]
    mended = four_steps(primary, key, "repair", repair=True)
    assert {**mended, "local": True} == whole
    assert objects(primary) == {"Private Key Object": 1, "Public Key Object": 1}


def test_a_public_half_of_another_key_is_not_believed(primary: Hsm) -> None:
    ok(primary.keys(EC))
    other = ok(primary.keys({"label": "other", "type": "EC"}))
    assert other["keys"][0]["public_key"]
    with closing(sqlite3.connect(primary.registry)) as registry:
        registry.execute(
            "UPDATE virtual_key SET public_key = (SELECT public_key FROM virtual_key WHERE label = 'other') WHERE label = 'web-tls'"
        )
        registry.commit()
    lose(primary, "public", "web-tls")
    answer = primary.keys(EC, repair=True)
    assert "the public key that is known does not belong to it" in answer["msg"]
    assert objects(primary) == {"Private Key Object": 2, "Public Key Object": 1}


def test_a_derive_only_pair_proves_its_halves_by_agreeing(primary: Hsm) -> None:
    key = {"label": "agree", "type": "EC", "operations": ["derive"]}
    ok(primary.keys(key))
    lose(primary, "public", "agree")
    four_steps(primary, key, "repair", repair=True)


def test_a_generated_half_that_nobody_vouched_for_is_made_anew_when_asked(primary: Hsm) -> None:
    ok(primary.keys(EC))
    forget(primary)
    lose(primary, "private", "web-tls")
    assert "say repair: true to destroy it and make the key anew" in primary.keys(EC)["msg"]
    assert four_steps(primary, EC, "repair", repair=True)["state"] == "present"
    assert objects(primary) == {"Private Key Object": 1, "Public Key Object": 1}


def test_an_imported_public_key_is_not_taken_for_a_left_over(primary: Hsm) -> None:
    der = primary.scratch / "public.der"
    ok(primary.keys(EC))
    primary.tool("--read-object", "--type", "pubkey", "--label", "web-tls", "--output-file", str(der))
    primary.tool("--write-object", str(der), "--type", "pubkey", "--label", "peer", "--id", b"peer".hex())
    note(primary, "peer")
    for repair in (False, True):
        answer = primary.keys({"label": "peer", "type": "EC"}, repair=repair)
        assert answer["failure"]["code"] == "cannot_plan", answer
    assert objects(primary)["Public Key Object"] == 2


@pytest.mark.parametrize("half", ["private", "public"])
def test_what_a_dead_run_set_out_to_make_needs_no_telling(primary: Hsm, half: str) -> None:
    ok(primary.keys(EC))
    forget(primary)
    lose(primary, half, "web-tls")
    note(primary, "web-tls")
    four_steps(primary, EC, "repair")
    assert objects(primary) == {"Private Key Object": 1, "Public Key Object": 1}
    assert notes(primary) == 0


def failing(*uses: int) -> str:
    """Faults for these uses of a key, which encrypts a block in one call."""
    return " ".join(f"C_Encrypt:{use}:after={GENERAL_ERROR}" for use in uses)


def unusable(faulty: Faulty, plan: str) -> None:
    ok(faulty.hsm.keys({"label": "dek", "type": "AES"}))
    forget(faulty.hsm)
    with_plan(faulty, plan)


def test_a_key_that_cannot_be_used_is_made_anew_when_asked(faulty: Faulty) -> None:
    """The key fails three times, and one made for a test works: as with a key without a value."""
    key = {"label": "dek", "type": "AES"}
    unusable(faulty, failing(1, 2, 3))
    answer = faulty.hsm.keys(key)
    assert "exists, and using it once failed (CKR_GENERAL_ERROR)" in answer["msg"] and "repair: true" in answer["msg"]
    planned, done = (ok(faulty.hsm.keys(key, check=check, repair=True)) for check in (True, False))
    assert planned["diff"] == done["diff"] and done["applied"][0]["action"] == "repair"
    with_plan(faulty, "")
    assert ok(faulty.hsm.keys(key))["changed"] is False and faulty.labels() == ["dek"]


@pytest.mark.parametrize("uses", [(1,), (1, 2), range(1, 9)], ids=["once", "twice", "always"])
@pytest.mark.parametrize("noted", [False, True], ids=["repair", "note"])
def test_a_passing_fault_or_a_sick_token_costs_no_key(faulty: Faulty, uses: tuple[int, ...], noted: bool) -> None:
    unusable(faulty, failing(*uses))
    before = faulty.hsm.tool("--list-objects")
    if noted:
        note(faulty.hsm, "dek")
    answer = faulty.hsm.keys({"label": "dek", "type": "AES"}, repair=not noted)
    assert "so nothing is destroyed" in answer["msg"]
    assert faulty.hsm.tool("--list-objects") == before


def test_a_device_error_is_no_proof(faulty: Faulty) -> None:
    unusable(faulty, " ".join(f"C_Encrypt:{number}:after=0x30" for number in (1, 2, 3)))
    assert "nothing is destroyed" in faulty.hsm.keys({"label": "dek", "type": "AES"}, repair=True)["msg"]
    assert faulty.labels() == ["dek"]


def test_a_key_for_certain_mechanisms_only_is_not_called_broken(primary: Hsm) -> None:
    """CKA_ALLOWED_MECHANISMS keeps out the one that we would try."""
    primary.tool("--keygen", "--key-type", "AES:32", "--label", "cbc", "--id", b"cbc".hex(), "--allowed-mechanisms", "AES-CBC-PAD,AES-GCM")
    for repair in (False, True):
        assert ok(primary.keys({"label": "cbc", "type": "AES"}, repair=repair))["keys"][0]["state"] == "present"
    assert objects(primary) == {"Secret Key Object": 1}


def test_two_halves_that_do_not_belong_together_are_both_kept(primary: Hsm) -> None:
    """A public half of another pair under this one's names: the private half may be the only copy."""
    ok(primary.keys({"label": "a", "type": "EC"}, {"label": "b", "type": "EC"}))
    der = primary.scratch / "b.der"
    primary.tool("--read-object", "--type", "pubkey", "--label", "b", "--output-file", str(der))
    lose(primary, "public", "a")
    primary.tool("--write-object", str(der), "--type", "pubkey", "--label", "a", "--id", b"a".hex(), "--usage-sign")
    forget(primary)
    note(primary, "a")
    before = objects(primary)
    for state in ("present", "public_only"):
        answer = primary.keys({"label": "a", "type": "EC", "state": state}, repair=True)
        assert "do not belong together" in answer["msg"], answer["msg"]
    assert objects(primary) == before


def test_a_half_whose_mate_goes_by_another_name_is_left_alone(primary: Hsm) -> None:
    primary.tool("--keypairgen", "--key-type", "rsa:2048", "--label", "tls", "--id", "70")
    der = primary.scratch / "tls.der"
    primary.tool("--read-object", "--type", "pubkey", "--label", "tls", "--output-file", str(der))
    lose(primary, "public", "tls")
    primary.tool("--write-object", str(der), "--type", "pubkey", "--label", "tls-public", "--id", "71", "--usage-sign")
    before = objects(primary)
    for label, key_id in (("tls", "70"), ("tls-public", "71")):
        answer = primary.keys({"label": label, "id": key_id, "type": "RSA"}, repair=True)
        assert "other objects on the token may belong to it" in answer["msg"], answer["msg"]
    assert objects(primary) == before


def cut_off_object(hsm: Hsm) -> None:
    """A key object without a name in the state in which SoftHSM's own crash leaves it: CKA_TOKEN false in the token's folder."""
    before = set(hsm.scratch.glob("tokens/*/*.object"))
    hsm.tool("--keygen", "--key-type", "AES:32")
    (made,) = set(hsm.scratch.glob("tokens/*/*.object")) - before
    token_is_true = b"\0\0\0\0\0\0\0\1" * 2 + b"\xff"  # attribute 1, of type boolean, true
    content = made.read_bytes()
    assert content.count(token_is_true) == 1
    made.write_bytes(content.replace(token_is_true, token_is_true[:-1] + b"\0"))


def test_nameless_objects_are_removed_only_when_they_are_cut_off_and_hollow(faulty: Faulty) -> None:
    """The fault library lets the use of the cut-off object fail: so the hollow ones of a real crash look."""
    hsm, key = faulty.hsm, {"label": "dek", "type": "AES"}
    ok(hsm.keys(key))
    hsm.tool("--keygen", "--key-type", "AES:32")  # somebody's own, whole and without a name
    cut_off_object(hsm)
    with_plan(faulty, failing(1, 2))
    assert ok(hsm.keys(key))["left_overs"] == []  # nothing tells that we were at work
    note(hsm, "other", nameless=1)  # it was there before that run began
    found = ok(hsm.keys(key))
    assert found["changed"] is False and [entry["removed"] for entry in found["left_overs"]] == [False]
    note(hsm, "third")
    planned, done = (ok(hsm.keys(key, check=check)) for check in (True, False))
    assert planned["diff"] == done["diff"] and planned["changed"] is done["changed"] is True
    assert [entry["removed"] for entry in done["left_overs"]] == [True]
    assert objects(hsm) == {"Secret Key Object": 2}
    with_plan(faulty, "")
    cut_off_object(hsm)  # this one works
    assert ok(hsm.keys(key, repair=True))["left_overs"] == []
    with_plan(faulty, failing(1, 2))
    assert ok(hsm.keys(key, repair=True))["changed"] is True
    assert objects(hsm) == {"Secret Key Object": 2}


def test_a_replacement_cut_off_between_the_halves_is_finished(faulty: Faulty) -> None:
    """The one that is replaced was imported, so nothing but the note tells that its left-over half may go."""
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    hsm = faulty.hsm
    ok(hsm.keys({**EC, "source": {"content": pem}}))
    wanted = {**EC, "curve": "P-384", "on_mismatch": "replace"}
    with_plan(faulty, "C_DestroyObject:3:kill")  # after two of a pair of the session, which showed that the token has the curve
    crashed(hsm.keys(wanted), "C_DestroyObject")
    assert sum(objects(hsm).values()) == 1
    with_plan(faulty, "")
    assert ok(hsm.keys(wanted))["keys"][0]["curve"] == "P-384"
    assert objects(hsm) == {"Private Key Object": 1, "Public Key Object": 1} and notes(hsm) == 0


def test_the_note_of_a_dead_run_outlives_a_failure_of_the_next(faulty: Faulty) -> None:
    hsm = faulty.hsm
    ok(hsm.keys(EC))
    forget(hsm)
    lose(hsm, "private", "web-tls")
    note(hsm, "web-tls")
    with_plan(faulty, "C_GenerateKey:1:before=0x30")
    assert hsm.keys({"label": "first", "type": "AES"}, EC)["failed"] is True
    with_plan(faulty, "")
    assert ok(hsm.keys(EC))["applied"][0]["action"] == "repair"


def test_a_sync_does_not_vouch_for_what_a_dead_run_has_left(primary: Hsm) -> None:
    ok(primary.keys({"label": "dek", "type": "AES"}))
    forget(primary)
    note(primary, "dek")
    answer = ok(primary.run("hsm_sync", instance="primary"))
    assert answer["added"] == [] and any("a run that was cut off was making 'dek'" in str(text) for text in answer["warnings"])
    assert ok(primary.keys({"label": "dek", "type": "AES"}))["applied"][0]["action"] == "record"
    assert notes(primary) == 0


def test_a_run_that_ends_leaves_no_note(faulty: Faulty) -> None:
    keys = [{"label": f"k{number}", "type": "AES"} for number in range(4)]
    with_plan(faulty, "C_GenerateKey:2:before=0x30")
    assert faulty.hsm.keys(*keys)["failed"] is True
    assert notes(faulty.hsm) == 0
    with_plan(faulty, "C_GenerateKey:1:kill")
    crashed(faulty.hsm.keys(*keys), "C_GenerateKey")
    assert notes(faulty.hsm) == 3
    with_plan(faulty, "")
    assert [entry["action"] for entry in ok(faulty.hsm.keys(*keys))["applied"]] == ["record", "create", "create"]
    assert notes(faulty.hsm) == 0


def test_of_many_keys_that_a_dead_run_has_made_none_is_made_twice(faulty: Faulty) -> None:
    """Records are written 64 at a time: the notes tell of the keys behind the last of them."""
    keys = [{"label": f"k{number:02}", "type": "AES"} for number in range(70)]
    with_plan(faulty, "C_GenerateKey:67:kill")
    crashed(faulty.hsm.keys(*keys), "C_GenerateKey")
    with closing(sqlite3.connect(faulty.hsm.registry)) as registry:
        assert registry.execute("SELECT count(*) FROM virtual_key").fetchone()[0] == 64
    assert notes(faulty.hsm) == 70 - 64
    with_plan(faulty, "")
    done = ok(faulty.hsm.keys(*keys))
    assert [(entry["action"], entry["label"]) for entry in done["applied"]] == [
        *(("record", f"k{number}") for number in (64, 65, 66)),
        *(("create", f"k{number}") for number in (67, 68, 69)),
    ]
    assert len(faulty.labels()) == 70 and notes(faulty.hsm) == 0


def test_keys_without_a_record_are_told_and_recorded_by_the_next_run(primary: Hsm) -> None:
    with closing(sqlite3.connect(primary.registry)) as registry:
        registry.execute("CREATE TRIGGER full BEFORE INSERT ON virtual_key WHEN NEW.label = 'k1' BEGIN SELECT RAISE(FAIL, 'full'); END")
    keys = [{"label": f"k{number}", "type": "AES"} for number in range(3)]
    answer = primary.keys(*keys)
    assert answer["failure"]["code"] == "registry_write_failed" and answer["changed"] is True
    assert [(entry["label"], "the next run records it" in entry["error"]) for entry in answer["failed_keys"]] == [
        (f"k{number}", True) for number in range(3)
    ]
    assert notes(primary) == 3
    with closing(sqlite3.connect(primary.registry)) as registry:
        registry.execute("DROP TRIGGER full")
    assert [entry["action"] for entry in ok(primary.keys(*keys))["applied"]] == ["record"] * 3
    assert notes(primary) == 0


def test_what_was_made_is_told_by_a_run_that_cannot_write_at_all_any_more(primary: Hsm) -> None:
    with closing(sqlite3.connect(primary.registry)) as registry:
        registry.execute("CREATE TRIGGER full BEFORE DELETE ON pending_key BEGIN SELECT RAISE(ABORT, 'full'); END")
    keys = [{"label": f"k{number:02}", "type": "AES"} for number in range(70)]
    answer = primary.keys(*keys)
    assert answer["failure"]["code"] == "registry_write_failed" and answer["changed"] is True
    assert (len(answer["failed_keys"]), len(answer["not_attempted"])) == (64, 6)
    with closing(sqlite3.connect(primary.registry)) as registry:
        registry.execute("DROP TRIGGER full")
    done = [entry["action"] for entry in ok(primary.keys(*keys))["applied"]]
    assert done == ["record"] * 64 + ["create"] * 6 and notes(primary) == 0


def used(hsm: Hsm) -> dict[str, Any]:
    return answer_of("use_keys", environment=hsm.environment, library=SOFTHSM, label="payments", pin=PIN)


BATCH = (
    [{"label": f"aes-{number}", "type": "AES"} for number in range(14)]
    + [{"label": f"ec-{number}", "type": "EC"} for number in range(14)]
    + [{"label": f"ed-{number}", "type": "Ed25519"} for number in range(5)]
    + [{"label": f"des3-{number}", "type": "DES3"} for number in range(3)]
    + [{"label": f"import-{number}", "type": "AES", "source": {"content": f"{number:02x}" * 32}} for number in range(3)]
    + [{"label": "rsa", "type": "RSA", "size": 2048}]
)
ROUNDS = 12


def wait_for_notes(hsm: Hsm, process: Forked) -> float:
    """The moment when the batch begins: the registry has the notes of what is to be made.

    Before that lies the login. A SIGKILL in the microseconds of SoftHSM's C_Login may cost the whole token, which no caller can mend.
    """
    while notes(hsm) == 0 and process.poll() is None:
        time.sleep(0.002)
    return time.monotonic()


def test_a_batch_killed_at_any_moment_is_finished_by_the_next_run(primary: Hsm) -> None:
    """SIGKILL at a random moment of each twelfth of a batch of 40: the next run ends with just these 40 keys, each usable, none twice."""
    draw = random.SystemRandom()
    expected: dict[str, int] = {}
    for key in BATCH:
        for kind in ("SECRET_KEY",) if key["type"] in ("AES", "DES3") else ("PRIVATE_KEY", "PUBLIC_KEY"):
            expected[f"{key['label']} {kind}"] = 1
    died_at_work = 0
    longest = 60.0
    for number in range(ROUNDS + 1):
        process = primary.fork("hsm_key", {"registry": primary.registry, "instance": "primary", "keys": BATCH})
        begun = wait_for_notes(primary, process)
        # The moment of death is what is drawn: this is no wait for something to be ready.
        try:
            # The first run tells how long one takes.
            process.wait(timeout=longest * (number - draw.random()) / ROUNDS if number else longest)
            longest = min(longest, time.monotonic() - begun)
        except subprocess.TimeoutExpired:
            process.kill()
        process.communicate(60)
        died_at_work += notes(primary) > 0
        where = f"round {number}, {notes(primary)} notes left"
        answer = primary.keys(*BATCH)
        assert not answer.get("failed"), (where, answer["msg"])
        assert {entry["state"] for entry in answer["keys"]} == {"present"}, where
        found = used(primary)
        assert found["count"] == expected, (where, found)
        assert found["bad"] == [], (where, found)
        assert notes(primary) == 0, where
        assert ok(primary.run("hsm_sync", instance="primary"))["summary"] == {"added": 0, "known": 40, "missing": 0, "drifted": 0}, where
        assert ok(primary.keys(*BATCH))["changed"] is False, where
        ok(primary.keys(*({"label": key["label"], "state": "absent"} for key in BATCH)))
    assert died_at_work >= 8, f"only {died_at_work} of {ROUNDS} runs died while keys were made"
