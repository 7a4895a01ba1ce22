# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Several keys with one label: what tells them apart, and what is said where nothing does."""

from __future__ import annotations

from typing import Any

import pytest
from plain_keys import pair, secret
from plain_plans import World

TWINS = (secret("k", b"1", value="aa"), secret("k", b"1", value="bb"))
APART = (secret("k", b"1", value="aa"), secret("k", b"2", value="bb"))
MIXED = (secret("k", b"1"), pair("k", b"1"))


@pytest.mark.parametrize(
    ("found", "wish", "said"),
    [
        (APART, {"type": "AES"}, "name the right one by id, or remove"),
        (APART, {"type": "AES", "id": "31"}, "record"),
        (APART, {"state": "absent", "id": "32"}, "delete"),
        (TWINS, {"type": "AES"}, "they have one id and one type, so remove"),
        (TWINS, {"type": "AES", "id": "31"}, "they have one id and one type, so remove"),
        (TWINS, {"state": "absent", "id": "31"}, "they have one id and one type, so remove"),
        (MIXED, {"state": "absent"}, "name the right one by type, or remove"),
        (MIXED, {"type": "AES", "id": "31"}, "record"),
        (MIXED, {"type": "EC", "id": "31"}, "record"),
        (MIXED, {"state": "absent", "type": "EC"}, "delete"),
    ],
)
def test_namesakes(found: tuple[Any, ...], wish: dict[str, str], said: str) -> None:
    assert said in World(found).plan({"label": "k", **wish}).said


def test_the_type_says_which_is_destroyed() -> None:
    assert World(MIXED).plan({"label": "k", "state": "absent", "type": "EC"}).only().key == MIXED[1]
