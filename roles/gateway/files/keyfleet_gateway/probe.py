# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One probe of one instance, or one comparison of a group, in a process of its own: the engine of the modules, and nothing of ours.

The request comes on standard input, the answer goes to standard output, both as JSON. No PIN is in either: the engine reads it from its
file. Each probe loads and initialises the library anew, so nothing of an earlier device error is left.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.status.probing import Probed, note_logins, probe_instances
from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.tokens.choice import find_instance
from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.tokens.refused_pins import Tried, is_new_try, name_origins
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.errors import KeyfleetError
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.records import InstanceRecord
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.status_request import ProbeOrder
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.tokens.connection_request import Login
from ansible_collections.keyfleet.hsm.plugins.module_utils._registry import instances as table
from ansible_collections.keyfleet.hsm.plugins.module_utils._registry.database import open_database

from .memory import RUN


def answer(request: Mapping[str, Any]) -> dict[str, Any]:
    """``slots`` of the instance, in the order of its tokens, or ``error`` and ``code``. ``certificates`` only where they are asked for.

    Of a group what :func:`.members.compare` says.
    """
    name_origins(request["origins"])
    if "group" in request:
        from .members import compare  # seldom: a probe starts anew each time, and with all of it would take half as long again

        return compare(request)
    order = ProbeOrder(request["kind"], request["timeout"])
    try:
        record, slots = _probe(request, order)
        if _corrected(record, slots):
            record, slots = _probe(request, replace(order, login=Login(allow_low_pin_count=True)))
    except KeyfleetError as error:
        return {"error": error.message, "code": error.code}
    told: dict[str, Any] = {"slots": [{**slot, "login": token.login} for token, slot in zip(record.tokens, slots, strict=True)]}
    if request["certificates"] and all(slot["accessible"] for slot in slots):
        from .certificates import certificate_ends

        told["certificates"] = certificate_ends(record, request["timeout"])
    return told


def _probe(request: Mapping[str, Any], order: ProbeOrder) -> Probed:
    with open_database(request["registry"], run=RUN, check_mode=True) as database:
        known = table.all_instances(database)
    probed = probe_instances(known, [find_instance(known, request["instance"], request["registry"])], order)
    note_logins(request["registry"], RUN, probed)
    return probed[0]


def _corrected(record: InstanceRecord, slots: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a count that is low is this service's own doing, and the PIN files are others by now: then the new PIN is tried, once.

    Never with the last try, and not while another token of the instance has other trouble, since the permission is for all of them.
    """
    bad = [(token, slot) for token, slot in zip(record.tokens, slots, strict=True) if not slot["accessible"]]
    return bool(bad) and all(
        slot["code"] == "pin_count_low" and is_new_try(token, Tried(token.pin_file, token.user_type == "so")) for token, slot in bad
    )


if __name__ == "__main__":
    json.dump(answer(json.load(sys.stdin)), sys.stdout)
