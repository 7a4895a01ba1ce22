# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""A private key that stays in the HSM, in the shape that the library ``cryptography`` signs with.

Its builders take any object of its abstract key classes, ask it for the public key and call ``sign``. Nothing else of those
classes is possible with a key that never leaves its token.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn

from ..._model.certificates.scheme import EC, ED25519, PKCS1, PSS, RSA, Scheme
from ..._model.errors import KeyfleetError

with suppress(ImportError):  # _module.runtime reports it before anything here is called
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

Signer = Callable[[Scheme, bytes], bytes]


def _stays(*_args: Any, **_kwargs: Any) -> NoReturn:
    raise TypeError("this key is in an HSM and only signs")


def _only_signs(base: Any) -> dict[str, Any]:
    """Every method that ``base`` asks for, refusing. Newer releases ask for more of them."""
    return dict.fromkeys(base.__abstractmethods__, _stays)


def rsa_key(public: rsa.RSAPublicKey, signer: Signer) -> rsa.RSAPrivateKey:
    """An RSA key that signs by ``signer``, with PKCS#1 v1.5 or PSS as it is asked to."""

    def sign(_self: Any, data: bytes, used: Any, algorithm: Any) -> bytes:
        return signer(Scheme(RSA, algorithm.name, PSS if isinstance(used, padding.PSS) else PKCS1), data)

    members = {"sign": sign, "public_key": lambda _self: public, "key_size": property(lambda _self: public.key_size)}
    made: rsa.RSAPrivateKey = type("HsmRsaKey", (rsa.RSAPrivateKey,), {**_only_signs(rsa.RSAPrivateKey), **members})()
    return made


def ec_key(public: ec.EllipticCurvePublicKey, signer: Signer) -> ec.EllipticCurvePrivateKey:
    """An EC key that signs by ``signer``, with ECDSA."""

    def sign(_self: Any, data: bytes, used: Any) -> bytes:
        return signer(Scheme(EC, used.algorithm.name, order_bytes=(public.curve.key_size + 7) // 8), data)

    members = {
        "sign": sign,
        "public_key": lambda _self: public,
        "curve": property(lambda _self: public.curve),
        "key_size": property(lambda _self: public.key_size),
    }
    base = ec.EllipticCurvePrivateKey
    made: ec.EllipticCurvePrivateKey = type("HsmEcKey", (base,), {**_only_signs(base), **members})()
    return made


def ed25519_key(public: ed25519.Ed25519PublicKey, signer: Signer) -> ed25519.Ed25519PrivateKey:
    """An Ed25519 key that signs by ``signer``."""

    def sign(_self: Any, data: bytes) -> bytes:
        return signer(Scheme(ED25519), data)

    members = {"sign": sign, "public_key": lambda _self: public}
    base = ed25519.Ed25519PrivateKey
    made: ed25519.Ed25519PrivateKey = type("HsmEd25519Key", (base,), {**_only_signs(base), **members})()
    return made


def private_key(public: Any, signer: Signer) -> Any:
    """The private key in the HSM whose public half is ``public``. Raises :class:`KeyfleetError` for a type that is not known here."""
    if isinstance(public, rsa.RSAPublicKey):
        return rsa_key(public, signer)
    if isinstance(public, ec.EllipticCurvePublicKey):
        return ec_key(public, signer)
    if isinstance(public, ed25519.Ed25519PublicKey):
        return ed25519_key(public, signer)
    raise KeyfleetError(
        f"a key of the type {type(public).__name__.removesuffix('PublicKey')} cannot sign here: use an RSA, EC or Ed25519 key.",
        code="cannot_sign",
    )
