# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Messages: no control character moves a cursor, and none fills the screen."""

from __future__ import annotations

from ansible_collections.keyfleet.hsm.plugins.module_utils._module.message import MOST, readable
from hypothesis import given
from hypothesis import strategies as st


def test_control_characters_are_written_out() -> None:
    assert readable("label '\x1b[2Jx'\r\n- \u202e\t") == ("label '\\x1b[2Jx'\\r\n- \\u202e\\t", "")


def test_a_long_text_ends_with_a_line_and_says_where_the_rest_is() -> None:
    text = "\n".join(f"- problem {number}" for number in range(500))
    shown, whole = readable(text)
    assert whole == text
    lines = shown.split("\n")
    assert lines[-1] == f"... {len(text)} characters, all of them in failure.details.message"
    assert text.startswith("\n".join(lines[:-1]) + "\n")


@given(st.text(st.characters(categories=["L", "C", "Z"]), max_size=MOST + 50))
def test_always(text: str) -> None:
    shown, whole = readable(text)
    assert len(shown) <= MOST
    assert all(char == "\n" or char.isprintable() for char in shown)
    assert bool(whole) is (whole != "")
