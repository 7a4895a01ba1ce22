# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""On which keys members of a group disagree: cases, and what holds for any members."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Hashable, Iterable
from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.members.reading import report_rows
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.groups.member_comparison import Disagreement, MemberKey, compare_members
from hypothesis import given
from hypothesis import strategies as st

LISTS = ("have", "lack", "twice", "different", "unknown")


def pair(label: str, value: str | None, key_id: bytes | None = None, kind: str = "private", kty: str = "EC") -> MemberKey:
    return MemberKey(kind, label.encode() if key_id is None else key_id, label, kty, 256, value)


def public(label: str, value: str | None, key_id: bytes | None = None) -> MemberKey:
    return pair(label, value, key_id, kind="public")


def aes(label: str, value: str | None, exact: str | None = None, key_id: bytes | None = None, size: int | None = 256) -> MemberKey:
    return MemberKey("secret", label.encode() if key_id is None else key_id, label, "AES", size, value, exact)


def told(*members: list[MemberKey]) -> list[str]:
    """The rows: a key's label, and what is not empty of its lists. A member's other name is ``member:label/id``."""
    rows = []
    for row in compare_members(members):
        lists = {name: [str(member) for member in getattr(row, name)] for name in (*LISTS, "public_only")}
        lists["renamed"] = [f"{member}:{label}/{key_id.decode()}" for member, (label, key_id) in row.renamed.items()]
        rows.append(" ".join([row.label, *(f"{name}={','.join(found)}" for name, found in lists.items() if found)]))
    return rows


P, Q = pair("k", "p"), pair("k", "q")
X, Y = aes("k", "aaaaaa"), aes("k", "bbbbbb")


@pytest.mark.parametrize(
    ("members", "rows"),
    [
        ([], []),
        ([[P, aes("s", "aaaaaa")]] * 3, []),
        ([[P], [P], []], ["k have=0,1 lack=2"]),
        ([[], [P], []], ["k have=1 lack=0,2"]),
        ([[P, pair("copy", "p")], [P]], ["k have=1 twice=0 renamed=0:copy/copy"]),
        ([[P, P], [P, P]], ["k twice=0,1"]),
        ([[P, P]], ["k twice=0"]),
        ([[P], [pair("k", "p", b"9")]], ["k have=0,1 renamed=1:k/9"]),
        # Another key of that name: one row of the first member's key.
        ([[P], [Q]], ["k have=0 different=1"]),
        ([[P], [pair("k", "q", b"9")]], ["k have=0 different=1"]),
        ([[P], [Q], [P]], ["k have=0,2 different=1"]),
        ([[P], [Q], [pair("k", "r")]], ["k have=0 different=1,2"]),
        ([[P], [pair("k", "q", kty="RSA")]], ["k have=0 different=1"]),
        ([[pair("", "p", b"1")], [pair("", "q", b"1")]], [" have=0 different=1"]),
        ([[pair("", "p", b"1")], [pair("", "q", b"2")]], [" have=0 lack=1", " have=1 lack=0"]),
        # The other key is elsewhere too: it has a row of its own.
        ([[P], [Q], [pair("z", "q")]], ["k have=0 lack=2 different=1", "k have=1,2 different=0 renamed=2:z/z"]),
        # Names that are swapped: nothing lacks.
        ([[P, pair("j", "q")], [Q, pair("j", "p")]], ["j have=0,1 renamed=1:k/k", "k have=0,1 renamed=1:j/j"]),
        # A label that many keys have says nothing without the id.
        ([[pair("k", "p", b"1"), pair("k", "q", b"2")], [pair("k", "p", b"1")]], ["k have=0 lack=1"]),
        ([[pair("k", "p", b"1"), pair("k", "q", b"2")], [pair("k", "p", b"1"), pair("k", "r", b"2")]], ["k have=0 different=1"]),
        ([[pair("k", "p", b"1"), pair("k", "q", b"2")], [pair("k", "r", b"3")]], ["k have=0 lack=1", "k have=0 lack=1", "k have=1 lack=0"]),
        # Nor has a name that one member gave to two keys room for both in one row.
        ([[P], [Q, pair("k", "r")]], ["k have=0 different=1", "k have=1 different=0", "k have=1 different=0"]),
        ([[P, Q], [pair("k", "r")]], ["k have=0 different=1", "k have=0 different=1", "k have=1 different=0"]),
        # The public half is not the key.
        ([[P], [public("k", "p")]], ["k have=0 lack=1 public_only=1"]),
        ([[P], [public("z", "p"), Q]], ["k have=0 different=1 public_only=1", "k have=1 different=0"]),
        ([[public("z", "p"), Q], [P]], ["k have=1 different=0 public_only=0", "k have=0 different=1"]),
        ([[P, public("z", "p")], [P]], []),
        ([[public("k", "p")], [public("k", "p")]], []),
        ([[public("k", "p")], [public("k", "q")]], ["k have=0 different=1"]),
        ([[P], [public("k", "q")]], ["k have=0 lack=1", "k have=1 lack=0"]),
        # Without a fingerprint there is only the name.
        ([[pair("k", None)], [P]], ["k have=1 unknown=0"]),
        ([[pair("k", None)], [pair("k", None)], []], ["k have=0 lack=2 unknown=1"]),
        ([[pair("k", None)], [pair("k", None, b"9")]], ["k have=0 unknown=1"]),
        ([[pair("k", None)], [P], [Q]], ["k have=1 different=2 unknown=0"]),
        ([[pair("k", None)] * 2, []], ["k lack=1 unknown=0"]),
        ([[pair("k", None)]], []),
        ([[aes("k", None)], [X]], ["k have=1 unknown=0"]),
        ([[pair("k", None)], [X]], ["k have=0 lack=1", "k have=1 lack=0"]),
        ([[pair("k", None)], [public("k", None)]], ["k have=0 lack=1 public_only=1"]),
        # Secret keys.
        ([[X], [Y]], ["k have=0 different=1"]),
        ([[X], [aes("z", "aaaaaa")]], ["k have=0,1 renamed=1:z/z"]),
        ([[X], [replace(X, size=128)]], ["k have=0 different=1"]),
        ([[X], [replace(X, type="DES3")]], ["k have=0 different=1"]),
        ([[X], [replace(X, size=None)]], []),
        ([[replace(X, size=None)], [aes("z", "aaaaaa")]], ["k have=0,1 renamed=1:z/z"]),
        ([[replace(X, size=None)], [X, aes("z", "aaaaaa", size=128)]], ["z have=1 lack=0"]),
        # A check value that two names share is no proof that a key is there twice; a check of all bits is.
        ([[X, aes("z", "aaaaaa")], [X, aes("z", "aaaaaa")]], []),
        ([[X, aes("z", "aaaaaa")], [X]], ["z have=0 lack=1"]),
        ([[aes("k", "aaaaaa", "1"), aes("z", "aaaaaa", "2")], [X]], ["z have=0 lack=1"]),
        ([[aes("k", "aaaaaa", "1"), aes("z", "aaaaaa", "1")], [X]], ["k have=1 twice=0 renamed=0:z/z"]),
        ([[X, X], [X]], ["k have=1 twice=0"]),
        (
            [[aes("k", "aaaaaa", "1"), aes("z", "aaaaaa", "2")], [aes("k", "aaaaaa", "2"), aes("z", "aaaaaa", "1")]],
            ["k have=0,1 renamed=1:z/z", "z have=0,1 renamed=1:k/k"],
        ),
        ([[aes("k", "aaaaaa", "1")], [aes("k", "aaaaaa", "2")]], ["k have=0 different=1"]),
        ([[aes("k", "aaaaaa", "1")], [aes("k", "aaaaaa", "2")], [X]], ["k have=0 different=1 unknown=2"]),
        # Two ways to match by the check value alone: none is taken. One way: it is.
        ([[aes("a", "aaaaaa")], [aes("b", "aaaaaa"), aes("c", "aaaaaa")]], ["a have=0 lack=1", "b have=1 lack=0", "c have=1 lack=0"]),
        ([[aes("a", "aaaaaa"), X], [aes("b", "aaaaaa"), X]], ["a have=0,1 renamed=1:b/b"]),
        (
            [[aes("a", "aaaaaa", "1"), aes("k", "aaaaaa", "2")], [aes("b", "aaaaaa", "3"), aes("k", "aaaaaa", "2")]],
            ["a have=0 lack=1", "b have=1 lack=0"],
        ),
        (
            [[aes("a", "aaaaaa", key_id=b"1"), aes("b", "aaaaaa")], [aes("a", "aaaaaa", key_id=b"2")]],
            ["a have=0,1 renamed=1:a/2", "b have=0 lack=1"],
        ),
    ],
)
def test_cases(members: list[list[MemberKey]], rows: list[str]) -> None:
    assert told(*members) == rows


def test_what_explains_a_row() -> None:
    connections = [{"priority": 1, "instance": "east"}, {"priority": 2, "instance": "west"}]
    members = [[P, aes("s", "aaaaaa", "secret of the key")], [Q, aes("t", "aaaaaa"), public("pub", "r")]]
    rows = report_rows(compare_members(members), connections)
    east, west = connections
    nothing: dict[str, Any] = {name: [] for name in (*LISTS, "public_only", "renamed")}
    assert rows == [
        {"label": "k", "id": "6b", "kind": "private", "type": "EC", "size": 256, "fingerprint": "p", **nothing}
        | {"have": [east], "different": [{**west, "fingerprint": "q"}]},
        {"label": "pub", "id": "707562", "kind": "public", "type": "EC", "size": 256, "fingerprint": "r", **nothing}
        | {"have": [west], "lack": [east]},
        {"label": "s", "id": "73", "kind": "secret", "type": "AES", "size": 256, "fingerprint": "aaaaaa", **nothing}
        | {"have": [east, west], "renamed": [{**west, "label": "t", "id": "74"}]},
    ]
    assert "secret of the key" not in f"{rows} {members}"


# Few values and names, so that keys collide in every way. A key's ``exact`` begins with its check value, as on a token.
NAMES = st.sampled_from(["", "a", "b"])
IDS = st.sampled_from([b"", b"1", b"2"])
PAIRS = st.builds(pair, NAMES, st.sampled_from("pqr"), IDS, st.sampled_from(["private", "public"]))
SECRETS = st.builds(
    lambda n, i, v, known: aes(n, v[0], v if known else None, i), NAMES, IDS, st.sampled_from(["x1", "x2", "y1"]), st.booleans()
)
EXACT = st.builds(lambda n, i, v: aes(n, v[0], v, i), NAMES, IDS, st.sampled_from(["x1", "x2", "y1"]))
NAMELESS = st.one_of(
    st.builds(pair, NAMES, st.none(), IDS, st.sampled_from(["private", "public"])), st.builds(aes, NAMES, st.none(), key_id=IDS)
)
KNOWN = st.one_of(PAIRS, SECRETS)  # each has a fingerprint
ANY = st.one_of(KNOWN, NAMELESS)


def fleets(keys: st.SearchStrategy[MemberKey], least: int = 1, most: int = 3) -> st.SearchStrategy[list[list[MemberKey]]]:
    return st.lists(st.lists(keys, max_size=5), min_size=least, max_size=most)


@given(st.lists(KNOWN, unique_by=lambda key: (key.label, key.key_id, key.kind)), st.data())
def test_the_same_keys_in_another_order_give_no_row(keys: list[MemberKey], data: st.DataObject) -> None:
    one_of_each = list({(key.fingerprint, key.exact) if key.kind != "secret" or key.exact else key.name: key for key in keys}.values())
    assert compare_members([data.draw(st.permutations(one_of_each)) for _number in range(3)]) == []


@given(fleets(ANY), st.data())
def test_the_order_of_a_members_keys_does_not_matter(members: list[list[MemberKey]], data: st.DataObject) -> None:
    assert compare_members([data.draw(st.permutations(keys)) for keys in members]) == compare_members(members)


@given(fleets(ANY))
def test_every_row_is_justified(members: list[list[MemberKey]]) -> None:
    everyone = list(range(len(members)))
    for row in compare_members(members):
        assert sorted(member for name in LISTS for member in getattr(row, name)) == everyone
        assert row.have != everyone or row.renamed
        assert set(row.public_only) <= {*row.lack, *row.different}
        assert set(row.renamed) <= {*row.have, *row.twice, *row.unknown}
        assert list(row.other) == row.different
        for member in everyone:
            kin = [key for key in members[member] if key.kind == row.kind]
            same = [key for key in kin if row.fingerprint is not None and key.fingerprint == row.fingerprint]
            short = row.label or row.key_id
            if member in row.have and row.fingerprint is not None:
                assert same
            if member in row.twice:
                assert len(same) > 1
            if member in row.different:
                assert row.other[member] is not None and row.fingerprint is not None
                assert row.other[member] in [key.fingerprint for key in kin if key.short_name == short]
            if member in row.unknown:
                assert short in [key.short_name for key in kin]
            if member in row.lack and row.kind == "private":
                assert not same
            if member in row.public_only:
                assert [
                    key
                    for key in members[member]
                    if key.kind == "public" and (key.fingerprint == row.fingerprint or key.short_name == short)
                ]
            if member in row.renamed:
                label, key_id = row.renamed[member]
                assert (label, key_id) in [key.name for key in kin] and (label, key_id) != (row.label, row.key_id)
        if row.fingerprint is None:
            assert len(row.have) <= 1 and not row.twice and not row.different


@given(fleets(ANY))
def test_nothing_is_passed_over(members: list[list[MemberKey]]) -> None:
    """A key has a row or is mentioned in one, unless every member has one that looks the same under its name."""
    rows = compare_members(members)
    privates = {key.fingerprint for keys in members for key in keys if key.kind == "private"}
    for number, keys in enumerate(members):
        for key in keys:
            halves = key.kind == "public" and (key.fingerprint in privates or key.fingerprint is None)
            everywhere = all(
                any((other.kind, other.name, other.fingerprint) == (key.kind, key.name, key.fingerprint) for other in member)
                for member in members
            )
            mentioned = any(
                (number in {*row.have, *row.twice} and row.fingerprint == key.fingerprint)
                or (number in row.different and row.other[number] == key.fingerprint)
                or (number in row.unknown and row.kind == key.kind and (row.label or row.key_id) == key.short_name)
                for row in rows
            )
            assert halves or everywhere or mentioned, key


def brute_force(members: list[list[MemberKey]], values: list[list[Hashable]]) -> Counter[tuple[Any, ...]]:
    """Who has each key how often, where the value of each is known, for the keys that are not once everywhere under one name."""
    found: Counter[tuple[Any, ...]] = Counter()
    for value in {value for member in values for value in member}:
        held: list[list[MemberKey]] = [
            [key for key, other in zip(keys, others, strict=True) if other == value] for keys, others in zip(members, values, strict=True)
        ]
        private = any(key.kind == "private" for keys in held for key in keys)
        objects = [[key for key in keys if key.kind == "private" or not private] for keys in held]
        if any(len(keys) != 1 for keys in objects) or len({key.name for keys in objects for key in keys}) > 1:
            fingerprint = next(key.fingerprint for keys in held for key in keys)
            found[fingerprint, tuple(min(len(keys), 2) for keys in objects)] += 1
    return found


def counted(rows: Iterable[Disagreement], count: int) -> Counter[tuple[Any, ...]]:
    """The same of the rows."""
    found: Counter[tuple[Any, ...]] = Counter()
    for row in rows:
        found[row.fingerprint, tuple(2 if member in row.twice else int(member in row.have) for member in range(count))] += 1
    return found


@pytest.mark.parametrize("keys", [PAIRS, EXACT], ids=["pairs", "secret keys with a check of all bits"])
@given(data=st.data())
def test_against_brute_force(keys: st.SearchStrategy[MemberKey], data: st.DataObject) -> None:
    members = data.draw(fleets(keys))
    values: list[list[Hashable]] = [[key.exact or key.fingerprint for key in member] for member in members]
    rows = compare_members(members)
    expected, found = brute_force(members, values), counted(rows, len(members))
    assert found <= expected
    for fingerprint, number in (expected - found).elements():
        # Not a row of its own: another key's row says so of each member that has it.
        having = [member for member, times in enumerate(number) if times]
        assert 2 not in number
        assert any(all(row.other.get(member) == fingerprint for member in having) for row in rows)


def having(rows: Iterable[Disagreement]) -> set[tuple[str | None, int]]:
    """Members that have a key, by its fingerprint."""
    found = {(row.fingerprint, member) for row in rows for member in (*row.have, *row.twice)}
    return found | {(fingerprint, member) for row in rows for member, fingerprint in row.other.items()}


@given(fleets(st.one_of(PAIRS, EXACT), 2, 2))
def test_two_members_say_the_same_of_each_other(members: list[list[MemberKey]]) -> None:
    there, back = compare_members(members), compare_members(members[::-1])
    # What one row tells of another key of the name may have two rows the other way round; who has what is the same.
    assert having(there) == {(fingerprint, 1 - member) for fingerprint, member in having(back)}
    for name in ("lack", "twice", "unknown", "public_only"):
        facts = Counter((row.fingerprint, member) for row in there for member in getattr(row, name) if not row.different)
        mirrored = Counter((row.fingerprint, 1 - member) for row in back for member in getattr(row, name) if not row.different)
        assert facts == mirrored


@pytest.mark.parametrize("kind", ["plain", "one name", "one check value", "one of both", "nameless"])
def test_time_grows_with_the_number_of_keys(kind: str) -> None:
    def key(member: int, number: int) -> MemberKey:
        if kind == "one name":
            return pair("k", f"{member} {number}", b"")
        if kind == "one check value":
            return aes(f"{member} {number}", "aaaaaa", None if number % 2 else f"{member} {number}")
        if kind == "one of both":
            return aes("k", "aaaaaa", None if number == 0 else f"{member} {number}")
        if kind == "nameless":
            return pair(str(number // 10), None, b"")
        return aes(str(number), f"{number:06x}") if number % 100 else pair(str(number), f"{member} {number}")

    members = [[key(member, number) for number in range(10_000)] for member in range(3)]
    start = time.process_time()
    rows = compare_members(members)
    assert time.process_time() - start < 10  # a second or so; quadratic would be minutes
    assert rows
