# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""Requests and certificates as they are found: parsed, compared and described in plain values."""

from __future__ import annotations

import base64
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from hashlib import sha256
from typing import Any

from ..._model.certificates.spec import EXTENDED_KEY_USAGES, KEY_USAGES

with suppress(ImportError):  # _module.runtime reports it before anything here is called
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import padding
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
    from cryptography.x509.oid import ExtensionOID

_USAGE_NAMES = {oid: name for name, oid in EXTENDED_KEY_USAGES.items()}
# x509.KeyUsage has an attribute for each, named as in Python; the last two may be asked for with keyAgreement only.
_USAGE_ATTRIBUTES = {
    "digitalSignature": "digital_signature",
    "contentCommitment": "content_commitment",
    "keyEncipherment": "key_encipherment",
    "dataEncipherment": "data_encipherment",
    "keyAgreement": "key_agreement",
    "keyCertSign": "key_cert_sign",
    "cRLSign": "crl_sign",
    "encipherOnly": "encipher_only",
    "decipherOnly": "decipher_only",
}


def unreadable() -> tuple[type[Exception], ...]:
    """What the library raises on contents that it cannot make sense of, a signature included."""
    return (
        InvalidSignature,
        ValueError,
        TypeError,
        UnsupportedAlgorithm,
        x509.DuplicateExtension,
        x509.InvalidVersion,
        x509.UnsupportedGeneralNameType,
    )


@dataclass(frozen=True)
class FoundCertificate:
    """A certificate by its DER. ``parsed`` is None where nobody can read it: it has a fingerprint and no more."""

    der: bytes
    parsed: x509.Certificate | None

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the DER, in hex."""
        return sha256(self.der).hexdigest()

    @property
    def pem(self) -> str:
        return to_pem(self.der, "CERTIFICATE")

    @property
    def not_after(self) -> datetime | None:
        """Its last moment, in UTC."""
        return None if self.parsed is None else self.parsed.not_valid_after_utc

    @property
    def spki(self) -> bytes | None:
        """Its public key as the DER of a SubjectPublicKeyInfo; None for a key that is not known here."""
        if self.parsed is None:
            return None
        try:
            return spki_of(self.parsed.public_key())
        except unreadable():
            return None

    def signed_itself(self) -> bool:
        """Whether its own key signed it. The same name for issuer and subject is not enough (RFC 5280, section 3.2)."""
        if self.parsed is None:
            return False
        try:
            self.parsed.verify_directly_issued_by(self.parsed)
        except unreadable():
            return False
        return True

    def values(self) -> dict[str, Any]:
        """What the module returns of it."""
        found: dict[str, Any] = {"certificate": self.pem, "fingerprint": self.fingerprint}
        found |= dict.fromkeys(("not_before", "not_after", "serial_number", "subject"))
        if self.parsed is not None:
            found["not_before"] = iso(self.parsed.not_valid_before_utc)
            found["not_after"] = iso(self.parsed.not_valid_after_utc)
            with _quiet():
                found["serial_number"] = f"{self.parsed.serial_number:x}"
            found["subject"] = self.parsed.subject.rfc4514_string()
        return found

    def described(self) -> dict[str, Any]:
        """For the diff."""
        if self.parsed is None:
            return {"fingerprint": self.fingerprint, "contents": "cannot be read"}
        spki = self.spki
        found = {name: value for name, value in self.values().items() if name != "certificate"}
        found |= {"issuer": self.parsed.issuer.rfc4514_string(), "public_key": key_fingerprint(spki) if spki else None}
        return {**profile(self.parsed), **found}


def _whole(parsed: x509.Certificate) -> x509.Certificate:
    """The same, once its names and times are read: the library reads them when they are asked for, and raises on bad ones then."""
    for name in (parsed.subject, parsed.issuer):
        name.rfc4514_string()
    for moment in (parsed.not_valid_before_utc, parsed.not_valid_after_utc):
        iso(moment)
    return parsed


def load_certificate(der: bytes) -> x509.Certificate:
    """Raises one of :func:`unreadable`."""
    with _quiet():
        return x509.load_der_x509_certificate(der)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without cryptography's warnings of what old CAs wrote, such as a serial number below 1: they would go to the module's stderr."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def read_certificate(der: bytes) -> FoundCertificate:
    """A certificate as it stands on a token, whatever is in it."""
    try:
        return FoundCertificate(der, _whole(load_certificate(der)))
    except unreadable():
        return FoundCertificate(der, None)


def read_whole_certificate(parsed: x509.Certificate) -> FoundCertificate:
    """The same with its DER, all of it read. Raises one of :func:`unreadable`."""
    return FoundCertificate(parsed.public_bytes(Encoding.DER), _whole(parsed))


def to_pem(der: bytes, kind: str) -> str:
    """A PEM block (RFC 7468), ending with a newline."""
    text = base64.b64encode(der).decode("ascii")
    lines = [text[start : start + 64] for start in range(0, len(text), 64)]
    return "\n".join([f"-----BEGIN {kind}-----", *lines, f"-----END {kind}-----", ""])


def spki_of(public: Any) -> bytes:
    """A public key as the DER of a SubjectPublicKeyInfo, in the one form that the library writes."""
    der: bytes = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return der


def key_fingerprint(spki: bytes) -> str:
    """SHA-256 of a SubjectPublicKeyInfo's DER, in hex."""
    return sha256(spki).hexdigest()


def iso(moment: datetime) -> str:
    """ISO 8601, UTC, whole seconds."""
    return moment.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def alt_name(name: x509.GeneralName) -> str:
    """A name as the options give it; one of another kind as the library prints it."""
    for kind, known in (("DNS", x509.DNSName), ("email", x509.RFC822Name), ("URI", x509.UniformResourceIdentifier), ("IP", x509.IPAddress)):
        if isinstance(name, known):
            return f"{kind}:{name.value}"
    if isinstance(name, x509.RegisteredID):
        return f"RID:{name.value.dotted_string}"
    if isinstance(name, x509.DirectoryName):
        return f"dirName:{name.value.rfc4514_string()}"
    if isinstance(name, x509.OtherName):
        return f"otherName:{name.type_id.dotted_string};{name.value.hex()}"
    return f"other:{name!r}"


def _usages(usage: x509.KeyUsage) -> list[str]:
    without = () if usage.key_agreement else ("encipherOnly", "decipherOnly")
    return [name for name in KEY_USAGES if name not in without and getattr(usage, _USAGE_ATTRIBUTES[name])]


def key_usage(names: tuple[str, ...]) -> x509.KeyUsage:
    """The extension that permits these usages and no others."""
    return x509.KeyUsage(**{attribute: name in names for name, attribute in _USAGE_ATTRIBUTES.items()})


def extension_values(extensions: x509.Extensions) -> dict[str, Any]:
    """What extensions say, as plain values. Key identifiers are left out: they follow from the keys."""
    values: dict[str, Any] = {}
    critical, others = [], []
    for extension in extensions:
        value = extension.value
        if extension.oid in (ExtensionOID.SUBJECT_KEY_IDENTIFIER, ExtensionOID.AUTHORITY_KEY_IDENTIFIER):
            continue
        if isinstance(value, x509.SubjectAlternativeName):
            name = "subject_alt_names"
            values[name] = sorted(alt_name(entry) for entry in value)
        elif isinstance(value, x509.KeyUsage):
            name = "key_usage"
            values[name] = _usages(value)
        elif isinstance(value, x509.ExtendedKeyUsage):
            name = "extended_key_usage"
            values[name] = sorted(_USAGE_NAMES.get(oid.dotted_string, oid.dotted_string) for oid in value)
        elif isinstance(value, x509.BasicConstraints):
            name = "basic_constraints"
            values[name] = {"ca": value.ca, "path_length": value.path_length}
        else:
            name = extension.oid.dotted_string
            others.append(name)
        if extension.critical:
            critical.append(name)
    if critical:
        values["critical"] = sorted(critical)
    if others:
        values["other_extensions"] = sorted(others)
    return values


def profile(found: x509.Certificate | x509.CertificateSigningRequest) -> Mapping[str, Any]:
    """What a request or a certificate says of its subject and how it was signed: equal for two that say the same."""
    values: dict[str, Any] = {"subject": found.subject.rfc4514_string()}
    try:
        values |= extension_values(found.extensions)
    except unreadable():
        values["other_extensions"] = ["some that cannot be read"]
    try:
        if found.signature_hash_algorithm is not None:
            values["digest"] = found.signature_hash_algorithm.name
        parameters = found.signature_algorithm_parameters
        if isinstance(parameters, (padding.PSS, padding.PKCS1v15)):
            values["rsa_padding"] = "pss" if isinstance(parameters, padding.PSS) else "pkcs1"
    except unreadable():
        values["digest"] = "unknown"
    return values


def is_due(found: FoundCertificate, now: datetime, renew_before: int) -> bool:
    """Whether it has expired, or will within ``renew_before`` seconds. One that cannot be read is due."""
    return found.not_after is None or now >= found.not_after - timedelta(seconds=renew_before)
