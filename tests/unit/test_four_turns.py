# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How ``make providers`` judges four answers to check, apply, check, apply."""

from __future__ import annotations

from typing import Any

import pytest
from four_turns import judge


def fails(code: str) -> dict[str, Any]:
    return {"changed": False, "msg": "text", "failure": {"code": code, "details": {}}}


YES, NO = {"changed": True}, {"changed": False}
INCORRECT, KEPT, LOW = fails("pin_incorrect"), fails("pin_not_tried"), fails("pin_count_low")


@pytest.mark.parametrize(
    ("step", "turns", "what"),
    [
        ("aes", [YES, YES, NO, NO], "ok"),
        ("aes", [NO, NO, NO, NO], "ok"),
        ("aes", [NO, YES, NO, NO], "fault"),
        ("aes", [YES, YES, NO, YES], "fault"),
        ("aes", [YES, YES, YES, NO], "fault"),
        ("aes", [fails("cannot_plan")] * 4, "told"),
        ("aes", [YES, fails("CKR_ATTRIBUTE_VALUE_INVALID"), YES, YES], "told"),
        ("aes", [YES, fails("CKR_GENERAL_ERROR"), YES, YES], "fault"),
        ("aes", [fails("unexpected")] * 4, "fault"),
        ("aes", [{"msg": "MODULE FAILURE"}] * 4, "fault"),
        ("wrong_pin", [INCORRECT, KEPT, KEPT, KEPT], "ok"),
        ("wrong_pin", [INCORRECT, LOW, LOW, LOW], "ok"),
        ("wrong_pin", [INCORRECT, INCORRECT, KEPT, KEPT], "ok"),
        ("wrong_pin", [INCORRECT, INCORRECT, INCORRECT, KEPT], "fault"),
        ("wrong_pin", [YES, YES, NO, NO], "fault"),
    ],
)
def test_judge(step: str, turns: list[dict[str, Any]], what: str) -> None:
    assert judge(step, turns).what == what
