# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Spans of time as people write them."""

from __future__ import annotations

import pytest
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.durations import MAX_SECONDS, UNITS, parse_duration
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.quoting import quoted
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0s", 0),
        ("45s", 45),
        ("5m", 300),
        ("36h", 36 * 3600),
        ("30d", 30 * 86400),
        ("12w", 12 * 7 * 86400),
        ("1w2d", 9 * 86400),
        ("1w2d3h4m5s", 788645),
        ("007d", 7 * 86400),
        ("36525d", MAX_SECONDS),
    ],
)
def test_durations(text: str, seconds: int) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    ["", " ", "30", "d", "30 d", "30D", "1d1w", "1d1d", "-1d", "+1d", "1.5d", "1M", "1y", "1d\n", "٣d", "30d ago", "0x1d"],
)
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="is no duration: give numbers with the units w, d, h, m"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["36525d1s", "999999999999w"])
def test_what_is_too_long(text: str) -> None:
    with pytest.raises(ValueError, match="more than a hundred years"):
        parse_duration(text)


@given(st.lists(st.none() | st.integers(0, 99), min_size=5, max_size=5))
def test_parts_add_up(numbers: list[int | None]) -> None:
    parts = [(number, unit) for number, unit in zip(numbers, UNITS, strict=True) if number is not None]
    text = "".join(f"{number}{unit}" for number, unit in parts)
    if parts:
        assert parse_duration(text) == sum(number * UNITS[unit] for number, unit in parts)
    else:
        with pytest.raises(ValueError, match="is no duration"):
            parse_duration(text)


@given(st.text(alphabet="0123456789wdhms \n-+.", max_size=12))
def test_any_text_is_a_number_or_a_reason(text: str) -> None:
    try:
        seconds = parse_duration(text)
    except ValueError as error:
        assert quoted(text) in str(error)
    else:
        assert 0 <= seconds <= MAX_SECONDS and text[-1] in UNITS
