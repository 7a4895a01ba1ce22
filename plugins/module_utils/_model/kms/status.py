# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""What the Eviden KMS server says of its HSMs, against what a probe found.

``GET /hsm/status`` of the server makes no PKCS#11 call: ``accessible`` only says that a PIN is configured. So its word is no
test, and every slot where the two differ is told.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import InputError

_SHAPE = (
    "give the list that GET /hsm/status returns, and probed of kms_config or instances of hsm_status: each with prefix, and slots with "
    "slot_id and accessible"
)
Slots = dict[tuple[str, int], Mapping[str, Any]]
# What "accessible" and "not accessible" mean where it is said: by the Eviden server, by any gateway.
OF_KMS = ("the server only knows that a PIN is configured", "the server has no PIN for it")
OF_ANY = ("the server calls it accessible", "the server calls it not accessible")


def status_differences(served: Any, probed: Any, says: tuple[str, str] = OF_KMS) -> list[dict[str, Any]]:
    """One entry for each slot on which the server and the probe differ, by prefix and slot.

    ``served`` is the server's answer, ``probed`` is ``probed`` of kms_config or ``instances`` of hsm_status; ``says`` is :data:`OF_KMS` or
    :data:`OF_ANY`. Each entry has ``prefix``,
    ``slot_id``, ``server`` and ``probe`` (true, false, or None where that side does not have the slot) and ``why`` in words.
    A token without a login is left out: the server calls it inaccessible whatever it does, since it has no PIN.
    Raises :class:`InputError` for values of another shape.
    """
    said, found = _slots(served, "the server's answer"), _slots(probed, "the probe")
    result = []
    for prefix, slot in sorted(said.keys() | found.keys()):
        server, probe = said.get((prefix, slot)), found.get((prefix, slot))
        word = None if server is None else server["accessible"]
        fact = None if probe is None else probe["accessible"]
        if probe is not None and server is not None and not probe.get("login", True):
            continue
        if word != fact:
            result.append({"prefix": prefix, "slot_id": slot, "server": word, "probe": fact, "why": _why(word, fact, probe, says)})
    return result


def _why(word: bool | None, fact: bool | None, probe: Mapping[str, Any] | None, says: tuple[str, str]) -> str:
    if fact is None:
        return "the server serves it, and the probe does not know it: declare it, and see that the server was restarted"
    if word is None:
        return "the probe knows it, and the server does not serve it: declare it for the server, and see that the server was restarted"
    if word:
        error = (probe or {}).get("error") or (probe or {}).get("code") or "no reason given"
        return f"{says[0]}; the probe failed: {error}"
    return f"{says[1]}; the probe worked"


def _slots(value: Any, what: str) -> Slots:
    found: Slots = {}
    try:
        for instance in value:
            for slot in instance["slots"]:
                # An instance without a prefix, or a token that was never found, has no address to compare.
                if instance["prefix"] is not None and slot["slot_id"] is not None:
                    if not isinstance(slot["accessible"], bool):
                        raise TypeError
                    found[str(instance["prefix"]), int(slot["slot_id"])] = slot
    except (TypeError, KeyError, ValueError, OverflowError):
        raise InputError([f"{what}: is not a status: {_SHAPE}"]) from None
    return found
