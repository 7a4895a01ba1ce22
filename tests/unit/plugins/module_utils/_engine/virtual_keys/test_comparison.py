# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which key each record points at: keys and records -> what belongs together, what differs, what has no counterpart."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.virtual_keys.comparison import compare
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.keys.objects import Key
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.records import VirtualKey
from hypothesis import given
from hypothesis import strategies as st
from plain_keys import half, named, pair, record_of, secret

AES, EC = secret(), pair()


def name(key: Key | VirtualKey) -> str:
    kind, key_id, label = key.name
    return f"{kind[:2]} {label}/{key_id.decode()}"


def told(keys: Sequence[Key], records: Sequence[VirtualKey]) -> list[str]:
    """Each match as ``record = key: what differs``, what was added, what is missing, and how many keys have no name."""
    nameless = [key for key in keys if not key.main.label and not key.main.key_id]
    found = compare([key for key in keys if key not in nameless], records, nameless)
    lines = [
        f"{name(match.record)} = {name(match.key)}: {' '.join(field for field, _was, _is in match.drift)}".rstrip(": ")
        for match in found.matches
    ]
    lines += [f"added {name(key)}" for key in found.added] + [f"missing {name(record)}" for record in found.missing]
    return [*lines, *(["nameless"] * len(found.nameless))]


@pytest.mark.parametrize(
    ("keys", "records", "lines"),
    [
        ([], [], []),
        ([AES], [], ["added se dek/dek"]),
        ([], [record_of(AES)], ["missing se dek/dek"]),
        ([AES, EC], [record_of(EC), record_of(AES)], ["pr sig/sig = pr sig/sig", "se dek/dek = se dek/dek"]),
        # The whole name, also where that is another key by now: all that differs is told.
        (
            [secret(type="DES3", size=192, value="bb0001", operations=("wrap",))],
            [record_of(AES)],
            ["se dek/dek = se dek/dek: type operations size fingerprint"],
        ),
        ([pair(value="q")], [record_of(EC)], ["pr sig/sig = pr sig/sig: fingerprint"]),
        # What one side does not say is no drift: a copy that was unwrapped says neither size nor check value.
        ([secret(size=None, value=None)], [record_of(AES)], ["se dek/dek = se dek/dek"]),
        ([AES], [record_of(AES, size=None, fingerprint=None)], ["se dek/dek = se dek/dek"]),
        ([secret(operations=("decrypt",), untold=("encrypt", "wrap"))], [record_of(AES)], ["se dek/dek = se dek/dek"]),
        ([secret(operations=("decrypt",), untold=("wrap",))], [record_of(AES)], ["se dek/dek = se dek/dek: operations"]),
        (
            [secret(allowed_mechanisms=())],
            [record_of(AES, allowed_mechanisms=("AES_GCM",))],
            ["se dek/dek = se dek/dek: allowed_mechanisms"],
        ),
        ([AES], [record_of(AES, allowed_mechanisms=("AES_GCM",))], ["se dek/dek = se dek/dek"]),
        ([secret(allowed_mechanisms=("AES_GCM",))], [record_of(AES)], ["se dek/dek = se dek/dek"]),
        ([AES], [record_of(AES, state="destroyed")], ["se dek/dek = se dek/dek: state"]),
        # One name alone, where that is clear.
        ([named(AES, key_id=b"9")], [record_of(AES)], ["se dek/dek = se dek/9: id"]),
        ([named(AES, "x")], [record_of(AES)], ["se dek/dek = se x/dek: label"]),
        ([named(AES, "x", b"9")], [record_of(AES)], ["added se x/9", "missing se dek/dek"]),  # 24 bits are no ground
        ([named(EC, "x", b"9")], [record_of(EC)], ["pr sig/sig = pr x/9: id label"]),  # a public key is
        ([named(half("private", type="RSA"), "x", b"9")], [record_of(pair(type="RSA"))], ["pr sig/sig = pr x/9: id label operations"]),
        ([named(half("private"), "x", b"9")], [record_of(EC)], ["added pr x/9", "missing pr sig/sig"]),
        ([named(AES, "a"), named(AES, "b")], [record_of(AES)], ["added se a/dek", "added se b/dek", "missing se dek/dek"]),  # twice there
        ([named(AES, "x")], [record_of(AES), record_of(named(AES, "y"))], ["added se x/dek", "missing se dek/dek", "missing se y/dek"]),
        # CKA_ID before CKA_LABEL.
        (
            [secret("b", b"1", value=None), secret("a", b"2", value=None)],
            [record_of(secret("a", b"1", value=None))],
            ["se a/1 = se b/1: label", "added se a/2"],
        ),
        # Of another kind, or empty: no name in common.
        ([secret("k")], [record_of(pair("k"))], ["added se k/k", "missing pr k/k"]),
        (
            [secret("a", b""), secret("", b"1")],
            [record_of(secret("b", b"")), record_of(secret("", b"2"))],
            ["added se a/", "added se /1", "missing se b/", "missing se /2"],
        ),
        # A public key is worth more than a name.
        (
            [pair("c", b"3"), pair("d", b"1", value="q")],
            [record_of(pair("a", b"1")), record_of(pair("b", b"2", value="q"))],
            ["pr a/1 = pr c/3: id label", "pr b/2 = pr d/1: id label"],
        ),
        # What is known to be another key is not matched by one name.
        ([pair("fresh", b"sig", value="q")], [record_of(EC)], ["added pr fresh/sig", "missing pr sig/sig"]),
        ([secret("dek", b"3", value="bb0001")], [record_of(AES)], ["added se dek/3", "missing se dek/dek"]),
        ([secret("dek", b"3", size=128, value=None)], [record_of(AES)], ["added se dek/3", "missing se dek/dek"]),
        ([secret("dek", b"3", type="DES3", value=None)], [record_of(AES)], ["added se dek/3", "missing se dek/dek"]),
        ([secret("dek", b"3", value=None)], [record_of(AES)], ["se dek/dek = se dek/3: id"]),
        ([secret("dek", b"3", type="unknown")], [record_of(AES)], ["se dek/dek = se dek/3: id type"]),  # not known to be another
        # A new key does not take the record of a destroyed one, unless it has its whole name.
        ([named(AES, "other")], [record_of(AES, state="destroyed")], ["added se other/dek"]),
        ([named(EC, "other")], [record_of(EC, state="destroyed")], ["added pr other/sig"]),
        # A record of a public key alone meets the pair: its private half was given up on the virtual key only.
        ([EC], [record_of(half("public"))], ["pu sig/sig = pr sig/sig: kind operations"]),
        ([EC, half("public", value="q")], [record_of(half("public", value="q"))], ["pu sig/sig = pu sig/sig", "added pr sig/sig"]),
        ([half("public")], [record_of(EC)], ["added pu sig/sig", "missing pr sig/sig"]),
        # Keys without any name are known by their public key, or not at all.
        ([named(EC, "", b"")], [record_of(EC)], ["pr sig/sig = pr /: id label"]),
        ([named(AES, "", b"")], [record_of(AES)], ["missing se dek/dek", "nameless"]),
        ([named(EC, "", b""), named(pair(value="q"), "", b"")], [record_of(EC)], ["pr sig/sig = pr /: id label", "nameless"]),
        ([named(EC, "", b"")] * 2, [record_of(EC)], ["missing pr sig/sig", "nameless", "nameless"]),
    ],
)
def test_cases(keys: list[Key], records: list[VirtualKey], lines: list[str]) -> None:
    assert told(keys, records) == lines


NAMES, IDS = st.sampled_from(["", "a", "b"]), st.sampled_from([b"", b"1", b"2"])
SECRETS = st.builds(
    secret,
    NAMES,
    IDS,
    value=st.sampled_from([None, "aa0001", "bb0001"]),
    type=st.sampled_from(["AES", "DES3", "unknown"]),
    size=st.sampled_from([None, 128, 256]),
)
PAIRS = st.builds(pair, NAMES, IDS, value=st.sampled_from([None, "p", "q"]), type=st.sampled_from(["EC", "RSA"]))
HALVES = st.builds(half, st.sampled_from(["private", "public"]), NAMES, IDS, value=st.sampled_from([None, "p", "q"]))
KEYS = st.lists(st.one_of(SECRETS, PAIRS, HALVES), max_size=6, unique_by=lambda key: key.name)
RECORDS = KEYS.map(lambda keys: [record_of(key) for key in keys if key.name[1:] != (b"", "")])


@given(KEYS, RECORDS)
def test_nothing_is_lost_and_nothing_counts_twice(keys: list[Key], records: list[VirtualKey]) -> None:
    nameless = [key for key in keys if key.name[1:] == (b"", "")]
    found = compare([key for key in keys if key not in nameless], records, nameless)
    after = [match.key.name for match in found.matches] + [key.name for key in (*found.added, *found.nameless)]
    assert sorted(after) == sorted(key.name for key in keys)
    assert sorted([match.record.id for match in found.matches] + [record.id for record in found.missing]) == sorted(
        record.id for record in records
    )


@given(KEYS)
def test_what_was_recorded_as_it_is_has_no_drift(keys: list[Key]) -> None:
    addressable = [key for key in keys if key.name[1:] != (b"", "")]
    found = compare(addressable, [record_of(key) for key in addressable])
    assert not found.added and not found.missing and not any(match.drift for match in found.matches)


@given(KEYS, RECORDS, st.data())
def test_the_order_of_the_keys_does_not_matter(keys: list[Key], records: list[VirtualKey], data: st.DataObject) -> None:
    addressable = [key for key in keys if key.name[1:] != (b"", "")]
    shuffled = data.draw(st.permutations(addressable))
    there, back = ({(match.record.id, match.key.name) for match in compare(order, records).matches} for order in (addressable, shuffled))
    assert there == back
