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


@pytest.mark.parametrize("halves", [1, 2])
def test_a_key_without_a_label_goes_through_its_life_by_its_id(hsm: Hsm, halves: int) -> None:
    """As Java's keytool leaves it: the label is the certificate's, and there may be no public key object."""
    key = ec.generate_private_key(ec.SECP256R1())
    private, public = hsm.scratch / "private.der", hsm.scratch / "public.der"
    private.write_bytes(key.private_bytes(Encoding.DER, PrivateFormat.TraditionalOpenSSL, NoEncryption()))
    public.write_bytes(key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
    hsm.register()
    for path, kind in list({private: "privkey", public: "pubkey"}.items())[:halves]:
        hsm.tool("--write-object", str(path), "--type", kind, "--usage-sign", "--id", "01")
    # One beside it that stays as it is.
    hsm.tool("--keygen", "--key-type", "AES:32", "--id", "02")

    certificate, csr = {"instance": "primary", "key_label": "", "key_id": "01"}, str(hsm.scratch / "java.csr")
    made = hsm.run("hsm_certificate", **certificate, subject={"CN": "java"}, csr_path=csr)
    if halves == 2:
        assert ok(made)["changed"] is True
        signed = {**certificate, "subject": {"CN": "java"}, "self_signed": {"valid_days": 30}}
        assert [ok(hsm.run("hsm_certificate", check=check, **signed))["changed"] for check in (True, False, True, False)] == [
            True,
            True,
            False,
            False,
        ]
        assert hsm.tool("--list-objects", "--type", "cert").count("Object") == 1
        assert ok(hsm.run("hsm_certificate", **certificate, state="absent"))["changed"] is True
        assert ok(hsm.run("hsm_certificate", **certificate, state="absent"))["changed"] is False
    else:
        assert made["failure"]["code"] == "half_pair" and "'id 01'" in made["msg"], made
    ways = [{"type": "EC", "state": "present"}, {"state": "deactivated"}, {"state": "absent"}]
    for way in ways if halves == 2 else ways[2:]:
        asked = {"label": "", "id": "01", **way}
        planned = ok(hsm.keys(asked, check=True))
        done = ok(hsm.keys(asked))
        assert planned["changed"] is done["changed"] is True and planned["diff"] == done["diff"], way
        assert ok(hsm.keys(asked, check=True))["changed"] is False and ok(hsm.keys(asked))["changed"] is False, way
    left = hsm.tool("--list-objects")
    assert left.count("Object") == 1 and "AES" in left


@pytest.mark.parametrize("label", ["new\nline", "blank ", "\x1b[1m", "line\u2028"])
def test_a_key_of_a_label_that_is_no_line_of_text_goes_by_label_and_id(hsm: Hsm, label: str) -> None:
    hsm.register()
    hsm.tool("--keygen", "--key-type", "AES:32", "--label", label, "--id", "03", "--usage-decrypt")
    hsm.tool("--keygen", "--key-type", "AES:32", "--label", "other", "--id", "04")
    for state in ("deactivated", "absent"):
        asked = {"label": label, "id": "03", "state": state}
        planned, done = (ok(hsm.keys(asked, check=check)) for check in (True, False))
        assert planned["changed"] is done["changed"] is True and planned["diff"] == done["diff"]
        assert label == "blank " or label not in done["diff"]["prepared"], done["diff"]
        assert len(done["diff"]["prepared"].splitlines()) == 2, done["diff"]
        assert ok(hsm.keys(asked, check=True))["changed"] is ok(hsm.keys(asked))["changed"] is False
    assert "ID:         04" in hsm.tool("--list-objects") and "ID:         03" not in hsm.tool("--list-objects")
    # None of that name is made.
    assert "keys[0]" in hsm.keys({"label": label, "id": "03", "type": "AES"})["msg"]


def test_what_only_keys_with_a_label_have_is_refused(primary: Hsm) -> None:
    """And none is made: without a label a run that is cut off could not tell it from others."""
    for asked, words in (
        ({"type": "AES"}, "keys[0] (id 01).label: is empty: there is no key with this id"),
        ({"type": "AES", "generation": 2}, "keys[0] (id 01).generation: is for keys with a label"),
        ({"type": "AES", "on_mismatch": "replace"}, "keys[0] (id 01).on_mismatch: is for keys with a label"),
    ):
        answer = primary.keys({"label": "", "id": "01", **asked})
        assert answer["failed"] is True and words in answer["msg"], answer
    answer = primary.keys({"label": "", "id": "01", "state": "absent"}, {"label": "", "id": "02", "state": "absent"})
    assert "keys[1] (id 02).label: keys[0] has none either" in answer["msg"], answer
