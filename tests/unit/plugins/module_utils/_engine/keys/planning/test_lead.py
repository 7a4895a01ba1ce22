# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""``lead``: two generations are in use, until services have a certificate of the next one."""

from __future__ import annotations

from datetime import timedelta

import pytest
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.keys.layout import EVIDEN, LAYOUTS, certificate_id
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.keys.spec import parse_keys
from plain_keys import record_of
from plain_plans import NOW, World, key

WEB = {"type": "EC", "max_age": "90d", "lead": "30d", "previous": "deactivate"}


def world(*, age: int, certified: tuple[str, ...], layout: str) -> World:
    """Two generations, the first of which is so many days old."""
    made_at = (NOW - timedelta(days=age)).strftime("%Y-%m-%dT%H:%M:%SZ")
    first, second = (key(label, "EC", layout=layout) for label in ("k", "k@2"))
    records = (record_of(first, made_at=made_at), record_of(second, generation=2))
    ids = [certificate_id(layout, label.encode()) for label in certified]
    return World((first, second), records, certified=ids, layout=layout)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("age", "certified", "first"),
    [
        (89, (), None),
        (90, (), "deactivate"),
        (90, ("k",), "waits"),
        (90, ("k", "k@2"), "deactivate"),
        (90, ("k@2",), "deactivate"),
    ],
)
def test_the_first_generation_ends_with_its_age_and_not_before_services_can_move(
    layout: str, age: int, certified: tuple[str, ...], first: str | None
) -> None:
    there = world(age=age, certified=certified, layout=layout)
    answer = there.plan({**WEB} if layout != EVIDEN else {**WEB, "generation": 2})
    assert answer.actions == [("k@2", "keep"), *([("k", "deactivate")] if first == "deactivate" else [])]
    told = [text for plan in answer.plans for text in plan.warnings]
    waits = "key 'k' is older than max_age and stays as it is: it has a certificate, and 'k@2' has none yet."
    assert [text.startswith(waits) for text in told] == ([True] if first == "waits" else [])


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"lead": "30d"}, "lead: is counted back from max_age: give that, too"),
        ({"lead": "90d", "max_age": "90d"}, "lead: is not shorter than max_age, and every run would make another key: give a shorter one"),
        ({"lead": "soon", "max_age": "90d"}, "lead: "),
    ],
)
def test_what_is_refused(options: dict[str, str], problem: str) -> None:
    (found,) = parse_keys([{"label": "k", "type": "AES", **options}])[1]
    assert found.startswith(f"keys[0] (k).{problem}")
