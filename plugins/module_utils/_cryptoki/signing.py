# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""Signatures as X.509 wants them, made by a private key of the token, with the mechanisms that the token has."""

from __future__ import annotations

import hashlib
from typing import Any

from .._model.certificates.scheme import EC, PSS, RSA, Scheme
from .._model.errors import Cryptoki, KeyfleetError
from .allowed import allowed_of
from .attributes import read
from .binding import pkcs11
from .errors import calling
from .session import Session


def mechanism_for(session: Session, scheme: Scheme, private: Any) -> str:
    """The token's mechanism for this signature by the key object ``private``, without ``CKM_``.

    Raises :class:`KeyfleetError` where it has none, or the key is restricted to others.
    """
    only = allowed_of(private)
    usable = [name for name in scheme.mechanisms if name in session.mechanisms()]
    for name in usable:
        if not only or name in only:
            return name
    names = " and ".join(f"CKM_{name}" for name in scheme.mechanisms)
    out = {RSA: "Use another digest or rsa_padding.", EC: "Use another digest, or an RSA key."}.get(scheme.kind, "Use an RSA or EC key.")
    if usable:
        raise KeyfleetError(f"The key may be used with {', '.join(only or ())} only (CKA_ALLOWED_MECHANISMS). {out}", code="cannot_sign")
    raise KeyfleetError(f"{session.token} cannot make this signature: it lacks {names}. {out}", code="cannot_sign")


def _digest_info(digest: str, hashed: bytes) -> bytes:
    """What CKM_RSA_PKCS pads: a DigestInfo (RFC 8017, section 9.2)."""
    from asn1crypto.algos import DigestInfo

    return bytes(DigestInfo({"digest_algorithm": {"algorithm": digest}, "digest": hashed}).dump())


def _ecdsa_der(raw: bytes) -> bytes:
    """PKCS#11 gives r and s one behind the other (3.1, section 6.3.1); X.509 wants a SEQUENCE of both (RFC 5758, section 3.2)."""
    from asn1crypto.algos import DSASignature

    if not raw or len(raw) % 2:
        raise Cryptoki("signing: the token's answer is no ECDSA signature", rv="CKR_FUNCTION_FAILED", device=True)
    return bytes(DSASignature.from_p1363(raw).dump())


def _wants_pin(private: Any) -> bool:
    """Whether each use of the key takes a login of its own. Raises python-pkcs11's errors."""
    return bool(read(private, ["ALWAYS_AUTHENTICATE"]).get("ALWAYS_AUTHENTICATE"))


def sign(session: Session, private: Any, scheme: Scheme, data: bytes, what: str) -> bytes:
    """The signature of ``data`` by the key object ``private``, in the form that stands in a certificate.

    Only a digest or the text to be signed goes to the token, and the key stays there. ``what`` names the key in errors.
    A key with CKA_ALWAYS_AUTHENTICATE gets its login. Raises :class:`Cryptoki`, PinError where that login is refused, and
    :class:`KeyfleetError` where the token has no mechanism for it.
    """
    name = mechanism_for(session, scheme, private)
    digest = scheme.digest or ""
    given, parameters = data, None
    if digest.upper() not in name:  # the token does not hash by itself
        given = hashlib.new(digest, data).digest()
        if name == "RSA_PKCS":
            given = _digest_info(digest, given)
        elif name == "ECDSA":
            # Only the leftmost bits count (FIPS 186-5, section 6.4.1); some tokens refuse to be given more.
            given = given[: scheme.order_bytes]
    if scheme.padding == PSS and scheme.kind == RSA:
        length = hashlib.new(digest).digest_size  # as long as the digest: RFC 4055, section 3.1
        parameters = (pkcs11.Mechanism[digest.upper()], pkcs11.MGF[digest.upper()], length)
    with calling(f"signing with {what}", "C_Sign"):
        try:
            options = {"mechanism": pkcs11.Mechanism[name], "mechanism_param": parameters}
            if _wants_pin(private):
                made = session.with_own_login(lambda pin: private.sign(given, pin=pin, **options), f"signing with {what}")
            else:
                made = private.sign(given, **options)
        except AttributeError as error:
            # python-pkcs11 gives an object the methods that its attributes permit; without them, it could not read those.
            raise Cryptoki(
                f"signing with {what} failed: its attributes could not be read", rv="CKR_FUNCTION_FAILED", device=True
            ) from error
    return _ecdsa_der(made) if scheme.kind == EC else bytes(made)
