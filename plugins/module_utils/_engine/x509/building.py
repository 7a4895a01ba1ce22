# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""Requests and self-signed certificates, built from the options and signed by the key in the HSM."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

from ..._model.certificates.scheme import PSS, RSA, Scheme
from ..._model.certificates.spec import CertificateSpec
from ..._model.errors import KeyfleetError
from .reading import FoundCertificate, extension_values, key_usage

with suppress(ImportError):  # _module.runtime reports it before anything here is called
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding
    from cryptography.hazmat.primitives.serialization import Encoding


def _name(spec: CertificateSpec) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.ObjectIdentifier(oid), value) for oid, value in spec.subject])


def general_name(kind: str, value: str) -> x509.GeneralName:
    """What the texts of :func:`.parse_alt_names` stand for."""
    texts: dict[str, Callable[[str], x509.GeneralName]] = {
        "DNS": x509.DNSName,
        "email": x509.RFC822Name,
        "URI": x509.UniformResourceIdentifier,
    }
    if kind == "IP":
        return x509.IPAddress(ipaddress.ip_address(value))
    if kind == "RID":
        return x509.RegisteredID(x509.ObjectIdentifier(value))
    if kind == "dirName":
        return x509.DirectoryName(x509.Name.from_rfc4514_string(value))
    if kind == "otherName":
        oid, _semicolon, der = value.partition(";")
        return x509.OtherName(x509.ObjectIdentifier(oid), bytes.fromhex(der))
    return texts[kind](value)


def _extensions(spec: CertificateSpec) -> list[x509.Extension[Any]]:
    """The extensions that were asked for. Which are critical: RFC 5280, sections 4.2.1.3, 4.2.1.6, 4.2.1.9 and 4.2.1.12."""
    made: list[tuple[x509.ExtensionType, bool]] = []
    if spec.ca is not None:
        made.append((x509.BasicConstraints(ca=spec.ca, path_length=spec.path_length), True))
    if spec.key_usage:
        made.append((key_usage(spec.key_usage), True))
    if spec.extended_key_usage:
        made.append((x509.ExtendedKeyUsage([x509.ObjectIdentifier(oid) for oid in spec.extended_key_usage]), spec.extended_critical))
    if spec.alt_names:
        names = x509.SubjectAlternativeName([general_name(kind, value) for kind, value in spec.alt_names])
        made.append((names, not spec.subject))  # all the names there are, then
    return [x509.Extension(extension.oid, critical, extension) for extension, critical in made]


def wanted_profile(spec: CertificateSpec, scheme: Scheme | None) -> Mapping[str, Any]:
    """What a request or certificate made now would say: see :func:`.x509_reading.profile`. ``scheme`` is None without a key."""
    values: dict[str, Any] = {"subject": _name(spec).rfc4514_string()}
    values |= extension_values(x509.Extensions(_extensions(spec)))
    if scheme is not None and scheme.digest is not None:
        values["digest"] = scheme.digest
    if scheme is not None and scheme.kind == RSA:
        values["rsa_padding"] = scheme.padding
    return values


def _hash(scheme: Scheme) -> Any:
    """The library's word for the digest; None for Ed25519, which has one of its own."""
    return getattr(hashes, scheme.digest.upper())() if scheme.digest else None


def _padding(scheme: Scheme) -> dict[str, Any]:
    if scheme.kind != RSA or scheme.padding != PSS:
        return {}
    digest = _hash(scheme)
    return {"rsa_padding": padding.PSS(mgf=padding.MGF1(digest), salt_length=digest.digest_size)}  # RFC 4055, section 3.1


def _check_signature(good: bool, what: str) -> None:
    """A signature that does not verify comes from a pair whose halves do not belong together."""
    if not good:
        raise KeyfleetError(
            f"the token signed {what}, and the signature does not verify with the public key of the pair: its halves do not belong "
            "together, or the token is broken. Nothing was written.",
            code="bad_signature",
        )


def build_request(spec: CertificateSpec, private: Any, scheme: Scheme) -> x509.CertificateSigningRequest:
    """A certification request (RFC 2986), signed. Raises :class:`KeyfleetError`."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(_name(spec))
    for extension in _extensions(spec):
        builder = builder.add_extension(extension.value, extension.critical)
    request = builder.sign(private, _hash(scheme), **_padding(scheme))
    _check_signature(request.is_signature_valid, "a request")
    return request


def build_self_signed(spec: CertificateSpec, private: Any, scheme: Scheme, now: datetime) -> FoundCertificate:
    """A certificate that the key signs for itself, valid from ``now`` for the days that the spec says. Raises :class:`KeyfleetError`."""
    public, name, begin = private.public_key(), _name(spec), now.replace(microsecond=0)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + timedelta(days=spec.valid_days or 0))
        # Every CA certificate has one, and others should (RFC 5280, section 4.2.1.2).
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )
    for extension in _extensions(spec):
        builder = builder.add_extension(extension.value, extension.critical)
    parsed = builder.sign(private, _hash(scheme), **_padding(scheme))
    made = FoundCertificate(parsed.public_bytes(Encoding.DER), parsed)
    _check_signature(made.signed_itself(), "a certificate")
    return made
