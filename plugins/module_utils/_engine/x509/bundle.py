# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""What a CA sends: certificates in PEM, DER or PKCS#7, in any order."""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Callable, Iterator
from contextlib import suppress

from ..._model.pem import with_lines
from .reading import FoundCertificate, load_certificate, read_whole_certificate, unreadable

with suppress(ImportError):  # _module.runtime reports it before anything here is called
    from asn1crypto import parser as asn1
    from cryptography import x509

_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----(.*?)-----END \1-----", re.DOTALL)
_CERTIFICATES = (b"CERTIFICATE", b"X509 CERTIFICATE", b"TRUSTED CERTIFICATE")
_PKCS7 = (b"PKCS7", b"CMS")
_BLANKS = b" \t\r\n"
_BOM = b"\xef\xbb\xbf"


def _blocks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and DER of each block of PEM. Raises ValueError."""
    for kind, text in _BLOCK.findall(data):
        yield kind, b64decode(b"".join(text.split()), validate=True)


def _in_pem(data: bytes) -> Iterator[x509.Certificate]:
    for kind, der in _blocks(data):
        if kind in _CERTIFICATES:
            # What OpenSSL trusts it for stands behind a TRUSTED CERTIFICATE.
            yield load_certificate(der[: asn1.peek(der)])
        elif kind in _PKCS7:
            yield from _in_pkcs7(der)


def _in_pkcs7(der: bytes) -> Iterator[x509.Certificate]:
    """Raises ValueError. cryptography warns of a set that is not sorted as DER wants it, and most programs do not sort it."""
    from asn1crypto import cms

    content = cms.ContentInfo.load(der)
    if content["content_type"].native != "signed_data":
        raise ValueError("it is PKCS#7 of another kind than certificates have")
    for one in content["content"]["certificates"]:
        yield load_certificate(one.chosen.dump())


def _in_der(data: bytes) -> Iterator[x509.Certificate]:
    der = data[: asn1.peek(data)]
    if data[len(der) :].strip(_BLANKS):
        raise ValueError("more stands behind it")
    try:
        yield load_certificate(der)
    except unreadable() as problem:
        try:
            yield from _in_pkcs7(der)
        except unreadable():
            raise problem from None


def certificates_in(data: bytes) -> tuple[FoundCertificate, ...]:
    """The certificates in ``data``, each once, in their order; at least one.

    PEM (CERTIFICATE, X509 CERTIFICATE, TRUSTED CERTIFICATE, PKCS7, with other blocks and text between them, also on one line with \\n in
    it), DER, or PKCS#7 in DER (RFC 2315: what Windows calls .p7b). Raises ValueError with a plain reason that says how to convert it.
    """
    data = with_lines(data.removeprefix(_BOM))
    read: Callable[[bytes], Iterator[x509.Certificate]] = _in_pem if b"-----BEGIN" in data else _in_der
    try:
        found = [read_whole_certificate(parsed) for parsed in read(data)]
    except unreadable() as error:
        raise ValueError(_refusal(data, str(error))) from None
    if not found:
        raise ValueError(_refusal(data, "there is none in it"))
    return tuple(dict.fromkeys(found))


def _refusal(data: bytes, reason: str) -> str:
    return f"holds no X.509 certificate that can be read ({reason}): {_way_out(data)}"


def _way_out(data: bytes) -> str:
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "it is in UTF-16: convert it with iconv -f UTF-16 -t UTF-8"
    # PKCS#12 (RFC 7292, section 4): a sequence that begins with the number 3.
    if data[:1] == b"\x30" and b"\x02\x01\x03" in data[2:9]:
        return "it is PKCS#12: take the certificate out of it with openssl pkcs12 -in FILE -nokeys -clcerts"
    if b"-----BEGIN CERTIFICATE REQUEST" in data or b"-----BEGIN NEW CERTIFICATE REQUEST" in data:
        return "it is a request: have a CA sign it, and give what the CA sends"
    if data.startswith(b"MI"):
        return "it is base64 without its PEM lines: make DER of it with base64 -d"
    return "give it in PEM, DER or PKCS#7"
