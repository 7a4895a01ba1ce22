# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The text that a machine without PyYAML writes is read back as the same document, by every reader."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.files.yaml_text import to_yaml
from hypothesis import given
from hypothesis import strategies as st
from yamllint import linter
from yamllint.config import YamlLintConfig

# What some version of YAML reads as something else, or cannot read, when it is not quoted.
TREACHEROUS = [
    *("", " ", "y", "N", "yes", "No", "on", "OFF", "true", "False", "null", "NULL", "~", "<<", "=", "*a", "&a", "!a", "%a", "@a", "`a"),
    *("12", "-1", "+1", "0o14", "014", "0x1F", "0b1", "1_000", "1e3", "1.5", ".5", ".inf", "-.INF", ".NaN", "12:34", "190:20:30"),
    *("2026-11-21", "2026-11-21T10:00:00Z", "- a", "-", "---", "...", "? a", ": a", "a: b", "a:", "a :b", "a #b", "#a", "[a]", "{a}"),
    *(
        "a ",
        " a",
        "a\n",
        "a\nb",
        "\ta",
        "a\tb",
        "a,b",
        "a]",
        "'a",
        '"a',
        "a\\",
        "\\x41",
        "|",
        ">",
        "ab{{ 1 }}",
        "{% raw %}",
        "a::b",
        "a  b",
    ),
    *("\0", "\x07", "\x7f", "\x85", "\xa0", "\u2028", "\ufeff", "\u202e", "\ud800", "k\udcff", "\U0001f600", "\ufffe", "Schl\u00fcssel"),
]
TEXT = st.one_of(st.sampled_from(TREACHEROUS), st.text(st.characters(), max_size=8), st.text("aAyYnNeo01:-. #'\"\\{[,\n", max_size=6))
UNICODE = TEXT.filter(lambda text: not re.search("[\ud800-\udfff]", text))  # libyaml knows no surrogates
LEAVES = st.one_of(st.none(), st.booleans(), st.integers(), TEXT)
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4), max_leaves=12)
DOCUMENTS = st.dictionaries(TEXT, VALUES, max_size=4)
# What YAML 1.2 takes for something else than text when it is not quoted (section 10.3.2).
CORE_SCHEMA = re.compile(
    r"~|null|Null|NULL|true|True|TRUE|false|False|FALSE|[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+"
    r"|[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
)


@given(DOCUMENTS)
def test_a_document_is_read_back(document: dict[str, Any]) -> None:
    text = to_yaml(document)
    assert yaml.safe_load(text) == document
    assert text.isascii()
    assert text == to_yaml(yaml.safe_load(text))


@pytest.mark.parametrize("text", TREACHEROUS)
def test_a_treacherous_text_is_read_back_wherever_it_stands(text: str) -> None:
    document = {"value": text, text: "key", "list": [text, text], "deep": [{text: [{"x": text}]}]}
    assert yaml.safe_load(to_yaml(document)) == document


@pytest.mark.skipif(not yaml.__with_libyaml__, reason="PyYAML was built without libyaml, which Ansible reads YAML with")
@given(st.dictionaries(UNICODE, UNICODE | st.lists(UNICODE, max_size=2), max_size=4))
def test_libyaml_reads_it_too(document: dict[str, Any]) -> None:
    assert yaml.load(to_yaml(document), yaml.CSafeLoader) == document


@given(TEXT)
def test_what_is_not_quoted_is_text_in_yaml_1_2_too(text: str) -> None:
    written = to_yaml({"x": text}).splitlines()[-1].removeprefix("x: ")
    assert written.startswith('"') or (written == text and not CORE_SCHEMA.fullmatch(text))


def test_a_key_may_be_longer_than_yaml_allows_before_a_colon() -> None:
    document = {"a" * 3000: {"b" * 3000: "c", "d": ["e f"]}, "\x01" * 400: [], "l" * 3000: ["m n", {"o" * 1200: "p"}]}
    assert yaml.safe_load(to_yaml(document)) == document


def test_the_layout() -> None:
    document = {
        "format": "keyfleet.hsm.export/1",
        "group": {"name": "payments", "tokens": [{"instance": "primary"}]},
        "keys": [{"label": "dek-1", "size": 256, "operations": ["sign", "verify"]}, {"label": "12:34", "allow_weak": True}],
        "others": [],
        "fingerprints": {"hsm::softhsm2::7::dek-1": None, "odd": ["a b", "no"]},
    }
    assert to_yaml(document) == (
        "---\n# yamllint disable rule:line-length\nformat: keyfleet.hsm.export/1\n"
        "group:\n  name: payments\n  tokens:\n    - instance: primary\n"
        'keys:\n  - label: dek-1\n    size: 256\n    operations: [sign, verify]\n  - label: "12:34"\n    allow_weak: true\n'
        'others: []\nfingerprints:\n  hsm::softhsm2::7::dek-1: null\n  odd:\n    - a b\n    - "no"\n'
    )
    assert to_yaml({}).endswith("\n{}\n")
    assert to_yaml({"y": "N", "x": "a\nb\x07"}).endswith('\n"y": "N"\nx: "a\\nb\\x07"\n')
    assert "x:\n  - word\n  - word\n" in to_yaml({"x": ["word"] * 20})


@given(st.dictionaries(TEXT, st.dictionaries(TEXT, LEAVES | st.lists(st.dictionaries(TEXT, LEAVES, max_size=3), max_size=3), max_size=3)))
def test_yamllint_has_nothing_to_say(document: dict[str, Any]) -> None:
    config = YamlLintConfig("extends: default")
    assert [str(problem) for problem in linter.run(to_yaml(document), config)] == []


@pytest.mark.parametrize("value", [1.5, b"x", {1: "x"}, {"x": {2: "y"}}, {"x": [object()]}, {"x": {"set"}}])
def test_what_has_no_place_in_a_document_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match=r"a \w+ (has no place|is no key of a mapping) in a document"):
        to_yaml({"value": value})
