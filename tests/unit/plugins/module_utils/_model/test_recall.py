# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What an export tells of keys that were found anew, and what is left: with plain records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.export_document import export_document, plain_text
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.keys.states import DESTROYED, STATES
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.recall import Memory, Recall, parse_memory, plan_recall
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.records import VirtualKey
from hypothesis import given
from hypothesis import strategies as st

GROUP = "g-1"


def record(label: str = "dek", **fields: Any) -> VirtualKey:
    usual: dict[str, Any] = {"kind": "secret", "key_id": label.encode(), "type": "AES", "size": 256, "curve": None, "fingerprint": "aa0001"}
    usual |= {"operations": ("encrypt", "decrypt"), "origin": "hsm_sync", "group_id": GROUP, "id": f"id of {label}", "token_id": 1}
    return VirtualKey(label=label, **{**usual, **fields})


def address(one: VirtualKey) -> str:
    return f"hsm::softhsm2_1::7::{one.key_id_text}"


def memory_of(records: Sequence[VirtualKey], group: bool = True) -> Memory:
    scope = {"group": {"name": "cards"}} if group else {"instance": "primary", "token_label": "payments"}
    document = export_document(scope, records, address, uri=lambda record: None)
    memory, problems = parse_memory(document, {"group": "cards", "instance": None} if group else {"group": None, "instance": "primary"})
    assert memory is not None and problems == []
    return memory


def recalled(
    before: Sequence[VirtualKey], now: Sequence[VirtualKey], *, fresh: bool = True, group: bool = True, there: bool = True
) -> Recall:
    names = {one.name for one in now} if there else set()
    ids = {one.id for one in now} if fresh else set()
    return plan_recall(memory_of(before, group), now, there=names, fresh=ids, group_id=GROUP if group else None)


@pytest.mark.parametrize("state", sorted(set(STATES) - {DESTROYED, "active"}))
def test_a_state_is_taken_for_the_same_key_alone(state: str) -> None:
    before, now = record(state=state), record()
    assert recalled([before], [now]).changes == ((now, before),)
    for other in (
        record(fingerprint="aa0002"),
        record(fingerprint=None),
        record(key_id=b"other"),
        record("another"),
        record(kind="private", type="RSA"),
        record(type="DES3"),
    ):
        found = recalled([before], [other])
        assert found.changes == () and [entry["label"] for entry in found.left] == ["dek"], other
    assert not recalled([replace(before, fingerprint=None)], [now]).changes
    for left in (recalled([before], [now], fresh=False), recalled([before], [now], there=False)):
        assert not left.changes and left.left[0]["code"] in ("changed", "missing")


@pytest.mark.parametrize(
    ("was", "now", "code", "field"),
    [
        ({"state": "destroyed"}, {}, "destroyed", "state"),
        ({"operations": ("encrypt", "decrypt", "wrap")}, {}, "differs", "operations"),
        ({"operations": ("encrypt",)}, {"group_id": None}, "differs", "operations"),
        ({"size": 192}, {}, "differs", "size"),
        ({"kind": "public", "type": "RSA", "size": 2048}, {"kind": "private", "type": "RSA", "size": 2048}, "differs", "kind"),
        ({"state": "suspended"}, {"group_id": "another"}, "of_group", "state"),
        ({"state": "odd"}, {}, "differs", "state"),
    ],
)
def test_what_is_never_taken_is_told(was: dict[str, Any], now: dict[str, Any], code: str, field: str) -> None:
    group = now.get("group_id", GROUP) == GROUP
    found = recalled([record(**was)], [record(**now)], group=group)
    assert found.changes == () and [(entry["code"], entry["field"]) for entry in found.left] == [(code, field)]


@pytest.mark.parametrize(
    ("was", "now", "field"),
    [
        ({"operations": ("encrypt",)}, {}, "operations"),
        ({"label": "dek@2", "generation": 2}, {"label": "dek@2"}, "generation"),
        ({"allowed_mechanisms": ("AES_GCM",)}, {}, "allowed_mechanisms"),
        ({}, {"size": None}, "size"),
        ({"label": "{{ a }}", "state": "suspended"}, {"label": "{{ a }}"}, "state"),
        ({"key_id": b"\xff\x00", "state": "suspended"}, {"key_id": b"\xff\x00"}, "state"),
        ({"key_id": b"", "state": "suspended"}, {"key_id": b""}, "state"),
        ({"type": "EC", "kind": "public", "curve": "P-256", "state": "compromised"}, {"type": "EC", "kind": "public"}, "state"),
    ],
)
def test_what_no_token_tells_is_taken(was: dict[str, Any], now: dict[str, Any], field: str) -> None:
    found = recalled([record(**was)], [record(**now)])
    assert [getattr(after, field) for _before, after in found.changes] == [getattr(record(**was), field)], found.left


@given(
    st.lists(
        st.builds(
            record,
            st.sampled_from(["a", "a@2", "a@3", "b", "{{ c }}", "d\x07"]),
            key_id=st.sampled_from([b"a", b"", b"\xff"]),
            state=st.sampled_from(STATES),
            operations=st.sampled_from([("encrypt",), ("encrypt", "decrypt")]),
            fingerprint=st.sampled_from(["aa0001", "aa0002", None]),
        ),
        max_size=6,
        unique_by=lambda one: one.name,
    )
)
def test_what_was_taken_is_what_was_and_nothing_is_left_unsaid(before: list[VirtualKey]) -> None:
    now = [replace(one, state="active", operations=("encrypt", "decrypt"), id=str(number)) for number, one in enumerate(before)]
    found = recalled(before, now)
    was = {one.name: one for one in before}
    for old, new in found.changes:
        assert new.state in (was[new.name].state, old.state) and new.state != DESTROYED
        assert replace(new, state=old.state, operations=old.operations) == old and old.fingerprint is not None
    changed = {new.name: new for _old, new in found.changes}
    untold = {entry["label"] for entry in found.left}
    for one in now:
        after = changed.get(one.name, one)
        assert after.state == was[one.name].state or plain_text(one.label) in untold
    assert not found.unknown
    # A second look finds nothing to do.
    assert not recalled(before, [changed.get(one.name, one) for one in now]).changes


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        ({}, "is not a document"),
        ({"format": "keyfleet.hsm.export/2"}, "is not a document"),
        ({"format": "keyfleet.hsm.export/1", "instance": "standby"}, "instance 'standby'"),
        ({"format": "keyfleet.hsm.export/1", "group": {"name": "cards"}, "instance": "primary"}, "group 'cards'"),
        ({"format": "keyfleet.hsm.export/1", "instance": "primary", "keys": [], "others": []}, "entries"),
        ({"format": "keyfleet.hsm.export/1", "instance": "primary", "keys": 1, "others": [], "fingerprints": {}}, "entries"),
        ({"format": "keyfleet.hsm.export/1", "instance": "primary", "keys": [{"label": 7}], "others": [], "fingerprints": {}}, "entries"),
        ({"format": "keyfleet.hsm.export/1", "instance": "primary", "keys": [], "others": [], "fingerprints": {"u": 1}}, "entries"),
    ],
)
def test_what_is_no_document_of_this_scope_is_refused(document: dict[str, Any], problem: str) -> None:
    memory, problems = parse_memory(document, {"group": None, "instance": "primary"})
    assert memory is None and len(problems) == 1 and problem in problems[0]
