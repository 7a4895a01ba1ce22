# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which mechanisms a key of a type can be used with."""

from __future__ import annotations

import pytest
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.keys.mechanism_types import none_fits
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.keys.types import KEY_TYPES

# The types that each is for; None: it may be any.
MECHANISMS = {
    "SHA256_RSA_PKCS": "RSA",
    "RSA_AES_KEY_WRAP": "RSA",
    "SHA3_256_RSA_PKCS_PSS": "RSA",
    "AES_GCM": "AES",
    "AES_CMAC": "AES",
    "DES3_ECB": "DES3",
    "DES_ECB": "DES",
    "ECDSA_SHA256": "EC",
    "ECDH1_DERIVE": "EC",
    "EDDSA": "Ed25519",
    "SHA256_HMAC": "GENERIC_SECRET SHA256_HMAC",
    "SHA256_HMAC_GENERAL": "GENERIC_SECRET SHA256_HMAC",
    "ML_KEM": "ML-KEM-512 ML-KEM-768 ML-KEM-1024",
    "HASH_ML_DSA_SHA256": "ML-DSA-44 ML-DSA-65 ML-DSA-87",
    "AES_KEY_GEN": "",
    "CAMELLIA_CBC": "",
    "0x80000001": None,
    "HKDF_DERIVE": None,
}


@pytest.mark.parametrize("mechanism", list(MECHANISMS))
def test_a_key_that_could_do_nothing(mechanism: str) -> None:
    types = MECHANISMS[mechanism]
    fits = [name for name in KEY_TYPES if not none_fits(name, [mechanism])]
    assert sorted(fits) == sorted(KEY_TYPES if types is None else types.split())


def test_one_that_fits_is_enough() -> None:
    assert none_fits("AES", ["SHA256_RSA_PKCS", "EDDSA"])
    assert not none_fits("AES", ["SHA256_RSA_PKCS", "AES_GCM"])
    assert not none_fits("AES", ["SHA256_RSA_PKCS", "0x80000001"])
    assert not none_fits("", ["EDDSA"])  # a key that is not made has no type here
