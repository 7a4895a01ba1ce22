# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A declared group: the order of its connections as a property, and every problem by its place."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.groups.spec import (
    ConnectionSpec,
    GroupRequest,
    group_name_problem,
    in_order,
    selector_options,
)
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.tokens.instance_names import name_problem
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.tokens.selectors import TokenSelector
from ansible_collections.keyfleet.hsm.plugins.module_utils._module.options import GROUP
from hypothesis import given
from hypothesis import strategies as st


def parse(**options: Any) -> GroupRequest:
    """With the defaults that Ansible fills in."""
    defaults = {name: option.get("default") for name, option in GROUP.items()}
    return GroupRequest.parse({**defaults, "registry": "/r.db", "name": "payments", "connections": [{"instance": "a"}], **options})


@st.composite
def declared(draw: st.DrawFn) -> list[ConnectionSpec]:
    """Connections of which some have a priority, each its own, with gaps."""
    numbers = draw(st.lists(st.integers(min_value=1, max_value=1000), unique=True, max_size=8))
    priorities = draw(st.permutations([*numbers, *[None] * draw(st.integers(min_value=0, max_value=8))]))
    return [ConnectionSpec(index, f"hsm-{index}", priority=priority) for index, priority in enumerate(priorities)]


@given(declared())
def test_numbered_ones_come_first_and_the_others_stay_in_their_order(connections: list[ConnectionSpec]) -> None:
    found = list(in_order(connections))
    numbered = [entry.priority for entry in found if entry.priority is not None]
    rest = [entry.index for entry in found if entry.priority is None]
    assert sorted(found, key=lambda entry: entry.index) == connections
    assert [entry.priority for entry in found[: len(numbered)]] == sorted(numbered)
    assert rest == sorted(rest)


@given(declared())
def test_the_order_is_settled(connections: list[ConnectionSpec]) -> None:
    """What a run returns, declared again with its priorities or without, gives the same group."""
    names = [entry.instance for entry in in_order(connections)]
    with_numbers = [{"instance": name, "priority": place} for place, name in enumerate(names, 1)]
    for again in (with_numbers, with_numbers[::-1], [{"instance": name} for name in names]):
        found = parse(connections=again)
        assert [entry.instance for entry in found.connections] == names
        assert bool(found.problems) is (not names)


@given(st.text(max_size=8))
def test_the_rule_of_names_is_that_of_instances(name: str) -> None:
    assert (group_name_problem(name) is None) is (name_problem(name) is None)


def test_a_whole_group() -> None:
    connections = [{"instance": "a", "slot": "0x10"}, {"instance": "b", "token_serial": "12", "priority": 7}, {"instance": "a"}]
    found = parse(connections=connections, key_scan="own", apply_changes=True, force=True)
    in_priority_order = (
        ConnectionSpec(1, "b", TokenSelector("serial", "12"), 7),
        ConnectionSpec(0, "a", TokenSelector("slot", 16)),
        ConnectionSpec(2, "a"),
    )
    assert found == GroupRequest("/r.db", "payments", False, "", in_priority_order, True, "own", True, True, ())
    assert [entry.where for entry in found.connections] == ["connections[1]", "connections[0]", "connections[2]"]
    assert parse(connections=connections).key_scan is None


def test_absent_looks_at_the_name_alone() -> None:
    for connections in ([{"instance": "a", "priority": 0}], [], None):
        found = parse(state="absent", connections=connections)
        assert (found.absent, found.connections, found.problems) == (True, (), ())
    assert [problem[:11] for problem in parse(state="absent", name="a b").problems] == ["name: 'a b'"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"name": "two words"}, ["name: 'two words' is no group name"]),
        ({"connections": None}, ["connections: is missing"]),
        ({"connections": []}, ["connections: is missing"]),
        ({"connections": [{"instance": "a", "priority": 0}]}, ["connections[0].priority: 0 is too small"]),
        (
            {"connections": [{"instance": "a", "priority": 3}, {"instance": "b"}, {"instance": "c", "priority": 3}]},
            ["connections[2].priority: 3 is also that of connections[0]"],
        ),
        (
            {"connections": [{"instance": "a", "token_label": "t", "slot": "1"}]},
            ["connections[0]: give at most one of token_label, token_serial, slot; found token_label and slot"],
        ),
        ({"connections": [{"instance": "a", "slot": "first"}]}, ["connections[0].slot: 'first' is no slot number"]),
        ({"connections": [{"instance": "a", "token_label": " t"}]}, ["connections[0].token_label: ' t' begins or ends with a blank"]),
        ({"connections": [{"instance": "a"}, {"instance": "a"}]}, ["connections[1]: names the same token as connections[0]"]),
        (
            {"connections": [{"instance": "a", "slot": "16"}, {"instance": "b", "slot": "16"}, {"instance": "a", "slot": "0x10"}]},
            ["connections[2]: names the same token as connections[0]"],
        ),
        (
            {"name": "", "connections": [{"instance": "a", "priority": -1}, {"instance": "a", "token_serial": " "}]},
            ["name: ''", "connections[0].priority: -1", "connections[1].token_serial: is empty"],
        ),
    ],
)
def test_every_problem_is_told_at_once(options: dict[str, Any], expected: list[str]) -> None:
    problems = parse(**options).problems
    assert len(problems) == len(expected), problems
    for problem, beginning in zip(problems, expected, strict=True):
        assert problem.startswith(beginning)


def test_what_can_be_read_is_kept_beside_problems() -> None:
    """So that the registry can be asked for more problems of the same call."""
    found = parse(connections=[{"instance": "a", "slot": "x"}, {"instance": "b"}, {"instance": "b"}])
    assert len(found.problems) == 2
    assert found.connections == (ConnectionSpec(1, "b"),)


def test_a_selector_as_options() -> None:
    assert selector_options(TokenSelector("label", "t")) == {"token_label": "t"}
    assert selector_options(None) == {}
