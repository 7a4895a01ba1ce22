# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An import that another key has wrapped: what is known of both before anything is made. Check mode and a run say the same."""

from __future__ import annotations

from typing import Any

import pytest
from plain_plans import PlainLook, World, key, wrapped

KEK = key("kek")
UNTOLD = (("size", "VALUE_LEN"),)
WISH = {"type": "AES", "size": 128, "material": wrapped()}

ROWS: list[tuple[str, World, list[dict[str, Any]], str]] = [
    ("opened as declared", World((KEK,)), [WISH], "create"),
    ("another size", World((KEK,), look=PlainLook(holds="it holds 256")), [WISH], "it holds 256. Nothing was changed"),
    ("nothing tells the size", World((KEK,), look=PlainLook(untold_of_source=UNTOLD)), [WISH], "so size cannot be verified"),
    ("so, and that may be", World((KEK,), look=PlainLook(untold_of_source=UNTOLD)), [{**WISH, "unverifiable": "warn"}], "create"),
    ("there already", World((KEK, key(size=128)), look=PlainLook(holds="not looked at")), [WISH], "record"),
    (
        "another size, in the place of a key",
        World((KEK, key(size=256)), look=PlainLook(holds="it holds 256", same_key=False)),
        [{**WISH, "on_mismatch": "replace"}],
        "it holds 256. Nothing was changed",
    ),
    ("by itself", World((KEK,)), [{**WISH, "material": wrapped(wrapping_key="k")}], "'k' is this key itself"),
    ("by itself, which is there", World((key(size=128),)), [{**WISH, "material": wrapped(wrapping_key="k")}], "'k' is this key itself"),
    ("by its predecessor", World((key(),)), [{**WISH, "generation": 2, "material": wrapped(wrapping_key="k")}], "create"),
    ("by one before it in the list", World(), [{"label": "kek", "type": "AES"}, WISH], "only made by this list (keys[0] (kek))"),
    ("by one behind it", World(), [WISH, {"label": "kek", "type": "AES"}], "only made by this list (keys[1] (kek))"),
    ("by one of the list that is there", World((KEK,)), [{"label": "kek", "type": "AES"}, WISH], "record create"),
]


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize(("world", "wishes", "expected"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_wrapped(world: World, wishes: list[dict[str, Any]], expected: str, check: bool) -> None:
    answer = world.plan(*wishes, check=check)
    assert expected in answer.said if answer.problems else answer.said == expected, answer.said


def test_what_may_not_be_verified_is_warned_of() -> None:
    plan = World((KEK,), look=PlainLook(untold_of_source=UNTOLD)).plan({**WISH, "unverifiable": "warn"}).only()
    assert "so size could not be verified" in plan.warnings[0]
