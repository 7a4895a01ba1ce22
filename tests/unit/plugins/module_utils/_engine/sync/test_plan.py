# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a sync makes of keys and records: tables of cases, and what holds for any."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import count
from typing import Any

import pytest
from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.sync.plan import RecordChanges, SyncPlan, plan_sync, still_due
from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.virtual_keys.contents import TokenContents
from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.virtual_keys.identity import facts_of_keys, facts_of_record
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.keys.objects import Key
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.records import GroupRecord, VirtualKey
from hypothesis import given
from hypothesis import strategies as st
from plain_keys import GONE, GROUP, HERE, STANDBY, half, in_group, named, pair, record_of, scope_of, secret

AES, EC = secret(), pair()
OWN = replace(GROUP, key_scan="own")
OTHER = GroupRecord("other", members=(HERE,), id="group-2")
BOTH = ("id", "label")


def label(record: VirtualKey) -> str:
    return f"{record.label}/{record.key_id.decode()}"


def lines_of(plan: SyncPlan) -> set[str]:
    """What the plan does and tells, a line for each record. A destination in another group or on another token is named."""
    changes = plan.changes
    lines = {f"added {label(new.record)}" for new in changes.added}
    lines |= {f"adopted {label(change.before)} as {label(change.after)}" for change in changes.adopted}
    lines |= {f"refreshed {label(change.before)} to {label(change.after)}" for change in changes.refreshed}
    lines |= {f"moved {label(change.after)} to {change.after.token_id}" for change in changes.moved}
    lines |= {f"pruned {label(record)}" for record in changes.pruned}
    lines |= {f"missing {label(record)}" for record in plan.missing}
    lines |= {f"drift {label(match.record)}: {' '.join(field for field, _was, _is in match.drift)}" for match in plan.drifted}
    return lines | ({f"known {plan.known}"} if plan.known else set())


def planned(keys: Sequence[Key], records: Sequence[VirtualKey], group: GroupRecord | None = None, **options: Any) -> SyncPlan:
    scope = {name: options.pop(name) for name in ("groups_of",) if name in options}
    contents = TokenContents("token 'a'", keys, options.pop("pending", ()))
    return plan_sync(contents, scope_of(*records, group=group, **scope), **options)


mine, loose = in_group(record_of(AES)), record_of(AES)
edited = in_group(record_of(named(AES, key_id=b"0")))
misspelt = in_group(record_of(named(AES, "x")))
at_gone = replace(mine, token_id=GONE)


def on_standby(*keys: Key) -> list[tuple[int, TokenContents]]:
    return [(STANDBY, TokenContents("token 'b'", keys))]


@pytest.mark.parametrize(
    ("keys", "records", "group", "options", "lines"),
    [
        # Of an instance: keys in no group, and those that a group has are known.
        ([], [], None, {}, set()),
        ([AES, EC], [], None, {}, {"added dek/dek", "added sig/sig"}),
        ([AES, EC], [loose], None, {}, {"added sig/sig", "known 1"}),
        ([AES], [mine], None, {}, {"known 1"}),
        ([named(AES, "x")], [mine], None, {}, {"added x/dek"}),  # how a group's key is called elsewhere is the group's matter
        ([], [mine], None, {}, set()),
        ([], [loose], None, {}, {"missing dek/dek"}),
        # Of a group: every key of the token, and records that are in no group become its own, with what they say.
        ([AES], [], GROUP, {}, {"added dek/dek"}),
        ([AES], [mine], GROUP, {}, {"known 1"}),
        ([AES], [loose], GROUP, {}, {"adopted dek/dek as dek/dek"}),
        ([named(AES, "x")], [loose], GROUP, {}, {"adopted dek/dek as dek/dek", "drift dek/dek: label"}),
        ([named(AES, "x")], [loose], GROUP, {"refresh": BOTH}, {"adopted dek/dek as x/dek", "drift dek/dek: label"}),
        ([named(EC, "", b"")], [record_of(EC)], GROUP, {}, {"adopted sig/sig as sig/sig", "drift sig/sig: id label"}),
        ([], [loose], GROUP, {"prune": True}, set()),  # only what is the group's is missing
        ([AES, EC], [mine, loose], GROUP, {}, {"known 1", "added sig/sig"}),  # its own record comes first
        # With key_scan: own only what is its own already.
        ([AES], [], OWN, {}, set()),
        ([AES], [loose], OWN, {}, set()),
        ([AES, EC], [mine], OWN, {}, {"known 1"}),
        ([EC], [mine], OWN, {}, {"missing dek/dek"}),
        # What is missing goes only on request, and only where nothing speaks for it.
        ([], [mine], GROUP, {}, {"missing dek/dek"}),
        ([], [mine], GROUP, {"prune": True}, {"missing dek/dek", "pruned dek/dek"}),
        ([], [loose], None, {"prune": True}, {"missing dek/dek", "pruned dek/dek"}),
        ([], [mine], GROUP, {"prune": True, "others": None}, {"missing dek/dek"}),
        ([], [mine], GROUP, {"prune": True, "others": [TokenContents("b", [secret("dek", b"9")])]}, {"missing dek/dek"}),
        ([], [mine], GROUP, {"prune": True, "others": [TokenContents("b", [EC])]}, {"missing dek/dek", "pruned dek/dek"}),
        ([], [mine], GROUP, {"prune": True, "pending": ["dek"]}, {"missing dek/dek"}),
        # Names are restored on request, each for itself; nothing else is.
        ([AES], [edited], GROUP, {}, {"known 1", "drift dek/0: id"}),
        ([AES], [edited], GROUP, {"refresh": ["label"]}, {"known 1", "drift dek/0: id"}),
        ([AES], [edited], GROUP, {"refresh": ["id"]}, {"known 1", "drift dek/0: id", "refreshed dek/0 to dek/dek"}),
        ([AES], [misspelt], GROUP, {"refresh": ["id"]}, {"known 1", "drift x/dek: label"}),
        ([AES], [misspelt], GROUP, {"refresh": ["label"]}, {"known 1", "drift x/dek: label", "refreshed x/dek to dek/dek"}),
        (
            [secret(operations=("wrap",))],
            [mine],
            GROUP,
            {"refresh": ["id", "label", "operations"]},
            {"known 1", "drift dek/dek: operations"},
        ),
        (
            [named(EC, "y", b"9")],
            [in_group(record_of(EC))],
            GROUP,
            {"refresh": BOTH},
            {"known 1", "drift sig/sig: id label", "refreshed sig/sig to y/9"},
        ),
        ([named(EC, "", b"")], [record_of(EC)], None, {"refresh": BOTH}, {"known 1", "drift sig/sig: id label"}),  # no name to restore
        # Only one of the two names was emptied: the other is name enough.
        ([named(EC, key_id=b"")], [record_of(EC)], None, {"refresh": BOTH}, {"known 1", "drift sig/sig: id", "refreshed sig/sig to sig/"}),
        ([named(EC, "")], [record_of(EC)], None, {"refresh": BOTH}, {"known 1", "drift sig/sig: label", "refreshed sig/sig to /sig"}),
        (
            [named(EC, "", b"9")],
            [record_of(EC)],
            None,
            {"refresh": BOTH},
            {"known 1", "drift sig/sig: id label", "refreshed sig/sig to /9"},
        ),
        # A name is given once: what would give it twice stays, and a row of names moves up in order.
        (
            [pair("b", b"2")],
            [record_of(pair("a", b"1")), record_of(pair("b", b"1", value="q"))],
            None,
            {"refresh": ["label"]},
            {"known 1", "missing b/1", "drift a/1: id label"},
        ),
        (
            [pair("b", b"2")],
            [record_of(pair("a", b"1")), record_of(pair("b", b"1", value="q"))],
            None,
            {"refresh": BOTH},
            {"known 1", "missing b/1", "drift a/1: id label", "refreshed a/1 to b/2"},
        ),
        (
            [pair("b", b"1"), pair("c", b"1", value="q")],
            [record_of(pair("a", b"1")), record_of(pair("b", b"2", value="q"))],
            None,
            {"refresh": BOTH},
            {"known 2", "drift a/1: label", "drift b/2: id label", "refreshed a/1 to b/1", "refreshed b/2 to c/1"},
        ),
        # A member that is one no more: the record moves to the one that serves, with what is restored.
        ([AES], [replace(mine, token_id=GONE)], GROUP, {}, {"known 1", "moved dek/dek to 1"}),
        ([AES], [replace(mine, token_id=STANDBY)], GROUP, {}, {"known 1"}),
        ([], [replace(mine, token_id=GONE)], GROUP, {}, {"missing dek/dek"}),
        (
            [AES],
            [replace(misspelt, token_id=GONE)],
            GROUP,
            {"refresh": ["label"]},
            {"known 1", "drift x/dek: label", "refreshed x/dek to dek/dek", "moved dek/dek to 1"},
        ),
        # The one that serves lacks the key: the record goes to the first member that has it, and to none that may have another key.
        ([], [at_gone], GROUP, {"elsewhere": on_standby(AES)}, {"missing dek/dek", "moved dek/dek to 2"}),
        ([], [at_gone], GROUP, {"elsewhere": [(4, TokenContents("c", [EC])), *on_standby(AES)]}, {"missing dek/dek", "moved dek/dek to 2"}),
        (
            [],
            [at_gone],
            GROUP,
            {"elsewhere": [*on_standby(AES), (4, TokenContents("c", [AES]))]},
            {"missing dek/dek", "moved dek/dek to 2"},
        ),
        (
            [],
            [at_gone],
            GROUP,
            {"elsewhere": on_standby(AES), "prune": True, "others": [TokenContents("b", [AES])]},
            {"missing dek/dek", "moved dek/dek to 2"},
        ),
        (
            [],
            [replace(in_group(record_of(EC)), token_id=GONE)],
            GROUP,
            {"elsewhere": on_standby(named(EC, "x"))},
            {"missing sig/sig", "moved sig/sig to 2"},
        ),
        ([], [at_gone], GROUP, {"elsewhere": on_standby(named(AES, key_id=b"9"))}, {"missing dek/dek"}),
        ([], [at_gone], GROUP, {"elsewhere": on_standby(secret(value="bb0001"))}, {"missing dek/dek"}),
        ([], [mine], GROUP, {"elsewhere": on_standby(AES)}, {"missing dek/dek"}),
        ([AES], [at_gone], GROUP, {"elsewhere": on_standby(AES)}, {"known 1", "moved dek/dek to 1"}),
        ([], [replace(at_gone, state="destroyed")], GROUP, {"elsewhere": on_standby(AES)}, set()),
        # What a dead run was making is not vouched for, but a record that is there counts.
        ([AES, EC], [], GROUP, {"pending": ["dek"]}, {"added sig/sig"}),
        ([AES], [loose], None, {"pending": ["dek"]}, {"known 1"}),
        # States: a new key does not take the record of a destroyed one; what is gone is not missing.
        ([named(AES, "other")], [replace(loose, state="destroyed")], None, {"refresh": BOTH}, {"added other/dek"}),
        ([], [replace(mine, state="destroyed")], GROUP, {"prune": True}, set()),
        ([AES], [replace(mine, state="destroyed")], GROUP, {}, {"known 1", "drift dek/dek: state"}),
        # Names that no record can tell apart, and keys without any.
        (
            [secret("a", b"1"), secret("a", b"2"), secret("b", b"2"), secret("b", b"2")],
            [],
            GROUP,
            {},
            {"added a/1", "added a/2", "added b/2"},
        ),
        ([secret("", b""), secret("", b"1")], [], GROUP, {}, {"added /1"}),
    ],
)
def test_cases(keys: list[Key], records: list[VirtualKey], group: GroupRecord | None, options: dict[str, Any], lines: set[str]) -> None:
    assert lines_of(planned(keys, records, group, **options)) == lines


def test_what_a_record_says_stays_when_a_group_takes_it_over() -> None:
    record = replace(loose, state="suspended", generation=2, made_at="2026-01-01T00:00:00Z", operations=("decrypt",))
    (change,) = planned([AES], [record], GROUP).changes.adopted
    assert change.after == replace(record, group_id=GROUP.id)


def test_what_a_token_did_not_report_is_not_taken_for_known_of_another() -> None:
    record = replace(at_gone, state="deactivated", generation=2, unreported=(("sensitive", True),))
    for keys, elsewhere, token_id in (([AES], [], HERE), ([], on_standby(AES), STANDBY)):
        (change,) = planned(keys, [record], GROUP, elsewhere=elsewhere).changes.moved
        assert change.after == replace(record, token_id=token_id, unreported=())


def test_a_new_record_is_of_the_scope() -> None:
    for group, group_id in ((None, None), (GROUP, GROUP.id)):
        (new,) = planned([AES], [], group).changes.added
        assert (new.record.token_id, new.record.group_id, new.record.origin, new.record.state) == (HERE, group_id, "hsm_sync", "active")


@pytest.mark.parametrize(
    ("keys", "records", "options", "texts"),
    [
        ([AES], [], {}, []),
        ([secret("b", b"2")] * 3, [], {}, ["'b' stand there more than once with the same CKA_ID and CKA_LABEL; one record each."]),
        ([secret("", b"", handle=7)], [], {}, ["1 keys have neither CKA_ID nor CKA_LABEL and cannot be addressed (handles 7)."]),
        ([AES], [], {"pending": ["dek"]}, ["a run that was cut off was making 'dek': not recorded, run hsm_key with them again."]),
        (
            [named(EC, "", b"")],
            [in_group(record_of(EC))],
            {"refresh": BOTH},
            ["'sig' not refreshed: the key has neither CKA_ID nor CKA_LABEL there any more."],
        ),
        (
            [pair("b", b"2")],
            [in_group(record_of(pair("a", b"1"))), in_group(record_of(pair("b", b"1", value="q")))],
            {"refresh": ["label"]},
            [
                "'a' not refreshed, because another record has the name that this would give: restore id and label together "
                "(refresh: [id, label])."
            ],
        ),
    ],
)
def test_what_is_told(keys: list[Key], records: list[VirtualKey], options: dict[str, Any], texts: list[str]) -> None:
    assert list(planned(keys, records, GROUP, **options).warnings) == [f"token 'a': {text}" for text in texts]


def test_what_is_not_pruned_is_told_of_the_group_and_only_on_request() -> None:
    assert planned([], [mine], GROUP, others=None).warnings == ()
    (text,) = planned([], [mine], GROUP, prune=True, others=None).warnings
    assert text.startswith("group 'payments': nothing was pruned")
    (text,) = planned([secret("dek", b"9", value="bb0001")], [loose], prune=True).warnings
    assert text.startswith("token 'a': 'dek' not pruned")


@pytest.mark.parametrize(
    ("key", "record", "state", "told"),
    [
        (AES, None, "compromised", True),
        (AES, loose, "deactivated", True),
        (AES, None, "suspended", False),
        (named(AES, "x"), None, "compromised", False),  # another name: its check value is no ground
        (named(EC, "x", b"9"), None, "compromised", True),  # a public key is
        (AES, mine, "compromised", False),  # recorded by this group before
    ],
)
def test_what_another_group_has_put_out_of_use_is_told(key: Key, record: VirtualKey | None, state: str, told: bool) -> None:
    records = [record] if record is not None else []
    theirs = [in_group(record_of(found, state=state), OTHER) for found in (AES, EC)]
    plan = planned([key], records, GROUP, groups_of={one.name: {"other": one} for one in theirs})
    text = (
        f"token 'a': '{key.main.label}' is recorded as active, and group 'other' has it as {state}: give it its state here too (hsm_key)."
    )
    assert list(plan.warnings) == [text] * told


# What another run did between the look and the write


def due(plan: SyncPlan, now: Sequence[VirtualKey]) -> tuple[RecordChanges, list[str]]:
    return still_due(plan.changes, plan.scope, now)


@pytest.mark.parametrize(
    ("changed", "stays"),
    [
        ({}, False),
        ({"state": "suspended"}, True),
        ({"operations": ()}, True),
        ({"group_id": "group-9"}, True),
        ({"label": "renamed", "key_id": b"7"}, False),  # what it is called says nothing about what it is
        (None, True),
    ],
)
def test_a_record_that_another_run_changed_is_left_as_it_is(changed: dict[str, Any] | None, stays: bool) -> None:
    lost = in_group(record_of(secret("lost", value="cc0001")))
    away = in_group(record_of(pair("away"), token_id=GONE))
    free = record_of(secret("free", value="dd0001"))
    records = [misspelt, lost, away, free]
    keys = [AES, pair("away"), secret("free", value="dd0001")]
    plan = planned(keys, records, GROUP, refresh=["label"], prune=True)
    assert [len(part) for part in (plan.changes.adopted, plan.changes.refreshed, plan.changes.moved, plan.changes.pruned)] == [1] * 4
    changes, left = due(plan, [replace(record, **changed) for record in records] if changed is not None else [])
    assert sorted(left) == (["away", "free", "lost", "x"] if stays else [])
    assert changes == (RecordChanges() if stays else plan.changes)


def test_a_name_that_another_run_gave_meanwhile_is_not_given_twice() -> None:
    plan = planned([AES, EC], [misspelt, record_of(EC)], GROUP, refresh=["label"])
    taken = [in_group(record_of(AES)), in_group(record_of(EC))]
    changes, left = due(plan, [misspelt, record_of(EC), *taken])
    assert changes == RecordChanges() and left == ["x", "sig"]
    assert due(plan, [*plan.scope.records, record_of(AES)])[1] == []  # of another scope


def test_a_record_that_was_not_restored_is_not_moved() -> None:
    plan = planned([AES], [replace(misspelt, token_id=GONE)], GROUP, refresh=["label"])
    assert due(plan, [*plan.scope.records, in_group(record_of(AES))]) == (RecordChanges(), ["x"])


def test_a_name_goes_from_one_record_to_the_next() -> None:
    """The group's record gives up the name that one which is taken over gets."""
    own, free = in_group(record_of(pair("b", b"1"))), record_of(pair("c", b"1", value="q"))
    plan = planned([pair("x", b"8"), pair("b", b"9", value="q")], [own, free], GROUP, refresh=["label"])
    assert lines_of(plan) >= {"refreshed b/1 to x/1", "adopted c/1 as b/1"}
    assert due(plan, [own, free]) == (plan.changes, [])


# What holds for any keys and records


NAMES, IDS = st.sampled_from(["", "a", "b"]), st.sampled_from([b"", b"1", b"2"])
SECRETS = st.builds(secret, NAMES, IDS, value=st.sampled_from([None, "aa0001", "bb0001"]), size=st.sampled_from([None, 128, 256]))
PAIRS = st.builds(pair, NAMES, IDS, value=st.sampled_from(["p", "q", "r"]))
HALVES = st.builds(half, st.sampled_from(["private", "public"]), NAMES, IDS, value=st.sampled_from(["p", "q"]))
KEYS = st.lists(st.one_of(SECRETS, PAIRS, HALVES), max_size=5)
STATES = st.sampled_from(["active", "suspended", "deactivated", "compromised", "destroyed"])
RECORD = st.builds(
    lambda key, state, token, own, may: record_of(
        key,
        token if own else HERE,  # of what is in no group, that of the token which serves is looked at
        state=state,
        group_id=GROUP.id if own else None,
        operations=("decrypt",) if may else key.operations,
    ),
    st.one_of(SECRETS, PAIRS, HALVES).filter(lambda key: key.name[1:] != (b"", "")),
    STATES,
    st.sampled_from([HERE, STANDBY, GONE]),
    st.booleans(),
    st.booleans(),
)
RECORDS = st.lists(RECORD, max_size=5, unique_by=lambda record: record.name)  # the first of each name, as in a scope
GROUPS = st.sampled_from([None, GROUP, OWN])
REFRESH = st.sampled_from([(), ("id",), ("label",), BOTH])


NUMBERS = count()


def written(changes: RecordChanges, records: Sequence[VirtualKey]) -> list[VirtualKey]:
    """The registry after a write, one statement after the other, none of which may give a name twice in a scope."""
    registry = {record.id: record for record in records}

    def put(record: VirtualKey) -> None:
        others = {(other.group_id, other.name) for other in registry.values() if other.id != record.id}
        assert (record.group_id, record.name) not in others, record
        registry[record.id] = record

    for new in changes.added:
        put(replace(new.record, id=f"new-{next(NUMBERS)}"))
    for change in (*changes.refreshed, *changes.adopted, *changes.moved):
        put(change.after)
    for record in changes.pruned:
        del registry[record.id]
    return list(registry.values())


def clear(keys: Sequence[Key], records: Sequence[VirtualKey]) -> bool:
    """Whether no two keys, and no two records, have a label, an id or a public key in common."""
    return all(
        len({fact for item in items for fact in facts(item)}) == sum(len(facts(item)) for item in items)
        for items, facts in ((keys, lambda key: facts_of_keys([key])), (records, facts_of_record))
    )


@given(KEYS, RECORDS, GROUPS, REFRESH, st.booleans())
def test_a_sync_that_was_written_and_is_planned_again_changes_nothing(
    keys: list[Key], records: list[VirtualKey], group: GroupRecord | None, refresh: Sequence[str], prune: bool
) -> None:
    most = 1 if clear(keys, records) else 1 + len(keys) + len(records)
    runs = 0
    while (plan := planned(keys, records, group, refresh=refresh, prune=prune)).changes.any:
        changes, left = due(plan, records)
        assert left == [] and changes == plan.changes  # no other run was at work
        records = written(changes, records)
        runs += 1
        # Where two have something in common, what one run records or takes over may tell the next which of them is which.
        assert runs <= most


@given(KEYS, RECORDS, GROUPS, REFRESH, st.booleans())
def test_what_a_sync_never_does(
    keys: list[Key], records: list[VirtualKey], group: GroupRecord | None, refresh: Sequence[str], prune: bool
) -> None:
    plan = planned(keys, records, group, refresh=refresh, prune=prune)
    changes, scope = plan.changes, plan.scope
    if not prune:
        assert not changes.pruned
    assert set(changes.pruned) <= set(plan.missing) and all(scope.owns(record) for record in changes.pruned)
    for change in (*changes.adopted, *changes.refreshed, *changes.moved):
        same = {"key_id": change.before.key_id, "label": change.before.label, "token_id": change.before.token_id}
        assert (
            replace(change.after, group_id=change.before.group_id, **same) == change.before
        )  # neither operations nor state, nor any other
        assert change.after.key_id == change.before.key_id or "id" in refresh or change in changes.moved
        assert change.after.label == change.before.label or "label" in refresh or change in changes.moved
    assert all(change.before.group_id is None and change.after.group_id == GROUP.id for change in changes.adopted)
    if group is None or group is OWN:
        assert not changes.adopted
    if group is OWN:
        assert not changes.added


@given(KEYS, RECORDS, GROUPS)
def test_every_key_and_record_is_accounted_for(keys: list[Key], records: list[VirtualKey], group: GroupRecord | None) -> None:
    plan = planned(keys, records, group)
    addressable = {key.name for key in keys if key.name[1:] != (b"", "")}
    met = {match.key.name for match in (*plan.comparison.matches, *plan.taken_over)}
    new = {addition.key.name for addition in plan.changes.added}
    assert not met & new or group is None
    if group is GROUP:
        assert addressable <= met | new
    own = {record.id for record in plan.scope.records if plan.scope.owns(record) and record.state != "destroyed"}
    assert own == {match.record.id for match in plan.comparison.matches if match.record.state != "destroyed"} | {
        record.id for record in plan.missing
    }
