# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What hsm_sync answers, from a plan and what was written of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.members.repair import Repairs
from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.sync.outcome import Written, outcome_of
from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.sync.plan import RecordChanges, SyncPlan, plan_sync
from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.virtual_keys.addresses import Addresses
from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.virtual_keys.contents import TokenContents
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.keys.objects import Key
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.plan import CREATE, Outcome, Step
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.records import InstanceRecord, TokenRecord, VirtualKey
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.tokens.selectors import TokenSelector
from plain_keys import GONE, GROUP, HERE, in_group, named, pair, record_of, scope_of, secret

AES, EC = secret(), pair()
BASE = "hsm::softhsm2::7"


def addresses() -> Addresses:
    tokens = tuple(TokenRecord(TokenSelector("slot", number), slot=6 + number, id=number) for number in (HERE, GONE))
    return Addresses([InstanceRecord("primary", "softhsm2", "/lib/a.so", tokens=tokens)])


def planned(keys: Sequence[Key], *records: VirtualKey, **options: Any) -> SyncPlan:
    group = GROUP if any(record.group_id for record in records) else None
    return plan_sync(TokenContents("token 'a'", keys), scope_of(*records, group=group), **options)


def answer(*plans: SyncPlan, **more: Any) -> Outcome:
    return outcome_of(plans, Written([plan.changes for plan in plans]), addresses(), **more)


def shown(outcome: Outcome) -> list[str]:
    assert isinstance(outcome.diff, dict)
    return str(outcome.diff["prepared"]).splitlines()


def test_nothing_to_tell() -> None:
    nothing = {"added": 0, "known": 0, "missing": 0, "drifted": 0}
    for outcome in (answer(), answer(planned([]))):
        assert not outcome.changed and outcome.diff == {"before": {}, "after": {}}
        assert outcome.values["summary"] == nothing and outcome.values["served_by"] is outcome.values["document"] is None
        assert all(value == [] for name, value in outcome.values.items() if name not in ("summary", "served_by", "document"))


def test_added_known_missing_and_drift() -> None:
    records = [record_of(named(AES, "misspelt")), record_of(secret("narrow"), operations=("encrypt",)), record_of(pair("gone", value="q"))]
    outcome = answer(planned([AES, secret("narrow"), EC], *records))
    assert outcome.changed and outcome.values["added"] == [f"{BASE}::sig"] and outcome.values["missing"] == [f"{BASE}::gone"]
    assert outcome.values["drift"] == [
        {"uid": f"{BASE}::dek", "field": "label", "virtual": "misspelt", "hsm": "dek"},
        {"uid": f"{BASE}::narrow", "field": "operations", "virtual": ["encrypt"], "hsm": ["encrypt", "decrypt"]},
    ]
    assert outcome.values["summary"] == {"added": 1, "known": 2, "missing": 1, "drifted": 2}
    assert shown(outcome) == ["4 keys: +1 ~0 -0 =3", f"+ {BASE}::sig: type EC, size 256, operations [sign, verify]"]


def test_restored_moved_and_pruned() -> None:
    records = [in_group(record_of(named(AES, "x"), GONE)), in_group(record_of(EC))]
    outcome = answer(planned([AES], *records, refresh=["label"], prune=True))
    assert outcome.values["refreshed"] == [{"uid": "hsm::softhsm2::9::dek", "field": "label", "virtual": "x", "hsm": "dek"}]
    assert outcome.values["pruned"] == outcome.values["missing"] == [f"{BASE}::sig"]
    assert shown(outcome) == [
        "2 keys: +0 ~1 -1 =0",
        f"- {BASE}::sig: type EC, size 256, operations [sign, verify]",
        f"~ hsm::softhsm2::9::dek: label x -> dek, address hsm::softhsm2::9::dek -> {BASE}::dek",
    ]


def test_what_is_taken_over_counts_as_added() -> None:
    plan = plan_sync(TokenContents("token 'a'", [named(AES, "y")]), scope_of(record_of(AES), group=GROUP), refresh=["label"])
    outcome = answer(plan)
    assert outcome.values["added"] == [f"{BASE}::dek"] and outcome.values["summary"]["added"] == 1
    assert [entry["hsm"] for entry in outcome.values["refreshed"]] == ["y"]
    assert shown(outcome) == ["1 key: +1 ~0 -0 =0", f"+ {BASE}::dek: type AES, size 256, operations [encrypt, decrypt]"]


def test_only_what_was_written_is_told_as_done() -> None:
    plan = planned([AES], record_of(EC), prune=True)
    outcome = outcome_of([plan], Written([RecordChanges()]), addresses())
    assert not outcome.changed and outcome.values["added"] == outcome.values["pruned"] == []
    assert outcome.values["missing"] == [f"{BASE}::sig"]


@pytest.mark.parametrize(
    ("keys", "subjects"),
    [
        ([secret("a", b"key"), secret("b", b"key")], {f"{BASE}::key (a)", f"{BASE}::key (b)"}),
        ([secret("a", b"key"), pair("a", b"key")], {f"{BASE}::key (a, secret)", f"{BASE}::key (a, private)"}),
        ([secret("a"), secret("b")], {f"{BASE}::a", f"{BASE}::b"}),
    ],
)
def test_keys_with_one_uid_are_shown_and_counted_each(keys: list[Key], subjects: set[str]) -> None:
    outcome = answer(planned(keys))
    assert {line[2:].partition(": ")[0] for line in shown(outcome)[1:]} == subjects and outcome.values["summary"]["added"] == 2
    records = [record_of(key, operations=()) for key in keys]
    assert answer(planned(keys, *records)).values["summary"]["drifted"] == 2


def test_several_tokens_are_told_together_and_copies_come_last() -> None:
    plans = [planned([AES]), planned([EC])]
    copies = Repairs(({"label": "dek"},), ({"label": "sig"},), (Step(CREATE, "key dek on connection 2", None, {"id": "00"}),))
    outcome = answer(*plans, repairs=copies, served_by={"priority": 1})
    assert outcome.values["added"] == [f"{BASE}::dek", f"{BASE}::sig"] and outcome.values["served_by"] == {"priority": 1}
    heads = [line.partition(": ")[0] for line in shown(outcome)]
    assert heads == ["2 keys", f"+ {BASE}::dek", f"+ {BASE}::sig", "1 copied key", "+ key dek on connection 2"]
    assert outcome.values["repaired"] == [{"label": "dek"}] and outcome.values["not_repaired"] == [{"label": "sig"}]
    only = answer(planned([AES], record_of(AES)), repairs=replace(copies, steps=()))
    assert not only.changed
