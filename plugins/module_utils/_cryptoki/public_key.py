# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""A public key object as the DER of a SubjectPublicKeyInfo (RFC 5280)."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

from .._model.keys.material import big_integer
from .._model.keys.post_quantum import public_value
from .._model.keys.types import ED25519_OID, ED25519_PARAMS

ED25519_POINT = (32,)  # bytes (RFC 8032, section 5.1.2)


def _ec_point(value: bytes, bare: Sequence[int]) -> bytes:
    """The bare point. PKCS#11 3.1, section 6.3.3, wants a DER OCTET STRING; some providers give the point itself.

    ``bare`` has the lengths in bytes of a point of this curve. They decide, not the first bytes: a point that begins 04 3f (on P-256)
    reads as an OCTET STRING of its rest. No OCTET STRING around a point has one of them.
    """
    from asn1crypto.core import OctetString

    if len(value) in bare:
        return value
    try:
        inner = OctetString.load(value, strict=True)
    except ValueError:
        return value
    return bytes(inner.native)


def _point_lengths(domain: Any) -> Sequence[int]:
    """Lengths of a compressed and an uncompressed point (SEC 1, section 2.3.3), none for a curve of which nobody knows the size."""
    try:
        size: int = domain.key_size
    except ValueError:
        return ()
    return (1 + size, 1 + 2 * size)


def public_key_der(attributes: Mapping[str, Any]) -> bytes | None:
    """SubjectPublicKeyInfo from an object's attributes (names without ``CKA_``).

    None where the token gives too few, or gives parameters that have no OID, as PKCS#11 3.1 allows for X25519 and Ed448.
    """
    try:
        return _public_key_der(attributes)
    except ValueError:
        return None


def _public_key_der(attributes: Mapping[str, Any]) -> bytes | None:
    from asn1crypto.keys import ECDomainParameters, ECPointBitString, PublicKeyAlgorithm, PublicKeyInfo, RSAPublicKey

    if attributes.get("MODULUS") and attributes.get("PUBLIC_EXPONENT"):
        numbers = RSAPublicKey(
            {
                "modulus": int.from_bytes(attributes["MODULUS"], "big"),
                "public_exponent": int.from_bytes(attributes["PUBLIC_EXPONENT"], "big"),
            }
        )
        return bytes(PublicKeyInfo.wrap(numbers, "rsa").dump())
    if attributes.get("EC_PARAMS") in ED25519_PARAMS and attributes.get("EC_POINT"):
        # RFC 8410, section 4: the algorithm is an OID without parameters, the key is the bare point.
        edwards = PublicKeyAlgorithm({"algorithm": "ed25519"})
        return bytes(PublicKeyInfo({"algorithm": edwards, "public_key": _ec_point(attributes["EC_POINT"], ED25519_POINT)}).dump())
    if attributes.get("EC_PARAMS") and attributes.get("EC_POINT"):
        domain = ECDomainParameters.load(attributes["EC_PARAMS"])
        point = ECPointBitString(_ec_point(attributes["EC_POINT"], _point_lengths(domain)))
        algorithm = PublicKeyAlgorithm({"algorithm": "ec", "parameters": domain})
        return bytes(PublicKeyInfo({"algorithm": algorithm, "public_key": point}).dump())
    return None


def public_attributes(der: bytes) -> dict[str, bytes]:
    """The other way: a SubjectPublicKeyInfo as an object's value attributes, names without ``CKA_``. Raises ValueError."""
    from asn1crypto.core import OctetString
    from asn1crypto.keys import PublicKeyInfo

    if (value := public_value(der)) is not None:
        return {"VALUE": value}
    info = PublicKeyInfo.load(der, strict=True)
    if info.algorithm == "rsa":
        numbers = info["public_key"].parsed
        integers = {"MODULUS": int(numbers["modulus"].native), "PUBLIC_EXPONENT": int(numbers["public_exponent"].native)}
        return {name: big_integer(number) for name, number in integers.items()}
    point = OctetString(bytes(info["public_key"])).dump()
    parameters = ED25519_OID if info.algorithm == "ed25519" else info["algorithm"]["parameters"].dump()
    return {"EC_PARAMS": bytes(parameters), "EC_POINT": bytes(point)}


def to_pem(der: bytes) -> str:
    """A PEM block of type PUBLIC KEY (RFC 7468), ending with a newline."""
    text = base64.b64encode(der).decode("ascii")
    lines = [text[start : start + 64] for start in range(0, len(text), 64)]
    return "\n".join(["-----BEGIN PUBLIC KEY-----", *lines, "-----END PUBLIC KEY-----", ""])
