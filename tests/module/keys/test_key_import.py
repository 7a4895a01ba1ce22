# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Import of keys: every type and source, compared with what is there, and whole after a crash."""

from __future__ import annotations

import base64
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.keywrap import aes_key_wrap, aes_key_wrap_with_padding
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_public_key,
)
from faulty import Faulty, crashed, with_plan
from hsm_fixture import Hsm, ok

RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER_RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
P384 = ec.generate_private_key(ec.SECP384R1())
K1 = ec.generate_private_key(ec.SECP256K1())
OTHER_P384 = ec.generate_private_key(ec.SECP384R1())
ED = ed25519.Ed25519PrivateKey.generate()
PASSPHRASE = "battery staple 99"
DES3 = "0123456789abcdeffedcba987654321089abcdef01234567"
KEK = bytes(range(32))


def der(key: Any) -> bytes:
    return bytes(key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()))


def pem(key: Any, passphrase: str | None = None, form: PrivateFormat = PrivateFormat.PKCS8) -> str:
    protection = BestAvailableEncryption(passphrase.encode()) if passphrase else NoEncryption()
    return str(key.private_bytes(Encoding.PEM, form, protection).decode())


def public(key: Any) -> str:
    return str(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode())


def file(hsm: Hsm, content: bytes, mode: int = 0o600) -> str:
    path = hsm.scratch / "source"
    path.write_bytes(content)
    path.chmod(mode)
    return str(path)


def steps(hsm: Hsm, *keys: dict[str, Any], **args: Any) -> dict[str, Any]:
    """Check, apply, check, apply; the prediction of an import is exact but for the token's own word on sizes."""
    planned, done = (ok(hsm.keys(*keys, check=check, **args)) for check in (True, False))
    assert planned["changed"] is done["changed"] is True and planned["diff"] == done["diff"]
    for check in (True, False):
        again = ok(hsm.keys(*keys, check=check, **args))
        assert again["changed"] is False and again["keys"] == done["keys"], again
    return {**done, "_planned": planned}


SECRETS: dict[str, tuple[dict[str, Any], dict[str, Any], str | None]] = {
    "aes-hex": ({"type": "AES"}, {"content": "00" * 16}, "66e94b"),
    "aes-base64": ({"type": "AES"}, {"content": base64.b64encode(bytes(32)).decode(), "format": "base64"}, "dc95c0"),
    "aes-mac": ({"type": "AES", "operations": ["sign", "verify"]}, {"content": "11" * 24}, None),
    "aes-wrap": ({"type": "AES", "operations": ["wrap"]}, {"content": "12" * 32}, None),
    "aes-unwrap": ({"type": "AES", "operations": ["unwrap"]}, {"content": "13" * 32}, None),
    "aes-decrypt": ({"type": "AES", "size": 256, "operations": ["decrypt"]}, {"content": "14" * 32}, None),
    "des3": ({"type": "DES3"}, {"content": DES3}, None),
    "hmac": ({"type": "GENERIC_SECRET"}, {"content": "61" * 33}, "2368a1"),
    "hmac-one-hash": ({"type": "SHA256_HMAC"}, {"content": "61" * 33}, "2368a1"),
    "hmac-short": ({"type": "GENERIC_SECRET"}, {"content": "61" * 20}, None),
    "des": ({"type": "DES", "allow_weak": True}, {"content": "0123456789abcdef"}, None),
}


@pytest.mark.parametrize("name", list(SECRETS))
def test_secret_keys(primary: Hsm, name: str) -> None:
    options, source, check_value = SECRETS[name]
    key = {"label": name, **options, "source": source}
    entry = steps(primary, key)["keys"][0]
    assert (entry["local"], entry["sensitive"], entry["extractable"]) == (False, True, False)
    if check_value:
        assert entry["fingerprint"] == check_value
    flipped = f"{int(source['content'][0], 16) ^ 2:x}{source['content'][1:]}" if "format" not in source else None
    if flipped:
        answer = primary.keys({**key, "source": {"content": flipped}})
        assert answer["failure"]["code"] == "cannot_plan"
        assert "it is another key than the one in source" in answer["msg"]
        done = ok(primary.keys({**key, "source": {"content": flipped}, "on_mismatch": "replace"}))
        assert done["applied"][0]["action"] == "replace"
        assert ok(primary.keys({**key, "source": {"content": flipped}}))["changed"] is False


def test_a_secret_with_zeros_at_its_end_is_another(primary: Hsm) -> None:
    """Though HMAC fills a key up with zeros."""
    key = {"label": "hmac", "type": "GENERIC_SECRET"}
    ok(primary.keys({**key, "source": {"content": "61" * 32}}))
    assert "it is another key than the one in source" in primary.keys({**key, "source": {"content": "61" * 32 + "00"}})["msg"]


PAIRS: dict[str, tuple[dict[str, Any], dict[str, Any], Any]] = {
    "rsa": ({"type": "RSA"}, {"content": pem(RSA)}, RSA),
    "rsa-traditional": (
        {"type": "RSA", "size": 2048},
        {"content": pem(RSA, PASSPHRASE, PrivateFormat.TraditionalOpenSSL), "passphrase": PASSPHRASE},
        RSA,
    ),
    "rsa-decrypt": ({"type": "RSA", "operations": ["encrypt", "decrypt"]}, {"content": der(RSA).hex(), "format": "hex"}, RSA),
    "ec": ({"type": "EC", "curve": "P-384"}, {"content": pem(P384, PASSPHRASE), "passphrase": PASSPHRASE}, P384),
    "ec-derive": ({"type": "EC", "operations": ["derive"]}, {"content": pem(P384)}, P384),
    "ec-k1": ({"type": "EC"}, {"content": pem(K1)}, K1),
    "ed": ({"type": "Ed25519"}, {"content": pem(ED)}, ED),
}


@pytest.mark.parametrize("name", list(PAIRS))
def test_key_pairs(primary: Hsm, name: str) -> None:
    options, source, loaded = PAIRS[name]
    done = steps(primary, {"label": name, **options, "source": source})
    entry, predicted = done["keys"][0], done["_planned"]["keys"][0]
    assert entry == predicted
    assert load_pem_public_key(entry["public_key"].encode()) == loaded.public_key()
    assert (entry["local"], entry["sensitive"], entry["extractable"]) == (False, True, False)
    listing = primary.tool("--list-objects")
    assert listing.count(f"label:      {name}\n") == 2


@pytest.mark.parametrize(
    ("options", "content"),
    [
        ({"type": "AES"}, bytes(16)),
        ({"type": "AES", "size": 128}, b"00112233445566778899aabbccddeeff"),
        ({"type": "RSA"}, der(RSA)),
        ({"type": "EC"}, pem(P384).encode()),
        ({"type": "Ed25519"}, der(ED)),
        ({"type": "DES3"}, DES3.encode() + b"\n"),
    ],
    ids=["raw", "hex of the size", "der", "pem", "ed25519", "hex"],
)
def test_files(primary: Hsm, options: dict[str, Any], content: bytes) -> None:
    path = file(primary, content)
    steps(primary, {"label": "k", **options, "source": {"src": path}})
    assert Path(path).read_bytes() == content


def test_a_file_that_others_can_read_is_told(primary: Hsm) -> None:
    path = file(primary, bytes(16), 0o644)
    done = ok(primary.keys({"label": "k", "type": "AES", "source": {"src": path}}))
    assert done["changed"] is True and any("chmod 0600" in str(text) for text in done["warnings"])


def test_attributes_that_are_asked_for_are_given(primary: Hsm) -> None:
    key = {"label": "open", "type": "AES", "sensitive": False, "extractable": True, "id": "0a0b", "operations": ["encrypt"]}
    entry = steps(primary, {**key, "source": {"content": "00" * 16}})["keys"][0]
    assert entry.items() >= {"sensitive": False, "extractable": True, "id": "0a0b", "operations": ["encrypt"]}.items()


def test_an_import_is_rotated_by_its_next_source(primary: Hsm) -> None:
    key = {"label": "zone", "type": "AES", "source": {"content": "01" * 16}}
    ok(primary.keys(key))
    done = steps(primary, {**key, "generation": 2, "source": {"content": "02" * 16}, "previous": "deactivate"})
    assert [(entry["label"], entry["action"]) for entry in done["applied"]] == [("zone@2", "create"), ("zone", "deactivate")]
    # The old source with the new generation is another key.
    assert "another key" in primary.keys({**key, "generation": 2})["msg"]


def test_another_pair_under_the_label_is_a_mismatch(primary: Hsm) -> None:
    first = [{"label": "r", "type": "RSA", "source": {"content": pem(RSA)}}, {"label": "e", "type": "EC", "source": {"content": pem(P384)}}]
    second = [{**first[0], "source": {"content": pem(OTHER_RSA)}}, {**first[1], "source": {"content": pem(OTHER_P384)}}]
    before = ok(primary.keys(*first))["keys"]
    assert primary.keys(*second)["msg"].count("it is another key than the one in source") == 2
    kept = ok(primary.keys(*({**key, "on_mismatch": "keep"} for key in second)))
    assert [entry["public_key"] for entry in kept["keys"]] == [entry["public_key"] for entry in before]
    assert kept["changed"] is False and all(entry["mismatches"] for entry in kept["keys"])


def test_a_generated_key_is_no_import(primary: Hsm) -> None:
    ok(primary.keys({"label": "k", "type": "AES"}))
    assert "another key" in primary.keys({"label": "k", "type": "AES", "source": {"content": "00" * 32}})["msg"]


@pytest.fixture
def wrapping(primary: Hsm) -> Hsm:
    ok(primary.keys({"label": "kek", "type": "AES", "operations": ["wrap", "unwrap"], "source": {"content": KEK.hex()}}))
    return primary


WRAPPED: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "aes": ({"type": "AES"}, {"content": aes_key_wrap(KEK, b"k" * 32).hex()}, {"content": aes_key_wrap(KEK, b"x" * 32).hex()}),
    "mac": (
        {"type": "AES", "operations": ["sign", "verify"]},
        {"content": aes_key_wrap(KEK, b"k" * 16).hex()},
        {"content": aes_key_wrap(KEK, b"x" * 16).hex()},
    ),
    "padded": (
        {"type": "AES"},
        {"content": aes_key_wrap_with_padding(KEK, b"k" * 16).hex(), "mechanism": "AES_KEY_WRAP_PAD"},
        {"content": aes_key_wrap_with_padding(KEK, b"x" * 16).hex(), "mechanism": "AES_KEY_WRAP_PAD"},
    ),
    "hmac": (
        {"type": "GENERIC_SECRET"},
        {"content": aes_key_wrap_with_padding(KEK, b"k" * 33).hex()},
        {"content": aes_key_wrap_with_padding(KEK, b"x" * 33).hex()},
    ),
    "rsa": (
        {"type": "RSA"},
        {"content": aes_key_wrap_with_padding(KEK, der(RSA)).hex()},
        {"content": aes_key_wrap_with_padding(KEK, der(OTHER_RSA)).hex()},
    ),
    "ec": (
        {"type": "EC", "curve": "P-384"},
        {"content": aes_key_wrap_with_padding(KEK, der(P384)).hex(), "public_key": public(P384)},
        {"content": aes_key_wrap_with_padding(KEK, der(OTHER_P384)).hex(), "public_key": public(OTHER_P384)},
    ),
}


@pytest.mark.parametrize("name", list(WRAPPED))
def test_wrapped_keys_are_opened_in_the_token(wrapping: Hsm, name: str) -> None:
    options, source, other = WRAPPED[name]
    key = {"label": name, **options, "source": {"wrapping_key": "kek", **source}}
    entry = steps(wrapping, key)["keys"][0]
    assert (entry["local"], entry["sensitive"], entry["extractable"]) == (False, True, False)
    answer = wrapping.keys({**key, "source": {"wrapping_key": "kek", **other}})
    assert "it is another key than the one in source" in answer["msg"]


def test_a_wrapped_key_with_the_public_key_of_another_is_not_vouched_for(wrapping: Hsm) -> None:
    source = {"content": aes_key_wrap_with_padding(KEK, der(P384)).hex(), "wrapping_key": "kek", "public_key": public(OTHER_P384)}
    answer = wrapping.keys({"label": "mixed", "type": "EC", "source": source})
    assert "source.public_key: it does not belong to the private key in the source" in answer["msg"]
    assert "mixed" not in wrapping.tool("--list-objects")
    assert ok(wrapping.run("hsm_sync", instance="primary"))["summary"]["known"] == 1  # the wrapping key alone


def test_what_keeps_a_wrapped_key_out(wrapping: Hsm) -> None:
    ok(wrapping.keys({"label": "dek", "type": "AES"}))
    blob = aes_key_wrap(KEK, b"k" * 32).hex()
    answer = wrapping.keys(
        {"label": "a", "type": "AES", "source": {"content": blob, "wrapping_key": "nobody"}},
        {"label": "b", "type": "AES", "source": {"content": blob, "wrapping_key": "dek"}},
        {"label": "c", "type": "AES", "source": {"content": "00" * 256, "wrapping_key": "kek", "mechanism": "RSA_PKCS_OAEP"}},
        {"label": "d", "type": "AES"},
    )
    problems = answer["failure"]["details"]["problems"]
    assert "keys[0] (a).source.wrapping_key: 'nobody': there is no such" in problems[0]
    assert "keys[1] (b).source.wrapping_key: 'dek' may not unwrap" in problems[1]
    assert len(problems) == 3 and "keys[2] (c).source" in problems[2], problems
    assert "label:      d\n" not in wrapping.tool("--list-objects")
    damaged = wrapping.keys({"label": "e", "type": "AES", "source": {"content": "00" + blob[2:], "wrapping_key": "kek"}})
    assert "to look at it failed" in damaged["msg"] and damaged["msg"].endswith("Nothing was changed") and not damaged["changed"]


def rsa_wrapped(hsm: Hsm, value: bytes) -> dict[str, Any]:
    """A source under the RSA key ``arrival``: its length tells nothing of the key in it."""
    pem = ok(hsm.keys({"label": "arrival", "type": "RSA", "size": 2048, "operations": ["unwrap"]}))["key_results"][0]["public_key"]
    key = load_pem_public_key(pem.encode())
    assert isinstance(key, rsa.RSAPublicKey)
    return {"content": key.encrypt(value, padding.PKCS1v15()).hex(), "wrapping_key": "arrival", "mechanism": "RSA_PKCS"}


def test_what_is_not_as_declared_is_not_made_of_a_wrapped_key(wrapping: Hsm) -> None:
    """Though SoftHSM makes it, and does not report its size."""
    whole = {"content": aes_key_wrap(KEK, b"k" * 32).hex(), "wrapping_key": "kek"}
    mac, arrived = {**whole, "content": aes_key_wrap_with_padding(KEK, b"k" * 33).hex()}, rsa_wrapped(wrapping, b"k" * 32)
    table = [
        ({"type": "AES", "size": 128}, whole, "has 40 bytes: an AES key of the asked size has 24"),
        ({"type": "DES3"}, whole, "has 40 bytes: a DES3 key of the asked size has 32"),
        ({"type": "AES", "size": 128}, arrived, "holds a key of 256 bits, asked for 128"),
        ({"type": "DES3"}, arrived, "holds a key of 256 bits, which no DES3 key has"),
        ({"type": "AES"}, {"content": "ab" * 255, "wrapping_key": "arrival"}, "has 255 bytes: what RSA_PKCS_OAEP makes"),
        ({"type": "GENERIC_SECRET", "size": 256}, mac, "holds a key of 320 bits, asked for 256"),
        ({"type": "GENERIC_SECRET", "size": 272}, mac, "so size cannot be verified"),
    ]
    keys = [{"label": f"k{number}", **options, "source": source} for number, (options, source, _problem) in enumerate(table)]
    before = wrapping.tool("--list-objects")
    for check in (True, False):
        answer = wrapping.keys(*keys, check=check)
        assert answer["failed"] and not answer["changed"] and wrapping.tool("--list-objects") == before
        told = answer["failure"]["details"]["problems"]
        assert all(problem in line for (*_options, problem), line in zip(table, told, strict=True)), told
    # An AES key of 20 bytes: the token makes it, and fills it up where it wraps it, so only its use tells.
    odd = wrapping.keys({"label": "odd", "type": "AES", "source": rsa_wrapped(wrapping, bytes(20))})
    assert odd["failed_keys"][0]["error"].endswith("nothing was kept of the import") and not odd["changed"]
    assert wrapping.tool("--list-objects") == before
    # The size of what is made is known without the source, too.
    made = ok(wrapping.keys({"label": "a", "type": "AES", "source": whole}, {"label": "b", "type": "AES", "source": arrived}))
    assert [entry["size"] for entry in made["key_results"]] == [256, 256]
    assert not ok(wrapping.keys({"label": "a", "type": "AES", "size": 256}, {"label": "b", "type": "AES", "size": 256}))["changed"]
    assert "size is 256, asked for 128" in wrapping.keys({"label": "b", "type": "AES", "size": 128})["msg"]


def test_what_the_token_does_not_take_back_is_told(faulty: Faulty) -> None:
    source = rsa_wrapped(faulty.hsm, bytes(20))
    with_plan(faulty, " ".join(f"C_DestroyObject:{number}:before=0x30" for number in range(1, 9)))
    odd = faulty.hsm.keys({"label": "odd", "type": "AES", "source": source})
    assert odd["failed"] is odd["changed"] is True and "odd" in faulty.labels(), odd["msg"]
    assert "the key was made but cannot be used" in odd["msg"] and "destroying the secret key 'odd' failed" in odd["msg"]


@pytest.mark.parametrize("call", [1, 2])
def test_an_interrupted_import_of_a_pair_is_completed_from_its_source(faulty: Faulty, call: int) -> None:
    key = {"label": "legacy", "type": "EC", "source": {"content": pem(P384)}}
    with_plan(faulty, f"C_CreateObject:{call}:kill")
    crashed(faulty.hsm.keys(key), "C_CreateObject")
    with_plan(faulty, "")
    assert ok(faulty.hsm.keys(key))["changed"] is True
    assert faulty.labels() == ["legacy", "legacy"]
    assert ok(faulty.hsm.keys(key))["changed"] is False


@pytest.mark.parametrize("half", ["privkey", "pubkey"])
@pytest.mark.parametrize("key", [RSA, P384, ED], ids=["RSA", "EC", "Ed25519"])
def test_a_lost_half_is_brought_back_by_its_source(primary: Hsm, half: str, key: Any) -> None:
    kind = {rsa.RSAPrivateKey: "RSA", ec.EllipticCurvePrivateKey: "EC"}
    name = next((text for cls, text in kind.items() if isinstance(key, cls)), "Ed25519")
    entry = {"label": "k", "type": name, "source": {"content": pem(key)}}
    whole = ok(primary.keys(entry))["keys"][0]
    primary.tool("--delete-object", "--type", half, "--label", "k")
    done = steps(primary, entry)
    assert done["applied"][0]["action"] == "repair" and done["keys"][0] == whole


def test_half_of_another_pair_is_not_completed(primary: Hsm) -> None:
    entry = {"label": "k", "type": "EC", "source": {"content": pem(P384)}}
    ok(primary.keys(entry))
    for half in ("privkey", "pubkey"):
        primary.tool("--delete-object", "--type", half, "--label", "k")
        answer = primary.keys({**entry, "source": {"content": pem(OTHER_P384)}}, repair=True)
        assert answer["failure"]["code"] == "cannot_plan", answer
        ok(primary.keys(entry))


def test_the_registry_holds_no_value(primary: Hsm) -> None:
    content = "5ca1ab1e" * 8
    answer = ok(primary.keys({"label": "k", "type": "AES", "source": {"content": content}}))
    assert content not in answer["_raw"]
    assert bytes.fromhex(content) not in Path(primary.registry).read_bytes()
    with closing(sqlite3.connect(primary.registry)) as registry:
        dump = "\n".join(registry.iterdump())
    assert content not in dump.lower()


def test_bad_sources_are_reported_at_once_and_nothing_is_touched(primary: Hsm) -> None:
    legacy = file(primary, pem(RSA, PASSPHRASE).encode())
    answer = primary.keys(
        {"label": "a", "type": "AES", "source": {}},
        {"label": "b", "type": "AES", "source": {"content": "xyz"}},
        {"label": "c", "type": "RSA", "source": {"src": legacy}},
        {"label": "d", "type": "RSA", "source": {"src": legacy, "passphrase": "not-this-one-7"}},
        {"label": "e", "type": "EC", "source": {"content": pem(RSA)}},
        {"label": "f", "type": "EC", "curve": "P-256", "source": {"content": pem(P384)}},
        {"label": "g", "type": "AES", "source": {"src": "/nonexistent/key"}},
        {"label": "h", "type": "AES"},
        library=None,
        instance="nobody",
    )
    assert answer["failure"]["code"] == "invalid_input"
    problems = answer["failure"]["details"]["problems"]
    for index, label in enumerate("ab"):
        assert any(problem.startswith(f"keys[{index}] ({label}).source") for problem in problems), problems
    good = primary.keys(
        *[{"label": "c", "type": "RSA", "source": {"src": legacy}}, {"label": "e", "type": "EC", "source": {"content": pem(RSA)}}]
    )
    assert len(good["failure"]["details"]["problems"]) == 2
    assert pem(RSA)[100:140] not in good["_raw"]
    assert "not-this-one-7" not in answer["_raw"]
