# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Words of configuration files: what a program reads is the value that was given, and no line is ever begun."""

from __future__ import annotations

import re
import shlex
from typing import Any

import pytest
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.config_words import FORMATS, config_word
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.variable_rules import KINDS, variable_problems
from hypothesis import given
from hypothesis import strategies as st

LINE_ENDS = ["\n", "\r", "\0", "\x0b", "\x0c", "\x1b", "\x85", "\u2028", "\u2029", "\ud800"]


def unsystemd(word: str) -> str:
    """systemd.syntax(7), as far as these words go."""
    assert word[0] == word[-1] == '"'
    return re.sub(r"\\(.)", r"\1", word[1:-1]).replace("%%", "%")


@given(st.text(), st.sampled_from(FORMATS))
def test_a_word_never_holds_a_line_end(text: str, form: str) -> None:
    try:
        word = config_word(text, form)
    except ValueError as error:
        assert text == "" or text not in str(error) or len(text) < 3
        return
    assert len(word.splitlines()) <= 1
    assert word.isprintable() or not text.isprintable()


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("end", LINE_ENDS)
def test_line_ends_are_refused(form: str, end: str) -> None:
    for text in (f"/dev/null{end}ExecStartPre=/bin/x", f"a{end}"):
        with pytest.raises(ValueError, match="line break or another control character"):
            config_word(text, form)


@given(st.text(st.characters(exclude_categories=["C", "Z"], include_characters=" ")))
def test_systemd_reads_what_was_given(text: str) -> None:
    assert unsystemd(config_word(text, "systemd")) == text


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1))
def test_an_environment_file_and_haproxy_read_what_was_given(text: str) -> None:
    """Within double quotes, a backslash stands before the same characters in a POSIX shell, which shlex reads."""
    assert re.sub(r"\\([`$])", r"\1", "".join(shlex.split(config_word(text, "environment_file")))) == text
    assert re.sub(r"\\([$])", r"\1", "".join(shlex.split(config_word(text, "haproxy")))) == text


@pytest.mark.parametrize(
    ("value", "form", "word"),
    [
        ('GREETING=100% of "us"', "systemd", '"GREETING=100%% of \\"us\\""'),
        ("/dev/cs2.0 rw", "systemd_line", "/dev/cs2.0 rw"),
        ("/etc/x.p12", "environment_file", "/etc/x.p12"),
        ("it's $here", "shell", "'it'\\''s $here'"),
        ("/etc/x.pem", "plain", "/etc/x.pem"),
        ("pkcs11:token=a;object=b%40", "double_quoted", '"pkcs11:token=a;object=b%40"'),
        ("a b$c", "environment_file", '"a b\\$c"'),
        (4442, "environment_file", "4442"),
        ("ERROR", "softhsm2", "ERROR"),
        ("[::]", "haproxy", "[::]"),
        ("/a#b", "haproxy", '"/a#b"'),
    ],
)
def test_words(value: Any, form: str, word: str) -> None:
    assert config_word(value, form) == word


@pytest.mark.parametrize(
    ("value", "form"),
    [("/dev/x\\", "systemd_line"), ('"x"', "systemd_line"), ("a # b", "softhsm2"), (" a", "softhsm2"), ("", "softhsm2"), ("", "haproxy")],
)
def test_what_a_format_has_no_quotes_for_is_refused(value: str, form: str) -> None:
    with pytest.raises(ValueError, match=r"in it|is empty"):
        config_word(value, form)


@pytest.mark.parametrize("value", [None, [], {}, ["a"], object()])
def test_what_is_no_word_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="a text, a number or a truth belongs there"):
        config_word(value, "systemd")


GOOD: dict[str, Any] = {
    "text": "x",
    "optional": "",
    "path": "/x y",
    "paths": ["/x"],
    "softhsm_path": "/x",
    "unit": "a@b",
    "list": ["a"],
    "devices": ["/dev/cs2.0 rw", "char-usb_device"],
    "account": "daemon",
    "accounts": ["_a", "b$"],
    "environment": {"A_1": 1, "B": True, "C": "x"},
    "softhsm_settings": {"log.level": "ERROR"},
}


def test_good_variables() -> None:
    assert set(GOOD) == set(KINDS)
    assert variable_problems(GOOD, {kind: kind for kind in KINDS}) == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [5, True, None, "x\n", ["x\n"], {"A": "1\n2"}, {"A\n": "x"}, [5], [None], 0.5, {}, [["x"]]])
def test_other_types_and_line_ends_are_told_and_never_pass(kind: str, value: Any) -> None:
    passes = (kind == "optional" and value is None) or (kind in ("environment", "softhsm_settings") and value == {})
    problems = variable_problems({"name": value}, {"name": kind})
    assert bool(problems) is not passes
    assert all(problem.startswith("name: ") and "\n" not in problem for problem in problems)


@pytest.mark.parametrize(
    ("kind", "value", "problem"),
    [
        ("unit", "a.service", "is not the name of a unit"),
        ("paths", ["/a", "var/lib"], "name: var/lib: give absolute paths."),
        ("devices", ["cs2"], "name: cs2: give a path under /dev"),
        ("devices", ["/dev/x\\"], "give a path under /dev"),
        ("accounts", ["a b"], "name: a b: no name of a group or user."),
        ("environment", {"A B": 1}, "name: A B: no name of a variable."),
        ("softhsm_settings", {"log level": 1}, "no name of a setting"),
        ("path", "x", "is not an absolute path"),
        ("softhsm_path", "/a#b", "give an absolute path"),
        ("paths", "x", "name: is a text, and a list belongs there. Put it in brackets."),
        ("optional", 5, "name: is a number, and a text belongs there. Put it in quotes."),
    ],
)
def test_problems(kind: str, value: Any, problem: str) -> None:
    (found,) = variable_problems({"name": value}, {"name": kind})
    assert problem in found


def test_a_value_is_not_shown() -> None:
    (found,) = variable_problems({"name": {"PIN": "canary\n7391"}}, {"name": "environment"})
    assert "canary" not in found
