# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which keys give others away: each row a token's keys -> who exposes whom."""

from __future__ import annotations

import pytest
from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.virtual_keys.exposed import exposures
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.keys.objects import Key
from plain_keys import half, pair, secret

BOTH = ("decrypt", "wrap")
KEK = secret("kek", operations=BOTH)
TRUSTED = secret("trusted", operations=BOTH, trusted=True)
OUT = secret("out", extractable=True, sensitive=True)
GUARDED = secret("guarded", extractable=True, sensitive=True, wrap_with_trusted=True)
RSA = Key(
    private=half("private", "rsa", type="RSA", operations=("decrypt",)).private,
    public=half("public", "rsa", type="RSA", operations=("wrap",)).public,
)


@pytest.mark.parametrize(
    ("keys", "found"),
    [
        ([KEK, OUT], {"kek": ["out"]}),
        ([KEK, pair("tls", type="RSA", extractable=True, sensitive=True), OUT], {"kek": ["tls", "out"]}),
        ([RSA, OUT], {"rsa": ["out"]}),  # one half wraps, the other decrypts
        ([KEK, RSA, OUT], {"kek": ["out"], "rsa": ["out"]}),
        ([secret("kek", operations=BOTH, extractable=True)], {"kek": ["kek"]}),
        ([KEK], {}),
        ([OUT], {}),
        ([secret("kek", operations=("wrap", "unwrap")), secret("dek", operations=("decrypt",)), OUT], {}),  # two keys, one each
        ([KEK, secret("in", extractable=False)], {}),
        ([KEK, secret("said nothing", extractable=None)], {}),
        ([KEK, secret("open", extractable=True, sensitive=False)], {}),  # whoever wants it reads it
        ([KEK, half("public", "pub", extractable=True)], {}),
        ([KEK, GUARDED], {}),
        ([TRUSTED, GUARDED], {"trusted": ["guarded"]}),
        ([KEK, TRUSTED, GUARDED, OUT], {"kek": ["out"], "trusted": ["guarded", "out"]}),
    ],
)
def test_who_exposes_whom(keys: list[Key], found: dict[str, list[str]]) -> None:
    assert {by.main.label: [key.main.label for key in given] for by, given in exposures(keys)} == found
