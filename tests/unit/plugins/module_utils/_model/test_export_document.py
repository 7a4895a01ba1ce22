# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is exported is what hsm_key declares: fed back it changes nothing, and what it cannot say is listed with the reason."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

import pytest
import yaml
from ansible.plugins.filter.core import to_nice_yaml as filter_of_ansible
from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.files.yaml_text import to_nice_yaml
from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.keys.look import EmptyToken
from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.keys.planning.circumstances import Circumstances
from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.keys.planning.neighbours import Neighbours
from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.keys.planning.planner import plan_keys
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.export_document import TEMPLATES, export_document
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.keys.generations import split_label, stored_label
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.keys.objects import KeyObject
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.keys.spec import KeySpec, parse_keys
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.keys.states import DESTROYED, STATES
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.keys.types import CURVES, KEY_TYPES, OPERATIONS, class_operations, ordered
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.plan import KEEP
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.records import VirtualKey
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.scope import Scope
from ansible_collections.keyfleet.hsm.plugins.module_utils._module.key_options import KEYS
from hypothesis import given, settings
from hypothesis import strategies as st

SCOPE = {"instance": "primary", "token_label": "payments"}
NOW = datetime(2026, 11, 21, tzinfo=timezone.utc)
LABELS = st.one_of(
    st.builds(stored_label, st.sampled_from(["a", "b", "c"]), st.integers(1, 4)),
    st.sampled_from(
        [
            "",
            " a",
            "a ",
            "{{ a }}",
            "{%",
            "a@10000",
            "a@1",
            "a@02",
            "a@2@2",
            "a@2@3",
            "\x07",
            "k\udcff",
            "k\ud800",
            "Schl\u00fcssel",
            "no",
            "@2",
            "__ansible_type",
            "a[1:2]",
            "a[1:2]@3",
            "a[2:1]",
            "[a:c]",
            "[b:b]",
            "[1]",
        ]
    ),
    st.text(max_size=4),
    st.text("a:[]12@", max_size=8),
)


def record(label: str, **fields: Any) -> VirtualKey:
    """An active AES key that is what hsm_key makes, apart from ``fields``."""
    usual = {"kind": "secret", "key_id": label.encode("utf-8", "replace"), "type": "AES", "size": 256, "curve": None}
    usual["public_key"] = b"der" if fields.get("kind") == "private" else None
    return VirtualKey(**{"token_id": 1, "label": label, "operations": ("encrypt", "decrypt"), "origin": "hsm_sync", **usual, **fields})


def generation(number: int, **fields: Any) -> VirtualKey:
    return record(stored_label("x", number), generation=number, **fields)


@st.composite
def usual_records(draw: st.DrawFn) -> VirtualKey:
    """A key as hsm_key makes it, in any state; its generation is recorded, or it was found by a sync."""
    key_type = KEY_TYPES[draw(st.sampled_from(sorted(KEY_TYPES)))]
    label = draw(LABELS)
    number = split_label(label)[1] or 1
    curve = draw(st.sampled_from(sorted(CURVES))) if key_type.name == "EC" else None
    return record(
        label,
        kind=draw(st.sampled_from(sorted(key_type.halves))),
        key_id=draw(st.sampled_from([label.encode("utf-8", "replace")] * 4 + [b"", b"a", b"\xff"])),
        type=key_type.name,
        size=CURVES[curve].bits if curve else draw(st.sampled_from(key_type.sizes or (key_type.default_size,))),
        curve=curve,
        operations=key_type.default_operations,
        state=draw(st.sampled_from(STATES)),
        allowed_mechanisms=draw(st.sampled_from([None, (), ("0x80000001", "AES_GCM")])),
        generation=draw(st.sampled_from([1, number])),
        fingerprint=draw(st.none() | st.sampled_from(["aa", "bb"])),
    )


ANY_RECORDS = st.builds(
    record,
    LABELS,
    kind=st.sampled_from(["secret", "private", "public"]),
    key_id=st.binary(max_size=2),
    type=st.sampled_from([*KEY_TYPES, "CAMELLIA", "0x80000001", "unknown"]),
    size=st.sampled_from([None, 0, 64, 128, 192, 255, 256, 1024, 2048]),
    curve=st.sampled_from([None, *CURVES, "secp224r1"]),
    operations=st.sets(st.sampled_from(OPERATIONS)).map(ordered),
    state=st.sampled_from([*STATES, "odd"]),
    generation=st.integers(1, 4),
    fingerprint=st.none() | st.sampled_from(["aa", "bb"]),
)
RECORDS = st.lists(st.one_of(usual_records(), ANY_RECORDS), max_size=8)


def address(one: VirtualKey) -> str:
    return f"hsm::softhsm2::7::{one.key_id_text}"


def uri(record: VirtualKey) -> str | None:
    """As of a token that was seen, but for one record that stands for a token that never was."""
    return None if record.token_id == 99 else f"pkcs11:token=payments;id={record.key_id.hex()};type={record.kind}"


def exported(*records: VirtualKey) -> dict[str, Any]:
    return export_document(SCOPE, records, address, uri=uri)


def as_ansible(entry: dict[str, Any]) -> dict[str, Any]:
    """The entry as a module gets it: every option, unset ones with their default. Unknown ones and choices are refused."""
    options = KEYS["keys"]["options"]
    assert entry.keys() <= options.keys()
    for name, value in entry.items():
        choices = options[name].get("choices")
        assert not choices or set(value if isinstance(value, list) else [value]) <= set(choices), (name, value)
    return {name: entry.get(name, option.get("default")) for name, option in options.items()}


def specs_of(keys: list[dict[str, Any]]) -> list[KeySpec]:
    specs, problems = parse_keys([as_ansible(entry) for entry in keys])
    assert problems == ([] if keys else ["keys: is empty: name at least one key"])
    return specs


def on_the_token(records: Sequence[VirtualKey]) -> list[KeyObject]:
    """The key objects that these records were made of."""
    found: list[KeyObject] = []
    for one in records:
        for kind in ["private", "public"] if one.kind == "private" else [one.kind]:
            operations = tuple(name for name in one.operations if name in class_operations(one.type, kind))
            item = KeyObject(len(found) + 1, kind, one.label, one.key_id, one.type, one.size, one.curve, operations)
            item = replace(item, allowed_mechanisms=one.allowed_mechanisms)
            found.append(item)
    return found


def shown(label: str) -> str:
    if any(mark in label for mark in TEMPLATES):
        label = label.replace("{", "\\x7b")
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in label)


@given(RECORDS)
def test_every_key_is_declared_or_listed_with_its_reason_once(records: list[VirtualKey]) -> None:
    document = exported(*records)
    declared = [stored_label(entry["label"], entry.get("generation", 1)) for entry in document["keys"]]
    listed = [other["label"] for other in document["others"]]
    assert Counter(declared + listed) == Counter(shown(one.label) for one in records)
    assert all(other["reason"] for other in document["others"])
    text = to_nice_yaml(document)
    assert yaml.safe_load(text) == json.loads(json.dumps(document)) == document
    assert text == filter_of_ansible(json.loads(json.dumps(document)))
    assert all(char.isprintable() or char == "\n" for char in text)
    assert list(document) == ["format", "instance", "token_label", "keys", "others", "fingerprints", "pkcs11_uris", "pkcs11_uris_current"]


@given(RECORDS)
def test_hsm_key_takes_each_entry_for_its_key_alone(records: list[VirtualKey]) -> None:
    entries = exported(*records)["keys"]
    ids = {one.label: one.key_id or one.label.encode("utf-8", "replace") for one in records}
    meant = [stored_label(entry["label"], entry.get("generation", 1)) for entry in entries]
    assert [(spec.label, spec.key_id) for spec in specs_of(entries)] == [(label, ids[label]) for label in meant]


@given(RECORDS, st.randoms(use_true_random=False))
def test_the_order_of_the_records_does_not_matter(records: list[VirtualKey], chance: Any) -> None:
    before = json.dumps(exported(*records))
    chance.shuffle(records)
    assert json.dumps(exported(*records)) == before


@settings(max_examples=300)
@given(st.lists(usual_records() | ANY_RECORDS, max_size=8, unique_by=lambda one: one.name))
def test_fed_back_to_hsm_key_it_changes_nothing(records: list[VirtualKey]) -> None:
    objects = on_the_token([one for one in records if one.state != DESTROYED])
    circumstances = Circumstances(True, False, {}, EmptyToken(), Neighbours(objects, ()), Scope(token_id=1, records=tuple(records)))
    specs = specs_of(exported(*records)["keys"])
    plans, problems = plan_keys(specs, objects, circumstances, NOW)
    assert problems == []
    assert [(plan.spec.label, plan.action, plan.mismatches) for plan in plans] == [(spec.label, KEEP, ()) for spec in specs]


@pytest.mark.parametrize(
    ("fields", "entry"),
    [
        ({}, {"size": 256, "operations": ["encrypt", "decrypt"]}),
        ({"key_id": b"\x0a\x1b"}, {"id": "0a1b", "size": 256, "operations": ["encrypt", "decrypt"]}),
        ({"key_id": b""}, {"size": 256, "operations": ["encrypt", "decrypt"]}),
        ({"size": None}, {"operations": ["encrypt", "decrypt"]}),
        ({"operations": ("decrypt", "encrypt", "wrap")}, {"size": 256, "operations": ["encrypt", "decrypt", "wrap"]}),
        ({"type": "DES3", "size": 192}, {"size": 192, "operations": ["encrypt", "decrypt"]}),
        ({"type": "DES", "size": 64}, {"size": 64, "operations": ["encrypt", "decrypt"], "allow_weak": True}),
        ({"type": "GENERIC_SECRET", "size": 96, "operations": ("sign",)}, {"size": 96, "operations": ["sign"], "allow_weak": True}),
        ({"type": "SHA512_HMAC", "size": 96, "operations": ("sign",)}, {"size": 96, "operations": ["sign"], "allow_weak": True}),
        ({"type": "GENERIC_SECRET", "size": 112, "operations": ("sign",)}, {"size": 112, "operations": ["sign"]}),
        (
            {"type": "EC", "size": 384, "curve": "P-384", "kind": "private", "operations": ("sign", "verify")},
            {"curve": "P-384", "operations": ["sign", "verify"]},
        ),
        ({"type": "Ed25519", "kind": "private", "operations": ("sign",)}, {"operations": ["sign"]}),
        ({"type": "ML-DSA-65", "kind": "private", "size": None, "operations": ("sign",)}, {"operations": ["sign"]}),
        ({"type": "ML-KEM-768", "kind": "private", "operations": ("decapsulate",)}, {"operations": ["decapsulate"]}),
        (
            {"allowed_mechanisms": ("AES_CBC", "AES_GCM")},
            {"size": 256, "operations": ["encrypt", "decrypt"], "allowed_mechanisms": ["AES_CBC", "AES_GCM"]},
        ),
        ({"allowed_mechanisms": ()}, {"size": 256, "operations": ["encrypt", "decrypt"]}),
        ({"state": "pre-active"}, {"size": 256, "operations": ["encrypt", "decrypt"], "state": "pre-active"}),
        ({"state": "suspended"}, {"generation": 1, "state": "suspended"}),
        ({"state": "deactivated", "key_id": b"\x01"}, {"generation": 1, "id": "01", "state": "deactivated"}),
        ({"state": "compromised", "type": "DES"}, {"generation": 1, "state": "compromised"}),
        ({"state": "destroyed", "size": 1}, {"generation": 1, "state": "destroyed"}),
        ({"type": "RSA", "kind": "public", "operations": ("verify",)}, {"generation": 1, "state": "public_only"}),
        ({"type": "RSA", "kind": "public", "state": "deactivated"}, {"generation": 1, "state": "deactivated"}),
    ],
)
def test_an_entry(fields: dict[str, Any], entry: dict[str, Any]) -> None:
    document = exported(record("k", **fields))
    assert document["keys"] == [{"label": "k", "type": fields.get("type", "AES"), **entry}]
    assert document["others"] == []


@pytest.mark.parametrize(
    ("label", "fields", "reason"),
    [
        ("k", {"type": "CAMELLIA"}, "CAMELLIA is no type"),
        ("k", {"type": "CAMELLIA", "state": "deactivated"}, "CAMELLIA is no type"),
        ("k", {"type": "RSA"}, "a secret key of type RSA"),
        ("k", {"size": 255}, "size: 255 is no size of AES keys"),
        ("k", {"kind": "private", "type": "RSA", "size": 1024, "operations": ("sign",)}, "size: 1024 is no size of RSA keys"),
        ("k", {"kind": "private", "type": "EC", "operations": ("sign",)}, "its curve is not known"),
        ("k", {"kind": "private", "type": "EC", "curve": "secp224r1", "operations": ("sign",)}, "its curve is not known"),
        ("k", {"kind": "public", "type": "RSA", "state": "pre-active"}, "only its public half"),
        ("k", {"state": "odd"}, "'odd' is no state"),
        ("", {}, "it has no label"),
        ("k", {"kind": "private", "type": "RSA", "size": 2048, "operations": ("sign",), "public_key": None}, "its public half is not"),
        ("k[1:3]", {"key_id": b""}, "its label reads as a range: only an entry with 'id' takes it"),
        ("k[3:1]", {"key_id": b""}, "its label reads as a range"),
        ("k[1:3]@2", {"generation": 2}, "its label reads as a range"),
        ("__ansible_type", {}, "its label begins with __ansible_"),
        (" k", {}, "label: ' k' begins or ends with a blank"),
        ("\x07", {}, "its label is not UTF-8, or has a character that cannot be printed"),
        ("k\udcff", {"key_id": b"\xff"}, "its label is not UTF-8"),
        ("k@2", {"generation": 3}, "recorded as generation 3"),
        ("k", {"generation": 2}, "recorded as generation 2"),
        ("k@2", {"generation": 2, "key_id": b"\x01"}, "its label's bytes as its CKA_ID"),
        ("k@2@3", {"generation": 3}, "generation: the label names generation 2 of 'k' already"),
    ],
)
def test_what_cannot_be_declared(label: str, fields: dict[str, Any], reason: str) -> None:
    one = record(label, **fields)
    document = exported(one)
    assert document["keys"] == []
    (other,) = document["others"]
    assert reason in other.pop("reason")
    assert other == {
        "uid": shown(address(one)),
        "kind": one.kind,
        "label": shown(label),
        "id": one.key_id.hex(),
        "type": one.type,
        "size": one.size,
        "curve": one.curve,
        "operations": list(one.operations),
        "state": one.state,
    }


@pytest.mark.parametrize("label", ["k[1:3]", "k[3:1]", "[a:c]-x", "k[1:3]@2"])
def test_a_label_that_reads_as_a_range_is_declared_with_its_id(label: str) -> None:
    for state in ("active", "destroyed"):
        (entry,) = exported(record(label, state=state))["keys"]
        assert (entry["label"], entry["id"]) == (label, label.encode().hex())
        (spec,) = specs_of([entry])
        assert (spec.label, spec.key_id, spec.range) == (label, label.encode(), None)


@pytest.mark.parametrize("fields", [{"kind": "private", "type": "Ed25519", "size": None}, {"operations": ()}])
def test_operations_that_an_entry_cannot_say_are_left_as_they_are(fields: dict[str, Any]) -> None:
    (entry,) = exported(record("k", **fields))["keys"]
    assert "operations" not in entry and entry["label"] == "k"


@pytest.mark.parametrize("label", ["{{ lookup('pipe', 'id') }}", "x{% raw %}", "a{#b", "{{{"])
def test_no_text_of_the_document_can_be_run_as_a_template(label: str) -> None:
    one = record(label, key_id=b"", fingerprint="aa")
    document = exported(one, record(f"{label}@2", generation=2))
    assert document["keys"] == [] and all("looks like a template" in other["reason"] for other in document["others"])
    text = json.dumps(document) + to_nice_yaml(document)
    assert not [mark for mark in TEMPLATES if mark in text.replace("{}", "")]


def test_the_texts_at_the_head_are_as_harmless() -> None:
    group = {"name": "a\udcff", "description": "{{ x }}\nsecond\u202e", "connections": [{"token_label": "{% x"}], "apply_changes": False}
    head = export_document({"group": group}, [], address, uri=uri)["group"]
    assert head["name"] == "a\\udcff" and head["description"] == "\\x7b\\x7b x }}\nsecond\\u202e"
    assert head["connections"] == [{"token_label": "\\x7b% x"}] and head["apply_changes"] is False


def test_what_the_hsm_lacks_or_has_more_than_once_is_listed() -> None:
    records = [record("gone"), record("twice"), record("there")]
    document = export_document(SCOPE, records, address, uri=uri, absent={records[0].name}, repeated={"twice"})
    assert [entry["label"] for entry in document["keys"]] == ["there"]
    reasons = {other["label"]: other["reason"] for other in document["others"]}
    assert reasons["gone"] == "not in the HSM" and "several keys in the HSM" in reasons["twice"]


def declared(*records: VirtualKey) -> tuple[list[tuple[str, int | None, str | None]], list[str]]:
    document = exported(*records)
    keys = [(entry["label"], entry.get("generation"), entry.get("state")) for entry in document["keys"]]
    return keys, [other["label"] for other in document["others"]]


def test_a_family_is_one_entry_and_those_out_of_use() -> None:
    family = [generation(1, state="compromised"), generation(2, state="deactivated"), generation(3)]
    assert declared(*family) == ([("x", 1, "compromised"), ("x", 2, "deactivated"), ("x", 3, None)], [])
    assert declared(generation(1), generation(2, state="deactivated"), generation(3)) == ([("x", 2, "deactivated"), ("x", 3, None)], ["x"])
    assert declared(generation(1), generation(2, state="deactivated")) == ([("x", 2, "deactivated")], ["x"])
    assert declared(generation(1), generation(2, state="pre-active")) == ([("x", 2, "pre-active")], ["x"])
    assert declared(generation(2), generation(3)) == ([("x", 3, None)], ["x@2"])
    assert declared(generation(10), generation(9, state="deactivated")) == ([("x", 9, "deactivated"), ("x", 10, None)], [])


def test_an_earlier_generation_that_is_in_use_is_told_apart() -> None:
    (other,) = exported(generation(1), generation(2))["others"]
    assert "hsm_key takes 'x@2' for a later generation of this key, leaves this one as it is (previous: keep)" in other["reason"]
    # A generation that is destroyed still counts, and so does what stands in a row behind it.
    (other,) = exported(generation(1), generation(2, state="destroyed"), record("x@3"))["others"]
    assert "hsm_key takes 'x@3' for a later generation" in other["reason"]


def test_a_label_that_was_not_recorded_as_a_generation_is_taken_as_it_is() -> None:
    assert declared(record("x@2")) == ([("x@2", None, None)], [])
    assert declared(record("x@2", state="deactivated")) == ([("x@2", None, "deactivated")], [])
    assert declared(record("x"), record("x@3")) == ([("x", None, None), ("x@3", None, None)], [])
    # In a row behind the first: hsm_key takes it for the current generation, so the first cannot be declared.
    assert declared(record("x"), record("x@2")) == ([("x@2", None, None)], ["x"])
    assert declared(record("x", state="deactivated"), record("x@2")) == ([("x", 1, "deactivated"), ("x@2", None, None)], [])
    assert declared(record("x@2", state="deactivated"), record("x@2@2")) == ([("x@2@2", None, None)], ["x@2"])
    # One that is destroyed is in no row.
    assert declared(record("x"), record("x@2", state="destroyed")) == ([("x", None, None), ("x@2", None, "destroyed")], [])


def test_names_that_occur_twice() -> None:
    document = exported(record("k"), record("k", key_id=b"\x01"), record("other"))
    assert [entry["label"] for entry in document["keys"]] == ["other"]
    assert [other["reason"] for other in document["others"]] == ["2 keys have this label, and hsm_key finds a key by its label"] * 2
    document = exported(record("k"), record("l", key_id=b"k"), record("other"))
    assert [entry["label"] for entry in document["keys"]] == ["other"]
    assert ["several keys have CKA_ID 6b" in other["reason"] for other in document["others"]] == [True, True]
    # A key without a CKA_ID counts as one that has its label's bytes, since that is what hsm_key would make.
    assert declared(record("k", key_id=b""), record("l", key_id=b"")) == ([("k", None, None), ("l", None, None)], [])
    assert declared(record("k", key_id=b""), record("l", key_id=b"k")) == ([], ["k", "l"])


def test_fingerprints_tell_of_a_key_that_was_exchanged() -> None:
    first, other = record("b", fingerprint="0f"), record("a", fingerprint="1e")
    assert list(exported(first, other, record("c"))["fingerprints"].items()) == [(address(other), "1e"), (address(first), "0f")]
    pair = replace(first, kind="private", type="RSA", fingerprint="00")
    assert exported(first, pair, replace(pair, kind="public"))["fingerprints"] == {address(first): ["00", "0f"]}
    assert exported(record("k\udcff", key_id=b"\xff", fingerprint="0f"))["fingerprints"] == {"hsm::softhsm2::7::k\\udcff": "0f"}


def test_each_key_has_its_uri_and_each_label_that_of_its_current_generation() -> None:
    first, second, third = (generation(number, kind="private", type="EC", curve="P-256", operations=("sign",)) for number in (1, 2, 3))
    retired, gone = replace(first, state="deactivated"), record("gone", state="destroyed")
    before, after = exported(retired, second, gone), exported(retired, replace(second, state="deactivated"), third, gone)
    assert before["pkcs11_uris"] == {address(one): uri(one) for one in (first, second)}
    assert before["pkcs11_uris_current"] == {"x": uri(second)}
    assert after["pkcs11_uris_current"] == {"x": uri(third)} and uri(third) != uri(second)
    # What nobody can mean is not named: the key that is not in the HSM, several of one name, a token that was never seen.
    absent = export_document(SCOPE, [second], address, uri=uri, absent={second.name})
    assert absent["pkcs11_uris"] == absent["pkcs11_uris_current"] == {}
    twins = [record("twin", key_id=b"\x01"), record("twin", key_id=b"\x02")]
    assert exported(*twins)["pkcs11_uris"] == {address(twins[0]): [uri(one) for one in twins]}
    assert exported(*twins)["pkcs11_uris_current"] == {}
    unseen = exported(record("a", token_id=99))
    assert unseen["keys"] and unseen["pkcs11_uris"] == unseen["pkcs11_uris_current"] == {}
