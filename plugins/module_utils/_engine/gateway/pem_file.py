# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""A private key, its certificate and the chain above in one PEM file, as web servers take it."""

from __future__ import annotations

import re
import shlex
from contextlib import suppress

from ..._model.pem import with_lines
from ..x509.reading import read_certificate
from .p12_file import Bundle, P12Fault, belongs

with suppress(ImportError):  # _module.runtime reports it before anything here is called
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

_KEY = re.compile(rb"-----BEGIN ((?:[A-Z0-9]+ )*PRIVATE KEY)-----.*?-----END \1-----", re.DOTALL)
_CERTIFICATE = re.compile(rb"-----BEGIN (?:X509 )?CERTIFICATE-----")


def load_pem(raw: bytes, path: str) -> Bundle:
    """What is in ``raw``, which came from ``path``. The order in the file does not count. Raises :class:`P12Fault`."""
    raw = with_lines(raw)
    keys = list(_KEY.finditer(raw))
    if not keys:
        raise P12Fault("holds no private key: put the key and its certificate into one PEM file, or make a P12 file of them")
    if len(keys) > 1:
        raise P12Fault(f"holds {len(keys)} private keys: leave the one of the certificate in it")
    block = keys[0][0]
    if keys[0][1].startswith(b"ENCRYPTED") or b"Proc-Type: 4,ENCRYPTED" in block:
        raise P12Fault(
            f"holds a private key with a password, and the gateway starts without one: take the password off: (umask 077; openssl pkey -in "
            f"{shlex.quote(path)} -out key.pem), and put the certificates behind it"
        )
    if not _CERTIFICATE.search(raw):
        raise P12Fault("holds no certificate: put that of the key into it, and the chain above")
    try:
        key = load_pem_private_key(block, None)
    except Exception:  # the library's words may quote what it cannot read, and its types differ by version
        raise P12Fault("holds a private key that cannot be read: make the file anew from the key, as openssl pkey writes it") from None
    try:
        parsed = x509.load_pem_x509_certificates(raw)
        found = [read_certificate(one.public_bytes(Encoding.DER)) for one in parsed]
    except ValueError:
        found = []
    if not found or any(one.parsed is None for one in found):
        raise P12Fault("holds a certificate that cannot be read: make the file anew from the certificates, as openssl x509 writes them")
    found = list({one.der: one for one in found}.values())
    own = [one for one in found if belongs(key, one.parsed)]
    if not own:
        raise P12Fault("holds a private key that none of its certificates belongs to: make it anew from a key and its own certificate")
    if len(own) > 1:
        raise P12Fault("holds several certificates of the private key: leave one of them in it")
    return Bundle(key, own[0], tuple(one for one in found if one is not own[0]))
