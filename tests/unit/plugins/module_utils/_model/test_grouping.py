# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Equal texts about many keys are one line with the keys' names, and nothing is lost or counted twice."""

from __future__ import annotations

import re

import pytest
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.errors import InputError
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.grouping import LEAST, grouped_problems, grouped_texts, told
from hypothesis import given
from hypothesis import strategies as st

DIFFERS = "a key with this label exists and differs: size is 256, asked for 128. Nothing was changed. Use another label."


def problems(count: int, text: str = f": {DIFFERS}") -> list[str]:
    return [f"keys[{number}] (k{number}){text}" for number in range(count)]


def test_a_thousand_equal_problems_are_one_line_with_the_names_at_the_cause() -> None:
    (line,) = grouped_problems(problems(1000), names=2)
    assert line == (
        "keys: a key with this label exists and differs: size is 256, asked for 128: k0, k1 … and 998 more. Nothing was changed. Use "
        "another label."
    )


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (".size: 100 is no size of AES keys", "keys[].size: 100 is no size of AES keys: k0, k1 … and 4 more"),
        (": 'K' is gone from the token, run again.", "keys: the key is gone from the token, run again: k0, k1 … and 4 more."),
        (": key 'K@2' cannot be used", "keys: generation 2 of the key cannot be used: k0, k1 … and 4 more"),
    ],
)
def test_a_label_in_the_text_keeps_no_two_apart(text: str, line: str) -> None:
    assert grouped_problems((f"keys[{n}] (k{n}){text.replace('K', f'k{n}')}" for n in range(6)), names=2) == [line]


def test_entries_without_a_label_go_by_their_number() -> None:
    assert grouped_problems(f"tokens[{n}].pin: is empty" for n in range(6)) == [
        "tokens[].pin: is empty: " + ", ".join(f"tokens[{n}]" for n in range(6))
    ]


def test_few_and_different_ones_stay_as_they_are_and_in_their_order() -> None:
    few = problems(LEAST - 1)
    others = ["instance: is missing", *(f"keys[{n}] (x).size: {n} is no size" for n in range(20)), *["the same, of no key"] * 7]
    assert grouped_problems([*others, *few]) == [*others, *few]


def test_warnings_and_failures_of_keys() -> None:
    found = [(f"k{n}", f"key 'k{n}' is kept as it is: size is 256, asked for 128.") for n in range(12)]
    (line,) = grouped_texts(found)
    assert line == f"the key is kept as it is: size is 256, asked for 128: {', '.join(f'k{n}' for n in range(10))} … and 2 more."
    assert grouped_texts(found[:1]) == [found[0][1]]
    assert grouped_texts([("a", "failed")], label_first=True) == ["a: failed"]
    assert grouped_texts([("", "stays there")] * 6) == ["stays there (6 times)"]


def test_a_message_shows_fifty_lines_and_details_have_the_rest() -> None:
    different = [f"keys[{n}] (k{n}).size: {n} is no size" for n in range(60)]
    error = InputError([*different, *problems(1000)])
    lines = error.message.split("\n")
    assert lines[0] == "1060 problems in the input:" and lines[1] == f"- {different[0]}"
    assert len(lines) == 52 and lines[-1] == "- and 11 more, all in failure.details.problems"
    assert error.problems == [*different, *problems(1000)]
    assert error.details["problems"][:60] == different and "k99 … and 900 more" in error.details["problems"][60]
    assert told(["a"], "nothing was changed:") == ("a", {"problems": ["a"]})


NAMES = st.text(st.characters(categories=["L", "N", "P", "S"]), max_size=8)


@given(st.lists(st.tuples(NAMES, st.sampled_from([": a. b", ".size: c", ": 'x' is d"])), max_size=60))
def test_the_counts_add_up(entries: list[tuple[str, str]]) -> None:
    given_problems = [f"keys[{number}]{f' ({name})' if name else ''}{text}" for number, (name, text) in enumerate(entries)]
    lines = grouped_problems(given_problems, names=3)
    alone = [line for line in lines if line in given_problems]
    more = [int(found[1]) + 3 for line in lines if line not in given_problems and (found := re.search(r"… and (\d+) more", line))]
    assert len(alone) + sum(more) == len(entries)
    assert all(count >= LEAST for count in more)
