# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Public keys as attributes and as DER: what another library reads is what the token said."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.keyfleet.hsm.plugins.module_utils._cryptoki.public_key import public_attributes, public_key_der
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.keys.material import octet_string
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.keys.types import ED25519_PARAMS
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

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
