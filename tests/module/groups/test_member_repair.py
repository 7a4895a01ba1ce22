# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Keys go from one token to another by wrapping: between real tokens, with faults on purpose and with sudden deaths."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import copy_between
import pytest
import swtok
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from forked import Forked, answer_of
from hsm_fixture import HANG, PIN, SOFTHSM, Hsm, ok
from nss_pin import new_database

GENERAL_ERROR, DEVICE_ERROR = "0x5", "0x30"
AES = {"label": "dek", "type": "AES"}
EC = {"label": "tls", "type": "EC"}
KEYS: list[dict[str, Any]] = [
    AES,
    {"label": "short", "type": "AES", "size": 128, "id": "00ff"},
    {"label": "legacy", "type": "DES3"},
    {"label": "mac", "type": "AES", "operations": ["sign", "verify"]},
    {"label": "hmac", "type": "GENERIC_SECRET"},
    {"label": "opener", "type": "AES", "operations": ["decrypt"]},
    {"label": "kek", "type": "AES", "operations": ["wrap", "unwrap"]},
    {"label": "wrapper", "type": "AES", "operations": ["wrap", "unwrap"], "allowed_mechanisms": ["AES_KEY_WRAP"]},
    {"label": "unwrapper", "type": "AES", "operations": ["unwrap"]},
    {"label": "ca", "type": "RSA", "size": 2048},
    {"label": "mail", "type": "RSA", "size": 2048, "operations": ["encrypt", "decrypt"]},
    EC,
    {"label": "tls-521", "type": "EC", "curve": "P-521"},
    {"label": "agree", "type": "EC", "curve": "brainpoolP256r1", "operations": ["derive"]},
]


def name_of(key: dict[str, Any]) -> list[str]:
    kind = "secret" if key["type"] in ("AES", "DES", "DES3", "GENERIC_SECRET") else "private"
    return [kind, key.get("id") or key["label"].encode().hex(), key["label"]]


@dataclass
class Members:
    """Two registered tokens, ``left`` and ``right``, each with the folder of its configuration; one registry."""

    left: Hsm
    right: Hsm
    registry: str

    def request(self, names: Sequence[list[str]], source: str = "left", destination: str = "right", **more: Any) -> str:
        return json.dumps({"registry": self.registry, "source": source, "destination": destination, "names": list(names), **more})

    def start(self, *names: list[str], **more: Any) -> Forked:
        return Forked("copy_between", self.request(names, **more))

    def finish(self, process: Forked) -> dict[str, Any]:
        try:
            out, err = process.communicate(timeout=180)
        finally:
            process.kill()  # its children end with it, or wait for a lock that they will get then
        assert out, err
        answer: dict[str, Any] = json.loads(out)
        return answer

    def copy(self, *names: list[str], **more: Any) -> list[dict[str, Any]]:
        return self._found(self.finish(self.start(*names, **more)), names)

    def copy_as_it_is_installed(self, *names: list[str]) -> list[dict[str, Any]]:
        """In a Python of its own, and so with the RSA pair that hosts make."""
        done = subprocess.run(
            [sys.executable, copy_between.__file__], input=self.request(names), capture_output=True, text=True, check=False
        )
        assert done.stdout, done.stderr
        return self._found(json.loads(done.stdout), names)

    def _found(self, answer: dict[str, Any], names: Sequence[list[str]]) -> list[dict[str, Any]]:
        assert "copied" in answer, answer
        found: list[dict[str, Any]] = answer["copied"]
        assert [item["name"] for item in found] == list(names)
        assert all(item["done"] is (item["reason"] is None) for item in found), found
        return found

    def codes(self, *names: list[str], **more: Any) -> list[str]:
        return [item["code"] for item in self.copy(*names, **more)]

    def keys(self, instance: str, *keys: dict[str, Any], **args: Any) -> list[dict[str, Any]]:
        answer = ok(self.left.run("hsm_key", registry=self.registry, instance=instance, keys=list(keys), **args))
        found: list[dict[str, Any]] = answer["keys"]
        return found

    def make(self, *keys: dict[str, Any], instance: str = "left") -> list[dict[str, Any]]:
        return self.keys(instance, *({"extractable": True, **key} for key in keys))

    def hsm(self, token: str) -> Hsm:
        return self.left if token == "left" else self.right

    def tool(self, token: str, *args: str) -> str:
        return self.hsm(token).tool(*args, token=token)

    def objects(self, token: str) -> Counter[str]:
        lines = [line.strip() for line in self.tool(token, "--list-objects").splitlines()]
        return Counter(line.removeprefix("label:").strip() for line in lines if line.startswith("label:"))

    def count(self, token: str) -> int:
        return sum("Object" in line.split(";")[0] for line in self.tool(token, "--list-objects").splitlines())

    def sql(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.registry)) as registry:
            rows = registry.execute(query, values).fetchall()
            registry.commit()
        return rows

    def notes(self) -> list[str]:
        return [row[0] for row in self.sql("SELECT label FROM pending_key")]

    def note(self, name: list[str], instance: str = "right") -> None:
        """The note of a run that died while it copied this key."""
        query = (
            "INSERT INTO pending_key SELECT token.id, ?, ?, 1, 0, 0, 'dead', '2026-01-01T00:00:00Z' FROM token "
            "JOIN instance ON instance.id = instance_id WHERE name = ?"
        )
        self.sql(query, name[2], bytes.fromhex(name[1]), instance)

    def events(self) -> list[dict[str, Any]]:
        rows = self.sql("SELECT subject, details FROM event WHERE action = 'copy_key' ORDER BY id")
        return [{"subject": subject, **json.loads(details)} for subject, details in rows]

    def used(self, token: str) -> dict[str, Any]:
        return answer_of("use_keys", environment=self.hsm(token).environment, library=SOFTHSM, label=token, pin=PIN)


def configured(folder: Path) -> Hsm:
    (folder / "tokens").mkdir(parents=True)
    (folder / "softhsm2.conf").write_text(f"directories.tokendir = {folder}/tokens\nlog.level = ERROR\n")
    return Hsm(folder)


def register(members: Members, token: str, **options: Any) -> None:
    hsm = members.hsm(token)
    ok(hsm.run("hsm_instance", registry=members.registry, **{**hsm.instance(token, tokens=[hsm.token(token)]), **options}))


@pytest.fixture
def apart(tmp_path: Path) -> Members:
    """Two configurations, each with a token."""
    left, right = configured(tmp_path / "left"), configured(tmp_path / "right")
    members = Members(left, right, str(tmp_path / "registry.db"))
    register(members, "left")
    register(members, "right")
    return members


@pytest.fixture
def together(tmp_path: Path) -> Members:
    """One configuration with two tokens."""
    hsm = configured(tmp_path / "both")
    members = Members(hsm, hsm, str(tmp_path / "registry.db"))
    register(members, "left")
    register(members, "right")
    return members


@pytest.fixture(params=["apart", "together"])
def members(request: pytest.FixtureRequest) -> Members:
    found: Members = request.getfixturevalue(request.param)
    return found


def key_files(hsm: Hsm) -> dict[str, bytes]:
    """Every object file apart from the token's own record, which a login rewrites."""
    return {str(path): path.read_bytes() for path in hsm.scratch.glob("tokens/*/*.object") if path.name != "token.object"}


def test_all_kinds_of_keys_arrive(members: Members) -> None:
    made = members.make(*KEYS)
    names = [name_of(key) for key in KEYS]
    source = key_files(members.left)
    assert members.codes(*names, check_mode=True) == ["copied"] * len(KEYS)
    assert members.count("right") == 0 and members.notes() == [] and members.events() == []
    assert [item["code"] for item in members.copy_as_it_is_installed(*names)] == ["copied"] * len(KEYS)
    assert source.items() <= key_files(members.left).items()
    assert members.notes() == []
    # What may only wrap or unwrap can be told only with the wrapped key at hand.
    told = ["unsure" if key["label"] in ("kek", "wrapper", "unwrapper") else "present" for key in KEYS]
    assert members.codes(*names, check_mode=True) == told
    assert members.codes(*names) == ["present"] * len(KEYS) and members.notes() == []
    there = members.keys("right", *({**key, "size": None} for key in KEYS))  # SoftHSM does not say the size of what it unwrapped
    for mine, copy in zip(made, there, strict=True):  # nor gives it a check value for those, unless it can be computed by encrypting
        assert copy["fingerprint"] == mine["fingerprint"] or (copy["fingerprint"] is None and "encrypt" not in mine["operations"])
    for field in ("public_key", "operations", "id", "curve", "sensitive", "extractable"):
        assert [key.get(field) for key in there] == [key.get(field) for key in made], field
    assert all(key["sensitive"] is key["extractable"] is True for key in there)
    assert members.objects("right") == Counter({key["label"]: 2 if name_of(key)[0] == "private" else 1 for key in KEYS})
    events = members.events()
    assert len(events) == len(KEYS) and all("::right" not in event["subject"] for event in events)
    assert {event["wrapped"].split(",")[1] for event in events} == {" RSA-3072 OAEP SHA-1"}
    assert events[0]["source"].endswith("::dek") and events[0]["source"] != events[0]["subject"]


def test_what_one_token_encrypts_the_other_decrypts(members: Members, tmp_path: Path) -> None:
    made = {key["label"]: key for key in members.make(*KEYS)}
    members.copy(*(name_of(key) for key in KEYS))
    plain, sealed, opened = (tmp_path / name for name in ("plain", "sealed", "opened"))
    plain.write_bytes(os.urandom(32))
    files = ("--input-file", str(plain), "--output-file", str(sealed))
    back = ("--input-file", str(sealed), "--output-file", str(opened))
    members.tool("left", "--encrypt", "--mechanism", "AES-ECB", "--id", b"dek".hex(), *files)
    members.tool("right", "--decrypt", "--mechanism", "AES-ECB", "--id", b"dek".hex(), *back)
    assert opened.read_bytes() == plain.read_bytes() != sealed.read_bytes()
    legacy = members.used("right")
    assert legacy["count"]["legacy SECRET_KEY"] == 1 and not {"legacy SECRET_KEY", "dek SECRET_KEY", "tls PRIVATE_KEY"} & set(legacy["bad"])
    public = load_pem_public_key(made["mail"]["public_key"].encode())
    assert isinstance(public, rsa.RSAPublicKey)
    sealed.write_bytes(public.encrypt(plain.read_bytes(), padding.PKCS1v15()))
    members.tool("right", "--decrypt", "--mechanism", "RSA-PKCS", "--id", b"mail".hex(), *back)
    assert opened.read_bytes() == plain.read_bytes()
    members.tool("right", "--sign", "--mechanism", "ECDSA", "--id", b"tls".hex(), *files)
    signature, half = sealed.read_bytes(), len(sealed.read_bytes()) // 2
    der = utils.encode_dss_signature(*(int.from_bytes(part, "big") for part in (signature[:half], signature[half:])))
    curve = load_pem_public_key(made["tls"]["public_key"].encode())
    assert isinstance(curve, ec.EllipticCurvePublicKey)
    curve.verify(der, plain.read_bytes(), ec.ECDSA(utils.Prehashed(hashes.SHA256())))


def test_one_environment_sees_only_its_own_token(apart: Members) -> None:
    """Two configurations of one library: neither side may look into the other's folder."""
    apart.make(AES)
    assert apart.codes(name_of(AES)) == ["copied"]
    back = {"label": "back", "type": "AES"}
    apart.make(back, instance="right")
    assert apart.codes(name_of(back), source="right", destination="left") == ["copied"]
    assert apart.objects("left") == apart.objects("right") == {"dek": 1, "back": 1}


def test_what_the_source_cannot_wrap_leaves_nothing(members: Members) -> None:
    """SoftHSM 2.6.1 wraps no Ed25519 keys; only the try tells."""
    edwards = {"label": "ed", "type": "Ed25519"}
    members.make(edwards, AES)
    names = [name_of(edwards), name_of(AES)]
    assert members.codes(*names, check_mode=True) == ["copied", "copied"]
    found = members.copy(*names)
    assert [item["code"] for item in found] == ["CKR_KEY_NOT_WRAPPABLE", "copied"]
    assert "wrapping key 'ed' with AES_KEY_WRAP_PAD" in found[0]["reason"]
    assert members.objects("right") == {"dek": 1} and members.notes() == []


_MAKE = """
import json, sys, pkcs11
from pkcs11 import Attribute as A
library, label, pin, name, extra = sys.argv[1:]
with pkcs11.lib(library).get_token(token_label=label).open(rw=True, user_pin=pin) as session:
    template = {A.EXTRACTABLE: True, A.SENSITIVE: True, **{A[key]: value for key, value in json.loads(extra).items()}}
    session.generate_key(pkcs11.KeyType.AES, 256, store=True, label=name or None, id=b"special", template=template)
"""


def make_special(members: Members, label: str, **attributes: Any) -> list[str]:
    """An AES key with attributes that hsm_key does not give."""
    environment = {**os.environ, **members.left.environment}
    arguments = [SOFTHSM, "left", PIN, label, json.dumps(attributes)]
    subprocess.run([sys.executable, "-c", _MAKE, *arguments], env=environment, check=True)
    return ["secret", b"special".hex(), label]


def test_what_may_not_leave_is_told_before_anything_is_made(apart: Members) -> None:
    odd = {"label": "odd", "type": "GENERIC_SECRET", "size": 264}
    apart.make({"label": "kept", "type": "AES", "extractable": False}, EC, {"label": "half", "type": "EC"}, odd)
    apart.tool("left", "--delete-object", "--type", "pubkey", "--label", "half")
    apart.tool("left", "--delete-object", "--type", "privkey", "--label", "tls")
    apart.tool("left", "--keypairgen", "--key-type", "EC:secp224r1", "--label", "curve", "--id", "aa", "--extractable")
    names = [
        ["secret", b"kept".hex(), "kept"],
        make_special(apart, "trusted", WRAP_WITH_TRUSTED=True),
        make_special(apart, ""),
        ["private", b"half".hex(), "half"],
        ["public", b"tls".hex(), "tls"],
        ["private", "aa", "curve"],
        name_of(odd),
        ["secret", "00", "nowhere"],
    ]
    expected = ["not_extractable", "needs_trusted", "no_label", "half_pair", "public_only", "unknown_type", "not_carried", "absent"]
    for check_mode in (True, False):
        found = apart.copy(*names, check_mode=check_mode)
        assert [item["code"] for item in found] == expected, found
    assert "CKA_EXTRACTABLE is false" in found[0]["reason"] and "token 'left'" in found[0]["reason"]
    assert key_files(apart.right) == {} and apart.notes() == [] and apart.events() == []


@pytest.mark.parametrize("there", [{"label": "dek", "id": "77"}, {"label": "other", "id": b"dek".hex()}, {"label": "dek"}])
def test_a_name_that_is_taken_is_left_alone(apart: Members, there: dict[str, Any]) -> None:
    apart.make(AES)
    apart.make({**there, "type": "AES"}, instance="right")
    before = key_files(apart.right)
    for check_mode in (True, False):
        (found,) = apart.copy(name_of(AES), check_mode=check_mode)
        assert found["code"] == "name_taken" and f"label '{there['label']}'" in found["reason"]
    assert key_files(apart.right).items() >= before.items() and apart.count("right") == 1


def test_the_second_of_two_keys_with_one_label_is_refused(apart: Members) -> None:
    apart.make(AES)
    apart.tool("left", "--keygen", "--key-type", "AES:32", "--label", "dek", "--id", "99", "--extractable")
    names = [name_of(AES), ["secret", "99", "dek"]]
    for check_mode in (True, False):
        assert apart.codes(*names, check_mode=check_mode) == ["copied", "name_taken"]
    assert apart.objects("right") == {"dek": 1}


def test_the_same_token_twice_and_a_token_without_a_registration(apart: Members) -> None:
    answer = apart.finish(apart.start(name_of(AES), destination="left"))
    assert answer["error"]["code"] == "same_token"


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_refused_pin_is_not_tried_again(apart: Members, side: str) -> None:
    apart.make(AES)
    Path(apart.hsm(side).scratch, "pins", side).write_text("000000")
    first, second = (apart.finish(apart.start(name_of(AES)))["error"] for _time in range(2))
    assert (first["type"], first["code"], second["code"]) == ("PinError", "pin_incorrect", "pin_not_tried")


def hold(hsm: Hsm, *lock: str) -> subprocess.Popen[bytes]:
    """Another run that holds a token's lock."""
    code = (
        "import sys\nfrom ansible_collections.keyfleet.hsm.plugins.module_utils._cryptoki.locks import HostLock\n"
        "lock = HostLock('held', 'token', *sys.argv[1:])\nlock.acquire()\nprint('held', flush=True)\nsys.stdin.read()"
    )
    process = subprocess.Popen([sys.executable, "-c", code, *lock], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() == b"held\n"
    return process


def test_waiting_for_another_run_ends_with_connection_timeout(apart: Members) -> None:
    apart.make(AES)
    apart.sql("UPDATE instance SET connection_timeout = 1")
    ((serial,),) = apart.sql("SELECT serial FROM token JOIN instance ON instance.id = instance_id WHERE name = 'right'")
    with hold(apart.right, "SoftHSM v2", serial, "right") as process:
        answer = apart.finish(apart.start(name_of(AES)))
        process.communicate(b"")
    assert answer["error"]["code"] == "lock_timeout"
    assert apart.codes(name_of(AES)) == ["copied"]


def test_runs_in_opposite_directions_end(members: Members) -> None:
    there, back = {"label": "there", "type": "AES"}, {"label": "back", "type": "EC"}
    members.make(there)
    members.make(back, instance="right")
    for _round in range(3):
        both = members.start(name_of(there)), members.start(name_of(back), source="right", destination="left")
        try:
            answers = [members.finish(process) for process in both]
        finally:
            both[1].kill()
        assert all(answer["copied"][0]["done"] for answer in answers), answers
    assert members.objects("left") == members.objects("right") == {"there": 1, "back": 2}
    assert len(members.events()) == 2


def with_faults(members: Members, library: str, plan: str, token: str = "right") -> None:
    """Put the library before a token, in the registry itself: hsm_instance would log in."""
    hsm = members.hsm(token)
    environment = {**hsm.environment, "FAULT_REAL": SOFTHSM, "FAULT_PLAN": plan}
    members.sql(
        "UPDATE instance SET library = ?, environment = ? WHERE name = ?", library if plan else SOFTHSM, json.dumps(environment), token
    )


# The first unwrapping is that of the AES key, and where a key needs a padding the second is of a key that is made for a test.
# python-pkcs11 makes two calls of each encryption: the length, then the result.
FAULTS = {
    "not unwrapped": (f"C_UnwrapKey:KEY:before={GENERAL_ERROR}", "CKR_GENERAL_ERROR"),
    "unwrapped, and an error": (f"C_UnwrapKey:KEY:after={GENERAL_ERROR}", "CKR_GENERAL_ERROR"),
    "broken device": (f"C_UnwrapKey:KEY:before={DEVICE_ERROR}", "CKR_DEVICE_ERROR"),
    "cannot be used": (f"C_Sign:2:after={DEVICE_ERROR} C_Encrypt:2:after={DEVICE_ERROR}", "CKR_DEVICE_ERROR"),
    "no public half": (f"C_CreateObject:1:before={GENERAL_ERROR}", None),
    "a public half, and an error": (f"C_CreateObject:1:after={GENERAL_ERROR}", None),
}


# A secret key has no public half.
CASES = [(fault, key) for fault in FAULTS for key in (AES, EC) if key is EC or "half" not in fault]


@pytest.mark.parametrize(("fault", "key"), CASES, ids=lambda value: value if isinstance(value, str) else value["label"])
def test_a_fault_leaves_nothing(apart: Members, library: str, fault: str, key: dict[str, Any]) -> None:
    plan, code = FAULTS[fault]
    apart.make(key)
    with_faults(apart, library, plan.replace("KEY", "3" if key is EC else "2"))
    (found,) = apart.copy(name_of(key))
    assert not found["done"] and found["code"] == (code or found["code"])
    assert key_files(apart.right) == {} and apart.notes() == [] and apart.events() == []
    with_faults(apart, library, "")
    assert apart.codes(name_of(key)) == ["copied"]


def test_a_fault_of_one_key_does_not_stop_the_others(apart: Members, library: str) -> None:
    keys = [{"label": f"k{number}", "type": "AES"} for number in range(4)]
    apart.make(*keys)
    names = [name_of(key) for key in keys]
    with_faults(apart, library, f"C_UnwrapKey:3:after={GENERAL_ERROR}")
    assert apart.codes(*names) == ["copied", "CKR_GENERAL_ERROR", "copied", "copied"]
    assert apart.objects("right") == {"k0": 1, "k2": 1, "k3": 1} and apart.notes() == []
    assert apart.codes(*names) == ["present", "copied", "present", "present"]


@pytest.mark.parametrize("fault", ["C_UnwrapKey:4:hang", "C_UnwrapKey:4:crash", "C_UnwrapKey:4:kill"])
def test_a_side_that_hangs_or_dies_ends_the_run_and_keeps_its_note(apart: Members, library: str, fault: str) -> None:
    keys = [{"label": f"k{number}", "type": "EC"} for number in range(3)]
    apart.make(*keys)
    names = [name_of(key) for key in keys]
    with_faults(apart, library, fault)
    limit, ended = ({"seconds": HANG}, "exchange_timeout") if "hang" in fault else ({}, "exchange_crashed")
    found = apart.copy(*names, **limit)
    assert [item["code"] for item in found] == ["copied", ended, "not_attempted"], found
    assert apart.notes() == ["k1"]
    with_faults(apart, library, "")
    assert apart.codes(*names) == ["present", "copied", "copied"]
    assert apart.objects("right") == {"k0": 2, "k1": 2, "k2": 2} and apart.notes() == []


def test_a_source_that_hangs_leaves_nothing(apart: Members, library: str) -> None:
    apart.make(AES)
    with_faults(apart, library, "C_WrapKey:4:hang", token="left")
    assert apart.codes(name_of(AES), seconds=HANG) == ["exchange_timeout"]
    assert key_files(apart.right) == {} and apart.notes() == []


@pytest.mark.parametrize("key", [AES, EC, {"label": "kek", "type": "AES", "operations": ["wrap"]}], ids=lambda key: key["label"])
def test_a_whole_key_under_a_note_is_finished(apart: Members, key: dict[str, Any]) -> None:
    apart.make(key)
    assert apart.codes(name_of(key)) == ["copied"]
    before = key_files(apart.right)
    apart.note(name_of(key))
    told = "unsure" if key["label"] == "kek" else "finished"
    assert apart.codes(name_of(key), check_mode=True) == [told] and apart.notes() == [key["label"]]
    assert apart.codes(name_of(key)) == ["finished"]
    assert apart.notes() == [] and key_files(apart.right).items() >= before.items()
    assert [event["finished"] for event in apart.events()] == [False, True]


@pytest.mark.parametrize("half", ["pubkey", "privkey"])
def test_half_a_pair_under_a_note_is_made_whole(apart: Members, half: str) -> None:
    apart.make(EC)
    assert apart.codes(name_of(EC)) == ["copied"]
    apart.tool("right", "--delete-object", "--type", half, "--label", "tls")
    for check_mode in (True, False):
        assert apart.codes(name_of(EC), check_mode=check_mode) == ["name_taken"]
    apart.note(name_of(EC))
    assert apart.codes(name_of(EC), check_mode=True) == ["copied"] and apart.objects("right") == {"tls": 1}
    assert apart.codes(name_of(EC)) == ["copied"]
    assert apart.objects("right") == {"tls": 2} and apart.notes() == []
    assert apart.used("right")["bad"] == []


@pytest.mark.parametrize("key", [AES, EC], ids=lambda key: key["label"])
def test_another_key_under_a_note_is_not_touched(apart: Members, key: dict[str, Any]) -> None:
    apart.make(key)
    apart.make(key, instance="right")
    before = key_files(apart.right)
    apart.note(name_of(key))
    for check_mode in (True, False):
        (found,) = apart.copy(name_of(key), check_mode=check_mode)
        assert found["code"] == "unfinished" and "may be a good key" in found["reason"]
    assert key_files(apart.right).items() >= before.items() and apart.notes() == [key["label"]]


def test_a_key_without_a_value_under_a_note_is_replaced(apart: Members, library: str) -> None:
    """Every use of it fails, and a fresh key of its type works: so looks what SoftHSM leaves when it is killed."""
    apart.make(AES)
    apart.make(AES, instance="right")
    apart.note(name_of(AES))
    with_faults(apart, library, f"C_Encrypt:3:after={GENERAL_ERROR} C_Encrypt:4:after={GENERAL_ERROR}")
    assert apart.codes(name_of(AES), check_mode=True) == ["copied"]
    plan = " ".join(f"C_Encrypt:{number}:after={GENERAL_ERROR}" for number in (3, 4, 9, 10))
    with_faults(apart, library, plan)
    found = apart.copy(name_of(AES))
    assert [item["code"] for item in found] == ["copied"], found
    assert apart.objects("right") == {"dek": 1} and apart.notes() == []
    with_faults(apart, library, "")
    assert apart.codes(name_of(AES)) == ["present"]


BATCH = [
    *({"label": f"aes-{number}", "type": "AES"} for number in range(8)),
    *({"label": f"ec-{number}", "type": "EC"} for number in range(8)),
    *({"label": f"des3-{number}", "type": "DES3"} for number in range(3)),
    {"label": "rsa", "type": "RSA", "size": 2048},
]
ROUNDS = 8


@pytest.mark.parametrize("whole", [True, False], ids=["all processes", "the first process"])
def test_a_run_killed_at_any_moment_is_finished_by_the_next(apart: Members, whole: bool) -> None:
    """SIGKILL at a random moment of each part of the time after the logins: the next run has just these keys, each usable, none twice."""
    draw = random.SystemRandom()
    apart.make(*BATCH)
    names = [name_of(key) for key in BATCH]
    expected = {}
    for kind, _key_id, label in names:
        expected |= dict.fromkeys([f"{label} SECRET_KEY"] if kind == "secret" else [f"{label} PRIVATE_KEY", f"{label} PUBLIC_KEY"], 1)
    died_at_work, longest = 0, 60.0
    for number in range(5 * ROUNDS):
        if number > ROUNDS and died_at_work >= ROUNDS // 2:
            break
        process = apart.start(*names)
        # The notes stand when both tokens are open: a SIGKILL within SoftHSM's C_Login may cost the whole token.
        while not apart.notes() and process.poll() is None:
            time.sleep(0.002)
        begun = time.monotonic()
        try:
            # The first run tells how long one takes.
            process.wait(timeout=longest * ((number - 1) % ROUNDS + draw.random()) / ROUNDS if number else longest)
            longest = min(longest, time.monotonic() - begun)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL) if whole else process.kill()
        process.communicate(60)
        died_at_work += bool(apart.notes())
        where = f"round {number}, notes left: {apart.notes()}"
        found = apart.copy(*names)
        assert {item["code"] for item in found} <= {"copied", "finished", "present"}, (where, found)
        used = apart.used("right")
        assert used == {"count": expected, "bad": []}, (where, used)
        assert apart.notes() == [], where
        ok(apart.left.run("hsm_key", registry=apart.registry, instance="right", keys=[{"label": n[2], "state": "absent"} for n in names]))
        assert apart.count("right") == 0, where
        # SoftHSM leaves an empty file where it was killed before the first write. No program sees an object in it.
        assert not any(key_files(apart.right).values()), where
    assert died_at_work >= ROUNDS // 2, f"only {died_at_work} of {5 * ROUNDS} runs died at work"


def test_opencryptoki_lacks_the_mechanisms_and_says_so(apart: Members, locking: dict[str, Any]) -> None:
    """swtok 3.8 has RSA-OAEP, and neither AES_KEY_WRAP nor AES_KEY_WRAP_PAD."""
    apart.make(AES, EC)
    pin_file = str(apart.left.scratch / "pins" / "swtok")
    token = {"label": swtok.LABEL, "pin": swtok.PIN, "pin_file": pin_file}
    ok(apart.left.run("hsm_instance", registry=apart.registry, **locking, tokens=[token]))
    for check_mode in (True, False):
        found = apart.copy(name_of(AES), name_of(EC), destination="ock", check_mode=check_mode)
        assert [item["code"] for item in found] == ["mechanism_missing"] * 2
        assert "it lacks AES_KEY_WRAP." in found[0]["reason"] and "it lacks AES_KEY_WRAP_PAD and AES_KEY_WRAP_KWP." in found[1]["reason"]
    assert apart.notes() == []


@pytest.mark.parametrize("side", ["left", "right"])
def test_no_key_goes_by_a_padding_that_means_another_thing_there(apart: Members, library: str, side: str) -> None:
    """The number 0x210A has two meanings. The library stands in for a token that has the other one: the proof fails."""
    apart.make(AES, EC)
    with_faults(apart, library, "C_UnwrapKey:2:before=0x110" if side == "right" else "C_WrapKey:4:before=0x70", side)
    found = apart.copy(name_of(EC), name_of(AES))
    assert [item["code"] for item in found] == ["mechanism_missing", "copied"] and "A key made for it was tried" in found[0]["reason"]
    assert apart.objects("right") == {"dek": 1} and apart.notes() == []


def test_a_token_whose_keys_lack_attributes(apart: Members, tmp_path: Path) -> None:
    """NSS's secret keys have neither CKA_WRAP_WITH_TRUSTED nor CKA_ALWAYS_AUTHENTICATE: python-pkcs11 raises where it gets none."""
    (tmp_path / "nss").mkdir()
    ok(apart.left.run("hsm_instance", registry=apart.registry, **new_database(tmp_path / "nss", PIN)))
    apart.make(AES, instance="nss")
    assert apart.codes(name_of(AES), source="nss") == ["copied"]
    assert apart.objects("right") == {"dek": 1} and apart.used("right")["bad"] == []
    # Its AES_KEY_WRAP_PAD is RFC 3394 over PKCS#7's padding. SoftHSM's is RFC 5649, which is its AES_KEY_WRAP_KWP.
    old = {"label": "old", "type": "DES", "allow_weak": True}
    apart.make(old)
    assert apart.codes(name_of(old), destination="nss") == ["copied"]
    assert "AES_KEY_WRAP_PAD and AES_KEY_WRAP_KWP, RSA-" in apart.events()[-1]["wrapped"]
