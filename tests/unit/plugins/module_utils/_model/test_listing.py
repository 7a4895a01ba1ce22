# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How much a run returns of each key: the option ``results``."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.listing import FEW, RESULTS, listed_keys, listed_sync
from hypothesis import given
from hypothesis import strategies as st


def of_keys(count: int, changed: int = 0, failed: int = 0) -> dict[str, Any]:
    """The first ``changed`` keys were made, and the ``failed`` ones after them not."""
    named = [{"index": number, "label": f"k{number}", "action": "create"} for number in range(count)]
    return {
        "key_results": [{"index": number, "label": f"k{number}"} for number in range(count)],
        "applied": named[:changed],
        "failed_keys": named[changed : changed + failed],
        "not_attempted": [],
        "left_overs": [],
        "summary": {"total": count, "created": changed, "failed": failed, "unchanged": count - changed - failed},
    }


def of_sync(known: int, added: int = 0) -> dict[str, Any]:
    names = (
        "missing",
        "missing_keys",
        "drift",
        "refreshed",
        "pruned",
        "members",
        "unread",
        "repaired",
        "not_repaired",
        "layout",
        "relabelled",
    )
    lists = dict.fromkeys((*names, "not_relabelled", "weak", "would_be_lost", "recalled", "not_recalled", "not_in_recall"), ())
    summary = {"added": added, "known": known, "missing": 0, "drifted": 0}
    return {**lists, "added": [f"uid-{number}" for number in range(added)], "summary": summary, "document": {}}


@pytest.mark.parametrize(
    ("asked", "count", "changed", "listed"),
    [
        (None, FEW, 0, FEW),
        (None, FEW + 1, 0, 0),
        (None, 1000, 3, 3),
        (None, 1000, 1000, FEW),
        ("all", 1000, 3, 1000),
        ("changed", 10, 3, 3),
        ("changed", 1000, 1000, 1000),
        ("summary", 10, 3, 0),
    ],
)
def test_which_keys_are_listed(asked: str | None, count: int, changed: int, listed: int) -> None:
    values = listed_keys(of_keys(count, changed), asked)
    assert len(values["key_results"]) == listed
    assert ("keys" in values) is (listed == count and asked != "changed") and values["summary"]["created"] == changed


def test_a_key_that_was_kept_though_it_differs_is_no_unchanged_one() -> None:
    values = of_keys(3)
    values["key_results"][1]["mismatches"] = ["size is 256, asked for 128"]
    values["key_results"][1] |= {"public_key": None, "other_generations": [], "sensitive": False}
    shown = {"index": 1, "label": "k1", "mismatches": ["size is 256, asked for 128"], "sensitive": False}
    assert listed_keys(values, "changed")["key_results"] == [shown]


@pytest.mark.parametrize(("asked", "told"), [(None, FEW), ("all", 300), ("changed", 300), ("summary", FEW)])
def test_why_keys_failed_is_told_in_any_case(asked: str | None, told: int) -> None:
    assert len(listed_keys(of_keys(300, 0, 300), asked)["failed_keys"]) == told


@pytest.mark.parametrize(
    ("asked", "known", "added", "listed", "document"),
    [
        (None, FEW - 1, 1, 1, True),
        (None, FEW, 1, 1, False),
        (None, 0, 1000, FEW, False),
        ("all", 0, 1000, 1000, True),
        ("changed", 1, 1, 1, False),
        ("summary", 1, 1, 0, False),
    ],
)
def test_what_a_sync_lists(asked: str | None, known: int, added: int, listed: int, document: bool) -> None:
    values = listed_sync(of_sync(known, added), asked)
    assert len(values["added"]) == listed and ("document" in values) is document
    assert values["summary"]["added"] == added and values["summary"]["known"] == known
    assert ("weak" in values["summary"]) is not document


@given(st.sampled_from([None, *RESULTS]), st.integers(0, 150), st.integers(0, 150), st.integers(0, 150))
def test_the_counts_add_up_whatever_is_listed(asked: str | None, changed: int, failed: int, kept: int) -> None:
    values = of_keys(changed + failed + kept, changed, failed)
    shown = listed_keys(values, asked)
    assert shown["summary"] == values["summary"]
    assert sum(count for name, count in shown["summary"].items() if name != "total") == shown["summary"]["total"]
    assert {*map(str, shown["key_results"])} <= {*map(str, values["key_results"])}
