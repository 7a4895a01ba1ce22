# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Generations of a key, its states, and what is refused on the way."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from faulty import Faulty, crashed, with_plan
from hsm_fixture import Hsm, ok

KEK = {"label": "kek", "type": "AES", "size": 192, "operations": ["wrap", "unwrap"]}
EC = {"label": "web-tls", "type": "EC", "curve": "P-384"}
HMAC = {"label": "hmac", "type": "GENERIC_SECRET"}


def steps(hsm: Hsm, *keys: dict[str, Any], **args: Any) -> dict[str, Any]:
    """Check, apply, check, apply."""
    planned, done = (ok(hsm.keys(*keys, check=check, **args)) for check in (True, False))
    assert planned["changed"] is done["changed"] is True and planned["diff"] == done["diff"]
    assert planned["applied"] == done["applied"]
    assert [key["state"] for key in planned["keys"]] == [key["state"] for key in done["keys"]]
    for check in (True, False):
        again = ok(hsm.keys(*keys, check=check, **args))
        assert again["changed"] is False and again["diff"] == {"before": {}, "after": {}}, again["diff"]
    return done


def did(answer: dict[str, Any]) -> list[tuple[str, str]]:
    return [(entry["label"], entry["action"]) for entry in answer["applied"]]


def states(hsm: Hsm) -> dict[str, str]:
    with closing(sqlite3.connect(hsm.registry)) as registry:
        return dict(registry.execute("SELECT label, state FROM virtual_key"))


def usage(hsm: Hsm, label: str) -> list[str]:
    """What another program sees that the key's objects may be used for."""
    listing = hsm.tool("--list-objects").split("\n")
    lines = [number for number, line in enumerate(listing) if line.strip() == f"label:      {label}"]
    return [next(line.split("Usage:")[1].strip() for line in listing[number:] if "Usage:" in line) for number in lines]


def age(hsm: Hsm, label: str, days: int) -> None:
    with closing(sqlite3.connect(hsm.registry)) as registry:
        moment = "strftime('%Y-%m-%dT%H:%M:%SZ', 'now', :ago)"
        change = " ".join(["UPDATE virtual_key SET made_at =", moment, ", created_at =", moment, "WHERE label = :label"])
        done = registry.execute(change, {"ago": f"-{days} days", "label": label})
        assert done.rowcount == 1
        registry.commit()


def test_raising_the_generation_makes_another_key(primary: Hsm) -> None:
    first = ok(primary.keys(KEK))["keys"][0]
    assert (first["generation"], first["current"], first["other_generations"]) == (1, True, [])
    done = steps(primary, {**KEK, "generation": 2})
    assert did(done) == [("kek@2", "create")]
    second = done["keys"][0]
    assert second["label"] == "kek" and second["id"] == b"kek@2".hex() and second["uid"].endswith("::kek@2")
    assert (second["generation"], second["current"]) == (2, True)
    assert second["fingerprint"] != first["fingerprint"]
    assert second["other_generations"] == [
        {"generation": 1, "label": "kek", "id": b"kek".hex(), "uid": first["uid"], "state": "present"},
    ]
    # Left out, the number means the current one; the label with the number names it, too.
    for entry in (KEK, {**KEK, "label": "kek@2"}):
        again = ok(primary.keys(entry))
        assert again["changed"] is False and again["keys"][0]["uid"] == second["uid"]


@pytest.mark.parametrize("key", [KEK, EC], ids=["AES", "EC"])
def test_what_is_not_said_is_taken_over_from_the_generation_before(primary: Hsm, key: dict[str, Any]) -> None:
    first = ok(primary.keys(key))["keys"][0]
    second = steps(primary, {"label": key["label"], "type": key["type"], "generation": 2})["keys"][0]
    assert {name: first[name] for name in ("size", "curve", "operations")} == {
        name: second[name] for name in ("size", "curve", "operations")
    }


@pytest.mark.parametrize(("previous", "action"), [("deactivate", "deactivate"), ("destroy", "delete")])
def test_what_becomes_of_earlier_generations(primary: Hsm, previous: str, action: str) -> None:
    ok(primary.keys({**KEK, "generation": 1}))
    ok(primary.keys({**KEK, "generation": 2}))
    done = steps(primary, {**KEK, "generation": 4, "previous": previous})
    assert did(done) == [("kek@4", "create"), ("kek", action), ("kek@2", action)]
    gone = "deactivated" if previous == "deactivate" else "absent"
    assert [(entry["generation"], entry["state"]) for entry in done["keys"][0]["other_generations"]] == [(1, gone), (2, gone)]
    listing = primary.tool("--list-objects")
    assert ("kek@2" in listing) is (previous == "deactivate")
    expected = {"kek": "deactivated", "kek@2": "deactivated", "kek@4": "active"} if previous == "deactivate" else {"kek@4": "active"}
    assert states(primary) == expected


def test_previous_may_be_said_later(primary: Hsm) -> None:
    ok(primary.keys(KEK))
    ok(primary.keys({**KEK, "generation": 2}))
    assert did(steps(primary, {**KEK, "generation": 2, "previous": "destroy"})) == [("kek", "delete")]


def test_deactivated_generations_lose_their_protecting_operations_only_with_enforce(primary: Hsm) -> None:
    ok(primary.keys(EC, KEK))
    steps(primary, {**EC, "generation": 2, "previous": "deactivate"})
    assert sorted(usage(primary, "web-tls")) == ["sign", "verify"]
    steps(primary, {**EC, "generation": 2, "previous": "deactivate", "enforce": True}, {**KEK, "state": "deactivated", "enforce": True})
    assert sorted(usage(primary, "web-tls")) == ["none", "verify"]
    assert usage(primary, "kek") == ["unwrap"]
    assert ok(primary.run("hsm_sync", instance="primary"))["drift"] == []


def test_a_generation_is_not_taken_back(primary: Hsm) -> None:
    ok(primary.keys({**KEK, "generation": 3}))
    for entry, text in (
        ({**KEK, "generation": 2}, "generation 3 of this key is there ('kek@3')"),
        ({**KEK, "label": "kek@2"}, "generation 3 of 'kek' is there"),
    ):
        answer = primary.keys(entry)
        assert answer["failure"]["code"] == "cannot_plan" and text in answer["msg"], answer["msg"]
    # Also not when the HSM has lost it: the registry knows.
    primary.tool("--delete-object", "--type", "secrkey", "--label", "kek@3")
    assert "'kek@3' is gone from the token" in primary.keys(KEK)["msg"]
    assert did(ok(primary.keys({**KEK, "on_vanished": "recreate"}))) == [("kek@3", "create")]


def test_a_generation_that_another_program_made_is_recorded_as_such(primary: Hsm) -> None:
    """hsm_sync cannot know that 'kek@2' is one; whoever declares its number says so."""
    for label in ("kek", "kek@2"):
        primary.tool("--keygen", "--key-type", "AES:24", "--label", label, "--id", label.encode().hex())
    ok(primary.run("hsm_sync", instance="primary"))
    done = steps(primary, {"label": "kek", "type": "AES", "generation": 2})
    assert did(done) == [("kek@2", "record")] and "~ key kek@2: virtual_key (generation 1) -> (generation 2)\n" in done["diff"]["prepared"]
    steps(primary, {"label": "kek", "generation": 1, "state": "absent"})
    assert ok(primary.keys({"label": "kek", "type": "AES"}))["keys"][0]["generation"] == 2


def test_max_age_makes_the_next_generation_when_it_is_time(primary: Hsm) -> None:
    young = {**KEK, "max_age": "90d"}
    steps(primary, young)
    age(primary, "kek", 89)
    assert ok(primary.keys(young))["changed"] is False
    age(primary, "kek", 91)
    done = steps(primary, {**young, "previous": "deactivate"})
    assert did(done) == [("kek@2", "create"), ("kek", "deactivate")]
    age(primary, "kek@2", 365)
    assert did(steps(primary, young)) == [("kek@3", "create")]


def test_months_of_a_key_that_a_service_uses(primary: Hsm) -> None:
    """One declaration of the key and one of its certificate, and a CA that takes its time."""
    web = {**EC, "operations": ["sign", "verify"], "max_age": "90d", "lead": "30d", "previous": "deactivate"}
    asked = {"instance": "primary", "key_label": "web-tls", "generation": "current", "subject": {"CN": "web1.example.com"}}

    def certificate(**options: Any) -> dict[str, Any]:
        planned = ok(primary.run("hsm_certificate", check=True, **asked, **options))
        done = ok(primary.run("hsm_certificate", **asked, **options))
        assert planned["diff"] == done["diff"]
        return done

    def signed() -> str:
        """In the place of a CA the key itself."""
        return str(ok(primary.run("hsm_certificate", **asked, self_signed={}))["certificate"])

    steps(primary, web)
    first = signed()
    request = certificate(csr_content="", content=first)["csr"]
    age(primary, "web-tls", 59)
    assert ok(primary.keys(web))["changed"] is False
    age(primary, "web-tls", 60)
    assert did(steps(primary, web)) == [("web-tls@2", "create")] and states(primary)["web-tls"] == "active"
    # The request of the next one gets out, and what was issued for the first one is left as it is, for as long as it takes.
    answer = certificate(csr_content=request, content=first)
    assert answer["changed"] and answer["csr"] != request and "object=web-tls%402" in answer["key_pkcs11_uri"]
    assert certificate(csr_content=answer["csr"], content=first)["changed"] is False
    age(primary, "web-tls", 90)
    waiting = ok(primary.keys(web))
    assert waiting["changed"] is False and "it has a certificate, and 'web-tls@2' has none yet" in str(waiting["warnings"])
    second = signed()
    assert certificate(csr_content=answer["csr"], content=second)["changed"] is False
    assert did(steps(primary, web)) == [("web-tls", "deactivate")]
    assert states(primary) == {"web-tls": "deactivated", "web-tls@2": "active"}


def test_a_key_that_is_made_again_is_young(primary: Hsm) -> None:
    ok(primary.keys(KEK))
    age(primary, "kek", 365)
    primary.tool("--delete-object", "--type", "secrkey", "--label", "kek")
    ok(primary.keys({**KEK, "on_vanished": "recreate"}))
    assert ok(primary.keys({**KEK, "max_age": "90d"}))["changed"] is False


@pytest.mark.parametrize("where", ["C_GenerateKey:1:kill", "C_DestroyObject:1:kill", "C_DestroyObject:2:kill"])
def test_an_interrupted_rotation_is_finished_by_the_next_run(faulty: Faulty, where: str) -> None:
    hsm = faulty.hsm
    ok(hsm.keys(KEK))
    ok(hsm.keys({**KEK, "generation": 2}))
    rotated = {**KEK, "generation": 3, "previous": "destroy"}
    with_plan(faulty, where)
    crashed(hsm.keys(rotated))
    with_plan(faulty, "")
    assert ok(hsm.keys(rotated))["changed"] is True
    assert faulty.labels() == ["kek@3"] and states(hsm) == {"kek@3": "active"}
    assert ok(hsm.keys(rotated))["changed"] is False


def test_earlier_generations_stay_when_the_new_one_fails(faulty: Faulty) -> None:
    hsm = faulty.hsm
    ok(hsm.keys(KEK))
    with_plan(faulty, " ".join(f"C_GenerateKey:{call}:before=0xd1" for call in (1, 2, 3)))
    answer = hsm.keys({**KEK, "generation": 2, "previous": "destroy"}, {"label": "other", "type": "AES"})
    assert [entry["label"] for entry in answer["failed_keys"]] == ["kek@2"]
    assert [entry["label"] for entry in answer["not_attempted"]] == ["kek"]
    assert faulty.labels() == ["kek", "other"]


def test_earlier_generations_stay_when_the_current_one_cannot_be_used(faulty: Faulty) -> None:
    hsm, key = faulty.hsm, {"label": "dek", "type": "AES"}
    ok(hsm.keys(key))
    ok(hsm.keys({**key, "generation": 2}))
    with_plan(faulty, "C_Encrypt:1:after=0x5")
    answer = hsm.keys({**key, "generation": 2, "previous": "destroy"})
    assert "cannot be used (CKR_GENERAL_ERROR), so the earlier ones are not destroyed" in answer["msg"]
    assert faulty.labels() == ["dek", "dek@2"]


@pytest.mark.parametrize(
    "key", [KEK, EC, {"label": "ed", "type": "Ed25519"}, {"label": "d3", "type": "DES3"}, HMAC], ids=lambda key: key["type"]
)
def test_deactivated(primary: Hsm, key: dict[str, Any]) -> None:
    ok(primary.keys(key))
    before = usage(primary, key["label"])
    done = steps(primary, {"label": key["label"], "type": key["type"], "state": "deactivated"})
    assert done["keys"][0]["state"] == "deactivated" and done["keys"][0]["current"] is True
    assert usage(primary, key["label"]) == before
    answer = primary.keys(key)
    assert "a deactivated key does not become active again" in answer["msg"] and "generation: 2" in answer["msg"]
    assert did(steps(primary, {**key, "generation": 2})) == [(f"{key['label']}@2", "create")]


def test_all_generations_are_deactivated_or_the_one_that_is_named(primary: Hsm) -> None:
    ok(primary.keys(KEK))
    ok(primary.keys({**KEK, "generation": 2}))
    assert did(steps(primary, {"label": "kek", "generation": 1, "state": "deactivated"})) == [("kek", "deactivate")]
    assert did(steps(primary, {"label": "kek", "state": "deactivated"})) == [("kek@2", "deactivate")]


def test_what_cannot_be_deactivated(primary: Hsm) -> None:
    ok(primary.keys({"label": "fixed", "type": "AES", "modifiable": False}))
    answer = primary.keys(
        {"label": "none", "state": "deactivated"},
        {"label": "fixed", "state": "deactivated", "enforce": True},
        {"label": "fixed", "generation": 2, "state": "deactivated"},
    )
    problems = answer["failure"]["details"]["problems"]
    for part in ("there is no key 'none'", "not modifiable, so it keeps encrypt", "there is no key 'fixed@2'"):
        assert any(part in problem for problem in problems), (part, problems)


@pytest.mark.parametrize(
    "key", [EC, {"label": "ca", "type": "RSA", "size": 2048}, {"label": "ed", "type": "Ed25519"}], ids=lambda key: key["type"]
)
def test_public_only(primary: Hsm, key: dict[str, Any]) -> None:
    made = ok(primary.keys(key))["keys"][0]
    done = steps(primary, {"label": key["label"], "type": key["type"], "state": "public_only"})
    left = done["keys"][0]
    assert left["state"] == "public_only" and left["public_key"] == made["public_key"] and left["fingerprint"] == made["fingerprint"]
    listing = primary.tool("--list-objects")
    assert "Private Key Object" not in listing and "Public Key Object" in listing
    assert ok(primary.run("hsm_sync", instance="primary"))["summary"] == {"added": 0, "known": 1, "missing": 0, "drifted": 0}
    assert "as state: public_only leaves it" in primary.keys(key)["msg"]
    assert did(steps(primary, {"label": key["label"], "state": "absent"})) == [(key["label"], "delete")]
    assert states(primary) == {}


def test_what_cannot_be_left_with_its_public_half(primary: Hsm) -> None:
    ok(primary.keys(EC, KEK))
    primary.tool("--delete-object", "--type", "pubkey", "--label", "web-tls")
    answer = primary.keys({"label": "web-tls", "state": "public_only"}, {"label": "kek", "state": "public_only"})
    problems = answer["failure"]["details"]["problems"]
    assert "nothing would be left of the key" in problems[0] and "is a secret key of type AES" in problems[1]
    assert "Private Key Object" in primary.tool("--list-objects")


def test_nothing_is_destroyed_that_is_not_named(primary: Hsm) -> None:
    ok(primary.keys(KEK))
    ok(primary.keys({**KEK, "generation": 2}))
    answer = primary.keys({"label": "kek", "state": "absent"})
    assert "later generations: 'kek@2'" in answer["msg"] and "not named" in answer["msg"]
    assert did(steps(primary, {"label": "kek", "generation": 1, "state": "absent"})) == [("kek", "delete")]
    ok(primary.keys({"label": "kek@2", "state": "absent"}))
    ok(primary.keys(KEK))
    ok(primary.keys({**KEK, "generation": 2}))
    both = [{"label": "kek", "state": "absent"}, {"label": "kek@2", "state": "absent"}]
    assert did(steps(primary, *both)) == [("kek", "delete"), ("kek@2", "delete")]


def test_two_entries_that_mean_one_key_are_told(primary: Hsm) -> None:
    ok(primary.keys({**KEK, "generation": 2}))
    answer = primary.keys(KEK, {**KEK, "label": "kek@2"})
    assert "means 'kek@2', and so does keys[0] (kek)" in answer["msg"]


def test_bad_input_is_reported_at_once(primary: Hsm) -> None:
    answer = primary.keys(
        {**KEK, "label": "a", "generation": 0},
        {**KEK, "label": "b@3", "generation": 3},
        {**KEK, "label": "c", "max_age": "soon"},
        {**KEK, "label": "d", "max_age": "0d"},
        {**KEK, "label": "e", "enforce": True},
        {**KEK, "label": "f", "generation": 2, "id": "01"},
        {"label": "g", "state": "absent", "max_age": "1d", "previous": "destroy"},
        {"label": "h", "type": "AES", "state": "public_only"},
        {**KEK, "label": "i", "max_age": "1d", "source": {"content": "00" * 16}},
        {"label": "j", "type": "DES"},
        {"label": "k", "type": "Ed25519", "size": 255},
        {"label": "l", "state": "deactivated", "source": {"content": "00" * 16}},
        {**HMAC, "label": "m", "size": 104},
        {**HMAC, "label": "n", "size": 260, "operations": ["encrypt"]},
    )
    problems = answer["failure"]["details"]["problems"]
    for part in (
        "keys[0] (a).generation: 0 is no generation",
        "keys[1] (b@3).generation: the label names generation 3 of 'b' already",
        "keys[2] (c).max_age: 'soon' is no duration",
        "keys[3] (d).max_age: '0d' is no time at all",
        "keys[4] (e).enforce: goes with",
        "keys[5] (f).id: is generation 1's",
        "keys[6] (g).max_age: goes with state: present only",
        "keys[6] (g).previous: goes with state: present only",
        "keys[7] (h).state: AES keys have no public half",
        "keys[8] (i).max_age: an imported key cannot be rotated by its age",
        "keys[9] (j).type: DES is too weak",
        "keys[10] (k).size: Ed25519 keys have one size",
        "keys[11] (l).source: goes with state: present only",
        "keys[12] (m).size: 104 bits are too weak for use today: use 112 or more",
        "keys[13] (n).size: 260 is no size of GENERIC_SECRET keys: use 64 to 1024 in steps of 8",
        "keys[13] (n).operations: GENERIC_SECRET keys cannot encrypt: use sign, verify, derive",
    ):
        assert any(part in problem for problem in problems), (part, problems)
    assert len(problems) == 16


def test_without_a_registry_only_what_the_hsm_keeps_is_possible(primary: Hsm) -> None:
    direct = {
        "instance": None,
        "library": primary.library,
        "environment": primary.environment,
        "token_label": "payments",
        "pin": "pin-7391",
    }
    ok(primary.keys({**KEK, "generation": 1}, **direct))
    steps(primary, {**KEK, "generation": 2, "previous": "deactivate", "enforce": True}, **direct)
    assert usage(primary, "kek") == ["unwrap"]
    answer = primary.keys(
        {**KEK, "max_age": "1d"}, {"label": "x", "state": "deactivated"}, {**KEK, "label": "y", "previous": "deactivate"}, **direct
    )
    problems = answer["failure"]["details"]["problems"]
    assert len(problems) == 3 and all("give instance instead of library" in problem for problem in problems)


def test_what_a_service_beside_its_hsm_uses_is_not_ended(primary: Hsm, tmp_path: Path) -> None:
    rotated = {**KEK, "generation": 2, "previous": "destroy"}
    ok(primary.keys(KEK))
    # The note of the role client, on a host of its own.
    (tmp_path / "web.uses").write_text("pkcs11:token=payments;object=kek;type=private\n")
    there = 'mount -t tmpfs none /var/lib && mkdir /var/lib/keyfleet-consumers && cp "$0" /var/lib/keyfleet-consumers && exec "$@"'
    own_host = ["unshare", "--mount", "sh", "-ec", there, str(tmp_path / "web.uses")]
    arguments = {"registry": primary.registry, "instance": "primary", "keys": [rotated]}
    for check, made in ((True, [("kek@2", "create")]), (False, [("kek@2", "create")]), (True, []), (False, [])):
        answer = ok(primary.finish(primary.start("hsm_key", arguments, check=check, by=own_host)))
        assert did(answer) == made and answer["changed"] is bool(made)
        assert "key 'kek' stays as it is until services use 'kek@2': services of 'this host' use it." in answer["_raw"]
    assert did(steps(primary, rotated)) == [("kek", "delete")]
