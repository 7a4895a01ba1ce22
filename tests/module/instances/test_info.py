# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""hsm_info: what it finds, what it leaves alone, and what it says when the library crashes, hangs or fails."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Any

import pytest
from faulty import Faulty
from hsm_fixture import HANG, PIN, SO_PIN, SOFTHSM, Hsm, calls, ok
from nss_pin import LABEL, new_database

VALUE = bytes(range(100, 132))
CANARIES = (PIN, SO_PIN, VALUE.hex(), base64.b64encode(VALUE).decode(), repr(VALUE)[2:-1])


def info(hsm: Hsm, **options: Any) -> dict[str, Any]:
    return hsm.run("hsm_info", library=hsm.library, environment=hsm.environment, **options)


def files(hsm: Hsm) -> dict[str, bytes]:
    """The token's files. C_Login writes token.object."""
    return {path.name: path.read_bytes() for path in (hsm.scratch / "tokens").rglob("*") if path.is_file() and path.stem != "token"}


def works(answer: dict[str, Any]) -> dict[tuple[Any, Any, Any], Any]:
    return {(row["capability"], row["type"], row["mechanism"]): row["works"] for row in answer["capabilities"]}


def test_from_the_slots_to_the_keys(primary: Hsm) -> None:
    source = {"content": VALUE.hex(), "format": "hex"}
    ok(primary.keys({"label": "dek", "type": "AES", "source": source, "extractable": True}, {"label": "sig", "type": "EC"}))
    registry, before = Path(primary.registry).read_bytes(), files(primary)
    listed = ok(info(primary))
    assert listed["library"]["manufacturer"] == "SoftHSM" and listed["library"]["cryptoki_version"] == "2.40"
    token, free = (slot["token"] for slot in listed["slots"])
    assert (token["label"], token["pin_state"], free["initialized"], free["pin_state"]) == ("payments", "ok", False, None)
    assert (listed["token"], listed["mechanisms"], listed["objects"]) == (None, [], [])

    spied, log = primary.spied()
    public = ok(info(spied, token_serial=token["serial"]))
    assert calls(log)["C_Login"] == 0 and public["login"] is False and public["probe"] is None
    assert [item["class"] for item in public["objects"]] == ["public"]
    assert works(public) == {("random", None, None): True}
    (aes,) = (entry for entry in public["mechanisms"] if entry["name"] == "AES_KEY_GEN")
    assert aes == {"name": "AES_KEY_GEN", "min_key_size": 16, "max_key_size": 32, "flags": ["GENERATE"], "code": None}

    log.unlink()
    whole = [ok(info(spied, token_label="payments", pin=PIN, check=check)) for check in (True, False)]
    sessions = re.findall(r"C_OpenSession\n.*\n.*\n\[in\] flags = (\w+)", log.read_text())
    assert calls(log)["C_Login"] == 2 and sessions == ["0x4", "0x4"]  # CKF_SERIAL_SESSION alone: read-only
    for answer in whole:
        assert answer["changed"] is False and answer["login"] is True and answer["probe"]["did"] == "AES_ECB"
        found = {(item["class"], item["label"]): item for item in answer["objects"]}
        assert found.keys() == {("secret", "dek"), ("private", "sig"), ("public", "sig")}
        dek = found["secret", "dek"]
        assert (dek["type"], dek["size"], dek["id"], dek["operations"]) == ("AES", 256, b"dek".hex(), ["encrypt", "decrypt"])
        assert dek["flags"]["extractable"] is True and dek["flags"]["sensitive"] is True and dek["not_reported"] == []
        assert set(works(answer).values()) == {True}
        assert {row[:2] for row in works(answer)} >= {("generate", "RSA"), ("sign", "EC"), ("unwrap", "AES"), ("import", "AES")}
        assert works(answer)["sign", "GENERIC_SECRET", "SHA512_HMAC"] is True
        assert not [canary for canary in CANARIES if canary in answer["_raw"]]
    assert files(primary) == before and Path(primary.registry).read_bytes() == registry


def test_only_the_keys_that_are_wanted_in_every_generation(primary: Hsm) -> None:
    made = ok(primary.keys(*({"label": label, "type": "EC"} for label in ("web", "webs", "sig")), {"label": "dek", "type": "AES"}))
    second = ok(primary.keys({"label": "web", "type": "EC", "generation": 2}))
    prints = {key["label"]: key["fingerprint"] for key in made["key_results"]} | {"web@2": second["key_results"][0]["fingerprint"]}
    spied, log = primary.spied()

    def found(**options: Any) -> list[dict[str, Any]]:
        log.unlink(missing_ok=True)
        objects: list[dict[str, Any]] = ok(info(spied, token_label="payments", **options))["objects"]
        return objects

    for pin, classes in (({}, ["public"]), ({"pin": PIN}, ["private", "public"])):
        both = found(labels=["web", "gone"], generations=True, **pin)
        assert sorted((item["label"], item["class"]) for item in both) == [(label, one) for label in ("web", "web@2") for one in classes]
        assert {item["label"]: item["fingerprint"] for item in both if item["class"] == "public"} == {
            label: prints[label] for label in ("web", "web@2")
        }
    assert calls(log)["C_FindObjectsInit"] == 1
    assert [item["label"] for item in found(labels=["web", "web@2", "gone"])] == ["web", "web@2"]
    assert calls(log)["C_FindObjectsInit"] == 3
    assert [item["label"] for item in found(labels=["web"])] == ["web"]
    refused = info(primary, labels=["web"])
    assert "labels: objects are those of one token: name it with token_label" in refused["msg"]
    for given, said in (
        ({"labels": []}, "labels: empty list"),
        ({"labels": [""]}, "labels: empty label"),
        ({"generations": True}, "of which keys?"),
    ):
        assert said in info(primary, token_label="payments", **given)["msg"]


@pytest.mark.parametrize("registered", [True, False])
def test_no_try_that_can_be_seen_to_fail(hsm: Hsm, registered: bool) -> None:
    """What the registry remembers, of a registered token or another, and then the flags. A registry that is not there is not made."""
    label = "payments" if registered else "stranger"
    hsm.register()
    if not registered:
        hsm.softhsm_util("--init-token", "--free", "--label", label, "--so-pin", SO_PIN, "--pin", PIN)
    wrong = hsm.scratch / "wrong"
    wrong.write_text("000000\n")
    wrong.chmod(0o600)
    spied, log = hsm.spied()
    options = {"token_label": label, "pin_file": str(wrong)}
    codes = [info(spied, **options, check=check)["failure"]["code"] for check in (True, False)]
    assert codes == ["pin_incorrect", "pin_not_tried"] and calls(log)["C_Login"] == 1
    none = hsm.scratch / "none" / "registry.db"
    answer = info(spied, **options, registry=str(none))
    assert answer["failure"]["code"] == "pin_count_low" and calls(log)["C_Login"] == 1 and not none.parent.exists()
    assert "low" in [slot["token"]["pin_state"] for slot in answer["slots"]] and answer["mechanisms"]
    right = {"token_label": label, "pin": PIN, "allow_low_pin_count": True}
    assert ok(info(spied, **right))["login"] is True


@pytest.mark.parametrize(
    ("plan", "code", "words"),
    [
        ("C_GenerateKeyPair:1:crash", "probe_crashed", "crashed in C_GenerateKeyPair while trying generate"),
        ("C_GetMechanismList:2:hang", "probe_timeout", "it hung in C_GetMechanismList"),
        ("C_Login:1:before=0x30", "CKR_DEVICE_ERROR", "the login failed"),
        ("C_GetSlotList:1:before=0x30", "CKR_DEVICE_ERROR", "listing the slots"),
    ],
)
def test_a_library_that_fails(faulty: Faulty, plan: str, code: str, words: str) -> None:
    """One clear error, and what was found until then."""
    options = {"library": faulty.library, "environment": faulty.environment(plan), "token_label": "payments", "pin": PIN}
    answer = faulty.hsm.run("hsm_info", **options, **({"timeout": HANG} if "hang" in plan else {}))
    assert answer["failed"] is True and answer["changed"] is False and answer["failure"]["code"] == code
    assert answer["failure"]["details"] == answer["problems"][0]["details"]
    assert words in answer["msg"] and len(answer["problems"]) == 1
    assert answer["library"]["manufacturer"] == "SoftHSM" and PIN not in answer["_raw"]
    if code == "probe_crashed":
        assert answer["problems"][0]["step"] == "capabilities" and works(answer)["wrap", "AES", "AES_KEY_WRAP"] is True


def test_a_refusal_is_an_answer(faulty: Faulty) -> None:
    """Of one mechanism, one key that is tried, one object: the others are reported."""
    ok(faulty.hsm.keys({"label": "dek", "type": "AES"}))
    plan = "C_GetMechanismInfo:2:before=0x70 C_GenerateKeyPair:1:before=0x13 C_WrapKey:1:before=0x69"
    options = {"library": faulty.library, "environment": faulty.environment(plan), "token_label": "payments", "pin": PIN}
    answer = ok(faulty.hsm.run("hsm_info", **options))
    assert [entry["code"] for entry in answer["mechanisms"][:3]] == [None, "CKR_MECHANISM_INVALID", None]
    refused = {(row["capability"], row["type"]): row["code"] for row in answer["capabilities"] if not row["works"]}
    assert refused == {("wrap", "AES"): "CKR_KEY_NOT_WRAPPABLE", ("generate", "EC"): "CKR_ATTRIBUTE_VALUE_INVALID"}
    assert works(answer)["sign", "RSA", "RSA_PKCS"] is True


def test_nss_without_p11_kit(tmp_path: Path) -> None:
    """A library with arguments of C_Initialize, whose two tokens have one serial number; the first wants no login."""
    hsm, instance = Hsm(tmp_path), new_database(tmp_path, PIN)
    options = {"library": instance["library"], "init_args": instance["init_args"]}
    answer = ok(hsm.run("hsm_info", **options, slot="1"))
    assert answer["library"]["description"].startswith("NSS Internal Crypto") and answer["library"]["version"].startswith("3.")
    assert len({slot["token"]["serial"] for slot in answer["slots"]}) == 1
    assert answer["login"] is False and works(answer)["encrypt", "AES", "AES_CBC"] is True
    answer = ok(hsm.run("hsm_info", **options, token_label=LABEL, pin=PIN))
    assert answer["login"] is True and answer["probe"]["works"] is True and answer["objects"] == []
    assert works(answer)["sign", "EC", "ECDSA"] is True and PIN not in answer["_raw"]
    assert hsm.run("hsm_info", library=SOFTHSM + ".not")["failure"]["code"] == "library_missing"
