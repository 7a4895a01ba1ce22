# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""hsm_certificate on real tokens: four steps for each kind of key, what openssl says of the results, refusals, renewal."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from base64 import b64encode
from contextlib import closing
from datetime import datetime, timedelta, timezone
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import swtok
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import NameOID
from hsm_fixture import PIN, SO_PIN, Hsm, calls

SUBJECT = {"commonName": "web01.example.com", "organizationName": "Example"}
NAMES = ["DNS:web01.example.com", "IP:192.0.2.7", "email:ops@example.com", "URI:https://example.com/web01"]
LABEL = "web-tls"

# How a key is made, and the options that go with its type.
KINDS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "rsa": ({"type": "RSA", "size": 2048}, {}),
    "rsa-pss": ({"type": "RSA", "size": 2048}, {"rsa_padding": "pss", "digest": "sha384"}),
    "p256": ({"type": "EC", "curve": "P-256"}, {}),
    "p256-sha512": ({"type": "EC", "curve": "P-256"}, {"digest": "sha512"}),
    "p384": ({"type": "EC", "curve": "P-384"}, {}),
    "p521": ({"type": "EC", "curve": "P-521"}, {}),
    "brainpool": ({"type": "EC", "curve": "brainpoolP384r1"}, {}),
    "k1": ({"type": "EC", "curve": "secp256k1"}, {}),
    "ed25519": ({}, {}),
}
SIGNED_WITH = {
    "rsa": "sha256WithRSAEncryption",
    "rsa-pss": "rsassaPss",
    "p256": "ecdsa-with-SHA256",
    "p256-sha512": "ecdsa-with-SHA512",
    "p384": "ecdsa-with-SHA384",
    "p521": "ecdsa-with-SHA512",
    "brainpool": "ecdsa-with-SHA384",
    "k1": "ecdsa-with-SHA256",
    "ed25519": "ED25519",
}


def ok(answer: dict[str, Any]) -> dict[str, Any]:
    assert not answer.get("failed"), answer
    return answer


def make_key(hsm: Hsm, kind: str = "p256", label: str = LABEL) -> None:
    spec, _options = KINDS[kind]
    if kind == "ed25519":
        hsm.tool("--keypairgen", "--key-type", "EC:edwards25519", "--label", label, "--id", label.encode().hex())
    else:
        ok(hsm.keys({"label": label, **spec}))


def certificate(hsm: Hsm, *, check: bool = False, **options: Any) -> dict[str, Any]:
    return hsm.run("hsm_certificate", check=check, **{"instance": "primary", "key_label": LABEL, **options})


def four_steps(hsm: Hsm, **options: Any) -> dict[str, Any]:
    """Check, apply, check, apply. The answer of the second."""
    before = state(hsm)
    planned = ok(certificate(hsm, check=True, **options))
    assert state(hsm) == before
    done = ok(certificate(hsm, **options))
    assert planned["changed"] is done["changed"] is True
    assert planned["diff"] == done["diff"] != {"before": {}, "after": {}}
    there = state(hsm)
    for check in (True, False):
        again = ok(certificate(hsm, check=check, **options))
        assert again["changed"] is False
        assert again["diff"] == {"before": {}, "after": {}}
        assert {name: again[name] for name in VALUES} == {name: done[name] for name in VALUES}
        assert state(hsm) == there
    return done


VALUES = ("csr", "certificate", "fingerprint", "not_before", "not_after", "serial_number", "subject", "matches_key", "renewal_due")


def state(hsm: Hsm) -> tuple[str, dict[str, bytes]]:
    files = {path.name: path.read_bytes() for path in hsm.scratch.glob("*.csr")}
    return hsm.tool("--list-objects"), files


def on_token(hsm: Hsm, label: str = LABEL) -> list[str]:
    """CKA_IDs of the certificates with this label, as pkcs11-tool sees them without a login."""
    blocks = hsm.tool("--list-objects", "--type", "cert", pin=None).split("Certificate Object")
    fields = [dict(line.strip().split(":", 1) for line in block.splitlines() if ":" in line) for block in blocks[1:]]
    return [entry["ID"].strip() for entry in fields if entry["label"].strip() == label]


def openssl(*args: str) -> str:
    done = subprocess.run(["openssl", *args], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


class Ca:
    """A CA outside the HSM, as far as these tests need one."""

    def __init__(self, folder: Path) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.folder = folder
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test CA")])
        self.certificate = self._sign(name, self.key.public_key(), name, ca=True)
        self.path = folder / "ca.pem"
        self.path.write_bytes(self.certificate.public_bytes(Encoding.PEM))

    def _sign(self, subject: x509.Name, public: Any, issuer: x509.Name, *, ca: bool, days: int = 90, since: int = 0) -> x509.Certificate:
        begin = datetime.now(timezone.utc) - timedelta(days=since, minutes=5)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(begin)
            .not_valid_after(begin + timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )
        return builder.sign(self.key, hashes.SHA256())

    def issue(self, csr: str, *, days: int = 90, since: int = 0) -> str:
        request = x509.load_pem_x509_csr(csr.encode())
        made = self._sign(request.subject, request.public_key(), self.certificate.subject, ca=False, days=days, since=since)
        return made.public_bytes(Encoding.PEM).decode()


@pytest.fixture
def ca(tmp_path: Path) -> Ca:
    return Ca(tmp_path)


def request_of(hsm: Hsm, **options: Any) -> str:
    return str(ok(certificate(hsm, subject=SUBJECT, **options))["csr"])


def read_text(pem: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem.encode())


def read(path: Path | str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(Path(path).read_bytes())


def verify(hsm: Hsm, ca_path: Path, pem: str) -> None:
    path = hsm.scratch / "checked.pem"
    path.write_text(pem)
    assert openssl("verify", "-CAfile", str(ca_path), str(path)).strip().endswith(": OK")


@pytest.mark.parametrize("kind", list(KINDS))
def test_request_four_steps(primary: Hsm, kind: str) -> None:
    make_key(primary, kind)
    path = primary.scratch / "web01.csr"
    options = {**KINDS[kind][1], "subject": SUBJECT, "subject_alt_names": NAMES, "csr_path": str(path)}
    options |= {"key_usage": ["digitalSignature", "keyAgreement"], "extended_key_usage": ["serverAuth", "1.2.3.4"]}
    options |= {"basic_constraints": {"ca": False}}
    done = four_steps(primary, **options)
    assert done["csr"] == path.read_text() and path.stat().st_mode & 0o777 == 0o644
    assert done["certificate"] is None and done["matches_key"] is None and done["renewal_due"] is None
    assert "verify OK" in openssl("req", "-verify", "-noout", "-in", str(path))
    text = " ".join(openssl("req", "-noout", "-text", "-nameopt", "RFC2253", "-in", str(path)).split())
    assert f"Signature Algorithm: {SIGNED_WITH[kind]} " in text
    assert "Subject: O=Example,CN=web01.example.com " in text
    assert "DNS:web01.example.com, IP Address:192.0.2.7, email:ops@example.com, URI:https://example.com/web01 " in text
    assert "X509v3 Key Usage: critical Digital Signature, Key Agreement " in text
    assert "TLS Web Server Authentication, 1.2.3.4 " in text
    assert "X509v3 Basic Constraints: critical CA:FALSE " in text
    assert on_token(primary) == []


def test_a_request_with_names_of_every_kind_and_no_subject(primary: Hsm) -> None:
    make_key(primary)
    path = primary.scratch / "web01.csr"
    names = ["dirName:CN=a\\,b,O=Example", "RID:1.2.3.4", "otherName:1.3.6.1.4.1.311.20.2.3;UTF8:ops@example.com", "DNS:web01"]
    four_steps(primary, subject={}, subject_alt_names=names, csr_path=str(path))
    text = " ".join(openssl("req", "-verify", "-noout", "-text", "-in", str(path)).split())
    assert " Subject: Subject Public Key Info:" in text
    assert "X509v3 Subject Alternative Name: critical DirName:/O=Example/CN=a,b, Registered ID:1.2.3.4, " in text
    assert "UPN::ops@example.com, DNS:web01 " in text
    answer = certificate(primary, subject={}, subject_alt_names=names, self_signed={})
    assert "subject: is empty: a self-signed certificate needs the name of its issuer" in answer["msg"]


@pytest.mark.parametrize(("critical", "good"), [(None, True), (False, False)])
def test_a_certificate_for_time_stamps(primary: Hsm, critical: bool | None, good: bool) -> None:
    make_key(primary)
    options: dict[str, Any] = {} if critical is None else {"extended_key_usage_critical": critical}
    done = four_steps(primary, subject=SUBJECT, extended_key_usage=["timeStamping"], self_signed={}, **options)
    path = primary.scratch / "tsa.pem"
    path.write_text(done["certificate"])
    # What another program makes of RFC 3161, section 2.3.
    assert f"Time Stamp signing : {'Yes' if good else 'No'}" in openssl("x509", "-purpose", "-noout", "-in", str(path))


@pytest.mark.parametrize("kind", ["rsa", "rsa-pss", "p256", "p384", "ed25519"])
def test_self_signed_four_steps(primary: Hsm, kind: str) -> None:
    make_key(primary, kind)
    options = {**KINDS[kind][1], "subject": SUBJECT, "subject_alt_names": NAMES, "self_signed": {"valid_days": 30}}
    done = four_steps(primary, **options)
    verify_text = primary.scratch / "self.pem"
    verify_text.write_text(done["certificate"])
    assert openssl("verify", "-check_ss_sig", "-CAfile", str(verify_text), str(verify_text)).strip().endswith(": OK")
    assert f"Signature Algorithm: {SIGNED_WITH[kind]}" in openssl("x509", "-noout", "-text", "-in", str(verify_text))
    found = read(verify_text)
    assert found.not_valid_after_utc - found.not_valid_before_utc == timedelta(days=30)
    assert done["serial_number"] == f"{found.serial_number:x}" and done["subject"] == "O=Example,CN=web01.example.com"
    assert done["fingerprint"] == found.fingerprint(hashes.SHA256()).hex()
    assert done["not_after"] == found.not_valid_after_utc.strftime("%Y-%m-%dT%H:%M:%SZ")
    assert done["matches_key"] is True and done["renewal_due"] is False and done["csr"] is None
    assert on_token(primary) == [LABEL.encode().hex()]


@pytest.mark.parametrize("kind", ["rsa", "p256", "p384", "ed25519"])
def test_import_four_steps(primary: Hsm, ca: Ca, kind: str) -> None:
    make_key(primary, kind)
    issued = ca.issue(request_of(primary, **KINDS[kind][1]))
    done = four_steps(primary, content=issued + ca.path.read_text())
    assert done["certificate"] == issued and done["matches_key"] is True
    verify(primary, ca.path, done["certificate"])
    assert on_token(primary) == [LABEL.encode().hex()]
    # Another program reads the same certificate, attribute by attribute.
    der = primary.scratch / "read.der"
    primary.tool("--read-object", "--type", "cert", "--label", LABEL, "--output-file", str(der), pin=None)
    assert x509.load_der_x509_certificate(der.read_bytes()) == x509.load_pem_x509_certificate(issued.encode())
    listing = primary.tool("--list-objects", "--type", "cert", pin=None)
    assert "type = X.509 cert" in listing
    # Another program fills up a byte, and a number may be shorter than the twenty that are its most.
    assert int(listing.partition("serial:")[2].split()[0], 16) == int(done["serial_number"], 16)


# Run on its own: one process loads a PKCS#11 library once.
READ = """
import json, pkcs11, sys
token = pkcs11.lib(sys.argv[1]).get_token(token_label="payments")
with token.open() as session:
    (found,) = session.get_objects({pkcs11.Attribute.CLASS: pkcs11.ObjectClass.CERTIFICATE})
    names = ("ID", "SUBJECT", "ISSUER", "SERIAL_NUMBER", "VALUE", "LABEL", "TOKEN", "PRIVATE", "CERTIFICATE_TYPE")
    values = {name: found[pkcs11.Attribute[name]] for name in names}
print(json.dumps({name: value.hex() if isinstance(value, bytes) else value for name, value in values.items()}))
"""


def test_attributes_on_the_token(primary: Hsm, ca: Ca) -> None:
    make_key(primary)
    issued = ca.issue(request_of(primary))
    ok(certificate(primary, content=issued))
    command = [sys.executable, "-c", READ, primary.library]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, **primary.environment})
    parsed = x509.load_pem_x509_certificate(issued.encode())
    serial = parsed.serial_number.to_bytes(parsed.serial_number.bit_length() // 8 + 1, "big")
    assert json.loads(done.stdout) == {
        "CERTIFICATE_TYPE": 0,
        "TOKEN": True,
        "PRIVATE": False,
        "LABEL": LABEL,
        "ID": LABEL.encode().hex(),
        "SUBJECT": parsed.subject.public_bytes().hex(),
        "ISSUER": parsed.issuer.public_bytes().hex(),
        "SERIAL_NUMBER": (bytes([2, len(serial)]) + serial).hex(),
        "VALUE": parsed.public_bytes(Encoding.DER).hex(),
    }


@pytest.mark.parametrize("form", ["root-first", "p7b"])
def test_the_certificate_of_the_key_is_found_in_what_a_ca_sends(primary: Hsm, ca: Ca, form: str) -> None:
    make_key(primary)
    earlier, issued = ca.issue(request_of(primary), days=30), ca.issue(request_of(primary), days=90)
    sent = primary.scratch / "sent"
    sent.write_text(ca.path.read_text() + earlier + issued)
    if form == "p7b":
        openssl("crl2pkcs7", "-nocrl", "-certfile", str(sent), "-outform", "DER", "-out", str(sent))
    done = four_steps(primary, src=str(sent))
    assert done["certificate"] == issued and done["matches_key"] is True


def test_a_bundle_without_the_certificate_of_the_key_is_refused(primary: Hsm, ca: Ca) -> None:
    make_key(primary)
    make_key(primary, "rsa", "other")
    answer = certificate(primary, content=ca.path.read_text() + ca.issue(request_of(primary, key_label="other")))
    assert answer["failure"]["code"] == "certificate_mismatch" and answer["changed"] is False
    assert "none of its 2 certificates belongs to this key" in answer["msg"]
    assert all(one in answer["msg"] for one in answer["failure"]["details"]["certificate_keys"])


def test_import_from_a_file_in_der(primary: Hsm, ca: Ca) -> None:
    make_key(primary)
    issued = x509.load_pem_x509_certificate(ca.issue(request_of(primary)).encode())
    path = primary.scratch / "web01.der"
    missing = certificate(primary, src=str(path))
    assert missing["failure"]["code"] == "invalid_input" and "does not exist on the target" in missing["msg"]
    folder = certificate(primary, src=str(primary.scratch))
    assert "is a directory: give the file that holds the certificate" in folder["msg"] and "become" not in folder["msg"]
    os.mkfifo(primary.scratch / "pipe")
    assert "is not a regular file" in certificate(primary, src=str(primary.scratch / "pipe"))["msg"]
    planned = ok(certificate(primary, src=str(path), check=True))
    assert planned["changed"] is True and any("earlier task" in str(text) for text in planned["warnings"])
    path.write_bytes(issued.public_bytes(Encoding.DER))
    done = four_steps(primary, src=str(path))
    assert done["fingerprint"] == issued.fingerprint(hashes.SHA256()).hex()


def test_a_certificate_without_a_key_is_looked_at_and_removed(primary: Hsm, ca: Ca) -> None:
    """A CA's, which the token has for a chain: its key is elsewhere."""
    der = primary.scratch / "ca.der"
    der.write_bytes(ca.certificate.public_bytes(Encoding.DER))
    primary.tool("--write-object", str(der), "--type", "cert", "--label", "root-ca", "--id", "c0")
    for named in ({}, {"key_id": "c0"}):
        found = certificate(primary, key_label="root-ca", **named)
        assert found["changed"] is False and found["matches_key"] is None and found["fingerprint"] is not None
        assert any("The certificate is a CA's" in str(text) for text in found["warnings"])
    missing = primary.run("hsm_certificate", instance="primary", key_label="root-ca", key_id="c1")
    assert missing["failure"]["code"] == "no_key"
    assert [certificate(primary, key_label="root-ca", state="absent")["changed"] for _time in range(2)] == [True, False]


def test_absent_four_steps(primary: Hsm) -> None:
    make_key(primary)
    csr = primary.scratch / "web01.csr"
    ok(certificate(primary, subject=SUBJECT, self_signed={}, csr_path=str(csr)))
    # Not ours: the same CKA_ID under another label, and the same label under another CKA_ID.
    der = primary.scratch / "copy.der"
    primary.tool("--read-object", "--type", "cert", "--label", LABEL, "--output-file", str(der))
    key_id = LABEL.encode().hex()
    primary.tool("--write-object", str(der), "--type", "cert", "--label", "neighbour", "--id", key_id)
    primary.tool("--write-object", str(der), "--type", "cert", "--label", LABEL, "--id", "aa")
    done = four_steps(primary, state="absent")
    assert {done[name] for name in VALUES} == {None}
    assert on_token(primary) == ["aa"] and on_token(primary, "neighbour") == [key_id]
    assert csr.exists() and "Private Key Object" in primary.tool("--list-objects")
    # When the key is gone, all certificates with its label are.
    ok(primary.keys({"label": LABEL, "state": "absent"}))
    assert ok(certificate(primary, state="absent"))["changed"] is True
    assert on_token(primary) == [] and on_token(primary, "neighbour") == [key_id]


def test_a_request_without_a_file_changes_nothing(primary: Hsm) -> None:
    make_key(primary)
    before = state(primary)
    assert ok(certificate(primary, subject=SUBJECT, check=True))["csr"] is None
    answer = ok(certificate(primary, subject=SUBJECT))
    assert answer["changed"] is False and answer["diff"] == {"before": {}, "after": {}}
    path = primary.scratch / "answered"
    path.write_text(answer["csr"])
    assert "verify OK" in openssl("req", "-verify", "-noout", "-in", str(path))
    assert state(primary) == before


CHANGES: list[dict[str, Any]] = [
    {"subject": {"commonName": "web02.example.com", "organizationName": "Example"}},
    {"subject": {"organizationName": "Example", "commonName": "web01.example.com"}},
    {"subject_alt_names": ["DNS:web01.example.com"]},
    {"key_usage": ["digitalSignature"]},
    {"extended_key_usage": ["clientAuth"]},
    {"basic_constraints": {"ca": True}},
    {"basic_constraints": {"ca": True, "path_length": 0}, "key_usage": ["keyCertSign"]},
    {"digest": "sha512"},
    {"rsa_padding": "pss"},
]


def test_what_differs_is_made_anew(primary: Hsm) -> None:
    make_key(primary, "rsa")
    path = primary.scratch / "web01.csr"
    options = {"subject": SUBJECT, "subject_alt_names": NAMES, "csr_path": str(path), "self_signed": {}}
    last = ok(certificate(primary, **options))
    # The order of the names does not count.
    assert ok(certificate(primary, **{**options, "subject_alt_names": NAMES[::-1]}))["changed"] is False
    for change in CHANGES:
        planned, done, again = (ok(certificate(primary, check=check, **{**options, **change})) for check in (True, False, False))
        assert (planned["changed"], done["changed"], again["changed"]) == (True, True, False), change
        assert planned["diff"] == done["diff"]
        assert done["csr"] != last["csr"] and done["fingerprint"] != last["fingerprint"]
        assert set(done["diff"]["before"]) == set(done["diff"]["after"]) == {f"request {path}", f"certificate {LABEL}"}
        last = again
    assert len(on_token(primary)) == 1


def test_other_days_renew_nothing(primary: Hsm) -> None:
    make_key(primary)
    first = ok(certificate(primary, subject=SUBJECT, self_signed={"valid_days": 10}))
    again = ok(certificate(primary, subject=SUBJECT, self_signed={"valid_days": 20}))
    assert again["changed"] is False and again["fingerprint"] == first["fingerprint"]


@pytest.mark.parametrize("damage", ["cut-off", "other-key", "bad-signature", "empty", "der"])
def test_a_file_that_will_not_do_is_written_anew(primary: Hsm, damage: str) -> None:
    make_key(primary)
    make_key(primary, label="other")
    path = primary.scratch / "web01.csr"
    options = {"subject": SUBJECT, "csr_path": str(path)}
    good = ok(certificate(primary, **options))["csr"]
    if damage == "other-key":
        path.write_text(request_of(primary, key_label="other"))
    elif damage == "bad-signature":
        raw = bytearray(x509.load_pem_x509_csr(good.encode()).public_bytes(Encoding.DER))
        raw[-1] ^= 1
        path.write_bytes(x509.load_der_x509_csr(bytes(raw)).public_bytes(Encoding.PEM))
    elif damage == "der":
        path.write_bytes(x509.load_pem_x509_csr(good.encode()).public_bytes(Encoding.DER))
    else:
        path.write_text(good[:100] if damage == "cut-off" else "")
    done = four_steps(primary, **options)
    assert "verify OK" in openssl("req", "-verify", "-noout", "-in", str(path))
    assert list(done["diff"]["before"]) == [f"request {path}"]


@pytest.mark.parametrize("holds", ["certificate", "text", "private-key-too", "binary"])
def test_a_file_that_is_no_request_is_not_overwritten(primary: Hsm, holds: str) -> None:
    make_key(primary)
    path = primary.scratch / "web01.pem"
    made = ok(certificate(primary, subject=SUBJECT, self_signed={}))
    secret = ec.generate_private_key(ec.SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    texts = {
        "certificate": made["certificate"],
        "text": "pin-7391\n",
        "private-key-too": request_of(primary) + secret,
        "binary": "\x00\x01",
    }
    path.write_text(texts[holds])
    options: dict[str, Any] = {"subject": {"CN": "web02"}, "csr_path": str(path)}
    if holds == "certificate":
        options["src"] = str(path)  # the same path twice
    for check in (True, False):
        answer = certificate(primary, **options, check=check)
        assert answer["failure"]["code"] == "csr_unwritable" and answer["changed"] is False
        assert "holds something other than a request" in answer["msg"] and "Give another path" in answer["msg"]
    assert path.read_text() == texts[holds]


def test_what_is_no_regular_file_is_left_alone(primary: Hsm) -> None:
    """A pipe would be waited for; /dev/null would be replaced by a file."""
    make_key(primary)
    pipe = primary.scratch / "pipe"
    os.mkfifo(pipe)
    for path in (str(pipe), "/dev/null"):
        answer = certificate(primary, subject=SUBJECT, csr_path=path, check=True)
        assert answer["failure"]["code"] == "csr_unreadable" and "is not a regular file" in answer["msg"]


def test_files_that_cannot_be_used_are_told_before_anything_is_done(primary: Hsm) -> None:
    make_key(primary)
    missing = certificate(primary, subject=SUBJECT, self_signed={}, csr_path=str(primary.scratch / "none" / "web01.csr"))
    assert missing["failure"]["code"] == "csr_unwritable" and missing["changed"] is False
    assert "the folder" in missing["msg"] and "make it first" in missing["msg"]
    folder = certificate(primary, subject=SUBJECT, self_signed={}, csr_path=str(primary.scratch))
    assert folder["failure"]["code"] == "csr_unreadable" and folder["changed"] is False
    assert on_token(primary) == []


def test_a_certificate_of_another_key_is_refused(primary: Hsm, ca: Ca) -> None:
    make_key(primary)
    make_key(primary, "rsa", "other")
    good, wrong = ca.issue(request_of(primary)), ca.issue(request_of(primary, key_label="other"))
    ok(certificate(primary, content=good))
    before = state(primary)
    for check in (True, False):
        answer = certificate(primary, content=wrong, check=check)
        assert answer["failure"]["code"] == "certificate_mismatch" and answer["changed"] is False
        details = answer["failure"]["details"]
        assert details["key"] in answer["msg"] and details["certificate_key"] in answer["msg"]
        assert details["key"] != details["certificate_key"]
    assert state(primary) == before


def test_an_issued_certificate_replaces_and_is_not_replaced(primary: Hsm, ca: Ca) -> None:
    make_key(primary)
    self_signed = ok(certificate(primary, subject=SUBJECT, self_signed={}))
    issued = ca.issue(request_of(primary))
    done = four_steps(primary, content=issued)
    assert list(done["diff"]["before"]) == list(done["diff"]["after"]) == [f"certificate {LABEL}"]
    assert done["diff"]["before"][f"certificate {LABEL}"]["fingerprint"] == self_signed["fingerprint"]
    assert len(on_token(primary)) == 1
    for check in (True, False):
        refused = certificate(primary, subject=SUBJECT, self_signed={}, check=check)
        assert refused["failure"]["code"] == "certificate_issued" and "state: absent" in refused["msg"]
    assert ok(certificate(primary))["certificate"] == issued
    ok(certificate(primary, state="absent"))
    assert ok(certificate(primary, subject=SUBJECT, self_signed={}))["changed"] is True


class KnownKey:
    """A key pair that the test has as well, imported by another program, so that it can sign certificates of the past."""

    def __init__(self, hsm: Hsm) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        private, public = hsm.scratch / "known.der", hsm.scratch / "known.pub.der"
        private.write_bytes(self.key.private_bytes(Encoding.DER, PrivateFormat.TraditionalOpenSSL, NoEncryption()))
        public.write_bytes(self.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
        named = ("--label", LABEL, "--id", LABEL.encode().hex(), "--usage-sign")
        hsm.tool("--write-object", str(private), "--type", "privkey", *named)
        hsm.tool("--write-object", str(public), "--type", "pubkey", *named)

    def signed(self, like: str, *, begin: int, end: int) -> str:
        """The same self-signed certificate with other dates, in days from now."""
        found, now = x509.load_pem_x509_certificate(like.encode()), datetime.now(timezone.utc)
        builder = (
            x509.CertificateBuilder()
            .subject_name(found.subject)
            .issuer_name(found.issuer)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + timedelta(days=begin))
            .not_valid_after(now + timedelta(days=end))
        )
        for extension in found.extensions:
            builder = builder.add_extension(extension.value, extension.critical)
        return builder.sign(self.key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


def put(hsm: Hsm, pem: str, label: str = LABEL) -> None:
    """Store a certificate with another program."""
    path = hsm.scratch / "put.der"
    path.write_bytes(x509.load_pem_x509_certificate(pem.encode()).public_bytes(Encoding.DER))
    hsm.tool("--write-object", str(path), "--type", "cert", "--label", label, "--id", label.encode().hex())


def test_an_expired_or_due_self_signed_certificate_is_renewed(primary: Hsm) -> None:
    known = KnownKey(primary)
    options: dict[str, Any] = {"subject": SUBJECT, "subject_alt_names": NAMES, "self_signed": {"valid_days": 90}}
    first = ok(certificate(primary, **options))["certificate"]
    ok(certificate(primary, state="absent"))
    soon = known.signed(first, begin=-80, end=10)
    put(primary, soon)
    assert ok(certificate(primary, **options))["certificate"] == soon
    assert ok(certificate(primary, **options, renew_before="9d"))["changed"] is False
    done = four_steps(primary, **options, renew_before="11d")
    assert done["certificate"] != soon and done["renewal_due"] is False and len(on_token(primary)) == 1
    ok(certificate(primary, state="absent"))
    put(primary, known.signed(first, begin=-80, end=-1))
    expired = ok(certificate(primary))
    assert expired["renewal_due"] is True and any("expired at" in str(text) for text in expired["warnings"])
    assert four_steps(primary, **options)["renewal_due"] is False


def test_an_issued_certificate_that_is_due_is_reported(primary: Hsm, ca: Ca) -> None:
    make_key(primary)
    issued = ca.issue(request_of(primary), days=20)
    ok(certificate(primary, content=issued))
    for given in ({"content": issued}, {}):
        calm = ok(certificate(primary, **given, renew_before="19d"))
        assert calm["renewal_due"] is False and not calm.get("warnings")
        due = ok(certificate(primary, **given, renew_before="3w"))
        assert due["changed"] is False and due["renewal_due"] is True
        assert any("within renew_before" in str(text) for text in due["warnings"])
    renewed = four_steps(primary, content=ca.issue(request_of(primary), days=60), renew_before="3w")
    assert renewed["renewal_due"] is False and len(on_token(primary)) == 1


def test_a_request_that_the_caller_keeps(primary: Hsm, ca: Ca) -> None:
    """From the first one to the renewal, a new key and a certificate that is not its own. Nothing is kept on the target."""

    def kept(csr: str, *, check: bool = False, **options: Any) -> dict[str, Any]:
        return ok(certificate(primary, subject=SUBJECT, csr_content=csr, check=check, **options))

    def made(csr: str, **options: Any) -> str:
        planned, done = kept(csr, check=True, **options), kept(csr, **options)
        assert planned["changed"] is done["changed"] is True and planned["csr"] is None
        assert planned["diff"] == done["diff"] and planned.get("warnings") == done.get("warnings")
        for check in (True, False):
            again = kept(done["csr"], check=check, **options)
            assert again["changed"] is False and again["csr"] == done["csr"]
        return str(done["csr"])

    make_key(primary)
    csr = made("")
    assert "has no certificate yet" in str(kept(csr)["warnings"])
    # Another subject, and a signature that is damaged.
    damaged = csr[:300] + ("B" if csr[300] == "A" else "A") + csr[301:]
    assert kept(csr, subject_alt_names=NAMES)["changed"] and kept(damaged)["changed"]
    foreign = certificate(primary, subject=SUBJECT, csr_content="notes")
    assert foreign["failure"]["code"] == "csr_unwritable" and foreign["msg"].startswith("csr_content: ")
    old = ca.issue(csr, days=20)
    assert kept(csr, content=old, renew=True)["csr"] == csr
    assert kept(csr, content=old, renew_before="10d")["changed"] is False and not kept(csr).get("warnings")
    due = made(csr, content=old, renew_before="30d")
    assert due.startswith("Replaces the certificate with the SHA-256 fingerprint ") and due.endswith(csr[-30:])
    assert kept(due, content=old)["csr"] == due and kept(due, content=old, renew=True)["changed"] is False
    new = ca.issue(due, days=60)
    assert kept(due, content=new, renew_before="30d")["certificate"] == new
    assert made(due, renew=True).partition("BEGIN")[0] != due.partition("BEGIN")[0]
    # Another key: its request comes first, and then the old certificate is an error.
    ok(primary.keys({"label": LABEL, "type": "EC", "curve": "P-384", "on_mismatch": "replace"}))
    first = kept(due, content=new)
    assert first["changed"] and first["csr"] != due and first["matches_key"] is False
    assert "It is left out, and a request of this key is made." in str(first["warnings"])
    assert certificate(primary, subject=SUBJECT, csr_content=first["csr"], content=new)["failure"]["code"] == "certificate_mismatch"


def test_a_self_signed_certificate_is_renewed_at_once(primary: Hsm) -> None:
    make_key(primary)
    options: dict[str, Any] = {"subject": SUBJECT, "self_signed": {}}
    first = ok(certificate(primary, **options))
    planned, done = ok(certificate(primary, renew=True, check=True, **options)), ok(certificate(primary, renew=True, **options))
    assert planned["changed"] is done["changed"] is True and planned["diff"] == done["diff"]
    assert done["renewal_due"] is False and done["fingerprint"] != first["fingerprint"] and len(on_token(primary)) == 1


@pytest.mark.parametrize(("since", "word"), [(100, "expired at"), (-100, "is not valid before")])
def test_a_certificate_out_of_its_time_is_stored_with_a_warning(primary: Hsm, ca: Ca, since: int, word: str) -> None:
    make_key(primary)
    answer = ok(certificate(primary, content=ca.issue(request_of(primary), days=90, since=since)))
    assert answer["changed"] is True and any(word in str(text) for text in answer["warnings"])
    assert answer["renewal_due"] is (since > 0)


def test_a_replacement_that_was_cut_off_is_finished(primary: Hsm, ca: Ca) -> None:
    make_key(primary)
    new, *old = (ca.issue(request_of(primary)) for _time in range(4))
    # Several with the same end: the token's search gives them in any order, and the diff is the same all the same.
    for pem in (*old, new, new):
        put(primary, pem)
    assert len(on_token(primary)) == 5
    done = four_steps(primary, content=new)
    assert done["certificate"] == new and len(on_token(primary)) == 1
    assert done["diff"]["after"] == {} and len(done["diff"]["before"]) == 4


def test_a_renewal_that_was_cut_off_keeps_the_new_one(primary: Hsm) -> None:
    known = KnownKey(primary)
    options: dict[str, Any] = {"subject": SUBJECT, "self_signed": {"valid_days": 90}, "renew_before": "20d"}
    first = ok(certificate(primary, **options))["certificate"]
    put(primary, known.signed(first, begin=-80, end=10))
    assert len(on_token(primary)) == 2
    done = four_steps(primary, **options)
    assert done["certificate"] == first and len(on_token(primary)) == 1
    # Where several will do, the one that lives longest.
    longest = known.signed(first, begin=-1, end=200)
    put(primary, longest)
    put(primary, known.signed(first, begin=-1, end=100))
    assert ok(certificate(primary))["certificate"] == longest
    assert four_steps(primary, **options)["certificate"] == longest and len(on_token(primary)) == 1


def test_a_certificate_whose_key_was_replaced(primary: Hsm, ca: Ca) -> None:
    make_key(primary)
    old = ca.issue(request_of(primary))
    ok(certificate(primary, content=old))
    ok(primary.keys({"label": LABEL, "type": "EC", "curve": "P-384", "on_mismatch": "replace"}))
    found = ok(certificate(primary))
    assert found["matches_key"] is False and found["certificate"] == old and found["changed"] is False
    assert certificate(primary, content=old)["failure"]["code"] == "certificate_mismatch"
    new = ca.issue(request_of(primary))
    assert four_steps(primary, content=new)["matches_key"] is True
    assert len(on_token(primary)) == 1


def test_a_root_ca_beside_the_key_is_not_replaced(primary: Hsm, ca: Ca) -> None:
    """Signed by itself, as another program stored it: of a key that this one never was."""
    make_key(primary)
    der = primary.scratch / "ca.der"
    der.write_bytes(ca.certificate.public_bytes(Encoding.DER))
    primary.tool("--write-object", str(der), "--type", "cert", "--label", LABEL, "--id", LABEL.encode().hex())
    for check in (True, False):
        refused = certificate(primary, subject={"CN": "Test CA"}, self_signed={}, check=check)
        assert refused["failure"]["code"] == "certificate_issued" and refused["changed"] is False
        assert "of another key, which signed it itself (CN=Test CA" in refused["msg"] and "state: absent" in refused["msg"]
    assert ok(certificate(primary))["fingerprint"] == ca.certificate.fingerprint(hashes.SHA256()).hex()


def test_a_key_that_signed_itself_and_was_replaced(primary: Hsm) -> None:
    make_key(primary)
    options: dict[str, Any] = {"subject": SUBJECT, "self_signed": {}}
    ok(certificate(primary, **options))
    ok(primary.keys({"label": LABEL, "state": "absent"}))
    make_key(primary)
    assert ok(certificate(primary))["matches_key"] is False
    assert four_steps(primary, **options)["matches_key"] is True
    assert len(on_token(primary)) == 1


def test_a_certificate_that_only_looks_self_signed_is_not_replaced(primary: Hsm, ca: Ca) -> None:
    """Same names, same key, another's signature: as of a CA that certifies its own new key (RFC 4210, section 4.4)."""
    make_key(primary)
    asked = {"subject": {"CN": "Test CA"}}
    issued = ca.issue(ok(certificate(primary, **asked))["csr"])
    assert read_text(issued).issuer == read_text(issued).subject
    ok(certificate(primary, content=issued))
    for check in (True, False):
        refused = certificate(primary, **asked, self_signed={}, check=check)
        assert refused["failure"]["code"] == "certificate_issued" and refused["changed"] is False
    assert ok(certificate(primary))["certificate"] == issued


# A certificate that the library cannot read whole: its subject is a TeletexString, as CAs of the nineties wrote them.
WRITE = """
import pkcs11, sys
token = pkcs11.lib(sys.argv[1]).get_token(token_label="payments")
kinds = (pkcs11.ObjectClass.CERTIFICATE, pkcs11.CertificateType.X_509)
names = ("CLASS", "CERTIFICATE_TYPE", "TOKEN", "PRIVATE", "LABEL", "ID", "SUBJECT", "VALUE")
values = (*kinds, True, False, sys.argv[3], sys.argv[3].encode(), bytes.fromhex("3000"), bytes.fromhex(sys.argv[4]))
with token.open(rw=True, user_pin=sys.argv[2]) as session:
    session.create_object({pkcs11.Attribute[name]: value for name, value in zip(names, values)})
"""


def test_a_certificate_that_cannot_be_read(primary: Hsm, ca: Ca) -> None:
    make_key(primary)
    der = read_text(ca.issue(ok(certificate(primary, subject={"CN": "abcd"}))["csr"])).public_bytes(Encoding.DER)
    strange = der.replace(b"\x0c\x04abcd", b"\x14\x04\xe4bcd")
    assert strange != der
    command = [sys.executable, "-c", WRITE, primary.library, PIN, LABEL, strange.hex()]
    subprocess.run(command, check=True, env={**os.environ, **primary.environment})
    found = ok(certificate(primary))
    assert found["fingerprint"] == sha256(strange).hexdigest() and found["subject"] is None and found["matches_key"] is False
    refused = certificate(primary, subject=SUBJECT, self_signed={})
    assert refused["failure"]["code"] == "certificate_issued" and "cannot be read" in refused["msg"]
    again = certificate(primary, content=f"-----BEGIN CERTIFICATE-----\n{b64encode(strange).decode()}\n-----END CERTIFICATE-----\n")
    assert again["failure"]["code"] == "invalid_input" and "holds no X.509 certificate that can be read" in again["msg"]
    four_steps(primary, state="absent")
    assert on_token(primary) == []


def test_a_deactivated_key_signs_nothing_new(primary: Hsm, ca: Ca) -> None:
    make_key(primary)
    kept: dict[str, Any] = {"subject": SUBJECT, "self_signed": {}, "csr_path": str(primary.scratch / "web01.csr")}
    first = ok(certificate(primary, **kept))
    ok(primary.keys({"label": LABEL, "state": "deactivated"}))
    before = state(primary)
    for check in (True, False):
        for options in (
            {"subject": {"CN": "other"}},
            {"subject": {"CN": "other"}, "self_signed": {}},
            {**kept, "csr_path": str(primary.scratch / "web02.csr")},
        ):
            refused = certificate(primary, **options, check=check)
            assert refused["failure"]["code"] == "cannot_sign" and refused["changed"] is False
            assert "deactivated" in refused["msg"] and "generation" in refused["msg"]
        # What it has signed before stays, and what a CA has signed is stored.
        assert ok(certificate(primary, **kept, check=check))["changed"] is False
    assert state(primary) == before
    assert ok(certificate(primary, content=ca.issue(first["csr"])))["changed"] is True


def test_a_rotated_key(primary: Hsm) -> None:
    """Each generation is a key of its own, with certificates of its own, and is named by its own label."""
    make_key(primary)
    options: dict[str, Any] = {"subject": SUBJECT, "self_signed": {}}
    first = ok(certificate(primary, **options))
    # A key of its own, and no generation of this one, says hsm_key: it is in no row behind it.
    ok(primary.keys({"label": LABEL, **KINDS["p256"][0], "generation": 2}, {"label": f"{LABEL}@7", **KINDS["p256"][0]}))
    later = f"{LABEL}@2"
    kept = ok(certificate(primary, **options))
    assert kept["changed"] is False and kept["fingerprint"] == first["fingerprint"] and not kept.get("warnings")
    for check in (True, False):
        old = ok(certificate(primary, subject=SUBJECT, check=check))
        assert any(f"has a later generation, '{later}'" in str(text) for text in old["warnings"])
    second = four_steps(primary, key_label=later, **options)
    assert second["matches_key"] is True and not second.get("warnings")
    assert ok(certificate(primary, generation="current"))["fingerprint"] == second["fingerprint"]
    assert on_token(primary) == [LABEL.encode().hex()] and on_token(primary, later) == [later.encode().hex()]
    ok(primary.keys({"label": LABEL, "generation": 1, "state": "absent"}))
    gone = certificate(primary)
    assert gone["failure"]["code"] == "no_key" and f"key_label: {later}" in gone["msg"]
    four_steps(primary, state="absent")
    assert on_token(primary) == [] and on_token(primary, later) == [later.encode().hex()]


def test_keys_that_cannot_be_used_are_told(primary: Hsm) -> None:
    path = str(primary.scratch / "web01.csr")
    asked = {"subject": SUBJECT, "csr_path": path}
    none = certificate(primary, **asked)
    assert none["failure"]["code"] == "no_key" and "hsm_key" in none["msg"]
    ok(primary.keys({"label": LABEL, "type": "AES"}))
    for check in (True, False):
        secret = certificate(primary, **asked, check=check)
        assert secret["failure"]["code"] == "no_key" and "secret key" in secret["msg"]
    ok(primary.keys({"label": LABEL, "state": "absent"}))
    ok(primary.keys({"label": LABEL, "type": "EC", "operations": ["derive"]}))
    mute = certificate(primary, **asked)
    assert mute["failure"]["code"] == "cannot_sign" and "operation sign" in mute["msg"]
    assert certificate(primary, **asked, check=True)["failure"]["code"] == "cannot_sign"
    assert not Path(path).exists()
    # Nothing is to be signed here.
    assert ok(certificate(primary))["changed"] is False
    primary.tool("--delete-object", "--type", "pubkey", "--label", LABEL)
    half = certificate(primary)
    assert half["failure"]["code"] == "half_pair" and "its public key is missing" in half["msg"]
    primary.tool("--keypairgen", "--key-type", "EC:prime256v1", "--label", LABEL, "--id", "02")
    for asked in ({}, {"state": "absent"}):
        twins = certificate(primary, **asked)
        assert twins["failure"]["code"] == "several_keys" and twins["msg"].count("handle") == 2 and "CKA_ID 02" in twins["msg"]


@pytest.mark.parametrize("kind", ["rsa", "p256"])
def test_a_key_whose_public_half_is_only_in_its_certificate(primary: Hsm, kind: str) -> None:
    """As on many cards. Another key's certificate with that CKA_ID is seen by the signature."""
    make_key(primary, kind)
    make_key(primary, "p256", "other")
    ok(certificate(primary, subject=SUBJECT, self_signed={"valid_days": 9}))
    primary.tool("--delete-object", "--type", "pubkey", "--label", LABEL)
    request = ok(certificate(primary, subject=SUBJECT))
    assert x509.load_pem_x509_csr(request["csr"].encode()).is_signature_valid and request["matches_key"] is True
    other = ok(certificate(primary, key_label="other", subject=SUBJECT, self_signed={"valid_days": 9}))
    der = primary.scratch / "other.der"
    der.write_bytes(x509.load_pem_x509_certificate(other["certificate"].encode()).public_bytes(Encoding.DER))
    primary.tool("--delete-object", "--type", "cert", "--label", LABEL)
    primary.tool("--write-object", str(der), "--type", "cert", "--label", LABEL, "--id", LABEL.encode().hex())
    answer = certificate(primary, subject=SUBJECT)
    assert answer["failure"]["code"] == ("half_pair" if kind == "rsa" else "bad_signature"), answer


@pytest.mark.parametrize(
    ("kind", "options", "part"),
    [
        ("ed25519", {"digest": "sha256"}, "has one of its own"),
        ("p256", {"rsa_padding": "pss"}, "is for RSA keys"),
        ("ed25519", {"rsa_padding": "pss"}, "is for RSA keys"),
    ],
)
def test_options_that_do_not_go_with_the_key(primary: Hsm, kind: str, options: dict[str, Any], part: str) -> None:
    make_key(primary, kind)
    for check in (True, False):
        answer = certificate(primary, subject=SUBJECT, self_signed={}, **options, check=check)
        assert answer["failure"]["code"] == "cannot_sign" and part in answer["msg"]


def test_check_mode_before_anything_is_there(hsm: Hsm, ca: Ca) -> None:
    path = str(hsm.scratch / "web01.csr")
    asked: list[dict[str, Any]] = [{"subject": SUBJECT, "csr_path": path}, {"subject": SUBJECT, "self_signed": {}}]
    asked += [{"content": ca.path.read_text()}]
    for options in asked:
        assert ok(certificate(hsm, **options, check=True))["changed"] is True
        assert certificate(hsm, **options)["failure"]["code"] == "registry_missing"
    for options in ({}, {"state": "absent"}):
        assert ok(certificate(hsm, **options, check=True))["changed"] is False
    hsm.register()
    for options in asked:
        planned = ok(certificate(hsm, **options, check=True))
        assert planned["changed"] is True and planned["matches_key"] is None
        assert any("there is no key pair" in str(text) for text in planned["warnings"])
        assert certificate(hsm, **options)["failure"]["code"] == "no_key"
    assert not Path(path).exists()


def test_a_given_certificate_is_told_beside_all_else(hsm: Hsm) -> None:
    pem = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    answer = certificate(hsm, content=pem, pin="1", pin_file="/nowhere/pin")
    assert answer["failure"]["code"] == "invalid_input"
    assert [problem.partition(":")[0] for problem in answer["failure"]["details"]["problems"]] == ["pin", "content"]
    assert "content: holds no X.509 certificate" in answer["msg"]


def test_direct_connection_needs_no_registry(primary: Hsm) -> None:
    make_key(primary)
    direct = {"instance": None, "library": primary.library, "environment": primary.environment, "pin": PIN}
    direct |= {"token_label": "payments", "registry": "/nonexistent/r", "key_label": LABEL}
    options = {**direct, "subject": SUBJECT, "self_signed": {}}
    assert ok(primary.run("hsm_certificate", **options))["changed"] is True
    assert ok(primary.run("hsm_certificate", **options))["changed"] is False
    assert ok(primary.run("hsm_certificate", **direct, state="absent"))["changed"] is True


def test_events(primary: Hsm) -> None:
    make_key(primary)
    made = ok(certificate(primary, subject=SUBJECT, self_signed={}))
    ok(certificate(primary, state="absent"))
    with closing(sqlite3.connect(primary.registry)) as registry:
        query = "SELECT action, subject, details FROM event WHERE action LIKE '%_certificate' ORDER BY id"
        rows = registry.execute(query).fetchall()
    slot = primary.register()["tokens"][0]["slot"]
    told = {"fingerprint": made["fingerprint"], "serial_number": made["serial_number"]}
    address = f"hsm::softhsm2::{slot}::{LABEL}"
    assert [(action, subject, json.loads(details)) for action, subject, details in rows] == [
        ("add_certificate", address, told),
        ("remove_certificate", address, told),
    ]


def test_calls(hsm: Hsm) -> None:
    """One login, one search for keys and one for certificates; nothing signed or written where nothing is to be."""
    spied, log = hsm.spied()
    spied.register()
    make_key(spied)
    options: dict[str, Any] = {"subject": SUBJECT, "self_signed": {}, "csr_path": str(hsm.scratch / "web01.csr")}
    expected = {True: (0, 0), False: (2, 1)}
    for check in (True, False, False):
        log.unlink()
        ok(certificate(spied, check=check, **options))
        made = calls(log)
        assert (made["C_Login"], made["C_OpenSession"], made["C_FindObjectsInit"]) == (1, 1, 2)
        assert (made["C_SignInit"], made["C_CreateObject"]) == expected[check], check
        assert made["C_SetAttributeValue"] == made["C_DestroyObject"] == 0
        expected[False] = (2, 1) if check else (0, 0)
    log.unlink()
    ok(certificate(spied, subject=SUBJECT))
    session = log.read_text(errors="replace").split(": C_OpenSession\n")[1].split("Returned:")[0]
    assert "flags = 0x4\n" in session, "a session that cannot write: CKF_SERIAL_SESSION alone"
    assert calls(log)["C_SignInit"] == 1


def test_pins_are_nowhere(primary: Hsm, ca: Ca) -> None:
    make_key(primary)
    direct = {"instance": None, "library": primary.library, "environment": primary.environment, "pin": PIN, "token_label": "payments"}
    answers = [certificate(primary, **direct, subject=SUBJECT, self_signed={})]
    answers.append(certificate(primary, **direct, content=ca.path.read_text()))
    answers.append(certificate(primary, **{**direct, "pin": "000000"}))
    assert [answer.get("failure", {}).get("code") for answer in answers] == [None, "certificate_mismatch", "pin_incorrect"]
    for answer in answers:
        assert PIN not in answer["_raw"] and SO_PIN not in answer["_raw"]


def test_another_provider(hsm: Hsm, locking: dict[str, Any], ca: Ca) -> None:
    """opencryptoki hashes nothing for RSA by itself: it is given the DigestInfo."""
    direct: dict[str, Any] = {"library": locking["library"], "token_label": swtok.LABEL, "pin": swtok.PIN, "instance": None}
    label = "keyfleet certificate"
    options: dict[str, Any] = {**direct, "key_label": label}

    def certify(check: bool, **more: Any) -> dict[str, Any]:
        return ok(hsm.run("hsm_certificate", check=check, **options, **more))

    try:
        ok(hsm.keys({"label": label, "type": "RSA", "size": 2048}, **direct))
        wanted = {"subject": SUBJECT, "subject_alt_names": NAMES, "self_signed": {"valid_days": 30}, "digest": "sha512"}
        answers = [certify(check, **wanted) for check in (True, False, True, False)]
        assert [answer["changed"] for answer in answers] == [True, True, False, False]
        assert answers[0]["diff"] == answers[1]["diff"]
        path = hsm.scratch / "self.pem"
        path.write_text(answers[3]["certificate"])
        assert openssl("verify", "-check_ss_sig", "-CAfile", str(path), str(path)).strip().endswith(": OK")
        issued = ca.issue(certify(False, subject=SUBJECT)["csr"])
        assert certify(False, content=issued)["changed"] is True
        assert certify(False, content=issued)["changed"] is False
        assert certify(False)["certificate"] == issued
        assert [certify(False, state="absent")["changed"] for _time in range(2)] == [True, False]
    finally:
        hsm.run("hsm_certificate", **options, state="absent")
        hsm.keys({"label": label, "state": "absent"}, **direct)


@pytest.mark.parametrize("module", ["hsm_key", "hsm_sync", "hsm_status"])
def test_other_modules_do_not_pay_for_it(module: str) -> None:
    code = f"import ansible_collections.keyfleet.hsm.plugins.modules.{module}, sys; print('cryptography' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
