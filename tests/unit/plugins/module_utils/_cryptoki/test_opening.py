# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether a key that was unwrapped is the one that was declared."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.keyfleet.hsm.plugins.module_utils._cryptoki.opening import Opened, opened_object
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.keys.objects import KeyObject
from plain_plans import entries


@pytest.mark.parametrize(
    ("found", "options", "size", "problem"),
    [
        (Opened(256), {"type": "AES"}, 256, None),
        (Opened(256), {"type": "AES"}, None, None),
        (Opened(256), {"type": "AES"}, 128, "holds a key of 256 bits, asked for 128"),
        (Opened(160), {"type": "AES"}, None, "holds a key of 160 bits, which no AES key has"),
        (Opened(None), {"type": "AES"}, 128, None),  # nothing tells it
        (Opened(256), {"type": "DES3"}, None, "holds a key of 256 bits, which no DES3 key has"),
        (Opened(320, rounded=True), {"type": "GENERIC_SECRET"}, 264, None),
        (Opened(320, rounded=True), {"type": "GENERIC_SECRET"}, 256, "holds a key of 320 bits, asked for 256"),
        (Opened(264), {"type": "GENERIC_SECRET"}, 256, "holds a key of 264 bits, asked for 256"),
        (Opened(2048), {"type": "RSA"}, 3072, "holds a key of 2048 bits, asked for 3072"),
        (Opened(2048), {"type": "RSA"}, None, None),
        (Opened(None, empty=True), {"type": "RSA"}, None, "holds no RSA key"),
        (Opened(384, "P-384"), {"type": "EC", "curve": "P-256"}, 256, "holds a key on P-384, asked for P-256"),
        (Opened(384, "P-384"), {"type": "EC", "curve": "P-384"}, 384, None),
    ],
)
def test_what_was_opened(found: Opened, options: dict[str, Any], size: int | None, problem: str | None) -> None:
    (spec,) = entries(options)
    assert found.misfit(spec, size) == problem


def test_the_one_size_of_a_type_is_not_what_a_token_reports() -> None:
    def item(kind: str, type: str, size: int) -> KeyObject:
        return KeyObject(handle=1, kind=kind, label="k", key_id=b"k", type=type, size=size)

    assert opened_object(item("secret", "DES3", 192)) == Opened(None)
    assert opened_object(item("secret", "AES", 256)) == Opened(256)
    assert opened_object(item("private", "RSA", 2048)) == Opened(2048)
