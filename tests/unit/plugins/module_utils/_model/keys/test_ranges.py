# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Labels that stand for many keys."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.plugins.inventory import expand_hostname_range
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.diff_text import Section, prepared_diff
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.keys.ranges import declared_labels, is_range, labels_in, range_size
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.keys.spec import parse_keys
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.listing import listed_keys
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.plan import CREATE, DELETE, Step
from hypothesis import example, given
from hypothesis import strategies as st


@pytest.mark.parametrize("label", ["dek-[001:500]", "dek-[1:12]", "[a:f]-key", "k[0:9:3]", "a[1:2]b[x:z]c", "dek-[098:101]"])
def test_ranges_are_those_of_ansibles_inventories(label: str) -> None:
    assert labels_in(label) == expand_hostname_range(label) and range_size(label) == len(labels_in(label))


@pytest.mark.parametrize("label", ["dek", "host[::1]", "a[1]", "a[b]", "[1:x]", "a[:5]", "a[1:2", "[one:two]"])
def test_other_brackets_are_taken_as_they_are(label: str) -> None:
    assert not is_range(label) and labels_in(label) == [label]


@pytest.mark.parametrize(
    ("label", "why"),
    [
        ("k[5:1]", "holds nothing"),
        ("k[1:5:0]", "holds nothing"),
        ("k[01:100]", "unequal length"),
        ("k[a:F]", "holds nothing"),
        ("k[1:1234567890]", "too long"),
    ],
)
def test_what_holds_nothing_is_a_mistake(label: str, why: str) -> None:
    specs, problems = parse_keys([{"label": label, "type": "AES"}, {"label": "other", "type": "AES"}])
    assert [spec.label for spec in specs] == ["other"] and len(problems) == 1
    assert problems[0].startswith(f"keys[0].label: '{label}': ") and why in problems[0]


def test_a_range_is_many_keys_of_one_entry() -> None:
    specs, problems = parse_keys([{"label": "dek-[1:3]", "type": "AES", "generation": 2}, {"label": "kek", "type": "AES"}])
    assert problems == [] and [(spec.index, spec.label) for spec in specs] == [(0, "dek-1@2"), (0, "dek-2@2"), (0, "dek-3@2"), (1, "kek")]
    assert [spec.range for spec in specs] == ["dek-[1:3]"] * 3 + [None] and len({spec.entry for spec in specs}) == 4
    assert specs[1].where == "keys[0] (dek-2)" and specs[1].key_id == b"dek-2@2"


def test_what_is_wrong_with_a_range_is_told_once() -> None:
    def told(*entries: dict[str, Any]) -> list[str]:
        return parse_keys(entries)[1]

    assert len(told({"label": "dek-[1:500]"})) == 1  # no type
    assert "has the same label" in told({"label": "dek-[1:3]", "type": "AES"}, {"label": "dek-2", "type": "AES"})[0]
    assert "which would all be one" in told({"label": "dek-[1:3]", "type": "AES", "source": {"src": "/a"}})[0]
    assert told({"label": "a", "type": "AES"}, {"label": "dek-[1:999999999]", "type": "AES"}) == [
        "keys: holds 1000000000 keys: give at most 10000 in one task"
    ]


def test_with_an_id_a_label_is_taken_as_it_is() -> None:
    specs, problems = parse_keys([{"label": "dek-[1:3]", "id": "07", "state": "absent"}])
    assert problems == [] and [(spec.label, spec.range) for spec in specs] == [("dek-[1:3]", None)]


@given(st.text("a[:]12@", max_size=12), st.none() | st.just("07"))
@example("dek-[1:3]", None)
@example("x[1:99999]", None)
def test_who_reads_a_declaration_has_the_labels_of_hsm_key(label: str, key_id: str | None) -> None:
    """Of an entry that it refuses, the label as it is."""
    specs, problems = parse_keys([{"label": label, "type": "AES", "id": key_id}])
    assert declared_labels(label, key_id) == ([label] if problems else [spec.base for spec in specs])


def made(label: str, part_of: str | None = "key dek-[1:9]", **more: Any) -> Step:
    return Step(CREATE, f"key {label}", None, {"id": label.encode().hex(), "type": "AES", **more}, part_of)


def test_a_diff_has_one_line_for_what_is_alike() -> None:
    steps = [
        *(made(f"dek-{number}") for number in range(1, 9)),
        made("dek-9", size=128),
        made("kek", None),
        Step(DELETE, "key old", {}, None),
    ]
    text = prepared_diff(Section("key", steps, 20))["prepared"]
    assert text.splitlines() == [
        "20 keys: +10 ~0 -1 =9",
        "- key old",
        "+ key dek-[1:9] (8 keys): type AES",
        "+ key dek-9: type AES, size 128",
        "+ key kek: type AES",
    ]


def test_a_long_result_has_one_entry_for_what_is_alike() -> None:
    def named(number: int, action: str) -> dict[str, Any]:
        return {"index": 0, "label": f"dek-{number:03}", "action": action, "range": "dek-[001:300]"}

    entries = [{"index": 0, "label": f"dek-{number:03}", "state": "present"} for number in range(1, 301)]
    applied = [named(1, "create"), named(2, "record"), named(300, "create"), {"index": 1, "label": "kek", "action": "create"}]
    values = {"key_results": entries, "applied": applied, "failed_keys": [], "not_attempted": [], "left_overs": []}
    shown = listed_keys(values, None)
    assert shown["applied"] == [
        {"index": 0, "label": "dek-[001:300]", "action": "create", "count": 2},
        {"index": 0, "label": "dek-[001:300]", "action": "record", "count": 1},
        {"index": 1, "label": "kek", "action": "create"},
    ]
    assert [entry["label"] for entry in shown["key_results"]] == ["dek-001", "dek-002", "dek-300"]
    assert listed_keys(values, "all")["applied"] == applied
