# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What keeps a key from being copied, where its token does not report it. What needs a token is in tests/module/groups."""

from __future__ import annotations

from ansible_collections.keyfleet.hsm.plugins.module_utils._cryptoki.copy_limits import kept_in, not_carried
from ansible_collections.keyfleet.hsm.plugins.module_utils._cryptoki.objects import Inventory
from plain_keys import pair, secret


def test_a_copy_is_not_made_with_less_than_the_key_may_do() -> None:
    reason = not_carried(Inventory(), secret(operations=("encrypt",), untold=("wrap", "derive")))
    assert reason == "its token does not report CKA_WRAP, CKA_DERIVE of its secret key, and a copy would not have it"
    assert "of its private key" in str(not_carried(Inventory(), pair(untold=("sign",))))


def test_a_key_that_may_perhaps_leave_stays() -> None:
    for value, word in ((False, "is false"), (None, "is not reported")):
        code, reason = kept_in(Inventory(), secret(extractable=value).main) or ("", "")
        assert code == "not_extractable" and word in reason
