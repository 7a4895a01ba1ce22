# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Pairs that are not named as we name them: one CKA_ID, and labels of their own, as PIV tokens and Java have them."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hsm_fixture import Hsm, ok


@pytest.mark.parametrize("private_label", ["PIV Private Key 9A", ""])
def test_a_pair_with_labels_of_its_own_goes_through_its_life_by_label_and_id(hsm: Hsm, private_label: str) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    private, public = hsm.scratch / "private.der", hsm.scratch / "public.der"
    private.write_bytes(key.private_bytes(Encoding.DER, PrivateFormat.TraditionalOpenSSL, NoEncryption()))
    public.write_bytes(key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
    hsm.register()
    named = ["--label", private_label] if private_label else []
    hsm.tool("--write-object", str(private), "--type", "privkey", "--usage-sign", "--id", "01", *named)
    hsm.tool("--write-object", str(public), "--type", "pubkey", "--usage-sign", "--id", "01", "--label", "PIV Public Key 9A")
    # A pair beside it that stays as it is.
    hsm.tool("--keypairgen", "--key-type", "EC:prime256v1", "--label", "other", "--id", "02")

    label = private_label or "PIV Public Key 9A"
    asked = {"label": label, "id": "01"}
    for state in ({"type": "EC", "state": "present"}, {"state": "deactivated"}, {"state": "destroyed"}):
        planned = ok(hsm.keys({**asked, **state}, check=True))
        done = ok(hsm.keys({**asked, **state}))
        assert planned["changed"] is done["changed"] is True and planned["diff"] == done["diff"], state
        assert ok(hsm.keys({**asked, **state}, check=True))["changed"] is False, state
        assert ok(hsm.keys({**asked, **state}))["changed"] is False, state
        if state["state"] == "present":
            certified = hsm.run(
                "hsm_certificate", instance="primary", key_label=label, subject={"CN": "card"}, csr_path=str(hsm.scratch / "card.csr")
            )
            assert ok(certified)["changed"] is True
    left = hsm.tool("--list-objects")
    assert "9A" not in left and left.count("Object") == 2
