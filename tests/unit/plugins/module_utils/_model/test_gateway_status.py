# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.errors import KeyfleetError
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.gateway_status import parse_status
from hypothesis import given
from hypothesis import strategies as st

SLOT: dict[str, Any] = {"slot_id": 7, "accessible": True}


def instance(*slots: Any, **more: Any) -> dict[str, Any]:
    return {"prefix": "hsm::a", "model": "a", "slots": list(slots), **more}


def parse(value: Any) -> list[dict[str, Any]]:
    return parse_status(json.dumps(value).encode(), None)


def test_what_is_asked_for_is_kept_in_order_and_all_else_dropped() -> None:
    later, unknown = {"slot_id": 9, "accessible": False, "error": "\x1b[2J"}, {"slot_id": None, "accessible": False}
    found = parse([instance(SLOT, prefix="hsm::a_10"), instance(unknown, later, SLOT, prefix="hsm::a_9"), instance(prefix=None)])
    assert found == [
        instance(SLOT, {"slot_id": 9, "accessible": False}, unknown, prefix="hsm::a_9"),
        instance(SLOT, prefix="hsm::a_10"),
        instance(prefix=None),
    ]


@pytest.mark.parametrize(
    "value",
    [
        {},
        None,
        ["hsm::a"],
        [instance(SLOT, prefix=None)],
        [instance(SLOT, prefix="hsm::a\n")],
        [instance(SLOT, model="a\x1b")],
        [instance(SLOT, model=None)],
        [instance(7)],
        [instance({"slot_id": 7})],
        [instance({"slot_id": "7", "accessible": True})],
        [instance({"slot_id": True, "accessible": True})],
        [instance({"slot_id": -1, "accessible": True})],
        [instance({"slot_id": 7, "accessible": "true"})],
        [instance({"slot_id": 7, "accessible": 1})],
        [instance(SLOT), instance({"slot_id": 7, "accessible": False})],
    ],
)
def test_another_shape_is_refused(value: Any) -> None:
    with pytest.raises(KeyfleetError) as caught:
        parse(value)
    assert caught.value.code == "gateway_invalid"


VALUES = st.recursive(st.none() | st.booleans() | st.text(), st.lists)


@given(st.binary() | VALUES.map(lambda one: json.dumps(one).encode()))
def test_no_answer_does_more_than_to_be_refused(body: bytes) -> None:
    try:
        parse_status(body, None)
    except KeyfleetError as error:
        assert error.message.isprintable()
