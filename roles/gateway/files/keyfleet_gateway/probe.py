# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One probe of one instance, or one comparison of a group, in a process of its own: the engine of the modules, and nothing of ours.

The request comes on standard input, the answer goes to standard output, both as JSON. No PIN is in either: the engine reads it from its
file. Each probe loads and initialises the library anew, so nothing of an earlier device error is left.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
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

from .certificates import certificate_ends
from .members import compare
from .memory import RUN

_MOST_BYTES = 16 * 1024 * 1024


class ProbeError(Exception):
    """A probe that gave nothing about the tokens. ``code`` as the failure codes of the modules."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


def answer(request: Mapping[str, Any]) -> dict[str, Any]:
    """``slots`` of the instance, in the order of its tokens, or ``error`` and ``code``. ``certificates`` only where they are asked for.

    Of a group what :func:`compare` says.
    """
    name_origins(request["origins"])
    if "group" in request:
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


async def ask(request: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    """:func:`answer`, from a process that has ``seconds`` for it.

    It is ended with all its children then. Raises :class:`ProbeError`.
    """
    isolated = ["-I"] if sys.flags.isolated else []
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, *isolated, "-m", __spec__.name),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
        limit=_MOST_BYTES,
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(json.dumps(request).encode("utf-8")), seconds)
    except asyncio.TimeoutError:
        raise ProbeError(f"the probe gave no answer within {seconds:g} seconds", "probe_timeout") from None
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
    try:
        told = json.loads(out)
    except ValueError:
        last = err.decode("utf-8", "replace").strip().rpartition("\n")[2]
        raise ProbeError(f"the probe ended with status {process.returncode}: {last or 'it said nothing'}", "probe_crashed") from None
    if "error" in told:
        raise ProbeError(told["error"], told["code"])
    answered: dict[str, Any] = told
    return answered


if __name__ == "__main__":
    json.dump(answer(json.load(sys.stdin)), sys.stdout)
