# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""gateway_certificate: four steps, what openssl and a TLS client say of the file, every refusal, no key in any answer, crashes."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import socket
import ssl
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.files import writing
from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.gateway import gateway_certificate as engine
from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.gateway.p12_file import GIVEN, SELF_SIGNED
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.certificates.gateway_request import GatewayCertificateRequest
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.errors import KeyfleetError
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.plan import Context, Outcome
from ansible_collections.keyfleet.hsm.plugins.module_utils._module.options import GATEWAY_CERTIFICATE
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.hazmat.primitives.serialization.pkcs12 import load_pkcs12, serialize_key_and_certificates
from cryptography.x509.oid import NameOID
from hsm_fixture import Hsm, four_steps, ok

NAME = "gateway1.example.com"
NOTHING: dict[str, Any] = {"before": {}, "after": {}}


def parameters(args: dict[str, Any]) -> dict[str, Any]:
    """What Ansible makes of a task's arguments."""
    result = ArgumentSpecValidator(GATEWAY_CERTIFICATE).validate(args)
    assert not result.error_messages
    validated: dict[str, Any] = result.validated_parameters
    return validated


def converge(args: dict[str, Any], *, check: bool = False, warn: Callable[[str], None] = print) -> Outcome:
    """The module without the start of a Python, which takes far longer than all the rest."""
    return engine.converge(GatewayCertificateRequest.parse(parameters(args)), Context(check_mode=check, run="r", warn=warn))


class Place:
    """A folder with a gateway's file in it, and the openssl that makes others."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "pki" / "cert.p12"
        self.source = folder / "given.p12"
        self.hsm = Hsm(folder)
        self.process = False

    def run(self, *, check: bool = False, **options: Any) -> dict[str, Any]:
        names = {} if "source" in options else {"common_name": NAME}
        args = {"path": str(self.path), **names, **options}
        answer = self.as_process(args, check) if self.process else self.in_process(args, check)
        for key in self.keys():
            assert not any(form in answer["_raw"] for form in key), "a private key is in the answer"
        return answer

    def as_process(self, args: dict[str, Any], check: bool) -> dict[str, Any]:
        """As Ansible runs it."""
        return self.hsm.finish(self.hsm.start("gateway_certificate", args, check=check))

    def in_process(self, args: dict[str, Any], check: bool) -> dict[str, Any]:
        told: list[str] = []
        answer: dict[str, Any]
        try:
            outcome = converge(args, check=check, warn=told.append)
        except KeyfleetError as error:
            failure = {"code": error.code, "details": error.details}
            answer = {"failed": True, "msg": error.message, "changed": error.changed, "failure": failure}
        else:
            answer = {"changed": outcome.changed, "diff": outcome.diff, **outcome.values}
        answer["warnings"] = told
        return {**answer, "_raw": json.dumps(answer)}

    def four_steps(self, **options: Any) -> dict[str, Any]:
        """Check, apply, check, apply. The answer of the first apply."""
        return four_steps(lambda check: self.run(check=check, **options))

    def refused(self, code: str, **options: Any) -> str:
        """In check mode and for real: the same error, and the file as it was. Returns the message."""
        before = self.state()
        answers = [self.run(check=check, **options) for check in (True, False)]
        for answer in answers:
            assert answer.get("failed"), answer
            assert (answer["changed"], answer["failure"]["code"]) == (False, code), answer["msg"]
        assert answers[0]["msg"] == answers[1]["msg"]
        assert self.state() == before
        return str(answers[0]["msg"])

    def state(self) -> Any:
        """All that there is of the file, the folder's other files included."""
        if not self.path.parent.is_dir():
            return None
        return {
            item.name: (item.read_bytes(), item.lstat().st_ino, item.lstat().st_mode, item.lstat().st_uid)
            for item in self.path.parent.iterdir()
            if item.is_file()
        }

    def keys(self) -> list[list[str]]:
        """Each private key in reach in the forms that a text could hold it in."""
        found = []
        for file in (self.path, self.source):
            if not file.is_file():
                continue
            try:
                key = load_pkcs12(file.read_bytes(), None).key
            except ValueError:
                continue
            if key is not None:
                der = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
                text = base64.b64encode(der).decode()
                found.append([text[60:110], der.hex()[80:140], str(getattr(key.private_numbers(), "private_value", text))])
        return found

    def put(self, content: bytes, mode: int = 0o400) -> None:
        """What others have put in place."""
        self.path.parent.mkdir(exist_ok=True)
        self.path.unlink(missing_ok=True)
        self.path.write_bytes(content)
        self.path.chmod(mode)

    def give(self, content: bytes, mode: int = 0o600) -> str:
        self.source.write_bytes(content)
        self.source.chmod(mode)
        return str(self.source)

    def openssl(self, *args: str) -> bytes:
        """Make a file from key.pem and cert.pem by the program that everybody uses."""
        command = ["openssl", "pkcs12", "-export", "-out", "made.p12", *args]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return (self.folder / "made.p12").read_bytes()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


class Pair:
    """A key and its certificate, by default of a CA that nobody knows."""

    def __init__(
        self,
        name: str = "given.example.com",
        *,
        since: int = 1,
        days: int = 90,
        issuer: Pair | None = None,
        itself: bool = False,
        ca: bool = False,
        key: Any = None,
    ) -> None:
        self.key = key or ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        by, signer = subject, self.key
        if issuer is not None:
            by, signer = issuer.certificate.subject, issuer.key
        elif not itself:
            by, signer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Some CA")]), ec.generate_private_key(ec.SECP256R1())
        begin = datetime.now(timezone.utc) - timedelta(days=since)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(by)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begin)
            .not_valid_after(begin + timedelta(days=days))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name.replace(" ", "-"))]), critical=False)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )
        self.certificate = builder.sign(signer, hashes.SHA256())

    def p12(self, *chain: Pair, name: str = "") -> bytes:
        above = [one.certificate for one in chain] or None
        return serialize_key_and_certificates(name.encode() or None, self.key, self.certificate, above, NoEncryption())

    def pem(self, folder: Path) -> None:
        """key.pem and cert.pem for openssl."""
        (folder / "key.pem").write_bytes(self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        (folder / "cert.pem").write_bytes(self.certificate.public_bytes(Encoding.PEM))

    def text(self, *, key: bool = True, password: bytes = b"", form: PrivateFormat = PrivateFormat.PKCS8) -> bytes:
        """Its key in PEM, or its certificate."""
        hidden = BestAvailableEncryption(password) if password else NoEncryption()
        return self.key.private_bytes(Encoding.PEM, form, hidden) if key else self.certificate.public_bytes(Encoding.PEM)

    @property
    def fingerprint(self) -> str:
        return sha256(self.certificate.public_bytes(Encoding.DER)).hexdigest()


def read(path: Path) -> str:
    """What openssl makes of a file without a password, as PEM."""
    done = subprocess.run(
        ["openssl", "pkcs12", "-in", str(path), "-passin", "pass:", "-nodes"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "BEGIN PRIVATE KEY" in done.stdout and "BEGIN CERTIFICATE" in done.stdout
    return done.stdout


def greeted(path: Path, trusted: str, name: str) -> bool:
    """Whether a TLS client that trusts this certificate and checks the name gets through to a server with the file."""
    pem = path.with_name("server.pem")
    pem.write_text(read(path))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(pem)
    pem.unlink()
    ours, theirs = socket.socketpair()

    def serve() -> None:
        with suppress(OSError), server.wrap_socket(theirs, server_side=True) as connection:
            connection.sendall(b"here")

    thread = threading.Thread(target=serve)
    thread.start()
    client = ssl.create_default_context(cadata=trusted)
    with client.wrap_socket(ours, server_hostname=name) as connection:
        said = connection.recv(4)
    thread.join()
    return said == b"here"


def warnings(answer: dict[str, Any]) -> str:
    return json.dumps(answer.get("warnings", []))


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({}, "EC P-256"),
        ({"key_type": "RSA", "key_size": 2048}, "RSA 2048"),
        ({"subject_alt_names": ["DNS:gateway1.example.com", "IP:2001:DB8::7"]}, "EC P-256"),
    ],
)
def test_a_self_signed_one(place: Place, options: dict[str, Any], kind: str) -> None:
    place.process = not options
    done = place.four_steps(**options)
    names = ["DNS:gateway1.example.com", "IP:2001:db8::7"] if options.get("subject_alt_names") else ["DNS:gateway1.example.com"]
    assert (done["self_signed"], done["subject_alt_names"], done["subject"]) == (True, names, f"CN={NAME}")
    assert stat.S_IMODE(place.path.stat().st_mode) == 0o400
    assert stat.S_IMODE(place.path.parent.stat().st_mode) == 0o700
    found = load_pkcs12(place.path.read_bytes(), None)
    assert found.cert is not None and found.cert.friendly_name == SELF_SIGNED.encode()
    assert sha256(found.cert.certificate.public_bytes(Encoding.DER)).hexdigest() == done["fingerprint_sha256"]
    assert found.cert.certificate.public_bytes(Encoding.PEM).decode() == done["certificate"]
    assert greeted(place.path, done["certificate"], NAME)
    (shown,) = done["diff"]["after"].values()
    assert (shown["key"], shown["valid_days"], shown["mode"]) == (kind, 365, "0400")
    assert not {"fingerprint", "not_before", "not_after", "serial_number"} & shown.keys()
    planned = place.run(check=True, path=str(place.folder / "another.p12"), **options)
    assert (planned["fingerprint_sha256"], planned["certificate"], planned["not_after"]) == (None, None, None)
    assert (planned["self_signed"], planned["subject_alt_names"]) == (True, names)


def test_strict_clients_take_it(place: Place) -> None:
    done = place.run(subject_alt_names=["DNS:gateway1.example.com"])
    (place.folder / "c.pem").write_text(done["certificate"])
    command = ["openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-verify_hostname", NAME, "-CAfile", "c.pem", "c.pem"]
    verified = subprocess.run(command, cwd=place.folder, capture_output=True, text=True, check=False)
    assert verified.returncode == 0, verified.stderr


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, {"common_name": "gateway2.example.com"}),
        ({}, {"subject_alt_names": ["DNS:other.example.com"]}),
        ({"common_name": "192.0.2.7"}, {"common_name": "192.0.2.8"}),
        ({}, {"key_type": "RSA", "key_size": 2048}),
        ({"key_type": "RSA", "key_size": 2048}, {"key_type": "EC"}),
    ],
)
def test_what_is_asked_for_changes(place: Place, before: dict[str, Any], after: dict[str, Any]) -> None:
    old = ok(place.run(**before))
    done = place.four_steps(**after)
    assert done["fingerprint_sha256"] != old["fingerprint_sha256"]
    (was,) = done["diff"]["before"].values()
    assert (was["fingerprint"], was["not_after"]) == (old["fingerprint_sha256"], old["not_after"])
    assert f"fingerprint {old['fingerprint_sha256']}, have to be given the new one" in warnings(done)
    read(place.path)


def test_what_needs_no_new_certificate(place: Place) -> None:
    ok(place.run(subject_alt_names=["DNS:a.example.com", "IP:192.0.2.7"]))
    for options in ({"valid_days": 3650}, {"renew_before": "8w"}, {"on_mismatch": "replace"}):
        answer = ok(place.run(subject_alt_names=["ip:192.0.2.7", "DNS:a.example.com"], **options))
        assert (answer["changed"], answer["diff"]) == (False, NOTHING)


def test_it_is_renewed_in_time(place: Place) -> None:
    old = ok(place.run(valid_days=20, renew_before="1d"))
    assert place.run(renew_before="19d")["changed"] is False
    done = place.four_steps(renew_before="21d")
    assert done["fingerprint_sha256"] != old["fingerprint_sha256"]
    assert done["renewal_due"] is False
    (was,) = done["diff"]["before"].values()
    found = load_pkcs12(place.path.read_bytes(), None).key
    assert found is not None
    public = found.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert sha256(public).hexdigest() != was["public_key"]


@pytest.mark.parametrize("since", [100, -2])
def test_one_of_its_own_outside_its_time_is_renewed(place: Place, since: int) -> None:
    place.put(Pair(NAME, itself=True, since=since).p12(name=SELF_SIGNED))
    place.four_steps()


def test_a_self_signed_one_made_by_hand_stays_until_it_is_due(place: Place) -> None:
    pair = Pair(NAME, itself=True, days=50)
    place.put(pair.p12())
    kept = ok(place.run())
    assert (kept["changed"], kept["fingerprint_sha256"], kept["self_signed"]) == (False, pair.fingerprint, True)
    done = place.four_steps(renew_before="60d")
    assert done["fingerprint_sha256"] != pair.fingerprint


FOREIGN = {
    "issued": Pair(NAME),
    "self-signed for others": Pair("other.example.com", itself=True),
    "expired": Pair(NAME, since=100),
}


@pytest.mark.parametrize("which", FOREIGN)
def test_what_others_have_put_there(place: Place, which: str) -> None:
    pair = FOREIGN[which]
    place.put(pair.p12())
    message = place.refused("path_foreign")
    assert pair.fingerprint in message and "on_mismatch: keep" in message and "Nothing was changed" in message
    before = place.state()
    kept = ok(place.run(on_mismatch="keep"))
    assert (kept["changed"], kept["fingerprint_sha256"]) == (False, pair.fingerprint)
    assert "It is kept as it is" in warnings(kept)
    assert ("expired at" in warnings(kept)) == (which == "expired")
    assert place.state() == before
    assert place.four_steps(on_mismatch="replace")["self_signed"] is True


def test_a_given_certificate_is_not_dropped_in_silence(place: Place) -> None:
    pair = Pair(NAME, itself=True)
    ok(place.run(source=place.give(pair.p12())))
    message = place.refused("path_foreign")
    assert pair.fingerprint in message
    assert place.run(on_mismatch="keep")["changed"] is False


@pytest.fixture(scope="module")
def of_no_use(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[bytes, str]]:
    """Files, and what is said of each."""
    place = Place(tmp_path_factory.mktemp("of_no_use"))
    pair, other = Pair(), Pair()
    pair.pem(place.folder)
    both = ("-inkey", "key.pem", "-in", "cert.pem")
    key, certificate = ((place.folder / name).read_bytes() for name in ("key.pem", "cert.pem"))
    again = Pair(key=pair.key).text(key=False)
    wrong = serialize_key_and_certificates(None, other.key, None, [pair.certificate], NoEncryption())
    return {
        "password": (place.openssl(*both, "-passout", "pass:canary-p12"), "has a password"),
        "old encryption": (place.openssl(*both, "-passout", "pass:canary-p12", "-legacy"), "has a password"),
        "damaged": (pair.p12()[:-40] + bytes(40), "has a password"),
        "cut off": (pair.p12()[:-40], "is no PKCS#12 file, or a damaged one"),
        "empty": (b"", "is no PKCS#12 file, or a damaged one"),
        "another format": (pair.certificate.public_bytes(Encoding.DER), "is no PKCS#12 file"),
        "PEM key": (key, "holds no certificate"),
        "PEM certificate": (certificate, "holds no private key"),
        "PEM mismatch": (other.text(key=False) + key, "none of its certificates belongs to"),
        "PEM two keys": (certificate + key + other.text(), "holds 2 private keys"),
        "PEM two certificates": (key + certificate + again, "holds several certificates of the private key"),
        "PEM password": (certificate + pair.text(password=b"canary-p12"), "holds a private key with a password"),
        "PEM old password": (certificate + pair.text(password=b"canary-p12", form=PrivateFormat.TraditionalOpenSSL), "with a password"),
        "PEM damaged key": (certificate + key.replace(b"M", b"N"), "holds a private key that cannot be read"),
        "PEM damaged certificate": (key + certificate.replace(b"M", b"N"), "holds a certificate that cannot be read"),
        "no key": (place.openssl("-nokeys", "-in", "cert.pem", "-passout", "pass:"), "holds no private key"),
        "no certificate": (serialize_key_and_certificates(None, pair.key, None, None, NoEncryption()), "holds no certificate"),
        "mismatch": (wrong, "none of its certificates belongs to"),
    }


@pytest.mark.parametrize("which", ("password", "old encryption", "damaged", "cut off", "empty"))
def test_a_file_that_is_of_no_use_is_not_replaced_in_silence(place: Place, of_no_use: dict[str, tuple[bytes, str]], which: str) -> None:
    content, words = of_no_use[which]
    place.put(content)
    message = place.refused("path_unusable")
    assert words in message and "on_mismatch: replace" in message and "move it away" in message
    assert "on_mismatch: keep does not help" in place.refused("path_unusable", on_mismatch="keep")
    place.refused("path_unusable", source=place.give(Pair().p12()))
    done = place.four_steps(on_mismatch="replace")
    assert "of no use" in str(done["diff"]["before"])
    read(place.path)


P12_OF_NO_USE = ("password", "old encryption", "damaged", "cut off", "empty", "another format", "no key", "no certificate", "mismatch")
PEM_OF_NO_USE = ("key", "certificate", "mismatch", "two keys", "two certificates", "password", "old password", "damaged key")


@pytest.mark.parametrize("which", [*P12_OF_NO_USE, *(f"PEM {one}" for one in (*PEM_OF_NO_USE, "damaged certificate"))])
def test_a_given_file_that_is_of_no_use(place: Place, of_no_use: dict[str, tuple[bytes, str]], which: str) -> None:
    content, words = of_no_use[which]
    place.process = which == "password"
    message = place.refused("invalid_input", source=place.give(content))
    assert message.startswith(f"source: {place.source} ") and words in message
    assert "canary" not in message and re.search(": (make|take|put|leave) ", message)
    assert not place.path.parent.exists()


@pytest.mark.parametrize(("since", "words"), [(100, "expired at 20"), (-2, "is not valid before 20")])
def test_a_given_file_outside_its_time(place: Place, since: int, words: str) -> None:
    message = place.refused("invalid_input", source=place.give(Pair(since=since).p12()))
    assert words in message and "give one that is valid now" in message


@pytest.mark.parametrize("old", [False, True])
def test_the_way_to_take_a_password_off_works(place: Place, old: bool) -> None:
    """The command of the error, run as it stands; only the password is handed over where a person would type it."""
    pair = Pair()
    pair.pem(place.folder)
    source = place.folder / "with a blank.p12"
    export = ("-inkey", "key.pem", "-in", "cert.pem", "-passout", "pass:canary-p12", *(["-legacy"] if old else []))
    source.write_bytes(place.openssl(*export))
    message = place.run(source=str(source))["msg"]
    command = re.search(r"(\(umask .*?\))", message)
    assert command is not None
    text = command[1].replace("-nodes", "-nodes -passin pass:canary-p12")
    if old:
        assert "add -legacy to the first command" in message
        text = text.replace("pkcs12 -in", "pkcs12 -legacy -in", 1)
    (place.folder / "key.pem").unlink()
    subprocess.run(["bash", "-c", text], cwd=place.folder, check=True, capture_output=True)
    made = place.folder / "nopass.p12"
    assert stat.S_IMODE(made.stat().st_mode) == 0o600
    assert not (place.folder / "key.pem").exists()
    assert place.four_steps(source=str(made))["fingerprint_sha256"] == pair.fingerprint


# pkcs7-encryptedData in DER. It stands in files that are encrypted, be it with an empty password.
ENCRYPTED = bytes.fromhex("06092a864886f70d010706")
FORMS = {
    "empty password": ("-passout", "pass:"),
    "empty password, old encryption": ("-passout", "pass:", "-legacy"),
    "no encryption": ("-passout", "pass:", "-keypbe", "NONE", "-certpbe", "NONE"),
    "no MAC": ("-passout", "pass:", "-nomac"),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_given_one_in_every_form_without_a_password(place: Place, form: str) -> None:
    above = Pair("Test CA", itself=True, ca=True)
    pair = Pair(issuer=above)
    place.process = form == "no MAC"
    pair.pem(place.folder)
    (place.folder / "ca.pem").write_bytes(above.certificate.public_bytes(Encoding.PEM))
    source = place.give(place.openssl("-inkey", "key.pem", "-in", "cert.pem", "-certfile", "ca.pem", *FORMS[form]))
    done = place.four_steps(source=source)
    assert (done["fingerprint_sha256"], done["self_signed"]) == (pair.fingerprint, False)
    found = load_pkcs12(place.path.read_bytes(), None)
    assert found.cert is not None and found.cert.friendly_name == GIVEN.encode()
    assert [one.certificate for one in found.additional_certs] == [above.certificate]
    assert read(place.path).count("BEGIN CERTIFICATE") == 2
    assert greeted(place.path, above.certificate.public_bytes(Encoding.PEM).decode(), "given.example.com")
    # The same certificate as another program wrote it: the gateway may not be able to read that. Nothing is lost.
    place.put(place.source.read_bytes())
    mended = place.four_steps(source=source)
    assert mended["fingerprint_sha256"] == pair.fingerprint and "have to be given" not in warnings(mended)
    (was,), (now,) = mended["diff"]["before"].values(), mended["diff"]["after"].values()
    assert (was["written_by"], now["written_by"]) == ("another program", "this module, without encryption")
    assert ENCRYPTED not in place.path.read_bytes()


@pytest.mark.parametrize("form", (PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL), ids=("PKCS8", "traditional"))
def test_a_given_one_in_pem(place: Place, form: PrivateFormat) -> None:
    above = Pair("Test CA", itself=True, ca=True)
    pair = Pair(issuer=above)
    # As programs write it: text between the blocks, and the key's in the middle.
    parts = (above.text(key=False), pair.text(form=form), pair.text(key=False))
    done = place.four_steps(source=place.give(b"subject=x\r\n".join(parts)))
    assert (done["fingerprint_sha256"], done["self_signed"]) == (pair.fingerprint, False)
    assert greeted(place.path, above.text(key=False).decode(), "given.example.com")
    # The same with its line ends written out, and in a P12 file, is no change.
    assert ok(place.run(source=place.give(b"".join(parts).replace(b"\n", b"\\n"))))["changed"] is False
    assert ok(place.run(source=place.give(pair.p12(above))))["changed"] is False


def test_a_given_one_follows_its_source(place: Place) -> None:
    first, second = Pair(), Pair()
    ok(place.run())
    for pair in (first, second):
        done = place.four_steps(source=place.give(pair.p12()))
        (was,), (now,) = done["diff"]["before"].values(), done["diff"]["after"].values()
        assert now["fingerprint"] == done["fingerprint_sha256"] == pair.fingerprint != was["fingerprint"]
    chained = place.four_steps(source=place.give(second.p12(first)))
    assert chained["diff"]["after"][f"certificate {place.path}"]["chain"] == [first.fingerprint]


def test_a_given_one_and_a_stranger(place: Place) -> None:
    stranger, pair = Pair("stranger.example.com"), Pair()
    place.put(stranger.p12())
    source = place.give(pair.p12())
    message = place.refused("path_foreign", source=source)
    assert stranger.fingerprint in message and "which is not the one in source" in message
    assert place.run(source=source, on_mismatch="keep")["fingerprint_sha256"] == stranger.fingerprint
    assert place.four_steps(source=source, on_mismatch="replace")["fingerprint_sha256"] == pair.fingerprint


def test_a_given_one_that_is_due_is_told(place: Place) -> None:
    source = place.give(Pair(days=20).p12())
    for check in (True, False):
        answer = ok(place.run(check=check, source=source))
        assert answer["renewal_due"] is True
        assert "within renew_before: have a new one issued" in warnings(answer)
    assert "within renew_before" in warnings(place.run(source=source))
    assert warnings(place.run(source=source, renew_before="1d")) == "[]"


def test_a_given_file_that_others_can_read(place: Place) -> None:
    done = ok(place.run(source=place.give(Pair().p12(), mode=0o644)))
    assert "has mode 0644, so others can get at the key" in warnings(done)


def test_a_given_file_that_is_not_there(place: Place) -> None:
    source = str(place.source)
    planned = ok(place.run(check=True, source=source))
    assert planned["changed"] is True and "In check mode it is taken for one" in warnings(planned)
    assert planned["diff"]["after"] == {f"certificate {place.path}": {"from": source, "mode": "0400"}}
    answer = place.run(source=source)
    assert answer["failure"]["code"] == "invalid_input" and "does not exist on the target: copy it there first" in answer["msg"]
    place.source.mkdir()
    assert "is not a regular file" in place.refused("invalid_input", source=source)


def test_owners_that_are_not_there_are_told_beside_all_else(place: Place) -> None:
    wrong = {"owner": "nobody-there", "group": "nobody-there", "mode": "0777", "source": str(place.source)}
    answer = place.run(**wrong)
    assert [problem.partition(":")[0] for problem in answer["failure"]["details"]["problems"]] == ["mode", "source", "owner", "group"]
    assert "there is no user 'nobody-there' on the target" in answer["msg"]
    planned = ok(place.run(check=True, owner="nobody-there", group="nobody-there"))
    assert "there is no group 'nobody-there'" in warnings(planned)


def test_mode_and_owner(place: Place) -> None:
    ok(place.run())
    place.path.chmod(0o644)
    fingerprint = place.run(check=True)["fingerprint_sha256"]
    done = place.four_steps(mode="0440", owner="nobody", group="65534")
    assert done["diff"]["before"] == {f"certificate {place.path}": {"mode": "0644", "owner": "root", "group": "root"}}
    assert done["diff"]["after"] == {f"certificate {place.path}": {"mode": "0440", "owner": "nobody", "group": "65534"}}
    assert done["fingerprint_sha256"] == fingerprint
    assert "had mode 0644, so others could read its key" in warnings(done)
    found = place.path.stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (65534, 65534, 0o440)
    # A new certificate belongs to whom the old one did.
    place.four_steps(mode="0440", common_name="gateway2.example.com")
    assert (place.path.stat().st_uid, place.path.stat().st_gid) == (65534, 65534)


def test_what_is_no_file(place: Place) -> None:
    place.path.mkdir(parents=True)
    assert "is not a regular file. Give another path" in place.refused("path_unreadable")
    place.path.rmdir()
    place.path.symlink_to("/etc/hostname")
    assert "is a symbolic link, and is not followed" in place.refused("path_unreadable")
    place.path.unlink()
    os.mkfifo(place.path)
    assert "is not a regular file" in place.refused("path_unreadable")
    place.path.unlink()
    place.path.parent.rmdir()
    place.path.parent.write_text("a file where the folder should be")
    assert "cannot be read: Not a directory" in place.run()["msg"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_file(place: Place, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    ok(place.run())
    before = place.path.read_bytes()

    def broken(*_args: Any) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(writing.os, call, broken)
    with pytest.raises(KeyfleetError, match="cannot be written: Read-only file system") as caught:
        converge({"path": str(place.path), "common_name": "new"})
    assert (caught.value.code, caught.value.changed) == ("path_unwritable", False)
    assert place.path.read_bytes() == before
    assert os.listdir(place.path.parent) == ["cert.p12"]


def test_an_owner_that_cannot_be_set_is_told_as_a_change(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "fchown", refuse)
    with pytest.raises(KeyfleetError, match="its mode and owner cannot be set: Operation not permitted") as caught:
        converge({"path": str(place.path), "common_name": NAME, "owner": "nobody"})
    assert caught.value.changed is True
    assert stat.S_IMODE(place.path.stat().st_mode) == 0o400


def test_a_folder_that_cannot_be_written(place: Place) -> None:
    place.path.parent.mkdir()
    place.path.parent.chmod(0o555)
    place.folder.chmod(0o755)
    program = (
        "import os, importlib, pkgutil, ansible.module_utils as parts\n"
        "for found in pkgutil.walk_packages([parts.__path__[0] + '/_internal'], parts.__name__ + '._internal.'):\n"
        "    importlib.import_module(found.name)\n"
        "import cryptography.x509.verification\n"
        "from ansible_collections.keyfleet.hsm.plugins.modules.gateway_certificate import main\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534); main()"
    )
    for folder in place.path.parents:
        if folder.stat().st_mode & 0o001 == 0:
            folder.chmod(folder.stat().st_mode | 0o011)
    payload = json.dumps({"ANSIBLE_MODULE_ARGS": {"path": str(place.path), "common_name": NAME}})
    done = subprocess.run([sys.executable, "-c", program], input=payload, capture_output=True, text=True, check=False, cwd="/")
    answer = json.loads(done.stdout)
    assert answer["failure"]["code"] == "path_unwritable" and "become: true" in answer["msg"], answer
    assert answer["changed"] is False and os.listdir(place.path.parent) == []


def test_a_run_that_is_killed_leaves_the_old_file(place: Place) -> None:
    """Killed when the new file is whole and not yet named: the old one serves on, and the next run is not disturbed."""
    old = ok(place.run())
    program = (
        "import os, signal, sys, json\n"
        "from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.files import writing\n"
        "from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.gateway.gateway_certificate import converge\n"
        "from ansible_collections.keyfleet.hsm.plugins.module_utils._model.certificates.gateway_request import GatewayCertificateRequest\n"
        "from ansible_collections.keyfleet.hsm.plugins.module_utils._model.plan import Context\n"
        "writing.os.replace = lambda *_args: os.kill(os.getpid(), signal.SIGKILL)\n"
        "request = GatewayCertificateRequest.parse(json.load(sys.stdin))\n"
        "converge(request, Context(check_mode=False, run='r', warn=print))\n"
    )
    given = json.dumps(parameters({"path": str(place.path), "common_name": "gateway2.example.com"}))
    done = subprocess.run([sys.executable, "-c", program], input=given, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL
    left = [item for item in place.path.parent.iterdir() if item != place.path]
    assert [stat.S_IMODE(item.stat().st_mode) for item in left] == [0o400]
    assert place.run()["fingerprint_sha256"] == old["fingerprint_sha256"]
    os.utime(left[0], (1, 1))
    place.four_steps(common_name="gateway2.example.com")
    assert os.listdir(place.path.parent) == ["cert.p12"]


def test_what_does_not_read_back_is_told(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "read_existing", lambda _path: None)
    with pytest.raises(KeyfleetError, match="does not read back as it was written") as caught:
        converge({"path": str(place.path), "common_name": NAME})
    assert caught.value.code == "read_back_failed"
