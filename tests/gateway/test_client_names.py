# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Certificates that hold the bytes of a listed name where it is not a name of the client. HAProxy reads them with dns_names.lua."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import NameOID
from gateway_scene import APP, GATEWAYS, Scene

ELSEWHERE = x509.ObjectIdentifier("1.3.6.1.4.1.99999.1")
APP_NAME = x509.SubjectAlternativeName([x509.DNSName("app")])
# An extension as a certificate has it: id, and the names in an OCTET STRING.
WHOLE = bytes.fromhex("300e0603551d110407") + APP_NAME.public_bytes()
NAMES: dict[str, tuple[str, list[x509.ExtensionType], bool]] = {
    "a name among others": ("x", [x509.SubjectAlternativeName([x509.DNSName("other"), x509.DNSName("APP")])], True),
    "the common name": ("app", [], True),
    "no name": ("x", [], False),
    "commas": (",app,", [x509.SubjectAlternativeName([x509.DNSName("x,app,y")])], False),
    "a zero byte": ("x", [x509.SubjectAlternativeName([x509.DNSName("app\0.example.com")])], False),
    "another kind of name": ("x", [x509.SubjectAlternativeName([x509.UniformResourceIdentifier("app"), x509.RFC822Name("app")])], False),
    "the names in another extension": ("x", [x509.UnrecognizedExtension(ELSEWHERE, APP_NAME.public_bytes())], False),
    "the extension in another one": ("x", [x509.UnrecognizedExtension(ELSEWHERE, WHOLE)], False),
    "the extension in the subject": (WHOLE.decode("latin-1"), [], False),
    "too large to be read": ("x", [APP_NAME, x509.UnrecognizedExtension(ELSEWHERE, bytes(9000))], False),
}


def issue(scene: Scene, name: str, extensions: list[x509.ExtensionType]) -> str:
    """A certificate of the clients' CA and its key, in PEM."""
    authority = x509.load_pem_x509_certificate((scene.pki / "clients.pem").read_bytes())
    signer = load_pem_private_key((scene.pki / "clients.key").read_bytes(), None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(timezone.utc)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(authority.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=9))
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return (builder.sign(signer, hashes.SHA256()).public_bytes(Encoding.PEM) + private).decode()


def let_in(scene: Scene, shown: str) -> bool:
    """Whether the gateway keeps the connection."""
    command = f"timeout 2 openssl s_client -quiet -connect {GATEWAYS[0]}:4443 -cert /tmp/shown.pem -key /tmp/shown.pem < <(sleep 3)"
    scene.ssh(APP, f"umask 077; cat >/tmp/shown.pem <<'END'\n{shown}END")
    return scene.ssh(APP, f"bash -c '{command}' >/dev/null 2>&1", sure=False).returncode == 124


def test_who_is_let_in(scene: Scene) -> None:
    found = {what: let_in(scene, issue(scene, name, extensions)) for what, (name, extensions, _wanted) in NAMES.items()}
    assert found == {what: wanted for what, (_name, _extensions, wanted) in NAMES.items()}
