# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The server's side of TLS, from a PEM or PKCS#12 file."""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, pkcs12

from .config import ConfigError, Https


def context_of(https: Https, path_of: Callable[[str], str]) -> ssl.SSLContext:
    """TLS 1.2 or later. With a CA for clients a certificate is asked for, and one that is given has to be good: by the rules of the front,
    so that who is refused there is refused here.

    Raises :class:`ConfigError`.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Python 3.13 asks for extensions that many a CA of one's own leaves out, and trusts an intermediate CA without the one above it. The
    # front does neither, nor does Python 3.11.
    context.verify_flags &= ~(ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN)
    certificate = path_of(https.certificate)
    try:
        content = Path(certificate).read_bytes()
        if b"-----BEGIN" in content:
            context.load_cert_chain(certificate, path_of(https.key) if https.key else None)
        else:
            _load_pem(context, _pem_of_p12(content))
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise ConfigError([f"https.certificate: {certificate} cannot be used: {_reason(error)}"]) from None
    if https.client_ca:
        client_ca = path_of(https.client_ca)
        try:
            context.load_verify_locations(client_ca)
        except (OSError, ValueError) as error:
            raise ConfigError([f"https.client_ca: {client_ca} cannot be used: {_reason(error)}"]) from None
        context.verify_mode = ssl.CERT_OPTIONAL
        if https.client_crl:
            _load_crl(context, path_of(https.client_crl))
    return context


def _load_crl(context: ssl.SSLContext, path: str) -> None:
    """A list for each CA, also for those above the one that issued. Without a list that is valid now, a certificate is refused.

    Raises :class:`ConfigError`.
    """
    try:
        kinds = set(re.findall(rb"-----BEGIN ([^-\n]+)-----", Path(path).read_bytes()))
        if kinds != {b"X509 CRL"}:  # OpenSSL would trust a certificate in there as a CA
            raise ValueError("give revocation lists in PEM, and nothing else")
        context.load_verify_locations(path)
    except (OSError, ValueError) as error:
        raise ConfigError([f"https.client_crl: {path} cannot be used: {_reason(error)}"]) from None
    context.verify_flags |= ssl.VERIFY_CRL_CHECK_CHAIN


def ends_at(https: Https, path_of: Callable[[str], str]) -> datetime | None:
    """When the server's own certificate ends. None where it cannot be read."""
    with suppress(OSError, ValueError, ConfigError):
        content = Path(path_of(https.certificate)).read_bytes()
        return x509.load_pem_x509_certificate(content if b"-----BEGIN" in content else _pem_of_p12(content)).not_valid_after_utc
    return None


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)


def _pem_of_p12(content: bytes) -> bytes:
    """Certificate, the chain above it, and the private key. Raises ValueError."""
    found = pkcs12.load_pkcs12(content, None)
    if found.key is None or found.cert is None:
        raise ValueError("holds no certificate with its key")
    chain = [found.cert, *found.additional_certs]
    key = found.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return b"".join(entry.certificate.public_bytes(Encoding.PEM) for entry in chain) + key


def _load_pem(context: ssl.SSLContext, content: bytes) -> None:
    """OpenSSL reads files only: one in memory, which has no name."""
    descriptor = os.memfd_create("keyfleet-gateway", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, content)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)
