# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""``in_use``: an earlier generation is not ended before the last service of other hosts has moved."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.keys.in_use import InUse
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.keys.states import DEACTIVATED
from plain_keys import record_of
from plain_plans import NOW, World, key

FIRST, SECOND = (key(label, "EC") for label in ("k", "k@2"))
OLD, NEW = "pkcs11:token=here;object=k;type=private", "pkcs11:token=here;object=k%402;type=private"


def world(in_use: dict[str, Any], *, state: str = "active") -> World:
    """Two generations, the first of which is 91 days old. Both have certificates."""
    made_at = (NOW - timedelta(days=91)).strftime("%Y-%m-%dT%H:%M:%SZ")
    records = (record_of(FIRST, made_at=made_at, state=state), record_of(SECOND, generation=2))
    return World((FIRST, SECOND), records, certified=[b"k", b"k@2"], in_use=in_use)


@pytest.mark.parametrize(
    "entry", [{"previous": "deactivate"}, {"previous": "destroy"}, {"previous": "deactivate", "max_age": "90d", "lead": "30d"}]
)
@pytest.mark.parametrize(
    ("in_use", "why"),
    [
        ({}, None),
        ({"app1": [NEW], "app2": []}, None),
        ({"app1": [NEW], "app2": [OLD, NEW], "app3": None}, "services of 'app2' use it"),
        ({"app1": [OLD], "app2": [OLD]}, "services of 'app1', 'app2' use it"),
        # Silence is no consent.
        ({"app1": [NEW], "app2": None}, "nobody knows whether services of 'app2' use it"),
        # A key of this name on another token, and on any.
        ({"app1": ["pkcs11:token=other;object=k;type=private"]}, None),
        ({"app1": ["pkcs11:object=k"]}, "services of 'app1' use it"),
    ],
)
def test_what_previous_ends_waits_for_the_last_service(entry: dict[str, Any], in_use: dict[str, Any], why: str | None) -> None:
    answer = world(in_use).plan({"type": "EC", **entry})
    ended = [(label, action) for label, action in answer.actions if label == "k"]
    assert ended == ([("k", "delete" if entry["previous"] == "destroy" else "deactivate")] if why is None else [])
    told = [text for plan in answer.plans for text in plan.warnings]
    assert told == ([] if why is None else [f"key 'k' stays as it is until services use 'k@2': {why}."])


def test_what_was_ended_before_and_what_is_named_wait_for_nobody() -> None:
    silent = {"app1": None}
    over = world(silent, state=DEACTIVATED).plan({"type": "EC", "previous": "deactivate"})
    assert over.actions == [("k@2", "keep"), ("k", "keep")] and not any(plan.warnings for plan in over.plans)
    named = world(silent).plan({"generation": 1, "state": "deactivated"})
    assert named.actions == [("k", "deactivate")]


@pytest.mark.parametrize("wrong", ["https://example.com", "pkcs11:token=here", "pkcs11:here", 7, {"a": 1}])
def test_what_is_no_address_of_a_key(wrong: Any) -> None:
    (problem,) = InUse.parse({"app1": [wrong]})[1]
    assert problem.startswith("in_use.app1: ") and "is not a PKCS#11 URI that names an object" in problem
