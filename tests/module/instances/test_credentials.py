# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Credentials of services, as hsm_status finds them on real tokens."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from faulty import Faulty, with_plan
from hsm_fixture import Hsm, calls, ok


def look(hsm: Hsm, *expect: dict[str, Any], **options: Any) -> dict[str, dict[str, Any]]:
    """What hsm_status says of each credential, by name."""
    answer = ok(hsm.run("hsm_status", expect=list(expect), **options))
    return {one["name"]: one for one in answer["credentials"]}


def verdict(one: dict[str, Any]) -> tuple[Any, ...]:
    return one["found"], one["match"], one["signs"], one["code"]


def self_sign(hsm: Hsm, label: str) -> None:
    subject = {"commonName": label}
    ok(hsm.run("hsm_certificate", instance="primary", key_label=label, subject=subject, self_signed={"valid_days": 30}))


def foreign(folder: Path, begin: int, end: int) -> str:
    """The file of a certificate of a key that is nowhere on the token, valid from and to these days from now."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(timezone.utc)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "foreign")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).serial_number(7).public_key(key.public_key())
    builder = builder.not_valid_before(now + timedelta(days=begin)).not_valid_after(now + timedelta(days=end))
    path = folder / f"foreign{begin}.der"
    path.write_bytes(builder.sign(key, SHA256()).public_bytes(Encoding.DER))
    return str(path)


def put(hsm: Hsm, path: str, label: str, key_id: str) -> None:
    hsm.tool("--write-object", path, "--type", "cert", "--label", label, "--id", key_id)


def test_each_credential_gets_its_verdict_in_one_login(hsm: Hsm) -> None:
    spied, log = hsm.spied()
    spied.register()
    made = [{"label": label, "type": "EC"} for label in ("ec", "bare", "alien", "half")]
    ok(spied.keys(*made, {"label": "rsa", "type": "RSA"}, {"label": "mute", "type": "RSA", "operations": ["decrypt", "encrypt"]}))
    for label in ("rsa", "ec"):
        self_sign(spied, label)
    put(hsm, foreign(hsm.scratch, -9, 9), "alien", b"alien".hex())
    put(hsm, foreign(hsm.scratch, -7, 7), "half", b"half".hex())
    put(hsm, foreign(hsm.scratch, -9, -2), "old-ca", "0c")
    put(hsm, foreign(hsm.scratch, 2, 9), "new-ca", "0d")
    put(hsm, foreign(hsm.scratch, -8, 8), "ec", b"ec".hex())
    hsm.tool("--keypairgen", "--key-type", "EC:prime256v1", "--label", "careful", "--id", "aa", "--always-auth")
    for key_id in ("e0", "e1"):
        hsm.tool("--keypairgen", "--key-type", "EC:prime256v1", "--label", "twin", "--id", key_id)
    # Only the certificate has its public key, as on many cards.
    for label in ("rsa", "half"):
        hsm.tool("--delete-object", "--type", "pubkey", "--label", label)
    log.unlink()
    found = look(
        spied,
        {"label": "rsa"},
        {"id": b"ec".hex()},
        {"label": "bare"},
        {"label": "alien"},
        {"label": "half"},
        {"label": "mute", "certificate": False},
        {"label": "careful", "certificate": False},
        {"label": "twin", "certificate": False},
        {"label": "old-ca", "private_key": False},
        {"label": "new-ca", "private_key": False},
        {"label": "old-ca", "id": "0c"},
    )
    assert {name: verdict(one) for name, one in found.items()} == {
        "rsa": (True, True, True, None),
        # The second certificate is in the way, and the key's own is the one that is judged.
        "id 6563": (True, True, True, "several_certificates"),
        "bare": (False, None, True, "certificate_missing"),
        "alien": (True, False, True, "certificate_mismatch"),
        "half": (True, False, False, "bad_signature"),
        "mute": (True, None, False, "cannot_sign"),
        "careful": (True, None, True, None),
        "twin": (False, None, None, "several_keys"),
        "new-ca": (True, None, None, "certificate_not_yet_valid"),
        "old-ca": (False, None, None, "no_key"),
    }
    assert "expired at" in found["old-ca"]["problem"] and found["old-ca"]["not_after"] < found["rsa"]["not_after"]
    made_calls = calls(log)
    # One login more is the one that the key with CKA_ALWAYS_AUTHENTICATE wants.
    assert made_calls["C_Login"] == 2 and made_calls["C_OpenSession"] == 1


def test_require_counts_credentials_and_a_name_of_nobody_is_refused(primary: Hsm) -> None:
    primary.register("standby", tokens=[primary.token("second")])
    ok(primary.keys({"label": "web", "type": "EC"}))
    self_sign(primary, "web")
    everywhere = {"expect": [{"label": "web"}]}
    failed = primary.run("hsm_status", require="all", **everywhere)
    assert failed["failure"]["code"] == "not_healthy" and "1 of 2 tokens are accessible and have what is expected" in failed["msg"]
    assert "credential 'web': no private key with this name" in failed["msg"]
    assert [slot["accessible"] for entry in failed["instances"] for slot in entry["slots"]] == [True, True] and not failed["healthy"]
    ok(primary.run("hsm_status", require="any", **everywhere))
    ok(primary.run("hsm_status", require="all", expect=[{"label": "web", "instance": "primary", "token_label": "payments"}]))
    told = ok(primary.run("hsm_status_info", **everywhere))
    assert [one["code"] for one in told["credentials"]] == [None, "no_key"] and told["healthy"] is False
    (primary.scratch / "pins" / "payments").rename(primary.scratch / "pins" / "away")
    shut = ok(primary.run("hsm_status_info", **everywhere))["credentials"][0]
    assert verdict(shut) == (None, None, None, "pin_file_missing") and shut["problem"].startswith("not checked: ")
    for more, code in (({"token_label": "typo"}, "token_not_declared"), ({"instance": "typo"}, "no_instance")):
        expect = {"label": "web", **more}
        assert primary.run("hsm_status_info", expect=[expect])["failure"]["code"] == code
        assert ok(primary.run("hsm_status", check=True, expect=[expect]))["credentials"] == []


def test_the_layout_of_the_eviden_server(hsm: Hsm) -> None:
    hsm.register(layout="eviden")
    ok(hsm.keys({"label": "web", "type": "EC"}))
    self_sign(hsm, "web")
    assert "_cert" in bytes.fromhex(b"web_cert".hex()).decode() and "7765625f63657274" in hsm.tool("--list-objects")
    found = look(hsm, {"label": "web"}, {"id": b"web".hex()})
    assert {verdict(one) for one in found.values()} == {(True, True, True, None)} and len(found) == 2


def test_a_fault_is_the_tokens_and_a_doubt_the_credentials(faulty: Faulty) -> None:
    ok(faulty.hsm.keys({"label": "web", "type": "EC"}))
    expect = {"label": "web", "certificate": False}
    with_plan(faulty, "C_SignInit:1:before=0x5")
    doubt = ok(faulty.hsm.run("hsm_status", expect=[expect]))
    assert doubt["instances"][0]["slots"][0]["accessible"] is True and doubt["credentials"][0]["code"] == "CKR_GENERAL_ERROR"
    with_plan(faulty, "C_SignInit:1:before=0x30")
    fault = ok(faulty.hsm.run("hsm_status", expect=[expect]))
    slot = fault["instances"][0]["slots"][0]
    assert (slot["accessible"], slot["code"], slot["device_fault"], slot["probe"]) == (False, "CKR_DEVICE_ERROR", True, "AES_ECB")
    assert verdict(fault["credentials"][0]) == (None, None, None, "CKR_DEVICE_ERROR")
