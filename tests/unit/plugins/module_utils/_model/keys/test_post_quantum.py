# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Post-quantum keys by their parameter sets, and their public keys as other code writes them."""

from __future__ import annotations

import pytest
from ansible_collections.keyfleet.hsm.plugins.module_utils._cryptoki.public_key import public_attributes
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.keys.post_quantum import PARAMETER_SETS, type_of
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.keys.spec import parse_keys
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.keys.types import KEY_TYPES
from cryptography.hazmat.primitives.asymmetric import mldsa, mlkem
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from plain_plans import World, key

MADE = {
    "ML-DSA-44": mldsa.MLDSA44PrivateKey,
    "ML-DSA-65": mldsa.MLDSA65PrivateKey,
    "ML-DSA-87": mldsa.MLDSA87PrivateKey,
    "ML-KEM-768": mlkem.MLKEM768PrivateKey,
    "ML-KEM-1024": mlkem.MLKEM1024PrivateKey,
}


@pytest.mark.parametrize("name", list(MADE))
def test_a_public_key_as_others_write_it(name: str) -> None:
    public = MADE[name].generate().public_key()
    value, der = public.public_bytes_raw(), public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert PARAMETER_SETS[name].der_of(value) == der and public_attributes(der) == {"VALUE": value}
    assert PARAMETER_SETS[name].der_of(value[1:]) is None
    assert not [other for other in PARAMETER_SETS if other != name and PARAMETER_SETS[other].value_of(der)]


def test_each_parameter_set_is_a_type() -> None:
    assert {type_of(known.family, known.number): KEY_TYPES[name].ckk for name, known in PARAMETER_SETS.items()} == {
        name: known.family for name, known in PARAMETER_SETS.items()
    }
    assert type_of("ML_DSA", None) is None and type_of("ML_DSA", 9) is None and type_of("AES", 1) is None


def test_what_cannot_be_declared() -> None:
    entries = [
        {"label": "a", "type": "ML-DSA-65", "source": {"src": "/key.pem"}},
        {"label": "b", "type": "ML-KEM-768", "size": 768},
        {"label": "c", "type": "ML-KEM-768", "operations": ["sign"]},
    ]
    assert parse_keys(entries)[1] == [
        "keys[0] (a).source: ML-DSA-65 keys are generated in the HSM and not imported: leave it out",
        "keys[1] (b).size: ML-KEM-768 keys have one size: leave it out",
        "keys[2] (c).operations: ML-KEM-768 keys cannot sign: use encapsulate, decapsulate",
    ]


def test_only_the_public_half_of_a_key_out_of_use_stops() -> None:
    """It may still open what was encapsulated for it."""
    changes = World((key(type="ML-KEM-768"),)).plan({"state": "deactivated", "enforce": True}).only().changes
    assert [(change.item.kind, change.name, change.value) for change in changes] == [("public", "ENCAPSULATE", False)]
