# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""Whether a certificate and its private key are in a token, belong together, and the key signs.

A key is found by its label or CKA_ID, and its certificates as hsm_certificate finds them. The signature is verified outside of the token.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from functools import cached_property
from typing import Any

from ..._cryptoki.certificates import CertificateObject, read_certificates
from ..._cryptoki.objects import Inventory, read_named
from ..._cryptoki.session import Session
from ..._cryptoki.signing import mechanism_for, sign
from ..._model.certificates.scheme import EC, ED25519, PSS, Scheme
from ..._model.certificates.spec import CertificateSpec
from ..._model.errors import Cryptoki, KeyfleetError, PinError
from ..._model.expectation import Credential, Expectation
from ..._model.faults import ends_probe
from ..._model.keys.layout import EVIDEN
from ..._model.keys.objects import Key, group_keys
from ..certificates.key import CertifiedKey
from ..certificates.stored import Stored, by_age, of_key
from ..x509.reading import FoundCertificate, iso, spki_of, unreadable

with suppress(ImportError):  # _module.runtime reports it before anything here is called
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
    from cryptography.hazmat.primitives.serialization import load_der_public_key

_PURPOSE = b"keyfleet.hsm: this key signs, and nothing else is said here "
_DIGESTS = ("sha256", "sha384", "sha512")


@dataclass(frozen=True)
class _PrivateKey:
    """The private key of a credential. ``public`` is the DER of its public key as the token has it; None where it does not tell."""

    key: Key
    raw: Any
    public: bytes | None

    @property
    def key_id(self) -> bytes:
        return self.key.main.key_id


class Credentials:
    """The credentials of one token, looked for in one session. The token's certificates are read once. ``login``: whether one was made."""

    def __init__(self, session: Session, layout: str, *, login: bool) -> None:
        self._session = session
        self._layout = layout
        self._login = login
        self._now = datetime.now(timezone.utc)

    @cached_property
    def _certificates(self) -> Sequence[CertificateObject]:
        return read_certificates(self._session).objects

    def check(self, wanted: Expectation) -> dict[str, Any]:
        """The entry of ``credentials``. Raises :class:`KeyfleetError` for what is the matter with the token, not with the credential."""
        told = _Told(Credential(wanted.name))
        try:
            self._check(wanted, told)
        except KeyfleetError as error:
            if (isinstance(error, PinError) and error.code != "pin_missing") or (isinstance(error, Cryptoki) and ends_probe(error.rv)):
                raise
            if isinstance(error, PinError):
                told.set(signs=None)  # nobody could ask the key
            told.problem(error.message.rstrip("."), error.code)
        return told.credential.as_entry()

    def _check(self, wanted: Expectation, told: _Told) -> None:
        """Raises :class:`KeyfleetError` for the first thing that ends the look at this one."""
        key, stored, missing = None, [], False
        if wanted.private_key:
            key = self._private_key(wanted, told)
            missing = key is None
        if wanted.certificate:
            stored = self._stored(wanted, key)
            if not stored:
                told.problem("no certificate with this name is on the token", "certificate_missing")
                missing = True
        told.set(found=not missing)
        certificate = self._chosen(stored, key, told) if stored else None
        if key is None:
            return
        certified = certificate.spki if certificate is not None else None
        if certified is not None and key.public is not None:
            told.set(match=certified == key.public)
            if certified != key.public:
                told.problem("the certificate belongs to another key: its public key is not the private key's", "certificate_mismatch")
        public = key.public or certified
        if public is None:
            told.problem("the token does not give the public key, so a signature cannot be verified", "unknown_public_key")
            return
        told.set(signs=False)
        verified = self._signs(key, public)
        told.set(signs=verified)
        if certified is not None and key.public is None:
            told.set(match=verified)
        if not verified:
            text = "a signature of the private key does not verify: the token is at fault, or the parts do not belong together"
            told.problem(text, "bad_signature")

    def _private_key(self, wanted: Expectation, told: _Told) -> _PrivateKey | None:
        inventory = read_named(self._session, wanted.label, wanted.key_id)
        keys = _called(inventory, wanted)
        if not keys:
            login = "" if self._login else ", which is registered with login: false: without a login it may be hidden"
            told.problem(f"no private key with this name is on the token{login}", "no_key")
            return None
        if len(keys) > 1:
            told.problem(f"{len(keys)} private keys have this name: {'; '.join(key.main.named() for key in keys)}", "several_keys")
            return None
        if keys[0].public is None and keys[0].main.key_id and wanted.key_id is None:
            # Its public half may have a label of its own.
            inventory = read_named(self._session, None, keys[0].main.key_id, inventory)
            keys = _called(inventory, wanted) or keys
        public = next((half.public_key for half in (keys[0].public, keys[0].private) if half is not None and half.public_key), None)
        return _PrivateKey(keys[0], inventory.raw[keys[0].main.handle], _one_form(public))

    def _stored(self, wanted: Expectation, key: _PrivateKey | None) -> list[Stored]:
        """As hsm_certificate finds them; failing that, those of the key's CKA_ID: cards and Java call them otherwise."""
        key_id = key.key_id if key is not None else wanted.key_id
        spki = key.public if key is not None and self._layout == EVIDEN else None
        found = of_key(self._certificates, wanted.label or "", key_id, spki)
        return found or (of_key(self._certificates, "", key_id) if key_id else [])

    def _chosen(self, stored: Sequence[Stored], key: _PrivateKey | None, told: _Told) -> FoundCertificate:
        """The key's own before any other, and of these the one that ends last."""
        ordered = by_age(stored)
        mine = [one for one in ordered if key is not None and key.public is not None and one.found.spki == key.public]
        found = (mine or ordered)[0].found
        told.set(fingerprint=found.fingerprint)
        if len({one.item.der for one in stored}) > 1:
            text = f"{len(stored)} certificates have this name, and a program that looks for it may take any of them"
            told.problem(text, "several_certificates")
        if found.parsed is None or found.spki is None:
            told.problem("the certificate, or its public key, cannot be read", "certificate_unreadable")
        if found.parsed is not None:
            begin, end = found.parsed.not_valid_before_utc, found.parsed.not_valid_after_utc
            told.set(not_before=iso(begin), not_after=iso(end))
            if self._now >= end:
                told.problem(f"the certificate expired at {iso(end)}", "certificate_expired")
            elif self._now < begin:
                told.problem(f"the certificate is not valid before {iso(begin)}", "certificate_not_yet_valid")
        return found

    def _signs(self, key: _PrivateKey, der: bytes) -> bool:
        """Whether a signature of the key verifies. Raises :class:`KeyfleetError` where it makes none."""
        public = load_der_public_key(der)
        if not isinstance(public, (rsa.RSAPublicKey, ec.EllipticCurvePublicKey, ed25519.Ed25519PublicKey)):
            raise KeyfleetError("the key is of a type that signs no certificates here: use an RSA, EC or Ed25519 key", code="cannot_sign")
        certified = CertifiedKey(key.key, key.key.main, public, key.raw)
        scheme, data = self._scheme(certified), _PURPOSE + os.urandom(32)
        return _verifies(public, scheme, data, sign(self._session, key.raw, scheme, data, f"key '{key.key.label}'"))

    def _scheme(self, key: CertifiedKey) -> Scheme:
        """The first way to sign that key and token allow. Raises :class:`KeyfleetError`."""
        if key.private.has("sign") is False:
            raise KeyfleetError("the private key may not sign (CKA_SIGN)", code="cannot_sign")
        usual = key.scheme(CertificateSpec(key.key.label))
        ways = [usual]
        if usual.kind != ED25519:
            paddings = (usual.padding,) if usual.kind == EC else (usual.padding, PSS)
            ways += [replace(usual, digest=digest, padding=way) for way in paddings for digest in _DIGESTS]
        refused: KeyfleetError | None = None
        for way in ways:
            try:
                mechanism_for(self._session, way, key.raw)
                return way
            except Cryptoki:
                raise
            except KeyfleetError as error:
                refused = refused or error
        raise refused or TypeError("a key has a way to sign")


class _Told:
    """What is known of one credential so far. The first problem is its code, and the words have all."""

    def __init__(self, credential: Credential) -> None:
        self.credential = credential

    def set(self, **values: Any) -> None:
        self.credential = replace(self.credential, **values)

    def problem(self, text: str, code: str) -> None:
        told = self.credential
        self.set(problem=f"{told.problem}; {text}" if told.problem else text, code=told.code or code)


def _called(inventory: Inventory, wanted: Expectation) -> list[Key]:
    """The keys with a private half that bear the name."""
    keys = [key for key in group_keys(inventory.objects) if key.private is not None]
    return [key for key in keys if wanted.label in (None, key.label) and wanted.key_id in (None, key.main.key_id)]


def _one_form(der: bytes | None) -> bytes | None:
    """A public key in the form that certificates' keys have here; None for one that is not known here."""
    if der is None:
        return None
    try:
        return spki_of(load_der_public_key(der))
    except unreadable():
        return None


def _verifies(public: Any, scheme: Scheme, data: bytes, signature: bytes) -> bool:
    digest: Any = {"sha256": hashes.SHA256(), "sha384": hashes.SHA384(), "sha512": hashes.SHA512()}.get(scheme.digest or "")
    try:
        if isinstance(public, ed25519.Ed25519PublicKey):
            public.verify(signature, data)
        elif isinstance(public, ec.EllipticCurvePublicKey):
            public.verify(signature, data, ec.ECDSA(digest))
        else:
            pad = padding.PSS(padding.MGF1(digest), padding.PSS.DIGEST_LENGTH) if scheme.padding == PSS else padding.PKCS1v15()
            public.verify(signature, data, pad, digest)
    except InvalidSignature:
        return False
    return True
