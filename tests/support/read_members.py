# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Read tokens as members of a group and compare them, in a process of its own: JSON of keys and rows.

The input has ``environment``, ``library``, ``labels`` of the tokens and their ``pin``. An error is answered as ``rv``.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from typing import Any

from ansible_collections.keyfleet.hsm.plugins.module_utils._cryptoki.objects import read_inventory
from ansible_collections.keyfleet.hsm.plugins.module_utils._cryptoki.provider import open_provider
from ansible_collections.keyfleet.hsm.plugins.module_utils._cryptoki.session import open_session
from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.members.reading import member_keys, report_rows
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.errors import Cryptoki
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.groups.member_comparison import MemberKey, compare_members
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.keys.objects import group_keys
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.tokens.secret import Secret
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.tokens.selectors import TokenSelector
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.tokens.starting import Starting


def read(library: str, label: str, pin: Secret) -> list[MemberKey]:
    with open_provider([library], Starting()) as provider:
        token = provider.require(TokenSelector("label", label))
        with open_session(provider, token, pin=pin, read_write=False) as session:
            inventory = read_inventory(session)
            return member_keys(session, inventory, group_keys(inventory.objects))


def main() -> None:
    given = json.load(sys.stdin)
    os.environ.update(given["environment"])
    library, labels, pin = given["library"], given["labels"], Secret(given["pin"])
    answer: dict[str, Any] = {}
    try:
        members = [read(library, label, pin) for label in labels]
    except Cryptoki as error:
        answer["rv"] = error.rv
    else:
        connections = [{"priority": number, "token_label": label} for number, label in enumerate(labels, 1)]
        answer["keys"] = [[{**asdict(key), "key_id": key.key_id.hex()} for key in member] for member in members]
        answer["rows"] = report_rows(compare_members(members), connections)
    json.dump(answer, sys.stdout)
