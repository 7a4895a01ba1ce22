# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A CA of the tests, and clients in TLS."""

from __future__ import annotations

import ssl
from datetime import datetime, timedelta, timezone
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID


class Authority:
    """A CA that signs certificates for servers and clients."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.key = folder, ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.file = folder / f"{name}.pem"
        self.certificate = self._sign(self.name, self.key, x509.BasicConstraints(ca=True, path_length=0))
        self.file.write_bytes(self.certificate.public_bytes(Encoding.PEM))

    def _sign(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, basic: x509.BasicConstraints, days: float = 9.5
    ) -> x509.Certificate:
        end = datetime.now(timezone.utc) + timedelta(days=days)
        name = subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(self.name).public_key(key.public_key())
        builder = builder.serial_number(x509.random_serial_number()).not_valid_before(end - timedelta(days=10)).not_valid_after(end)
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(str(name))]), critical=False)
        return builder.add_extension(basic, critical=True).sign(self.key, SHA256())

    def issue(self, name: str, days: float = 9.5) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        return self._sign(subject, key, x509.BasicConstraints(ca=False, path_length=None), days), key

    def revoked(self, *names: str, days: float = 9.5) -> Path:
        """The revocation list, good for so many days more, with the newest certificates of these clients."""
        end = datetime.now(timezone.utc) + timedelta(days=days)
        builder = x509.CertificateRevocationListBuilder().issuer_name(self.name).last_update(end - timedelta(days=10)).next_update(end)
        for name in names:
            serial = x509.load_pem_x509_certificate((self.folder / f"client-{name}.pem").read_bytes()).serial_number
            builder = builder.add_revoked_certificate(
                x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(end - timedelta(days=10)).build()
            )
        file = self.folder / f"{self.file.stem}.crl"
        file.write_bytes(builder.sign(self.key, SHA256()).public_bytes(Encoding.PEM))
        return file

    def client(self, name: str, days: float = 9.5) -> ssl.SSLContext:
        """A client with a certificate of this CA for so many days more, which trusts any server."""
        certificate, key = self.issue(name, days)
        file = self.folder / f"client-{name}.pem"
        file.write_bytes(certificate.public_bytes(Encoding.PEM) + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        context = trusting(None)
        context.load_cert_chain(file)
        return context


def trusting(authority: Authority | None) -> ssl.SSLContext:
    """A client without a certificate."""
    if authority is not None:
        context = ssl.create_default_context(cafile=str(authority.file))
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # this CA leaves out what Python 3.13 asks for
        return context
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context
