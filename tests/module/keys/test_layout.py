# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Keys that the Eviden server can use: made so, found so, and relabelled when asked, also after a crash."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from functools import partial
from typing import Any

import pytest
from faulty import Faulty, with_plan
from hsm_fixture import Hsm, Pair, four_steps, ok

RSA = {"label": "ca", "type": "RSA", "size": 2048}
EC = {"label": "web", "type": "EC"}
FAST = {"label": "fast", "type": "EC", "modifiable": False}
CERTIFICATE = {"key_label": "web", "subject": {"CN": "web.example.com"}, "self_signed": {}}
CLASSES = {"Private Key": "private", "Public Key": "public", "Secret Key": "secret", "Certificate": "certificate"}
EVIDEN_WEB = {("private", "web", "web"), ("public", "web_pk", "web_pk"), ("certificate", "web", "web_cert")}
PKCS11_WEB = {("private", "web", "web"), ("public", "web", "web"), ("certificate", "web", "web")}


def named(hsm: Hsm) -> list[tuple[str, str, str]]:
    """Class, label and CKA_ID (as text) of all objects, as another program sees them."""
    found = []
    for item in re.split(r"\n(?=\S)", hsm.tool("--list-objects")):
        kind = next((word for text, word in CLASSES.items() if item.startswith(text)), None)
        if kind is not None:
            fields = {name: re.search(rf"^\s+{name}:\s+(.*)$", item, re.MULTILINE) for name in ("label", "ID")}
            values = {name: match.group(1).strip() if match else "" for name, match in fields.items()}
            found.append((kind, values["label"], bytes.fromhex(values["ID"]).decode()))
    return sorted(found)


def certificate(hsm: Hsm, *, check: bool = False, **options: Any) -> dict[str, Any]:
    return hsm.run("hsm_certificate", check=check, instance="primary", **{**CERTIFICATE, **options})


def sync(hsm: Hsm, *, check: bool = False, **options: Any) -> dict[str, Any]:
    return hsm.run("hsm_sync", check=check, instance="primary", **options)


def declare(hsm: Hsm, layout: str = "eviden", **options: Any) -> dict[str, Any]:
    args = {**hsm.instance(**options), "layout": layout}
    return four_steps(lambda *, check: hsm.run("hsm_instance", check=check, **args))


def notes(hsm: Hsm) -> int:
    with closing(sqlite3.connect(hsm.registry)) as registry:
        return int(registry.execute("SELECT count(*) FROM pending_layout").fetchone()[0])


def test_a_change_of_layout_is_shown_and_touches_no_key(primary: Hsm) -> None:
    ok(primary.keys(EC))
    before = named(primary)
    done = declare(primary)
    assert done["instance"]["layout"] == "eviden"
    shown = [done["diff"][side]["instance primary"]["layout"] for side in ("before", "after")]
    assert shown == ["pkcs11", "eviden"] and named(primary) == before
    assert ok(primary.keys(EC))["changed"] is False


def test_pairs_and_certificates_are_made_for_the_server(primary: Hsm) -> None:
    """Made, found, imported, mended, destroyed: each as in the other layout."""
    declare(primary)
    four_steps(lambda *, check: primary.keys(EC, RSA, {"label": "dek", "type": "AES"}, check=check))
    four_steps(partial(certificate, primary))
    rest = {("private", "ca", "ca"), ("public", "ca_pk", "ca_pk"), ("secret", "dek", "dek")}
    assert set(named(primary)) == EVIDEN_WEB | rest and len(named(primary)) == 6
    found = sync(primary)
    assert found["summary"] == {"added": 0, "known": 3, "missing": 0, "drifted": 0} and found["layout"] == []
    # A certificate is found by its key's public key where somebody gave it another id.
    with_id = ["--write-object", str(primary.scratch / "web.der"), "--type", "cert", "--label", "web", "--id", "0b"]
    primary.tool("--read-object", "--type", "cert", "--label", "web", "--output-file", str(primary.scratch / "web.der"))
    primary.tool("--delete-object", "--type", "cert", "--label", "web")
    primary.tool(*with_id)
    assert ok(certificate(primary))["changed"] is False
    primary.tool("--delete-object", "--type", "pubkey", "--label", "ca_pk")
    assert "say repair: true" in primary.keys(RSA)["msg"]
    four_steps(lambda *, check: primary.keys(RSA, check=check, repair=True))
    assert rest <= set(named(primary))
    four_steps(partial(certificate, primary, state="absent", subject=None, self_signed=None))
    four_steps(lambda *, check: primary.keys({"label": "web", "state": "absent"}, check=check))
    assert set(named(primary)) == rest
    answer = primary.keys({"label": "dek", "type": "AES", "generation": 2})
    assert answer["failure"]["code"] == "cannot_plan" and "keys of an instance with layout: eviden are not rotated" in answer["msg"]


@pytest.fixture
def laid_out_otherwise(primary: Hsm) -> Hsm:
    """A pair, a certificate and a pair that cannot be written to, from the time before the layout was declared."""
    ok(primary.keys(EC, {**RSA, "modifiable": False}))
    ok(certificate(primary))
    declare(primary)
    return primary


def test_what_was_there_is_reported_and_relabelled_when_asked(laid_out_otherwise: Hsm) -> None:
    hsm = laid_out_otherwise
    found = ok(sync(hsm))
    assert found["changed"] is False and set(named(hsm)) >= PKCS11_WEB
    assert [(entry["label"], entry["object"]) for entry in found["layout"]] == [
        ("ca", "public_key"),
        ("web", "certificate"),
        ("web", "public_key"),
    ]
    assert found["layout"][2]["found"] == {"id": b"web".hex(), "label": "web"}
    assert found["layout"][2]["wanted"] == {"id": b"web_pk".hex(), "label": "web_pk"}
    assert "repair: layout relabels them" in found["_raw"]
    fingerprint = ok(certificate(hsm))["fingerprint"]
    done = four_steps(partial(sync, hsm, repair="layout"))
    assert done["relabelled"] == found["layout"] and done["not_relabelled"] == []
    assert set(named(hsm)) == EVIDEN_WEB | {("private", "ca", "ca"), ("public", "ca_pk", "ca_pk")} and len(named(hsm)) == 5
    again = ok(hsm.keys(EC, {**RSA, "modifiable": False}))
    assert again["changed"] is False and notes(hsm) == 0
    assert ok(certificate(hsm))["fingerprint"] == fingerprint and ok(certificate(hsm))["matches_key"] is True
    assert ok(sync(hsm))["layout"] == []


def test_what_cannot_be_relabelled_is_left_and_told(primary: Hsm) -> None:
    ok(primary.keys(EC, {**FAST, "destroyable": False}, {"label": "web_pk", "type": "AES"}))
    before = named(primary)
    refused = sync(primary, repair="layout")
    assert "declare layout: eviden with hsm_instance first" in refused["msg"]
    declare(primary)
    for check in (True, False):
        answer = ok(sync(primary, check=check, repair="layout"))
        assert {entry["label"]: entry["code"] for entry in answer["not_relabelled"]} == {"fast": "not_destroyable", "web": "name_taken"}
        assert answer["changed"] is False and named(primary) == before


# C_SetAttributeValue writes CKA_ID and CKA_LABEL of the public half of web, C_CreateObject the certificate of web and the public half of
# fast, C_DestroyObject destroys the old ones.
POINTS = [f"{call}:{number}:kill" for call in ("C_SetAttributeValue", "C_CreateObject", "C_DestroyObject") for number in (1, 2)]
POINTS += [
    "C_SetAttributeValue:2:before=0x30",
    "C_SetAttributeValue:1:after=0x5",
    "C_CreateObject:2:after=0x5",
    "C_DestroyObject:1:before=0x30",
]


@pytest.mark.parametrize("point", POINTS)
def test_the_next_run_finishes_what_was_cut_off(faulty: Faulty, point: str) -> None:
    hsm = faulty.hsm
    ok(hsm.keys(EC, FAST))
    ok(certificate(hsm))
    with closing(sqlite3.connect(hsm.registry)) as registry:
        registry.execute("UPDATE instance SET layout = 'eviden'")
        registry.commit()
    with_plan(faulty, point)
    answer = sync(hsm, repair="layout")
    assert "after" in point or answer["failed"] is True, answer
    kinds = {kind for kind, _label, key_id in named(hsm) if key_id.startswith("web")}
    assert kinds == {"private", "public", "certificate"}  # nothing is lost at any point
    with_plan(faulty, "")
    assert ok(hsm.keys(EC, FAST, check=True))["changed"] is False
    done = ok(sync(hsm, repair="layout"))
    assert done["not_relabelled"] == []
    assert set(named(hsm)) == EVIDEN_WEB | {("private", "fast", "fast"), ("public", "fast_pk", "fast_pk")} and len(named(hsm)) == 5
    assert ok(sync(hsm, repair="layout"))["changed"] is False and notes(hsm) == 0
    assert ok(hsm.keys(EC, FAST))["changed"] is False


def test_a_token_that_fails_after_another_one_was_relabelled(faulty: Faulty) -> None:
    """What was done is told, whatever comes after it."""
    hsm = faulty.hsm
    tokens = [hsm.token("payments"), hsm.token("more")]
    ok(faulty.register(tokens=tokens))
    for token in ("payments", "more"):
        ok(hsm.keys(EC, token_label=token))
    ok(faulty.register(tokens=tokens, layout="eviden"))
    with_plan(faulty, "C_Login:3:before=0x30")
    first = sync(hsm, repair="layout")
    assert first["failed"] is True and first["changed"] is False and first["relabelled"] == []
    assert [entry["code"] for entry in first["not_relabelled"]] == ["CKR_DEVICE_ERROR", "not_attempted"]
    with_plan(faulty, "C_Login:4:before=0x30")
    answer = sync(hsm, repair="layout")
    assert answer["failed"] is True and answer["failure"]["code"] == "CKR_DEVICE_ERROR" and answer["changed"] is True, answer
    assert "1 of the objects could not be relabelled: web: token 'more' (slot " in answer["msg"]
    assert [entry["label"] for entry in answer["relabelled"]] == ["web"] == [entry["label"] for entry in answer["not_relabelled"]]
    with_plan(faulty, "")
    assert [entry["label"] for entry in ok(sync(hsm, repair="layout"))["relabelled"]] == ["web"]
    # The records were written before, and nothing but the note of a run that was cut off is left to do.
    hsm.tool("--keygen", "--key-type", "AES:32", "--label", "dek", "--id", "01")
    with closing(sqlite3.connect(hsm.registry)) as registry:
        note = "SELECT token_id, key_id, label, public_key, operations, 1, 1, '', '' FROM virtual_key WHERE label = 'web' LIMIT 1"
        registry.execute(f"INSERT INTO pending_layout {note}")
        registry.commit()
    with_plan(faulty, "C_Login:3:before=0x30")
    answer = sync(hsm, repair="layout")
    assert answer["failure"]["code"] == "CKR_DEVICE_ERROR" and answer["changed"] is True and ok(sync(hsm))["summary"]["added"] == 0


def test_a_public_half_that_a_cut_off_write_has_lost_is_made_again(faulty: Faulty) -> None:
    """SoftHSM writes attributes in place. The note has the value, also where the registry's record of the key is gone."""
    hsm = faulty.hsm
    ok(hsm.keys(EC))
    with closing(sqlite3.connect(hsm.registry)) as registry:
        registry.execute("UPDATE instance SET layout = 'eviden'")
        registry.commit()
    with_plan(faulty, "C_SetAttributeValue:1:kill")
    assert sync(hsm, repair="layout")["failed"] is True and notes(hsm) == 1
    with_plan(faulty, "")
    hsm.tool("--delete-object", "--type", "pubkey", "--id", b"web_pk".hex())
    with closing(sqlite3.connect(hsm.registry)) as registry:
        registry.execute("UPDATE virtual_key SET public_key = NULL")
        registry.commit()
    assert ok(sync(hsm))["layout"][0]["found"] is None
    done = four_steps(partial(sync, hsm, repair="layout"))
    assert done["relabelled"][0]["found"] is None and notes(hsm) == 0
    assert named(hsm) == [("private", "web", "web"), ("public", "web_pk", "web_pk")]
    assert ok(hsm.keys(EC))["changed"] is False


def test_a_copy_gets_the_names_of_its_own_instance(hsm: Hsm) -> None:
    pair = Pair.made(hsm)
    hsm.register("standby", tokens=[hsm.token("payments-b")], environment=pair.standby.environment, layout="eviden")
    ok(pair.keys({**EC, "extractable": True}))
    four_steps(partial(pair.sync, repair="wrap"))
    there, here = pair.tool_b("--list-objects"), pair.tool("--list-objects")
    assert there.count("Public Key Object") == 1 and "web_pk" in there and "web_pk" not in here
    assert ok(pair.sync(repair="wrap"))["members"] == []


def test_kms_config_names_the_keys_that_the_server_could_not_use(laid_out_otherwise: Hsm) -> None:
    hsm = laid_out_otherwise
    ok(hsm.keys({"label": "dek", "type": "AES"}))
    instance = {**hsm.instance(), "admins": ["ops"], "layout": "eviden"}
    settings = {"instances": [instance], "config_path": str(hsm.scratch / "kms.toml")}
    found = ok(hsm.run("kms_config", **settings))
    assert [(entry["instance"], entry["label"], entry["object"]) for entry in found["sharing"]] == [
        ("primary", "ca", "public_key"),
        ("primary", "web", "certificate"),
        ("primary", "web", "public_key"),
    ]
    assert "the server may not be able to use 'ca', 'web', because" in found["_raw"]
    ok(sync(hsm, repair="layout"))
    after = ok(hsm.run("kms_config", **settings))
    assert after["sharing"] == [] and "the server may not be able" not in after["_raw"]
