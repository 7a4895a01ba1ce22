# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""Private keys that cryptography refuses though they are good, or takes without a word of what they may not do.

Only of keys in the clear: what stands in an encrypted one, nobody sees before the library opens it.
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Collection, Mapping
from typing import Any

from ..._model.keys.source_rules import PrivateBlob, SourceProblem

_BODY = re.compile(rb"-----BEGIN ([A-Z ]*)PRIVATE KEY-----(.*?)-----END", re.DOTALL)
_PUBLIC_KEY = 0x81  # first byte of PKCS#8's publicKey, [1] IMPLICIT BIT STRING
_SEQUENCE, _INTEGER = 0x30, 0x02


class PlainKey:
    """A private key in the clear, taken apart: PKCS#8 (RFC 5958), RSAPrivateKey (RFC 8017, A.1.2) or ECPrivateKey (RFC 5915)."""

    def __init__(self, blob: PrivateBlob) -> None:
        """Raises ValueError for what cannot be taken apart."""
        from asn1crypto import core, keys, parser

        kind, self.inner = _kind_and_der(blob)
        self.algorithm_der = b""
        self.algorithm = {"RSA ": "rsa", "EC ": "ec"}.get(kind, "")
        self.public: bytes | None = None  # that PKCS#8 may carry beside: of EC the point, of Ed25519 its 32 bytes
        domain = None
        if kind == "":
            _version, self.algorithm_der, inner, *beside = _elements(self.inner)
            algorithm = keys.PrivateKeyAlgorithm.load(self.algorithm_der, strict=True)
            self.algorithm = str(algorithm["algorithm"].native)
            self.inner = bytes(core.OctetString.load(inner, strict=True).native)
            for part in beside:
                if part[0] == _PUBLIC_KEY:
                    self.public = parser.parse(part)[4][1:]  # the first byte counts unused bits, of which there are none
            domain = algorithm["parameters"] if self.algorithm == "ec" else None
        self.parts: Mapping[str, Any] = {}
        self.scalar_size = 0  # bytes
        if self.algorithm == "ec":
            self.parts = keys.ECPrivateKey.load(self.inner, strict=True)
            curve = self.parts["parameters"] if domain is None else domain
            if not isinstance(curve, keys.ECDomainParameters):
                raise ValueError("no curve is named")
            self.scalar_size = curve.key_size
        elif self.algorithm in ("rsa", "rsassa_pss"):
            self.parts = keys.RSAPrivateKey.load(self.inner, strict=True)
        self.primes_above_two = bool(self.parts) and self.algorithm == "rsa" and self.parts["version"].native == "multi"

    def refuse(self, allowed: Collection[str] = ()) -> None:
        """Raises :class:`SourceProblem` for a key that a token could only hold as another than it is.

        ``allowed``: the mechanisms without ``CKM_`` that it will be restricted to.
        """
        if self.algorithm == "rsassa_pss" and not (allowed and all(map(self._is_pss, allowed))):
            raise SourceProblem(
                f"is an RSA key for RSASSA-PSS alone (RFC 4055), and a token would not keep that: restrict it with allowed_mechanisms: "
                f"[{self._pss_digest or 'SHA256'}_RSA_PKCS_PSS], or give an RSA key without this restriction"
            )
        if self.primes_above_two:
            raise SourceProblem("is an RSA key with more than two primes, which PKCS#11 has no place for: give one with two")

    def _is_pss(self, mechanism: str) -> bool:
        """Whether a mechanism does no more than the key may: RSASSA-PSS, with the digest that the key names, if it names one."""
        digest = self._pss_digest
        return mechanism == f"{digest}_RSA_PKCS_PSS" if digest else mechanism.endswith("RSA_PKCS_PSS")

    @property
    def _pss_digest(self) -> str | None:
        """As mechanisms spell it, for example SHA256; None: any."""
        from asn1crypto import keys

        parameters = keys.PrivateKeyAlgorithm.load(self.algorithm_der)["parameters"].native
        return str(parameters["hash_algorithm"]["algorithm"]).upper() if parameters else None

    def rewritten(self) -> PrivateBlob:
        """The same as PKCS#8 of version 1, without a public key beside it, an EC number with its leading zeros (RFC 5915, section 3)."""
        from asn1crypto import core

        inner = self._padded() if self.algorithm == "ec" else self.inner
        if self.algorithm_der:
            inner = _sequence(core.Integer(0).dump(), self.algorithm_der, core.OctetString(inner).dump())
        return PrivateBlob(inner, pem=False, encrypted=False)

    def _padded(self) -> bytes:
        from asn1crypto import core

        number = self.parts["private_key"].contents.lstrip(b"\0").rjust(self.scalar_size, b"\0")
        others = (self.parts[name].dump() for name in ("parameters", "public_key"))
        return _sequence(self.parts["version"].dump(), core.OctetString(number).dump(), *others)


def _sequence(*parts: bytes) -> bytes:
    from asn1crypto import core

    return bytes(core.Sequence(contents=b"".join(parts)).dump())


def _kind_and_der(blob: PrivateBlob) -> tuple[str, bytes]:
    """What stands before PRIVATE KEY in the PEM, and the DER."""
    if blob.pem:
        found = _BODY.search(blob.data)
        if found is None:
            raise ValueError("no block")
        return found[1].decode("ascii"), b64decode(b"".join(found[2].split()), validate=True)
    second = _elements(blob.data)[1][0]
    return {_SEQUENCE: "", _INTEGER: "RSA "}.get(second, "EC "), blob.data


def _elements(der: bytes) -> list[bytes]:
    """The DER of each element of a SEQUENCE. Raises ValueError."""
    from asn1crypto import core

    return [one.dump() for one in core.SequenceOf.load(der, spec=core.Any, strict=True)]


def taken_apart(blob: PrivateBlob) -> PlainKey | None:
    """The key taken apart; None for one that is encrypted, or that nobody can take apart."""
    if blob.encrypted:
        return None
    try:
        return PlainKey(blob)
    except (ValueError, TypeError, KeyError, IndexError):
        return None


def carried_public(key: Any) -> bytes | None:
    """What PKCS#8 of version 2 carries as the public key (RFC 5958, section 2; RFC 8410, section 7)."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    found: bytes | None = None
    if isinstance(key, ed25519.Ed25519PublicKey):
        found = key.public_bytes(Encoding.Raw, PublicFormat.Raw)
    elif isinstance(key, ec.EllipticCurvePublicKey):
        found = key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    return found
