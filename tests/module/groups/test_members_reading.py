# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The keys of real tokens as members of a group: what is read, with how many calls, and on what they disagree."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

import pytest
import swtok
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from faulty import Faulty
from forked import answer_of
from hsm_fixture import PIN, SOFTHSM, Hsm, calls, ok

# Two AES-256 keys with one key check value, found by trying numbers.
TWINS, SHARED = (f"{5993:064x}", f"{7298:064x}"), "1e5bf6"
DES3 = "0123456789abcdeffedcba987654321089abcdef01234567"


def sealed(value: str) -> bytes:
    """One block of zeros, encrypted: with zeros before it CBC is ECB."""
    encryptor = Cipher(algorithms.AES256(bytes.fromhex(value)), modes.CBC(bytes(16))).encryptor()
    return encryptor.update(bytes(16))


def fingerprint(key: Any) -> str:
    return sha256(key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def pem(key: Any) -> str:
    return str(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode())


def secret(label: str, value: str, kind: str = "AES", **options: Any) -> dict[str, Any]:
    return {"label": label, "type": kind, "source": {"content": value}, **options}


def read(library: str, *labels: str, pin: str = PIN, environment: Mapping[str, str] | None = None) -> dict[str, Any]:
    return answer_of("read_members", library=library, labels=labels, pin=pin, environment=dict(environment or {}))


def short(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows with members' priorities in place of connections, without what is empty."""
    lists = ("have", "lack", "twice", "different", "unknown", "public_only", "renamed")
    return [{"label": row["label"], **{name: [one["priority"] for one in row[name]] for name in lists if row[name]}} for row in rows]


@pytest.fixture
def members(hsm: Hsm) -> Hsm:
    """Two tokens, ``first`` and ``second``, of the instance ``primary``."""
    hsm.register(tokens=[hsm.token("first"), hsm.token("second")])
    return hsm


def put(hsm: Hsm, token: str, *keys: dict[str, Any]) -> None:
    ok(hsm.keys(*keys, token_label=token))


# Make AES keys that have an empty CKA_CHECK_VALUE, as one that was unwrapped has in SoftHSM.
_WITHOUT_CHECK_VALUE = """
import json, sys, pkcs11
from pkcs11 import Attribute as A
library, token, pin, keys = json.load(sys.stdin)
with pkcs11.lib(library).get_token(token_label=token).open(rw=True, user_pin=pin) as session:
    for label, value, encrypt in keys:
        session.create_object({
            A.CLASS: pkcs11.ObjectClass.SECRET_KEY, A.KEY_TYPE: pkcs11.KeyType.AES, A.TOKEN: True, A.PRIVATE: True,
            A.LABEL: label, A.ID: label.encode(), A.VALUE: bytes.fromhex(value), A.CHECK_VALUE: b"", A.ENCRYPT: encrypt,
        })
"""


def put_without_check_value(hsm: Hsm, token: str, *keys: tuple[str, str, bool]) -> None:
    """Each key as its label, value, and whether it may encrypt."""
    given = json.dumps([SOFTHSM, token, PIN, keys])
    environment = {**os.environ, **hsm.environment}
    subprocess.run([sys.executable, "-c", _WITHOUT_CHECK_VALUE], input=given, text=True, env=environment, check=True)


def test_what_a_token_gives_is_enough(members: Hsm) -> None:
    """CKA_CHECK_VALUE of this token is the one that is computed, and no key is used."""
    mail, curve = rsa.generate_private_key(public_exponent=65537, key_size=2048), ec.generate_private_key(ec.SECP256R1())
    keys = [
        secret("aes", TWINS[0]),
        secret("zone", DES3, "DES3"),
        {"label": "mail", "type": "RSA", "source": {"content": pem(mail)}},
        {"label": "curve", "type": "EC", "source": {"content": pem(curve)}},
    ]
    put(members, "first", *keys)
    put(members, "second", *reversed(keys))
    spied, log = members.spied()
    answer = read(spied.library, "first", "second", environment=spied.environment)
    assert answer["rows"] == []
    found = {key["label"]: (key["kind"], key["type"], key["size"], key["fingerprint"], key["exact"]) for key in answer["keys"][0]}
    assert found == {
        "aes": ("secret", "AES", 256, sealed(TWINS[0])[:3].hex(), None),
        "zone": ("secret", "DES3", 192, "3fd539", None),
        "mail": ("private", "RSA", 2048, fingerprint(mail), None),
        "curve": ("private", "EC", 256, fingerprint(curve), None),
    }
    used = calls(log)
    assert used["C_EncryptInit"] == used["C_SignInit"] == 0
    # The search asks each of the twelve objects what it is and then for its attributes, twice for the lengths; nothing asks again.
    assert used["C_GetAttributeValue"] == 12 * 2 * 2


def test_keys_that_share_a_check_value_are_told_apart(members: Hsm) -> None:
    a, b = TWINS
    assert sealed(a)[:3] == sealed(b)[:3] == bytes.fromhex(SHARED)
    put(members, "first", secret("a", a), secret("b", b), secret("other", DES3, "DES3"))
    put(members, "second", secret("a", b), secret("b", a), secret("copy", b), secret("other", DES3, "DES3"))
    spied, log = members.spied()
    answer = read(spied.library, "first", "second", environment=spied.environment)
    exact = {value: sha256(sealed(value)).hexdigest() for value in TWINS}
    assert {key["label"]: key["exact"] for key in answer["keys"][1]} == {"a": exact[b], "b": exact[a], "copy": exact[b], "other": None}
    assert short(answer["rows"]) == [
        {"label": "a", "have": [1, 2], "renamed": [2]},
        {"label": "b", "have": [1], "twice": [2], "renamed": [2]},
    ]
    assert calls(log)["C_EncryptInit"] == 5
    shown = json.dumps(answer["rows"])
    assert not any(sealed(value).hex() in json.dumps(answer) or exact[value] in shown for value in TWINS)


def test_a_check_value_that_is_missing_is_computed(members: Hsm) -> None:
    put_without_check_value(members, "first", ("a", TWINS[0], True), ("shut", TWINS[1], False))
    put(members, "second", secret("a", TWINS[0]), secret("shut", TWINS[1]))
    spied, log = members.spied()
    answer = read(spied.library, "first", "second", environment=spied.environment)
    assert {key["label"]: key["fingerprint"] for key in answer["keys"][0]} == {"a": SHARED, "shut": None}
    # One use in the first token; the second one's two keys share their check value.
    assert calls(log)["C_EncryptInit"] == 1 + 2
    assert short(answer["rows"]) == [{"label": "shut", "have": [2], "unknown": [1]}]


def test_one_that_may_not_encrypt_has_no_whole_check(members: Hsm) -> None:
    put(members, "first", secret("a", TWINS[0]), secret("b", TWINS[1], operations=["decrypt"]))
    answer = read(SOFTHSM, "first", environment=members.environment)
    exact = {key["label"]: key["exact"] for key in answer["keys"][0]}
    assert exact == {"a": sha256(sealed(TWINS[0])).hexdigest(), "b": None}
    assert answer["rows"] == []


def test_members_that_disagree(members: Hsm) -> None:
    key, other, half = (rsa.generate_private_key(public_exponent=65537, key_size=2048) for _number in range(3))
    put(
        members,
        "first",
        {"label": "mail", "type": "RSA", "source": {"content": pem(key)}},
        {"label": "half", "type": "RSA", "source": {"content": pem(half)}},
        secret("pay", TWINS[0]),
        secret("gone", "01" * 32),
    )
    put(
        members,
        "second",
        {"label": "mail", "type": "RSA", "source": {"content": pem(other)}},
        {"label": "half", "type": "RSA", "source": {"content": pem(half)}},
        secret("pay-2", TWINS[0]),
    )
    # An RSA private half says which key it is; a public half alone is not the key.
    members.tool("--delete-object", "--type", "pubkey", "--label", "half", token="first")
    assert short(read(SOFTHSM, "first", "second", environment=members.environment)["rows"]) == [
        {"label": "gone", "have": [1], "lack": [2]},
        {"label": "mail", "have": [1], "different": [2]},
        {"label": "pay", "have": [1, 2], "renamed": [2]},
    ]
    members.tool("--delete-object", "--type", "privkey", "--label", "half", token="second")
    rows = read(SOFTHSM, "first", "second", environment=members.environment)["rows"]
    assert short(rows)[1] == {"label": "half", "have": [1], "lack": [2], "public_only": [2]}
    assert rows[2]["fingerprint"] == fingerprint(key)
    assert rows[2]["different"] == [{"priority": 2, "token_label": "second", "fingerprint": fingerprint(other)}]


@pytest.mark.parametrize("rv", ["CKR_DEVICE_ERROR", "CKR_GENERAL_ERROR"])
@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_fault_is_never_an_answer(faulty: Faulty, rv: str, number: int) -> None:
    """Neither of the first use, for a check value that is missing, nor of those for keys that share one."""
    put_without_check_value(faulty.hsm, "payments", ("a", TWINS[0], True))
    ok(faulty.hsm.keys(secret("b", TWINS[1])))
    value = {"CKR_DEVICE_ERROR": "0x30", "CKR_GENERAL_ERROR": "0x5"}[rv]
    environment = faulty.environment(f"C_Encrypt:{number}:before={value}")
    assert read(faulty.library, "payments", environment=environment) == {"rv": rv}


def test_a_token_that_gives_no_check_value(hsm: Hsm, locking: dict[str, Any]) -> None:
    """opencryptoki's: values are computed, and compared with those that another provider gives."""
    ok(hsm.run("hsm_instance", **locking, tokens=[{"label": swtok.LABEL, "pin": swtok.PIN, "pin_file": str(hsm.scratch / "pin")}]))
    keys = [secret("aes", TWINS[0]), secret("import", TWINS[1]), secret("des3", DES3, "DES3")]
    absent = [{"label": key["label"], "state": "absent"} for key in keys]
    ok(hsm.keys(*absent, instance="ock"))
    try:
        ok(hsm.keys(*keys, instance="ock"))
        answer = read(locking["library"], swtok.LABEL, pin=swtok.PIN)
        found = {key["label"]: (key["fingerprint"], key["exact"]) for key in answer["keys"][0]}
    finally:
        ok(hsm.keys(*absent, instance="ock"))
    exact = [sha256(sealed(value)).hexdigest() for value in TWINS]
    assert found == {"aes": (SHARED, exact[0]), "import": (SHARED, exact[1]), "des3": ("3fd539", None)}
