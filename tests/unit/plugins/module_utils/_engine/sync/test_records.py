# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A plan of a sync is written into a registry, and planned again from what is there then."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.sync.plan import RecordChanges, SyncPlan, plan_sync
from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.sync.records import write
from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.virtual_keys.addresses import Addresses
from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.virtual_keys.contents import TokenContents
from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.virtual_keys.scope import group_scope
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.keys.objects import Key
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.plan import Context
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.records import GroupRecord
from ansible_collections.keyfleet.hsm.plugins.module_utils._registry import groups, instances, virtual_keys
from ansible_collections.keyfleet.hsm.plugins.module_utils._registry.database import Database
from plain_keys import named, pair, record_of, secret

BOTH = ("id", "label")


class Registry:
    """The group ``payments`` of the tokens 1 and 2."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.warnings: list[str] = []
        with database.transaction():
            groups.save(database, GroupRecord("payments", members=(1, 2)))
        group = groups.named(database, "payments")
        assert group is not None and group.id is not None
        self.group, self.group_id = group, group.id

    def add(self, key: Key, token_id: int = 1, *, own: bool = True, **fields: Any) -> None:
        record = record_of(key, token_id, group_id=self.group_id if own else None, **fields)
        with self.database.transaction():
            virtual_keys.add(self.database, [("uid", record)])

    def plan(self, keys: Sequence[Key], **options: Any) -> SyncPlan:
        return plan_sync(TokenContents("token 'a'", keys), group_scope(self.database, self.group, 1), **options)

    def write(self, plan: SyncPlan) -> RecordChanges:
        with self.database.transaction():
            addresses = Addresses(instances.all_instances(self.database))
            return write(self.database, addresses, plan, Context(False, "test", self.warnings.append))

    def records(self) -> set[tuple[str, bytes, int, bool, str]]:
        rows = self.database.connection.execute("SELECT label, key_id, token_id, group_id IS NOT NULL, state FROM virtual_key")
        return {(label, key_id, token_id, bool(own), state) for label, key_id, token_id, own, state in rows}

    def events(self) -> set[tuple[str, str]]:
        rows = self.database.connection.execute("SELECT action, subject FROM event WHERE action LIKE '%_key' AND subject != 'uid'")
        return {(row["action"], row["subject"]) for row in rows}


def test_all_that_a_plan_does_is_written_and_noted(database: Database) -> None:
    registry = Registry(database)
    registry.add(named(pair("old"), "x"), state="suspended")
    registry.add(secret("gone", value="cc0001"))
    registry.add(secret("away", value="dd0001"), token_id=3)
    registry.add(secret("free", value="ee0001"), own=False, state="compromised")
    keys = [pair("old"), secret("away", value="dd0001"), secret("free", value="ee0001"), secret("new", value="ff0001")]
    options = {"refresh": BOTH, "prune": True}
    plan = registry.plan(keys, **options)
    assert registry.write(plan) == plan.changes and registry.warnings == []
    assert registry.records() == {
        ("old", b"old", 1, True, "suspended"),
        ("away", b"away", 1, True, "active"),
        ("free", b"free", 1, True, "compromised"),
        ("new", b"new", 1, True, "active"),
    }
    uid = "hsm::softhsm2::11::"
    assert registry.events() == {
        ("add_key", f"{uid}new"),
        ("add_key", f"{uid}free"),
        ("adopt_key", f"{uid}free"),
        ("refresh_key", f"{uid}old"),
        ("move_key", "hsm::softhsm2_2::13::away"),
        ("prune_key", f"{uid}gone"),
    }
    (details,) = database.connection.execute("SELECT details FROM event WHERE action = 'refresh_key'").fetchone()
    assert json.loads(details)["restored"] == {"label": {"was": "x", "is": "old"}}
    again = registry.plan(keys, **options)
    assert not again.changes.any and again.known == 4 and not again.drifted


def test_what_another_run_did_meanwhile_is_left(database: Database) -> None:
    registry = Registry(database)
    registry.add(named(pair("old"), "x"))
    registry.add(secret("gone", value="cc0001"))
    plan = registry.plan([pair("old"), secret("new")], refresh=BOTH, prune=True)
    with database.transaction():
        for record in virtual_keys.of_group(database, registry.group_id):
            virtual_keys.update(database, "uid", replace(record, state="suspended"))
    registry.add(secret("new"), state="suspended")
    assert registry.write(plan) == RecordChanges()
    assert {(label, state) for label, _id, _token, _own, state in registry.records()} == {
        ("x", "suspended"),
        ("gone", "suspended"),
        ("new", "suspended"),
    }
    assert registry.warnings == [
        f"the record of '{label}' was changed by another run meanwhile and left as it is: run again." for label in ("x", "gone")
    ]
    assert registry.events() == set()


def test_names_that_were_exchanged_are_restored_in_an_order_that_the_registry_takes(database: Database) -> None:
    registry = Registry(database)
    for label, value in (("a", "p"), ("b", "q"), ("c", "r")):
        registry.add(pair(label, b"1", value=value))
    keys = [pair("b", b"2", value="p"), pair("c", b"3", value="q"), pair("d", b"4", value="r")]
    plan = registry.plan(keys, refresh=["label"])
    assert len(plan.changes.refreshed) == 3
    assert registry.write(plan) == plan.changes
    assert {label for label, *_rest in registry.records()} == {"b", "c", "d"}
