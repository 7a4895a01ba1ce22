# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Copy keys between two registered tokens, in a process of its own that leads a group: JSON on standard input, JSON on standard output.

The input has ``registry``, ``source`` and ``destination`` (names of instances with one token each), ``names`` (kind, CKA_ID in hex,
CKA_LABEL), and may have ``check_mode``, ``seconds`` and ``allow_low_pin_count``. The output has ``copied``, or ``error``.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from typing import Any

from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.members.copy import copy_keys
from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.tokens.connection import target_of_request
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.errors import KeyfleetError
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.tokens.connection_request import ConnectionRequest, Login
from ansible_collections.keyfleet.hsm.plugins.module_utils._registry.database import open_database


def copied(request: dict[str, Any]) -> list[dict[str, Any]]:
    check_mode, low = bool(request.get("check_mode")), bool(request.get("allow_low_pin_count"))
    names = [(kind, bytes.fromhex(key_id), label) for kind, key_id, label in request["names"]]
    more = {"seconds": request["seconds"]} if "seconds" in request else {}
    with open_database(request["registry"], run="test", check_mode=check_mode) as database:
        login = Login(allow_low_pin_count=low)
        source, destination = (
            target_of_request(database, ConnectionRequest(request[side], login=login)) for side in ("source", "destination")
        )
        found = copy_keys(source, destination, names, database, check_mode=check_mode, **more)
    return [{**asdict(item), "name": [item.name[0], item.name[1].hex(), item.name[2]]} for item in found]


def main() -> None:
    os.setsid()
    try:
        answer: dict[str, Any] = {"copied": copied(json.load(sys.stdin))}
    except KeyfleetError as error:
        answer = {"error": {"type": type(error).__name__, "code": error.code, "message": error.message}}
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
