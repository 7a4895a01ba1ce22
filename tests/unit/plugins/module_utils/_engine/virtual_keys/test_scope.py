# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whose virtual keys a run is about, from a registry: records, what other groups have, and what dead runs were making."""

from __future__ import annotations

from dataclasses import replace

from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.virtual_keys.scope import group_scope, token_scope
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.keys.objects import Key
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.records import GroupRecord, PendingKey
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.scope import Scope
from ansible_collections.keyfleet.hsm.plugins.module_utils._registry import groups, instances, pending_keys, virtual_keys
from ansible_collections.keyfleet.hsm.plugins.module_utils._registry.database import Database
from plain_keys import pair, record_of, secret

PRIMARY, STANDBY, THIRD = 1, 2, 3


def made(database: Database, name: str, *members: int, **options: bool) -> GroupRecord:
    with database.transaction():
        groups.save(database, GroupRecord(name, members=members, **options))
    found = groups.named(database, name)
    assert found is not None
    return found


def record(database: Database, key: Key, token_id: int = PRIMARY, group: GroupRecord | None = None) -> None:
    with database.transaction():
        found = replace(record_of(key, token_id), group_id=group.id if group is not None else None)
        virtual_keys.add(database, [(key.main.label, found)])


def labels(scope: Scope) -> list[str]:
    """Those of the scope are marked."""
    return [f"{'*' if scope.owns(record) else ''}{record.label}" for record in scope.records]


def others(scope: Scope) -> dict[str, list[str]]:
    return {label: sorted(by_group) for (_kind, _id, label), by_group in scope.groups_of.items()}


def test_of_a_token_what_is_in_no_group_and_what_groups_know(database: Database) -> None:
    payments, elsewhere = made(database, "payments", PRIMARY, STANDBY), made(database, "elsewhere", THIRD)
    for label, token_id, group in (
        ("mine", PRIMARY, None),
        ("theirs", PRIMARY, payments),
        ("on the other member", STANDBY, payments),
        ("far", THIRD, elsewhere),
        ("not mine", STANDBY, None),
    ):
        record(database, secret(label), token_id, group)
    scope = token_scope(database, PRIMARY)
    assert labels(scope) == ["*mine", "theirs", "on the other member"]
    assert others(scope) == {"theirs": ["payments"], "on the other member": ["payments"]}
    assert labels(token_scope(database, THIRD)) == ["far"]
    assert token_scope(database, None) == Scope()


def test_of_a_group_its_own_and_what_its_token_has_in_no_group(database: Database) -> None:
    payments = made(database, "payments", PRIMARY, STANDBY)
    other = made(database, "other", STANDBY)
    record(database, secret("own"), STANDBY, payments)
    record(database, secret("loose"))
    record(database, secret("loose there"), STANDBY)
    record(database, secret("own", value="bb0001"))  # of the same name, in no group: the group's own comes first
    record(database, secret("shared"), STANDBY, other)
    scope = group_scope(database, payments, PRIMARY)
    assert labels(scope) == ["*own", "loose"] and scope.group_id == payments.id
    assert others(scope) == {}  # the other group does not have this token
    assert others(group_scope(database, payments, STANDBY)) == {"shared": ["other"]}


def test_which_groups_keep_changes_from_the_hsm(database: Database) -> None:
    made(database, "held", PRIMARY)
    free = made(database, "free", PRIMARY, apply_changes=True)
    assert token_scope(database, PRIMARY).held_back == group_scope(database, free, PRIMARY).held_back == {"held"}


def test_a_token_that_is_registered_through_two_instances_is_one(database: Database) -> None:
    payments = made(database, "payments", PRIMARY)
    record(database, secret("dek"), PRIMARY, payments)
    with database.transaction():
        first, second, *_others = instances.all_instances(database)
        token = replace(second.tokens[0], serial=first.tokens[0].serial, label=first.tokens[0].label)
        instances.save(database, replace(second, tokens=(token,)), "change_instance")
    scope = token_scope(database, STANDBY)
    assert scope.same_token == {PRIMARY, STANDBY} and others(scope) == {"dek": ["payments"]}
    assert scope.is_here(record_of(secret(), PRIMARY)) and not scope.is_here(record_of(secret(), THIRD))
    assert token_scope(database, THIRD).same_token == {THIRD}
    # What a run left on this token under its other name is not on another member.
    with database.transaction():
        pending_keys.add(database, [PendingKey(PRIMARY, "dek", b"1", False, False, 0)])
    assert dict(group_scope(database, payments, STANDBY).unfinished) == {}


def test_what_dead_runs_were_making(database: Database) -> None:
    payments = made(database, "payments", PRIMARY, STANDBY)
    with database.transaction():
        notes = [(PRIMARY, "here"), (STANDBY, "there"), (THIRD, "far")]
        pending_keys.add(database, [PendingKey(token_id, label, b"1", False, False, 0) for token_id, label in notes])
    scope = group_scope(database, payments, PRIMARY)
    assert set(scope.pending) == {"here"}
    assert dict(scope.unfinished) == {"there": "instance 'standby', token 'standby'"}


def test_whose_a_record_is(database: Database) -> None:
    payments = made(database, "payments", PRIMARY, STANDBY)
    scope = group_scope(database, payments, PRIMARY)
    own, loose = record_of(pair(), group_id=payments.id), record_of(pair())
    assert scope.owns(own) and not scope.owns(loose) and not scope.owns(None)
    assert token_scope(database, PRIMARY).owns(loose) and not token_scope(database, PRIMARY).owns(own)
    assert [scope.is_home(record_of(pair(), token)) for token in (PRIMARY, STANDBY, THIRD)] == [True, True, False]
    assert token_scope(database, PRIMARY).is_home(record_of(pair(), THIRD))
