# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The key operations on a second provider, which differs in most details: opencryptoki's software token."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import swtok
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hsm_fixture import Hsm, ok

LABELS = ("aes", "aes@2", "des3", "des", "rsa", "mail", "import", "mac", "legacy", "zone", "curve", "hmac")


def pem(key: Any) -> str:
    return str(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode())


class Swtok:
    """The registered token. It belongs to the machine, so each test leaves it without keys."""

    def __init__(self, hsm: Hsm) -> None:
        self.hsm = hsm

    def keys(self, *keys: dict[str, Any], check: bool = False) -> dict[str, Any]:
        return self.hsm.keys(*keys, check=check, instance="ock")

    def steps(self, *keys: dict[str, Any]) -> dict[str, Any]:
        planned, done = (ok(self.keys(*keys, check=check)) for check in (True, False))
        assert planned["changed"] is done["changed"] is True and planned["diff"] == done["diff"]
        for check in (True, False):
            assert ok(self.keys(*keys, check=check))["changed"] is False
        return done

    def clear(self) -> None:
        ok(self.keys(*({"label": label, "state": "absent"} for label in LABELS)))


@pytest.fixture
def token(hsm: Hsm, locking: dict[str, Any]) -> Iterator[Swtok]:
    ok(hsm.run("hsm_instance", **locking, tokens=[{"label": swtok.LABEL, "pin": swtok.PIN, "pin_file": str(hsm.scratch / "pin")}]))
    token = Swtok(hsm)
    token.clear()
    yield token
    token.clear()


def test_every_type_that_it_has(token: Swtok) -> None:
    done = token.steps(
        {"label": "aes", "type": "AES", "size": 192},
        {"label": "des3", "type": "DES3"},
        {"label": "des", "type": "DES", "allow_weak": True},
        {"label": "hmac", "type": "GENERIC_SECRET"},
        {"label": "rsa", "type": "RSA", "size": 2048},
        {"label": "mail", "type": "RSA", "size": 2048, "operations": ["encrypt", "decrypt"]},
    )
    assert [(entry["type"], entry["size"], entry["extractable"]) for entry in done["keys"]] == [
        ("AES", 192, False),
        ("DES3", 192, False),
        ("DES", 64, False),
        ("GENERIC_SECRET", 256, False),
        ("RSA", 2048, False),
        ("RSA", 2048, False),
    ]
    # It gives no CKA_CHECK_VALUE: the values are computed.
    assert all(entry["fingerprint"] for entry in done["keys"] if entry["type"] not in ("DES", "GENERIC_SECRET"))


def test_a_type_that_it_has_not(token: Swtok) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    answer = token.keys({"label": "aes", "type": "AES"}, {"label": "curve", "type": "EC"}, {"label": "ed", "type": "Ed25519"})
    problems = answer["failure"]["details"]["problems"]
    assert len(problems) == 2
    for problem, name in zip(problems, ("EC", "Ed25519"), strict=True):
        assert f"token '{swtok.LABEL}' (slot 3, serial 123) cannot generate {name} keys; it can: AES_KEY_GEN" in problem
    restricted = token.keys({"label": "aes", "type": "AES", "allowed_mechanisms": ["AES_ECB"]})
    assert "takes no CKA_ALLOWED_MECHANISMS for key 'aes' (CKR_ATTRIBUTE_TYPE_INVALID)" in restricted["msg"]
    imported = token.keys({"label": "curve", "type": "EC", "source": {"content": pem(key)}})
    assert "cannot use EC keys; it can use AES, DES3, DES, GENERIC_SECRET, RSA" in imported["msg"]
    for_one_hash = token.keys({"label": "hmac", "type": "SHA256_HMAC", "source": {"content": "04" * 33}})
    assert "takes no SHA256_HMAC key of 264 bits (CKR_ATTRIBUTE_VALUE_INVALID): use GENERIC_SECRET" in for_one_hash["msg"]
    assert ok(token.keys({"label": "aes", "state": "absent"}))["changed"] is False


def test_imports_are_compared(token: Swtok) -> None:
    key, other = (rsa.generate_private_key(public_exponent=65537, key_size=2048) for _number in range(2))
    entries = [
        {"label": "import", "type": "AES", "size": 128, "source": {"content": "00" * 16}},
        {"label": "mac", "type": "AES", "operations": ["wrap", "unwrap"], "source": {"content": "01" * 16}},
        {"label": "zone", "type": "DES3", "source": {"content": "0123456789abcdeffedcba987654321089abcdef01234567"}},
        {"label": "hmac", "type": "GENERIC_SECRET", "source": {"content": "04" * 33}},
        {"label": "legacy", "type": "RSA", "source": {"content": pem(key)}},
    ]
    done = token.steps(*entries)
    assert done["keys"][0]["fingerprint"] == "66e94b"
    different = ["02" * 16, "03" * 16, "1123456789abcdeffedcba987654321089abcdef01234567", "05" * 33, pem(other)]
    answer = token.keys(*({**entry, "source": {"content": content}} for entry, content in zip(entries, different, strict=True)))
    assert len(answer["failure"]["details"]["problems"]) == 5
    assert answer["msg"].count("it is another key than the one in source") == 5


def test_rotation_and_states(token: Swtok) -> None:
    ok(token.keys({"label": "aes", "type": "AES"}, {"label": "rsa", "type": "RSA", "size": 2048}))
    done = token.steps({"label": "aes", "type": "AES", "generation": 2, "previous": "deactivate", "enforce": True})
    assert [(entry["label"], entry["action"]) for entry in done["applied"]] == [("aes@2", "create"), ("aes", "deactivate")]
    public = ok(token.keys({"label": "rsa", "type": "RSA"}))["keys"][0]["public_key"]
    left = token.steps({"label": "rsa", "type": "RSA", "state": "public_only"})["keys"][0]
    assert left["public_key"] == public and left["operations"] == ["verify"]
    token.steps({"label": "aes", "generation": 1, "state": "absent"})
    assert ok(token.hsm.run("hsm_sync", instance="ock"))["summary"] == {"added": 0, "known": 2, "missing": 0, "drifted": 0}
