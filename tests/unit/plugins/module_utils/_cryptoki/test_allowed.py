# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Mechanisms by name and by number, as an attribute's value has them."""

from __future__ import annotations

import pytest
from ansible_collections.keyfleet.hsm.plugins.module_utils._cryptoki.allowed import canonical, nearest, packed, unpacked


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("AES_GCM", "AES_GCM"),
        ("0x1087", "AES_GCM"),
        ("DES_ECB", "DES_ECB"),  # historical: python-pkcs11 has it as _DES_ECB
        ("0x80000001", "0x80000001"),
        ("SHA256_KEY_GEN", "SHA256_KEY_GEN"),  # python-pkcs11 has no name for it
        ("0x4005", "SHA256_KEY_GEN"),
        ("AES_GMC", None),
    ],
)
def test_one_name_for_each(text: str, name: str | None) -> None:
    assert canonical(text) == name
    assert name is None or unpacked(packed([name])) == (name,)


def test_what_was_perhaps_meant() -> None:
    assert (nearest("SHA256_RSA_PKCS_PS"), nearest("DES_EBC"), nearest("QQQQQQ")) == ("SHA256_RSA_PKCS_PSS", "DES_ECB", None)
