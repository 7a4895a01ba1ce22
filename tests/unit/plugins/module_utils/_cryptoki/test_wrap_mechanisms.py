# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which keys an AES key wraps with padding."""

from __future__ import annotations

import pytest
from ansible_collections.keyfleet.hsm.plugins.module_utils._cryptoki.wrap_mechanisms import needs_padding


@pytest.mark.parametrize(
    ("type_name", "bits", "padded"),
    [
        ("AES", None, False),
        ("AES", 192, False),
        ("DES", 64, True),
        ("RSA", 2048, True),
        ("GENERIC_SECRET", 256, False),
        ("GENERIC_SECRET", 128, False),
        ("GENERIC_SECRET", 64, True),  # one block alone
        ("GENERIC_SECRET", 264, True),  # SoftHSM fills it up with zeros, and HMAC cannot tell that
        ("GENERIC_SECRET", None, True),
        ("SHA224_HMAC", 224, True),
    ],
)
def test_padding(type_name: str, bits: int | None, padded: bool) -> None:
    assert needs_padding(type_name, bits) is padded
