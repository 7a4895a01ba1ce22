# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""The key that a certificate belongs to: found by its label, and what it can sign with."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from ..._cryptoki.certificates import read_certificates
from ..._cryptoki.objects import Inventory
from ..._cryptoki.session import Session
from ..._cryptoki.signing import mechanism_for, sign
from ..._model.certificates.scheme import EC, ED25519, PKCS1, PSS, RSA, Scheme
from ..._model.certificates.spec import CertificateSpec
from ..._model.errors import KeyfleetError
from ..._model.keys.generations import known_generations, split_label, stored_label
from ..._model.keys.layout import certificate_ids
from ..._model.keys.objects import Key, KeyObject, group_keys
from ..._model.keys.states import PRE_ACTIVE, RETIRED, SUSPENDED
from ..._model.keys.types import SECRET
from ..._model.quoting import listed
from ..x509.hsm_private_key import private_key
from ..x509.reading import key_fingerprint, read_certificate, spki_of, unreadable

with suppress(ImportError):  # _module.runtime reports it before anything here is called
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
    from cryptography.hazmat.primitives.serialization import load_der_public_key

Recorded = Callable[[str], Collection[int]]  # the generations of a base label that the registry has recorded as such


@dataclass(frozen=True)
class CertifiedKey:
    """A key pair on the token. ``public`` is the library's public key, ``raw`` the private object behind its handle.

    ``later`` are the labels of its later generations on the token.
    """

    key: Key
    private: KeyObject
    public: Any
    raw: Any
    later: tuple[str, ...] = ()

    @property
    def key_id(self) -> bytes:
        """CKA_ID of the private half, which says what the certificate's is."""
        return self.private.key_id

    @property
    def spki(self) -> bytes:
        return spki_of(self.public)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the public key's DER, in hex."""
        return key_fingerprint(self.spki)

    def scheme(self, spec: CertificateSpec) -> Scheme:
        """How this key signs what the spec asks for. Raises :class:`KeyfleetError` for what does not go together."""
        if spec.rsa_padding == PSS and not isinstance(self.public, rsa.RSAPublicKey):
            raise _cannot_sign(spec.key_name, "rsa_padding: pss is for RSA keys, and this is none: leave it out")
        if isinstance(self.public, ed25519.Ed25519PublicKey):
            if spec.digest is not None:
                raise _cannot_sign(spec.key_name, "digest: Ed25519 has one of its own: leave it out")
            return Scheme(ED25519)
        if isinstance(self.public, ec.EllipticCurvePublicKey):
            bits = self.public.curve.key_size
            fitting = "sha256" if bits <= 256 else "sha384" if bits <= 384 else "sha512"
            return Scheme(EC, spec.digest or fitting, order_bytes=(bits + 7) // 8)
        return Scheme(RSA, spec.digest or "sha256", spec.rsa_padding or PKCS1)

    def check_signs(self, session: Session, spec: CertificateSpec, *, state: str) -> Scheme:
        """The scheme, once it is clear that key and token can and may sign with it. Raises :class:`KeyfleetError`.

        A key that is not active yet may prove that it is there, which a request does (NIST SP 800-57 part 1 rev. 5, section 7.1).
        """
        scheme = self.scheme(spec)
        if state == PRE_ACTIVE and spec.self_signed:
            raise _cannot_sign(spec.key_name, "it is pre-active in the registry: make it active with hsm_key (state: active) first")
        if state == SUSPENDED:
            raise _cannot_sign(
                spec.key_name, "it is suspended in the registry: make it active with hsm_key (state: active), or use another key"
            )
        if state in RETIRED:
            other = f"name its later generation (key_label: {self.later[-1]})" if self.later else "rotate it with hsm_key (generation)"
            raise _cannot_sign(
                spec.key_name,
                f"it is {state} in the registry, and a {state} key signs nothing new (NIST SP 800-57 part 1, section 7): "
                f"{other}, or use another key",
            )
        if self.private.has("sign") is False:
            raise _cannot_sign(spec.key_name, "it may not sign: give it the operation sign with hsm_key, or use another key")
        mechanism_for(session, scheme, self.raw)
        return scheme

    def signing(self, session: Session) -> Any:
        """The private key for the library's builders: it signs in the HSM."""
        what = f"key '{self.private.label}'"
        return private_key(self.public, lambda scheme, data: sign(session, self.raw, scheme, data, what))


def _cannot_sign(label: str, reason: str) -> KeyfleetError:
    return KeyfleetError(f"key '{label}' cannot sign this: {reason}.", code="cannot_sign")


def keys_called(objects: Iterable[KeyObject], spec: CertificateSpec) -> list[Key]:
    """Pairs and halves of pairs with this label, and with this CKA_ID where one was given; a secret key has no certificate."""
    keys = [key for key in group_keys(objects) if key.secret is None]
    called = [key for key in keys if key.label == spec.key_label] or [key for key in keys if key.pair_label == spec.key_label]
    return [key for key in called if spec.key_id in (None, key.main.key_id, key.pair_id)]


def several(label: str, token: str, keys: Iterable[Key]) -> KeyfleetError:
    listed = "; ".join(key.main.named() for key in keys)
    return KeyfleetError(
        f"key_label: several keys on {token} have the label '{label}': {listed}. Nothing is guessed: name one by key_id, or remove or "
        "rename the others with the vendor's tools.",
        code="several_keys",
    )


def _numbered(objects: Iterable[KeyObject], label: str) -> set[str]:
    """The labels of others that may be generations of this key."""
    base = split_label(label)[0]
    return {item.label for item in objects if item.label != label and split_label(item.label)[0] == base}


def later_generations(objects: Iterable[KeyObject], label: str, recorded: Recorded) -> tuple[str, ...]:
    """The labels of the generations after this one that are on the token, in rising order."""
    base, number = split_label(label)
    labels = {item.label for item in objects}
    if not _numbered(objects, label):
        return ()
    after = [stored_label(base, other) for other in known_generations(base, labels, recorded(base)) if other > (number or 1)]
    return tuple(other for other in after if other in labels)


def _in_certificate(session: Session, private: KeyObject | None) -> bytes | None:
    """The public key of the certificates of a private key whose public half is nowhere else, as on many cards.

    None where there is none, or several. That it is the private key's own is seen by the signature, before anything is written.
    """
    if private is None or not private.key_id:
        return None
    ids = certificate_ids(private.key_id)
    beside = [read_certificate(item.der) for item in read_certificates(session).objects if item.key_id in ids]
    found = {one.spki for one in beside if one.spki is not None and private.public_key in (None, one.spki)}
    return found.pop() if len(found) == 1 else None


def _check_not_another(objects: Iterable[KeyObject], spec: CertificateSpec, token: str, later: tuple[str, ...]) -> None:
    """Raise :class:`KeyfleetError` where a key of the label is there, and it is not the pair that is meant: to make one more is no help."""
    if not spec.key_label:
        return
    objects = list(objects)
    pairs = keys_called(objects, replace(spec, key_id=None))
    secret = next((item for item in objects if item.label == spec.key_label and item.kind == SECRET), None)
    if pairs and spec.key_id is not None:
        ids = [key.pair_id.hex() for key in pairs]
        text = f"on {token} key '{spec.key_label}' has CKA_ID {', '.join(one or '(none)' for one in ids)}, not {spec.key_id.hex()}"
        way = "Give its own key_id, or leave key_id out" if len(pairs) == 1 else "Give one of these"
        raise KeyfleetError(f"key_id: {text}. {way}.", code="no_key", details={"key_ids": ids})
    if secret is not None:
        way = f"Name its later generation (key_label: {later[-1]})" if later else "Name a key pair"
        text = f"key '{spec.key_label}' on {token} is a secret key of type {secret.type}, which can have no certificate"
        raise KeyfleetError(f"key_label: {text}. {way}.", code="no_key", details={"type": secret.type})


def find_key(session: Session, inventory: Inventory, spec: CertificateSpec, recorded: Recorded) -> CertifiedKey:
    """The one key pair that is named. Raises :class:`KeyfleetError`: code ``no_key`` when there is none; with details when another key has
    its label, so that no earlier task makes it."""
    token, label = str(session.token), spec.key_name
    keys = keys_called(inventory.objects, spec)
    later = later_generations(inventory.objects, spec.key_label, recorded)
    if len(keys) > 1:
        raise several(label, token, keys)
    if not keys:
        _check_not_another(inventory.objects, spec, token, later)
        way = f"Name its later generation (key_label: {later[-1]})" if later else "Generate it with hsm_key first"
        if not later and (others := sorted(_numbered(inventory.objects, spec.key_label))):
            way += f", or name the one that is meant: {listed(others)}"
        raise KeyfleetError(
            f"key_label: there is no key pair '{label}' on {token}. {way}.",
            code="no_key",
        )
    key = keys[0]
    der = key.public.public_key if key.public is not None else _in_certificate(session, key.private)
    if key.private is None or (key.public is None and der is None):
        half = "private" if key.private is None else "public"
        raise KeyfleetError(
            f"key_label: only half of the key pair '{label}' is on {token} ({key.main.named()}); its {half} key is missing, and the "
            "certificate needs both. hsm_key says what can be done about it.",
            code="half_pair",
        )
    if not der:
        raise KeyfleetError(
            f"key_label: {token} does not tell enough of the public key '{label}' ({key.main.named()}, type {key.main.type}) to "
            "compare a certificate with it. Use an RSA, EC or Ed25519 key.",
            code="unknown_public_key",
        )
    try:
        public = load_der_public_key(der)
        spki_of(public)
        if not isinstance(public, (rsa.RSAPublicKey, ec.EllipticCurvePublicKey, ed25519.Ed25519PublicKey)):
            raise UnsupportedAlgorithm("it signs no certificates here")
    except unreadable() as error:
        raise KeyfleetError(
            f"key_label: the public key '{label}' ({key.main.named()}, type {key.main.type}) is of a kind that is not known here "
            f"({error}). Use an RSA, EC or Ed25519 key.",
            code="unknown_public_key",
        ) from None
    return CertifiedKey(key, key.private, public, inventory.raw[key.private.handle], later)
