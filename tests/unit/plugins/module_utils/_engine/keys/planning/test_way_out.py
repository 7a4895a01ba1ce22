# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where an error names what to declare, that is declared, and a new key is planned."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.plan import CREATE
from plain_keys import record_of
from plain_plans import World, key

ADVICE = re.compile(r"declare (?:label: (?P<label>\S+) with )?generation: (?P<generation>\d+)(?P<without>,? without id)?")


def followed(wish: dict[str, Any], text: str) -> dict[str, Any]:
    """The entry as the error wants it."""
    match = ADVICE.search(text)
    assert match is not None, text
    changed = {**wish, "generation": int(match["generation"])}
    if match["label"]:
        changed["label"] = match["label"]
    if match["without"]:
        del changed["id"]
    return changed


@pytest.mark.parametrize("on_token", [True, False])
@pytest.mark.parametrize("state", ["deactivated", "destroyed"])
@pytest.mark.parametrize(
    ("retired", "others", "new"),
    [
        ({"label": "rr"}, [], "rr@2"),
        ({"label": "rr", "generation": 2}, ["rr"], "rr@3"),
        ({"label": "rr@2"}, [], "rr@3"),
        ({"label": "rr@2"}, ["rr", "rr@3"], "rr@4"),  # a later one is there
        ({"label": "rr", "id": "aa"}, [], "rr@2"),
        ({"label": "rr@2", "id": "aa"}, ["rr"], "rr@3"),
        ({"label": "rr", "id": "aa"}, ["rr@5"], "rr@6"),  # which may be another key's own name
    ],
)
def test_a_key_out_of_use_names_the_next_generation(
    retired: dict[str, Any], others: list[str], new: str, state: str, on_token: bool
) -> None:
    old = key(**{**retired, "generation": retired.get("generation")})
    rest = [key(label) for label in others]
    record = replace(record_of(old), state=state, generation=retired.get("generation", 1))
    world = World((*rest, *([old] if on_token else [])), (record, *map(record_of, rest)))
    wish = {"type": "AES", **retired}
    (text,) = world.plan(wish).problems
    assert f"is {state}" in text or f"and {state}" in text
    assert world.plan(followed(wish, text)).actions[0] == (new, CREATE)


@pytest.mark.parametrize("label", ["dek-[1:3]", "rr@9999"])
def test_a_key_that_can_have_no_other_generation(label: str) -> None:
    wish = {"label": label, "type": "AES", "id": "aa"}
    old = key(**wish)
    (text,) = World((old,), (record_of(old, state="deactivated"),)).plan(wish).problems
    assert "declare another label for a new key" in text and "generation" not in text


def test_a_name_that_would_count_as_the_second_generation() -> None:
    world, wish = World((key("rr@2"),)), {"label": "rr", "type": "AES", "id": "aa"}
    (text,) = world.plan(wish).problems
    assert world.plan(followed(wish, text)).problems == []
