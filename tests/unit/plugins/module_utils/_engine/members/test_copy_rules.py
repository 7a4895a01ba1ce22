# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which keys are copied to members that lack them, and why others are not: cases, and what holds for any."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.members.copy_rules import CopyRules, Order, plan_copies
from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.virtual_keys.comparison import compare
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.groups.member_comparison import Disagreement, MemberKey, compare_members
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.keys.objects import Key
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.records import VirtualKey
from hypothesis import given
from hypothesis import strategies as st
from plain_keys import GROUP, HERE, STANDBY, half, in_group, named, pair, record_of, scope_of, secret

AES, EC = secret(), pair()
ENDED = ("compromised", "destroyed")


def member_key(key: Key) -> MemberKey:
    main = key.main
    return MemberKey(main.kind, main.key_id, main.label, main.type, main.size, key.fingerprint or key.public_fingerprint)


def rows_of(*members: Sequence[Key]) -> list[Disagreement]:
    return compare_members([[member_key(key) for key in keys] for keys in members])


def rules_of(records: Sequence[VirtualKey], members: Sequence[Sequence[Key]], theirs: Sequence[VirtualKey] = ()) -> CopyRules:
    """The first member serves. ``theirs`` are records of the group ``other``."""
    scope = scope_of(*records, group=GROUP, groups_of={record.name: {"other": record} for record in theirs})
    own = [record for record in records if scope.owns(record)]
    return CopyRules(scope, compare(members[0], own).matches, [scope] * len(members), {0})


def told(members: Sequence[Sequence[Key]], records: Sequence[VirtualKey], theirs: Sequence[VirtualKey] = ()) -> list[str]:
    orders, refused = plan_copies(rows_of(*members), rules_of(records, members, theirs))
    lines = [f"{order.name[2]} {order.source}>{order.lacking}" for order in orders]
    return lines + [f"{row.label} not >{lacking}: {reason}" for row, lacking, reason in refused]


def own(key: Key, state: str = "active", token_id: int = HERE) -> VirtualKey:
    return in_group(record_of(key, token_id, state=state))


NO_RECORD = "the group has no record of it, so it may have been destroyed on purpose: declare it with hsm_key, or remove it there"
UNCLEAR = "no member has it exactly once, so it is not clear which one to copy"


@pytest.mark.parametrize(
    ("members", "records", "lines"),
    [
        ([[AES, EC], []], [own(AES), own(EC)], ["dek 0>1", "sig 0>1"]),
        ([[], [AES]], [own(AES, token_id=STANDBY)], ["dek 1>0"]),
        ([[], [AES], [AES], []], [own(AES)], ["dek 1>0", "dek 1>3"]),
        ([[AES], [AES]], [own(AES)], []),
        ([[EC], [AES]], [own(AES), own(EC)], ["sig 0>1", "dek 1>0"]),  # by source, then by destination
        # By the name that it has on the source.
        ([[named(EC, "x", b"9")], [EC], []], [own(EC)], ["x 0>2"]),
        # What differs, or cannot be told apart, is neither overwritten nor copied.
        ([[AES], [secret(value="bb0001")]], [own(AES)], []),
        ([[AES], [secret(value=None)]], [own(AES)], []),
        ([[EC, named(EC, "twin", b"9")], []], [own(EC)], [f"sig not >1: {UNCLEAR}"]),
        ([[half("public")], []], [own(half("public"))], ["sig not >1: it is a public key alone"]),
        # Ended keys stay where they are: by their record, its key under another name, or what they have in common with it.
        ([[AES], []], [own(AES, "compromised")], ["dek not >1: it is compromised"]),
        ([[AES], []], [own(AES, "suspended")], ["dek 0>1"]),
        ([[AES], []], [own(AES, "deactivated")], ["dek 0>1"]),
        ([[], [AES]], [own(AES, "destroyed")], ["dek not >0: it is destroyed"]),
        ([[named(EC, "x", b"9")], []], [own(EC, "compromised")], ["x not >1: it is compromised"]),
        (
            [[], [secret("dek", b"9", value="bb0001")]],
            [own(AES, "destroyed")],
            ["dek not >0: the group's key 'dek', which is destroyed, has the same label"],
        ),
        (
            [[], [secret("x", b"dek", value="bb0001")]],
            [own(AES, "destroyed")],
            ["x not >0: the group's key 'dek', which is destroyed, has the same CKA_ID"],
        ),
        (
            [[], [secret("x", b"9")]],
            [own(AES, "destroyed")],
            ["x not >0: the group's key 'dek', which is destroyed, has the same key check value"],
        ),
        ([[], [secret("x", b"9", type="DES3")]], [own(AES, "destroyed"), own(secret("x", b"9"))], ["x 1>0"]),
        ([[], [pair("x", b"9")]], [own(EC, "destroyed")], ["x not >0: the group's key 'sig', which is destroyed, has the same public key"]),
        (
            [[], [pair("x", b"9")]],
            [own(half("public"), "destroyed")],
            ["x not >0: the group's key 'sig', which is destroyed, has the same public key"],
        ),
        ([[EC, AES], [EC]], [own(EC, "compromised"), own(AES)], ["dek 0>1"]),
        # A record of none means that it may have been destroyed on purpose, where the member that serves does not have it.
        ([[], [AES]], [], [f"dek not >0: {NO_RECORD}"]),
        ([[AES], []], [], ["dek 0>1"]),
        ([[AES], [AES], []], [], ["dek 0>2"]),
        ([[], [pair("x", b"9")]], [own(EC)], ["x 1>0"]),  # a public key is record enough
        ([[], [secret("x", b"9")]], [own(AES)], [f"x not >0: {NO_RECORD}"]),  # a check value is not
        # What is in no group counts for what it says.
        ([[AES], []], [record_of(AES, state="compromised")], ["dek not >1: a record that is in no group has it as compromised"]),
        ([[AES], []], [record_of(AES, state="suspended")], ["dek 0>1"]),
    ],
)
def test_cases(members: list[list[Key]], records: list[VirtualKey], lines: list[str]) -> None:
    assert told(members, records) == lines


@pytest.mark.parametrize(
    ("key", "state", "lines"),
    [
        (AES, "compromised", ["dek not >1: group 'other' has it as compromised"]),
        (AES, "destroyed", ["dek not >1: group 'other' has it as destroyed"]),
        (AES, "deactivated", ["dek 0>1"]),
        (named(AES, "x"), "compromised", ["x 0>1"]),
        (named(EC, "x", b"9"), "compromised", ["x not >1: group 'other' has it as compromised"]),  # by its public key
    ],
)
def test_what_another_group_has_ended_is_not_copied(key: Key, state: str, lines: list[str]) -> None:
    theirs = [record_of(found, state=state, group_id="group-2") for found in (AES, EC)]
    assert told([[key], []], [own(key)], theirs) == lines


NAMES, IDS = st.sampled_from(["", "a", "b"]), st.sampled_from([b"", b"1", b"2"])
SECRETS = st.builds(secret, NAMES, IDS, value=st.sampled_from([None, "aa0001", "bb0001"]))
PAIRS = st.builds(pair, NAMES, IDS, value=st.sampled_from(["p", "q"]))
HALVES = st.builds(half, st.just("public"), NAMES, IDS, value=st.sampled_from(["p", "q"]))
KEYS = st.lists(st.one_of(SECRETS, PAIRS, HALVES).filter(lambda key: key.name[1:] != (b"", "")), max_size=4, unique_by=lambda key: key.name)
MEMBERS = st.lists(KEYS, min_size=2, max_size=3)
STATES = st.sampled_from(["active", "suspended", "deactivated", *ENDED])
RECORDS = st.lists(
    st.builds(
        lambda key, state, mine: own(key, state) if mine else record_of(key, state=state), st.one_of(SECRETS, PAIRS), STATES, st.booleans()
    ),
    max_size=4,
    unique_by=lambda record: record.name,
)


@given(MEMBERS, RECORDS, RECORDS)
def test_what_is_never_copied(members: list[list[Key]], records: list[VirtualKey], theirs: list[VirtualKey]) -> None:
    rows = rows_of(*members)
    orders, refused = plan_copies(rows, rules_of(records, members, theirs))
    ended = {record.name for record in (*records, *theirs) if record.state in ENDED}
    public = {record.public_fingerprint for record in (*records, *theirs) if record.state in ENDED} - {None}
    for order in orders:
        row = order.row
        assert order.name not in ended and (row.kind, row.key_id, row.label) not in ended
        assert row.kind == "secret" or row.fingerprint not in public
        assert row.kind != "public"
        # From the first member that has it exactly once, to one that has nothing of its name.
        assert order.source == row.have[0] and order.lacking in row.lack
        assert order.name in [key.name for key in members[order.source]]
    # Whoever lacks a key gets it or is told why not, once.
    expected = sorted((rows.index(row), lacking) for row in rows for lacking in row.lack)
    assert sorted((rows.index(item.row), item.lacking) for item in (*orders, *refused)) == expected


@given(MEMBERS)
def test_copies_that_were_made_and_are_planned_again_are_none(members: list[list[Key]]) -> None:
    """Where no name stands for two keys of the group, every copy that is planned makes the members agree a little more."""
    rules = rules_of([], members)
    orders, _refused = plan_copies(rows_of(*members), rules)
    after = [list(keys) for keys in members]
    for order in orders:
        after[order.lacking] += [key for key in members[order.source] if key.name == order.name]
    left, _refused = plan_copies(rows_of(*after), rules)
    assert not {_way(order) for order in orders} & {_way(order) for order in left}


def _way(order: Order) -> tuple[object, ...]:
    return (order.lacking, order.name)
