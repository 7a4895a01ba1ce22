# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Give a new database of NSS its first PIN, as ``certutil -N`` does. Arguments: the library and its text; the PIN on standard input."""

from __future__ import annotations

import sys

from ansible_collections.keyfleet.hsm.plugins.module_utils._cryptoki.provider import open_provider
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.tokens.selectors import TokenSelector
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.tokens.starting import Starting

LABEL = "NSS Certificate DB"

if __name__ == "__main__":
    with open_provider([sys.argv[1]], Starting(init_args=sys.argv[2])) as provider:
        token = provider.find(TokenSelector("slot", 2))
        assert token is not None and token.slot.get_token().label == LABEL
        session = token.slot.get_token().open(rw=True, so_pin="")
        session.init_pin(sys.stdin.read())
        session.close()
