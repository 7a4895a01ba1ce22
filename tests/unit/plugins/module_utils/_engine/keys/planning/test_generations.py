# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which labels count as generations of a key, and which generation an entry is about."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.keys.planning.generations import expand
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.keys.generations import split_label, stored_label
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.keys.spec import parse_keys
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.records import VirtualKey
from hypothesis import given
from hypothesis import strategies as st

NOW = datetime(2026, 11, 21, tzinfo=timezone.utc)


def record(label: str, generation: int = 1, days: int = 0) -> VirtualKey:
    made = (NOW - timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%SZ")
    return VirtualKey(1, "secret", label.encode(), label, "AES", 256, None, (), "hsm_key", made_at=made, generation=generation)


def expanded(entry: dict[str, Any], labels: list[str], *records: VirtualKey) -> tuple[list[str], list[str]]:
    specs, problems = parse_keys([entry])
    assert problems == []
    found, _families, problems = expand(specs, labels, {one.label: one for one in records}, NOW)
    return [spec.label for spec in found], problems


@given(st.text(min_size=1), st.integers(2, 9999))
def test_a_generation_can_be_told_from_its_label(base: str, number: int) -> None:
    assert split_label(stored_label(base, number)) == (base, number)
    assert stored_label(base, 1) == base


@pytest.mark.parametrize(
    ("entry", "labels", "records", "leads"),
    [
        ({}, [], [], ["k"]),
        ({}, ["k"], [], ["k"]),
        ({}, ["k", "k@2", "k@3"], [], ["k@3"]),
        ({}, ["k", "k@3"], [], ["k"]),  # no unbroken row, and not recorded
        ({}, ["k", "k@2023"], [], ["k"]),
        ({}, ["k@2"], [], ["k"]),
        ({}, ["k@2"], [record("k@2", 2)], ["k@2"]),
        ({}, ["k"], [record("k"), record("k@2", 2)], ["k@2"]),  # lost by the token, and not forgotten
        ({}, ["k", "k@2"], [record("k"), record("k@2")], ["k@2"]),  # found by a sync, in a row
        ({"generation": 4}, ["k", "k@2"], [], ["k@4"]),
        ({"generation": 4, "previous": "destroy"}, ["k", "k@2", "k@3", "k@7"], [], ["k@4", "k", "k@2", "k@3"]),
        ({"generation": 3, "previous": "deactivate"}, ["k"], [record("k"), record("k@2", 2)], ["k@3", "k"]),
        ({"max_age": "10d"}, ["k"], [record("k", days=9)], ["k"]),
        ({"max_age": "10d"}, ["k"], [record("k", days=10)], ["k@2"]),
        ({"max_age": "10d", "generation": 5}, ["k"], [record("k", days=99)], ["k@5"]),
        ({"max_age": "10d", "lead": "3d"}, ["k"], [record("k", days=6)], ["k"]),
        ({"max_age": "10d", "lead": "3d", "previous": "destroy"}, ["k"], [record("k", days=7)], ["k@2"]),
        ({"max_age": "10d", "lead": "3d", "previous": "destroy"}, ["k", "k@2"], [record("k", days=9), record("k@2", 2, 2)], ["k@2"]),
        ({"max_age": "10d", "lead": "3d", "previous": "destroy"}, ["k", "k@2"], [record("k", days=10), record("k@2", 2, 3)], ["k@2", "k"]),
        # Nobody knows how old the first one is.
        ({"max_age": "10d", "lead": "3d", "previous": "destroy"}, ["k", "k@2"], [record("k@2", 2, 3)], ["k@2"]),
    ],
)
def test_which_generation_is_meant(entry: dict[str, Any], labels: list[str], records: list[VirtualKey], leads: list[str]) -> None:
    assert expanded({"label": "k", "type": "AES", **entry}, labels, *records) == (leads, [])


@pytest.mark.parametrize(
    ("entry", "labels", "problem"),
    [
        ({"type": "AES", "generation": 1}, ["k", "k@2"], "generation 2 of this key is there"),
        ({"state": "absent"}, ["k", "k@2"], "later generations: 'k@2'"),
        ({"state": "public_only"}, ["k", "k@2"], "later generations: 'k@2'"),
    ],
)
def test_what_is_refused(entry: dict[str, Any], labels: list[str], problem: str) -> None:
    assert problem in expanded({"label": "k", **entry}, labels)[1][0]
