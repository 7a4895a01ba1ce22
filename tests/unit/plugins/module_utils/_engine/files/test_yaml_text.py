# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is written is what Ansible's filter writes, to the byte, and is read back as the same document."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from ansible.plugins.filter.core import to_nice_yaml as filter_of_ansible
from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.files.yaml_text import read_yaml, to_nice_yaml
from hypothesis import given
from hypothesis import strategies as st

# What some version of YAML reads as something else, or cannot read, when it is not quoted.
TREACHEROUS = [
    *("", " ", "y", "N", "yes", "No", "on", "OFF", "true", "False", "null", "NULL", "~", "<<", "=", "*a", "&a", "!a", "%a", "@a", "`a"),
    *("12", "-1", "+1", "0o14", "014", "0123", "0x1F", "0b1", "1_000", "1e3", "1.5", "1.10", ".5", ".inf", "-.INF", ".NaN", "12:34"),
    *("2026-11-21", "2026-11-21T10:00:00Z", "- a", "-", "---", "...", "? a", ": a", "a: b", "a:", "a :b", "a #b", "#a", "[a]", "{a}"),
    *("a ", " a", "a\n", "a\nb", "\ta", "a\tb", "a,b", "a]", "'a", '"a', "a\\", "\\x41", "|", ">", "ab{{ 1 }}", "{% raw %}", "a::b"),
    *("\0", "\x07", "\x7f", "\x85", "\xa0", "\u2028", "\ufeff", "\u202e", "\U0001f600", "\ufffe", "Schl\u00fcssel", "\u0430", "a " * 90),
]
# No document has surrogates: libyaml, and with it Ansible, neither writes nor reads them.
CHARACTERS = st.characters(exclude_categories=["Cs"])
TEXT = st.one_of(st.sampled_from(TREACHEROUS), st.text(CHARACTERS, max_size=8), st.text("aAyYnNeo01:-. #'\"\\{[,\n", max_size=6))
LEAVES = st.one_of(st.none(), st.booleans(), st.integers(), TEXT)
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4), max_leaves=12)
DOCUMENTS = st.dictionaries(TEXT, VALUES, max_size=4)


def as_text(value: Any) -> Any:
    """The value with every scalar as YAML writes it."""
    if isinstance(value, dict):
        return {name: as_text(item) for name, item in value.items()}
    if isinstance(value, list):
        return [as_text(item) for item in value]
    return value if isinstance(value, str) else json.dumps(value)


@given(DOCUMENTS)
def test_the_bytes_are_those_of_the_filter_and_are_read_back(document: dict[str, Any]) -> None:
    text = to_nice_yaml(document)
    assert text == filter_of_ansible(document)
    assert yaml.safe_load(text) == document
    assert text == to_nice_yaml(yaml.safe_load(text))


@pytest.mark.parametrize("text", TREACHEROUS)
def test_a_treacherous_text_is_read_back_wherever_it_stands(text: str) -> None:
    document = {"value": text, text: "key", "list": [text, text], "deep": [{text: [{"x": text}]}]}
    written = to_nice_yaml(document)
    assert written == filter_of_ansible(document)
    assert yaml.safe_load(written) == document == read_yaml(written.encode())


@given(DOCUMENTS)
def test_what_is_read_as_text_is_what_was_written(document: dict[str, Any]) -> None:
    assert read_yaml(to_nice_yaml(document).encode()) == as_text(document)


BOMB = "a: &a [x, x]\n" + "".join(f"{name}: &{name} [*{before}, *{before}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True))


NOT_READABLE = [b"\xff", b"a: [", b"- a\nb", b"\0", b"a: &a [*a]", BOMB.encode(), b"[" * 100_000, b"- " * 100_000, b"? [a]\n: b"]


@pytest.mark.parametrize("raw", NOT_READABLE)
def test_what_cannot_be_read_is_an_error_of_one_kind(raw: bytes) -> None:
    with pytest.raises(ValueError, match=r"aliases|no YAML, or nested too deep"):
        read_yaml(raw)


@given(st.binary(max_size=60))
def test_no_bytes_make_it_fail_otherwise(raw: bytes) -> None:
    try:
        read_yaml(raw)
    except ValueError:
        return
