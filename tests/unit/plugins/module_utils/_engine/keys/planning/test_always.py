# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What holds for every plan, whatever is on the token, in the registry and in the entry."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from typing import Any, NamedTuple

from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.keys.planning.member_answers import MemberAnswer, OtherMembers
from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.keys.planning.plan import REMOVE_PRIVATE, REPLACE
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.keys.generations import split_label
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.keys.objects import Key
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.keys.spec import ABSENT, MADE, PRESENT, PUBLIC_ONLY
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.keys.states import COMPROMISED, DEACTIVATED, DESTROYED, STATES, SUSPENDED
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.keys.types import EXPOSING
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.plan import CREATE, DELETE, KEEP
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.records import SCAN_ALL, SCAN_OWN, GroupRecord, VirtualKey
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_keys import GONE, GROUP, STANDBY, record_of
from plain_plans import Answer, PlainLook, World, clear, key, note

GROUPS = [None, *(replace(GROUP, apply_changes=a, key_scan=scan) for a, scan in product((True, False), (SCAN_ALL, SCAN_OWN)))]
OTHER = GroupRecord("others", members=(1,), id="group-2")
LABELS = ("k", "k@2", "x")  # the key that is declared, its second generation, somebody else's
BOTH = {"AES": ("encrypt", "decrypt"), "EC": ("sign", "verify")}
WEAK = ("decrypt", "wrap")
NARROW = {"AES": ("encrypt",), "EC": ("verify",)}


def keys(label: str) -> list[Key]:
    """Keys that may be on the token, the plain ones first."""
    whole = [key(label, type_, **more) for more in ({}, {"modifiable": False}, {"destroyable": False}) for type_ in ("AES", "EC")]
    whole += [
        key(label, extractable=True),
        key(label, size=128),
        key(label, id="0a"),
        key(label, operations=["encrypt", "wrap"]),
        key(label, operations=WEAK),
    ]
    whole += [key(label, "EC", operations=["sign"])]
    halves = [replace(half, **{lost: None}) for half in (whole[1], whole[3]) for lost in ("private", "public")]
    found = [*whole, *halves]
    return found + [Key(**{item.kind: replace(item, local=False) for item in other.objects}) for other in (whole[0], *halves)]


def records(found: Key) -> list[VirtualKey]:
    """What may have been recorded of a key, or of one that is there no more under its name."""
    plain = record_of(found)
    label, later = plain.label, split_label(plain.label)[1] or 1
    return [
        plain,
        *(replace(plain, state=state) for state in STATES),
        replace(plain, operations=NARROW.get(plain.type, ())),
        replace(plain, operations=NARROW.get(plain.type, ()), state=SUSPENDED, generation=later),
        replace(plain, key_id=b"edited"),
        replace(plain, generation=later),
        replace(plain, token_id=STANDBY),
        replace(plain, token_id=GONE, size=None),
        *([replace(plain, kind="public", operations=("verify",))] if plain.type == "EC" else []),
        *(record_of(key(label, type_)) for type_ in ("AES", "EC")),
    ]


class Place(NamedTuple):
    """What is on the token under a label, what is recorded of it, and whose record that is."""

    found: Key | None
    record: VirtualKey | None
    whose: str


def places(label: str) -> list[Place]:
    there = keys(label)
    unrecorded = [Place(None, None, ""), *(Place(found, None, "") for found in there)]
    recorded = [
        Place(found, record, whose)
        for whose in ("own", "loose", "other")
        for whole in there
        for found in (whole, None)
        for record in records(whole)
    ]
    return unrecorded + recorded


LOOKS = [
    PlainLook(hollow=hollow, halves=halves, same_key=same)
    for hollow, halves, same in product(((), ("k",)), (True, False, None), (True, False, None))
]
NOTES = [(), (note(),), (note(replaces=True),), (note("k@2"),)]
RUNS = list(product(LOOKS, NOTES, (False, True)))
ANSWERS = [
    OtherMembers(tuple(MemberAnswer("2", STANDBY, one) for one in found), ("connection 2 is away",) if away else ())
    for found in ([], [key()], [key(type="EC")], [key("k@2")], [key(), key("k@2")], [key("x")])
    for away in (False, True)
]
POLICIES = list(product(ANSWERS, ("fail", "adopt"), ("fail", "generate")))


def placed(group: GroupRecord | None, run: tuple[Any, Any, bool], where: tuple[Place, ...], policy: tuple[OtherMembers, str, str]) -> World:
    own = group.id if group is not None else None
    known: list[VirtualKey] = []
    others = []
    for _found, record, whose in where:
        if record is not None and whose == "other":
            others.append((OTHER, replace(record, group_id=OTHER.id)))
        elif record is not None:
            known.append(replace(record, group_id=own if whose == "own" else None))
    known.sort(key=lambda record: record.group_id != own)
    look, notes, repair = run
    there = tuple(found for found, _record, _whose in where if found is not None)
    world = World(there, tuple(known), group, tuple(others), notes, look=look, repair=repair)
    answer, elsewhere, unreachable = policy
    return replace(world, members=answer, on_elsewhere=elsewhere, on_unreachable=unreachable) if group is not None else world


WORLDS = st.builds(
    placed,
    st.sampled_from(GROUPS),
    st.sampled_from(RUNS),
    st.tuples(*(st.sampled_from(places(label)) for label in LABELS)),
    st.sampled_from(POLICIES),
)


def wishes() -> Iterator[dict[str, Any]]:
    for state, number in product((PRESENT, ABSENT, *STATES, PUBLIC_ONLY), (None, 1, 2, 3)):
        wish: dict[str, Any] = {"state": state, "generation": number}
        if state not in MADE:
            yield from ({**wish, "enforce": enforce} for enforce in ((False, True) if state in (DEACTIVATED, COMPROMISED) else (False,)))
            continue
        ways = ("keep", "deactivate", "destroy") if state == PRESENT else ("keep",)
        for vanished, type_, mismatch, extractable, previous in product(
            ("fail", "recreate"), ("AES", "EC"), ("fail", "keep", "replace"), (None, False, True), ways
        ):
            more = {"type": type_, "on_mismatch": mismatch, "extractable": extractable, "previous": previous, "on_vanished": vanished}
            for operations, material in product((None, NARROW[type_], BOTH[type_], *([WEAK] if type_ == "AES" else [])), (False, True)):
                yield {**wish, **more, "operations": operations, "material": clear(type_) if material else None}
                if previous == "deactivate":
                    yield {**wish, **more, "operations": operations, "enforce": True}


def objects(world: World, *, of: str | None = None) -> dict[int, Any]:
    return {item.handle: item for item in world.objects if of is None or item.label == of}


# The rules: what is there, what is asked for, what is planned, and what is there when that was done


def what_was_done_is_planned_as_kept(world: World, wish: dict[str, Any], answer: Answer, after: World) -> None:
    again = after.plan(wish)
    assert (again.problems, {plan.action for plan in again.plans}) == ([], {KEEP})


def check_mode_plans_what_is_done(world: World, wish: dict[str, Any], answer: Answer, after: World) -> None:
    assert world.plan(wish, check=True) == answer


def nobody_elses_key_is_touched(world: World, wish: dict[str, Any], answer: Answer, after: World) -> None:
    assert objects(after, of="x") == objects(world, of="x")
    assert [record for record in after.records if record.label == "x"] == [record for record in world.records if record.label == "x"]
    assert all(plan.key is None or plan.key.main.label == plan.spec.label for plan in answer.plans)


def present_destroys_only_what_is_replaced_or_repaired(world: World, wish: dict[str, Any], answer: Answer, after: World) -> None:
    if wish["state"] not in MADE or wish["previous"] == "destroy":
        return
    for plan in answer.plans:
        gone = objects(world, of=plan.spec.label).keys() - objects(after).keys()
        replaced = wish["on_mismatch"] == "replace" and plan.action == REPLACE
        noted = [pending for pending in world.notes if pending.label == plan.spec.label]
        assert not gone or replaced or noted or world.repair
        if gone and not replaced and not any(pending.replaces for pending in noted):  # what was recorded was whole
            assert plan.key is not None and all(record.name != plan.key.name for record in world.own(plan.spec.label))


def a_group_that_does_not_apply_changes_leaves_the_hsm_alone(world: World, wish: dict[str, Any], answer: Answer, after: World) -> None:
    if world.group is None or world.group.apply_changes or world.notes:
        return
    assert not any(plan.changes or plan.clear or plan.action in (DELETE, REPLACE, REMOVE_PRIVATE) for plan in answer.plans)
    assert objects(world).items() <= objects(after).items()


def a_record_allows_no_more_than_the_hsm(world: World, wish: dict[str, Any], answer: Answer, after: World) -> None:
    for plan in answer.plans:
        there = {found.name: found for found in after.keys}
        for now in after.own(plan.spec.label) if plan.action != KEEP else []:
            if now.name in there and now.state != DESTROYED:
                assert set(now.operations) <= set(there[now.name].operations)


def nothing_of_another_scope_is_forgotten(world: World, wish: dict[str, Any], answer: Answer, after: World) -> None:
    """A group may take over what is in no group; nobody takes a record from a group."""
    for plan in answer.plans:
        going = [plan.virtual] if plan.action in (DELETE, REPLACE) and plan.new_state is None else []
        for record in (*plan.stale, *going):
            assert record is None or world.scope.owns(record) or (world.group is not None and record.group_id is None)


def a_generation_is_not_taken_back(world: World, wish: dict[str, Any], answer: Answer, after: World) -> None:
    for plan in answer.plans:
        before, now = world.own(plan.spec.label), after.own(plan.spec.label)
        if len(before) == len(now) == 1:
            assert now[0].generation >= before[0].generation


def what_is_gone_is_made_again_only_when_that_was_said(world: World, wish: dict[str, Any], answer: Answer, after: World) -> None:
    noted = {pending.label for pending in world.notes}
    for plan in answer.plans:
        if plan.action == CREATE and plan.spec.label not in noted and any(world.scope.is_here(old) for old in world.own(plan.spec.label)):
            assert wish["on_vanished"] == "recreate"


def a_group_makes_no_second_key(world: World, wish: dict[str, Any], answer: Answer, after: World) -> None:
    noted = {pending.label for pending in world.notes}
    members = world.members
    assert members is not None
    for plan in answer.plans:
        generated = world.group is not None and plan.spec.material is None and plan.spec.label not in noted
        if generated and (plan.action == CREATE or plan.clear):
            assert plan.spec.label not in members.labels()
            assert not members.unreached or world.on_unreachable == "generate"


@settings(max_examples=3000)
@given(WORLDS, st.sampled_from(list(wishes())))
def test_always(world: World, wish: dict[str, Any]) -> None:
    answer = world.plan(wish)
    assert all(problem.startswith("keys[0] (k)") for problem in answer.problems)
    if answer.problems:
        return
    after = world.after(answer)
    for rule in RULES:
        rule(world, wish, answer, after)


def no_key_becomes_one_that_wraps_and_decrypts(world: World, wish: dict[str, Any], answer: Answer, after: World) -> None:
    before = {item.handle for found in world.keys if set(found.operations) >= EXPOSING for item in found.objects}
    for found in after.keys:
        assert not set(found.operations) >= EXPOSING or found.main.handle in before


RULES = [
    what_was_done_is_planned_as_kept,
    check_mode_plans_what_is_done,
    nobody_elses_key_is_touched,
    present_destroys_only_what_is_replaced_or_repaired,
    a_group_that_does_not_apply_changes_leaves_the_hsm_alone,
    a_record_allows_no_more_than_the_hsm,
    nothing_of_another_scope_is_forgotten,
    a_generation_is_not_taken_back,
    what_is_gone_is_made_again_only_when_that_was_said,
    a_group_makes_no_second_key,
    no_key_becomes_one_that_wraps_and_decrypts,
]
