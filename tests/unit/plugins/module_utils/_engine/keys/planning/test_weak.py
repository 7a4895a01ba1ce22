# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Keys that may wrap and decrypt: what is on the token and what is asked for -> the action or the problem."""

from __future__ import annotations

from typing import Any

import pytest
from plain_keys import GROUP, in_group, record_of
from plain_plans import World, clear, key

BOTH, MORE = ["decrypt", "wrap"], ["encrypt", "decrypt", "wrap", "unwrap"]
REFUSED = "would wrap and decrypt"
ROWS: list[tuple[str, list[str] | None, dict[str, Any], str]] = [
    ("new", None, {"operations": BOTH}, REFUSED),
    ("new, with more operations", None, {"operations": MORE}, REFUSED),
    ("new pair, one operation in each half", None, {"type": "RSA", "operations": BOTH}, REFUSED),
    ("new, imported", None, {"operations": BOTH, "material": clear("AES")}, REFUSED),
    ("new, allow_weak", None, {"operations": BOTH, "allow_weak": True}, "create"),
    ("new, wraps alone", None, {"operations": ["wrap", "unwrap"]}, "create"),
    ("new, decrypts and unwraps", None, {"operations": ["decrypt", "unwrap"]}, "create"),
    ("there, as declared", BOTH, {"operations": BOTH}, "keep"),
    ("there, nothing declared", BOTH, {}, "keep"),
    ("there, gets more", BOTH, {"operations": MORE}, "change"),
    ("there, loses one of the two", BOTH, {"operations": ["wrap"]}, "change"),
    ("there, becomes such a key", ["decrypt"], {"operations": BOTH}, REFUSED),
    ("there, becomes such a key, allow_weak", ["decrypt"], {"operations": BOTH, "allow_weak": True}, "change"),
    ("there, replaced by one", ["decrypt"], {"operations": BOTH, "size": 128, "on_mismatch": "replace"}, REFUSED),
    ("there, replaced with what is allowed", BOTH, {"size": 128, "on_mismatch": "replace"}, "replace"),
    ("there, rotated as it is", BOTH, {"generation": 2}, REFUSED),
    ("there, rotated as it is, allow_weak", BOTH, {"generation": 2, "allow_weak": True}, "create"),
    ("there, rotated with one of the two", BOTH, {"generation": 2, "operations": ["wrap"]}, "create"),
    ("there, taken away", BOTH, {"state": "absent"}, "delete"),
]  # fmt: skip


@pytest.mark.parametrize(("there", "wish", "expected"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_weak(there: list[str] | None, wish: dict[str, Any], expected: str) -> None:
    found = key(operations=there) if there is not None else None
    world = World((found,), (record_of(found),)) if found is not None else World()
    answer = world.plan({"type": "AES", **wish})
    assert expected in answer.said if answer.problems else answer.said == expected, answer.said


def test_what_a_group_keeps_from_the_hsm_is_not_what_it_may_do() -> None:
    found = key(operations=BOTH)
    narrowed = World((found,), (in_group(record_of(found, operations=("wrap",))),), GROUP)
    assert narrowed.plan({"type": "AES", "operations": BOTH}).said == "record"  # it may do both in the HSM already
