# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A group never makes a second key, and nobody makes one in place of another that is gone: what is on the token and on the other
members, what is recorded, what is said -> the action or the problem."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.keys.planning.member_answers import MemberAnswer, OtherMembers
from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.keys.planning.plan import RECORD, KeyPlan
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.keys.objects import Key
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.plan import KEEP
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.records import GroupRecord, VirtualKey
from plain_keys import GONE, GROUP, HERE, STANDBY, in_group, record_of
from plain_plans import ALONE, World, clear, key, note

AES, EC = key(), key(type="EC")
MINE = in_group(record_of(AES))
ELSEWHERE = in_group(record_of(AES, STANDBY))
SECRETIVE = Key(secret=replace(AES.main, extractable=None))
KNOWN = replace(ELSEWHERE, unreported=(("extractable", False),))
OTHERS = GroupRecord("others", members=(HERE,), id="group-2")
OTHER_EC = in_group(record_of(key(type="EC"), STANDBY))
RECREATE = {"on_vanished": "recreate"}


def answers(*found: Key, unreached: bool = False) -> OtherMembers:
    """Each key on a member of its own, the standby first."""
    members = [MemberAnswer(f"{number} (standby)", number, one) for number, one in enumerate(found, STANDBY)]
    return OtherMembers(tuple(members), ("connection 2 (standby) cannot be reached: gone",) if unreached else ())


def half(one: Key) -> Key:
    return replace(one, public=None)


SILENT = answers(unreached=True)
# what the members answer, what is recorded, what is asked for, on_elsewhere and on_unreachable -> actions, or words of the problem
ROWS: list[tuple[str, OtherMembers | None, tuple[VirtualKey, ...], dict[str, Any], str, str]] = [
    ("nobody was asked yet", None, (), {}, "", "create"),
    ("no member has it", ALONE, (), {}, "", "create"),
    ("a member has it", answers(AES), (), {}, "", "is on another member of the group"),
    ("a member has a pair of its label", answers(EC), (), {}, "", "is on another member of the group"),
    ("a member has half of it", answers(half(EC)), (), {"type": "EC"}, "", "is on another member of the group"),
    ("a member has its id under another label", answers(key("x", id="6b")), (), {}, "", "label 'x'"),
    ("a member has something else", answers(key("x")), (), {}, "", "create"),
    ("a member has its next generation", answers(key("k@2")), (), {}, "", "would count as the second generation"),
    ("a member has both generations", answers(AES, key("k@2")), (), {}, "", "'k@2' is on another member of the group"),
    ("a member has the generation before", answers(AES), (), {"generation": 2}, "", "create"),
    ("a member has it, and it is imported", answers(AES), (), {"material": clear("AES")}, "", "create"),
    ("a member cannot be reached", SILENT, (), {}, "", "nobody can tell whether 'k' is there already"),
    ("a member cannot be reached, the key is imported", SILENT, (), {"material": clear("AES")}, "", "create"),
    ("a member cannot be reached, and generate was said", SILENT, (), {}, "generate", "create"),
    ("a member has it, another is silent, generate", answers(AES, unreached=True), (), {}, "generate", "is on another member"),
    ("adopt: a member has it", answers(AES), (), {}, "adopt", "record"),
    ("adopt: two members have copies", answers(AES, key()), (), {}, "adopt", "record"),
    ("adopt: two members have two pairs", answers(EC, key(type="EC")), (), {"type": "EC"}, "adopt", "has another key under its name"),
    ("adopt: by its id alone", answers(key("x", id="6b")), (), {}, "adopt", "not the only key that goes by its label or its CKA_ID"),
    ("adopt: half of it", answers(half(EC)), (), {"type": "EC"}, "adopt", "only half of the pair"),
    ("adopt: of another type", answers(EC), (), {}, "adopt", "type is EC, asked for AES"),
    ("adopt: with other operations", answers(AES), (), {"operations": ["decrypt"]}, "adopt", "encrypt differs"),
    ("adopt: it does not say what is declared", answers(SECRETIVE), (), {"extractable": False}, "adopt", "does not report CKA_EXTRACTABLE"),
    ("adopt: the registry says it", answers(SECRETIVE), (KNOWN,), {"extractable": False}, "adopt", "keep"),
    ("adopt: the registry says the opposite", answers(SECRETIVE), (KNOWN,), {"extractable": True}, "adopt", "extractable is false"),
    ("adopt: as pre-active", answers(AES), (), {"state": "pre-active"}, "adopt", "is active and cannot become pre-active"),
    ("adopt: no member has it", ALONE, (), {}, "adopt", "create"),
    ("adopt: a member cannot be reached", SILENT, (), {}, "adopt", "nobody can tell"),
    ("adopt: it was adopted before", answers(AES), (ELSEWHERE,), {}, "adopt", "keep"),
    ("adopt: recorded, and a member has another pair", answers(EC), (OTHER_EC,), {"type": "EC"}, "adopt",
     "another key than the one that was recorded"),
    ("adopt: recorded, and no member has it", ALONE, (MINE,), {}, "adopt", "is not on the token that serves"),
    ("adopt: recorded, and imported", answers(AES), (MINE,), {"material": clear("AES")}, "adopt", "is not on the token that serves"),
    ("recorded on the token that serves", ALONE, (MINE,), {}, "", "not on the token that serves, and the registry has a record"),
    ("recorded on another member", answers(AES), (ELSEWHERE,), {}, "", "not on the token that serves, and the registry has a record"),
    ("recreate: no member has it", ALONE, (MINE,), RECREATE, "", "create"),
    ("recreate: a member has it", answers(AES), (ELSEWHERE,), RECREATE, "", "is on another member of the group"),
    ("recreate: a member cannot be reached", SILENT, (MINE,), RECREATE, "", "nobody can tell"),
    ("recreate: another record has its id", ALONE, (MINE, in_group(record_of(key("x", id="6b"), STANDBY))), RECREATE, "",
     "'k' is gone from the token. keys[0] (k).id: CKA_ID 6b belongs to 'x'"),
    ("deactivated, and not there", ALONE, (replace(MINE, state="deactivated"),), {}, "", "'k' is not on the token, and deactivated"),
    ("destroyed, and not there", ALONE, (replace(MINE, state="destroyed"),), {}, "", "'k' is destroyed"),
]  # fmt: skip


@pytest.mark.parametrize(("members", "records", "wish", "policy", "expected"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_in_a_group(
    members: OtherMembers | None, records: tuple[VirtualKey, ...], wish: dict[str, Any], policy: str, expected: str
) -> None:
    ways = {"adopt": {"on_elsewhere": "adopt"}, "generate": {"on_unreachable": "generate"}}
    for group in (GROUP, replace(GROUP, apply_changes=True), replace(GROUP, key_scan="own")):
        answer = World(records=records, group=group, members=members, **ways.get(policy, {})).plan({"type": "AES", **wish})
        assert expected in answer.said if answer.problems else answer.said == expected, answer.said


# what is recorded and whose, the note of a run that died, what is asked for -> action, or words of the problem
ON_ONE: list[tuple[str, tuple[VirtualKey, ...], tuple[VirtualKey, ...], bool, dict[str, Any], str]] = [
    ("unknown", (), (), False, {}, "create"),
    ("recorded", (record_of(AES),), (), False, {}, "'k' is gone from the token, and the registry has a record of it"),
    ("recorded with another id", (record_of(key(id="99")),), (), False, {}, "'k' is gone from the token"),
    ("recorded, imported", (record_of(AES),), (), False, {"material": clear("AES")}, "'k' is gone from the token"),
    ("recorded, suspended", (replace(record_of(AES), state="suspended"),), (), False, {}, "'k' is gone from the token"),
    ("recorded, to be active", (record_of(AES),), (), False, {"state": "active"}, "'k' is gone from the token"),
    ("recorded, a run died that replaced it", (record_of(AES),), (), True, {}, "create"),
    ("recorded, recreate", (record_of(AES),), (), False, RECREATE, "create"),
    ("recorded by a group", (), (MINE,), False, {}, "'k' is gone from the token, and group 'others' has a record of it"),
    ("recorded by a group, recreate", (), (MINE,), False, RECREATE, "'k' is gone from the token, and belongs to group 'others'"),
    ("recorded by a group, recreate, imported", (), (MINE,), False, {**RECREATE, "material": clear("AES")}, "create"),
    ("a group has it on another token", (), (ELSEWHERE,), False, {}, "'k' belongs to group 'others'"),
    ("a group has it on another token, imported", (), (replace(MINE, token_id=GONE),), False, {"material": clear("AES")}, "create"),
    ("deactivated", (replace(record_of(AES), state="deactivated"),), (), False, {}, "'k' is not on the token, and deactivated"),
]  # fmt: skip


@pytest.mark.parametrize(("own", "of_group", "noted", "wish", "expected"), [row[1:] for row in ON_ONE], ids=[row[0] for row in ON_ONE])
def test_on_one_token(
    own: tuple[VirtualKey, ...], of_group: tuple[VirtualKey, ...], noted: bool, wish: dict[str, Any], expected: str
) -> None:
    others = tuple((OTHERS, replace(record, group_id=OTHERS.id)) for record in of_group)
    notes = (note(replaces=True),) if noted else ()
    answer = World(records=own, others=others, notes=notes).plan({"type": "AES", **wish})
    assert expected in answer.said if answer.problems else answer.said == expected, answer.said


def adopted(wish: dict[str, Any]) -> KeyPlan:
    return World(group=GROUP, members=answers(AES), on_elsewhere="adopt").plan({"type": "AES", **wish}).only()


def test_what_is_adopted_is_recorded_where_it_is() -> None:
    plan = adopted({})
    record = plan.record_of(AES, HERE)
    assert (plan.action, record.token_id, record.name, record.operations) == (RECORD, STANDBY, AES.name, ("encrypt", "decrypt"))
    assert plan.step.after == {"virtual_key": "recorded"} and "repair: wrap" in plan.warnings[0]
    again = World(records=(in_group(record),), group=GROUP, members=answers(AES), on_elsewhere="adopt").plan({"type": "AES"})
    assert again.only().action == KEEP


def test_the_registrys_own_note_says_that_the_members_were_asked() -> None:
    answer = World(group=GROUP, members=SILENT, notes=(note(),)).plan({"type": "AES"})
    assert answer.said == "create"


def test_what_a_member_may_have_whole_is_not_repaired_by_a_new_one() -> None:
    hollow = World(keys=(half(EC),), group=replace(GROUP, apply_changes=True), repair=True)
    assert replace(hollow, members=ALONE).plan({"type": "EC"}).problems  # the plan to repair, in the row after this one
    unnamed = replace(hollow, keys=(replace(EC, private=None),))
    assert unnamed.plan({"type": "EC"}).said == "repair"
    assert "is on another member" in replace(unnamed, members=answers(EC)).plan({"type": "EC"}).said
    assert "is on another member" in replace(unnamed, members=answers(EC), on_elsewhere="adopt").plan({"type": "EC"}).said
