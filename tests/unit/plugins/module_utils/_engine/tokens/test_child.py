# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a child says arrives as it was said."""

from __future__ import annotations

import os
from typing import Any

from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.tokens.child import parsed, write_line
from hypothesis import example, given
from hypothesis import strategies as st

NAMES = st.just("hex") | st.text().filter(lambda name: "\0" not in name)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)


@given(VALUES)
@example({"hex": "pkcs11:token=payments;object=hex"})  # pkcs11_uris_current of a token whose one key has this label
@example({"hex": "00"})
def test_a_line_is_read_as_it_was_written(value: Any) -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as lines:
        with os.fdopen(writing, "wb"):
            write_line(writing, value)
        assert parsed(lines.readline()) == value
        assert lines.read() == b""
