# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which halves make one pair: what a token of any vendor may show of them, and what they become."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.keys.objects import KeyObject, group_keys
from plain_keys import half, secret

PRIVATE = half("private", "PIV Private Key 9A", b"\1").main
PUBLIC = half("public", "PIV Public Key 9A", b"\1").main
NAMELESS = replace(PRIVATE, label="")

# The objects of a token, and for each key that they make, what it is called and its kinds.
TOKENS: dict[str, tuple[list[KeyObject], list[tuple[str, str]]]] = {
    "labels of their own": ([PUBLIC, PRIVATE], [("PIV Private Key 9A", "private public")]),
    "a private half without a label": ([NAMELESS, PUBLIC], [("PIV Public Key 9A", "private public")]),
    "a public half without a label": ([PRIVATE, replace(PUBLIC, label="")], [("PIV Private Key 9A", "private public")]),
    "a secret key of that CKA_ID beside them": (
        [PRIVATE, secret("kek", b"\1").main, PUBLIC],
        [("PIV Private Key 9A", "private public"), ("kek", "secret")],
    ),
    "another CKA_ID": ([PRIVATE, replace(PUBLIC, key_id=b"\2")], [("PIV Private Key 9A", "private"), ("PIV Public Key 9A", "public")]),
    "no CKA_ID": (
        [replace(PRIVATE, key_id=b""), replace(PUBLIC, key_id=b"")],
        [("PIV Private Key 9A", "private"), ("PIV Public Key 9A", "public")],
    ),
    "another type": ([PRIVATE, replace(PUBLIC, type="RSA")], [("PIV Private Key 9A", "private"), ("PIV Public Key 9A", "public")]),
    "another curve": (
        [replace(PRIVATE, curve="P-256"), replace(PUBLIC, curve="P-384")],
        [("PIV Private Key 9A", "private"), ("PIV Public Key 9A", "public")],
    ),
    "another modulus": (
        [replace(PRIVATE, type="RSA", modulus=b"m"), replace(PUBLIC, type="RSA", modulus=b"n")],
        [("PIV Private Key 9A", "private"), ("PIV Public Key 9A", "public")],
    ),
    "a public half without a value": (
        [PRIVATE, replace(PUBLIC, empty=True)],
        [("PIV Private Key 9A", "private"), ("PIV Public Key 9A", "public")],
    ),
    "two public halves": (
        [PRIVATE, PUBLIC, replace(PUBLIC, handle=999, label="other")],
        [("PIV Private Key 9A", "private"), ("PIV Public Key 9A", "public"), ("other", "public")],
    ),
    "two private halves": (
        [PRIVATE, replace(PRIVATE, handle=999, label="other"), PUBLIC],
        [("PIV Private Key 9A", "private"), ("other", "private"), ("PIV Public Key 9A", "public")],
    ),
}


@pytest.mark.parametrize("case", TOKENS)
def test_halves_that_share_their_id_and_nothing_else_are_one_pair(case: str) -> None:
    objects, expected = TOKENS[case]
    assert [(key.label, " ".join(item.kind for item in key.objects)) for key in group_keys(objects)] == expected
