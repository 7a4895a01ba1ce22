# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Public keys as attributes and as DER: what another library reads is what the token said."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.keyfleet.hsm.plugins.module_utils._cryptoki.public_key import public_attributes, public_key_der
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.keys.material import octet_string
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.keys.types import ED25519_OID, ED25519_PARAMS
from asn1crypto.core import ObjectIdentifier
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

KEYS = {
    "RSA": rsa.generate_private_key(public_exponent=65537, key_size=2048).public_key(),
    "P-256": ec.generate_private_key(ec.SECP256R1()).public_key(),
    "P-521": ec.generate_private_key(ec.SECP521R1()).public_key(),
    "Ed25519": ed25519.Ed25519PrivateKey.generate().public_key(),
}


def der(key: Any) -> bytes:
    return bytes(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


@pytest.mark.parametrize("name", list(KEYS))
def test_there_and_back(name: str) -> None:
    written = der(KEYS[name])
    assert public_key_der(public_attributes(written)) == written


@pytest.mark.parametrize("parameters", sorted(ED25519_PARAMS))
def test_ed25519_by_its_oid_or_by_its_name(parameters: bytes) -> None:
    raw = KEYS["Ed25519"].public_bytes(Encoding.Raw, PublicFormat.Raw)
    assert public_key_der({"EC_PARAMS": parameters, "EC_POINT": octet_string(raw)}) == der(KEYS["Ed25519"])


CURVES = ec.EllipticCurve.__subclasses__()  # all that another library has


@pytest.mark.parametrize("curve", CURVES, ids=lambda curve: curve.name)
@given(data=st.data())
def test_a_point_is_the_same_bare_and_wrapped_whatever_it_begins_with(curve: type[ec.EllipticCurve], data: st.DataObject) -> None:
    oid = ObjectIdentifier(getattr(ec.EllipticCurveOID, curve.name.upper()).dotted_string).dump()
    size = (curve.key_size + 7) // 8
    form, length = data.draw(st.sampled_from([(b"\x04", 2 * size), (b"\x02", size), (b"\x03", size)]), "form")
    # One that reads as an OCTET STRING of its rest: luck finds one in 65,536.
    unlucky = st.just(bytes([length - 1]) + bytes(length - 1))
    point = form + data.draw(unlucky | st.binary(min_size=length, max_size=length), "rest")
    wrapped = public_key_der({"EC_PARAMS": oid, "EC_POINT": octet_string(point)})
    assert wrapped is not None
    assert wrapped.endswith(b"\x00" + point)
    assert public_key_der({"EC_PARAMS": oid, "EC_POINT": point}) == wrapped


@given(st.one_of(st.binary(min_size=30, max_size=30).map(lambda rest: b"\x04\x1e" + rest), st.binary(min_size=32, max_size=32)))
def test_an_edwards_point_is_the_same_bare_and_wrapped(point: bytes) -> None:
    wrapped = public_key_der({"EC_PARAMS": ED25519_OID, "EC_POINT": octet_string(point)})
    assert wrapped is not None
    assert wrapped.endswith(b"\x00" + point)
    assert public_key_der({"EC_PARAMS": ED25519_OID, "EC_POINT": point}) == wrapped


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"MODULUS": b"\x01"},
        {"EC_PARAMS": b"\x06\x03\x2b\x65\x70", "EC_POINT": b""},
        {"EC_PARAMS": b"\x13\x0acurve25519", "EC_POINT": octet_string(bytes(32))},
        {"EC_PARAMS": b"\x13\x0aedwards448", "EC_POINT": octet_string(bytes(57))},
        {"EC_PARAMS": b"nonsense", "EC_POINT": b"nonsense"},
    ],
)
def test_what_has_no_der_is_none(attributes: dict[str, bytes]) -> None:
    assert public_key_der(attributes) is None
