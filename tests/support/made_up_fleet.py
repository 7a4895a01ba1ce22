# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A fleet that does not exist: what its hosts would have answered to the playbook status. The same number gives the same fleet.

As a program it writes the page and the JSON file of such a fleet, to be looked at: made_up_fleet.py HOSTS FOLDER
"""

from __future__ import annotations

import json
import random
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from ansible_collections.keyfleet.hsm.plugins.filter.fleet_report import fleet_report

NOW = datetime(2026, 11, 29, 20, 0, tzinfo=timezone.utc)
MODELS = (
    ("SoftHSM 2.6", "SoftHSM v2", "2.6"),
    ("Utimaco PKCS11 6.3", "CryptoServer", "6.1"),
    ("Utimaco PKCS11 6.2", "CryptoServer", "5.3"),
)
Lists = tuple[list[str], list[Any], list[Any], list[Any], list[Any]]


def moment(days: float) -> str:
    """So many days from now."""
    return (NOW + timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%SZ")


def key(label: str, age: float, **fields: Any) -> dict[str, Any]:
    usual = {"instance": "primary", "token": "payments", "group": None, "id": label.encode().hex(), "generation": 1, "kind": "secret"}
    more = {"type": "AES", "size": 256, "curve": None, "state": "active", "since": moment(-age), "found": False}
    return {**usual, "label": label, **more, **fields}


def slot(label: str, **fields: Any) -> dict[str, Any]:
    usual = {"slot_id": 7, "accessible": True, "login": True, "label": label, "serial": "0a91", "error": None, "code": None}
    return {**usual, "pin_state": "ok", "versions": None, "certificates": [], **fields}


def found(*slots: dict[str, Any], keys: list[dict[str, Any]] | None = None, **fields: Any) -> dict[str, Any]:
    """A host with an instance for each slot."""
    names = ("primary", "standby", "archive")
    instances = [{"name": name, "model": "softhsm2", "prefix": "p", "slots": [one]} for name, one in zip(names, slots, strict=False)]
    undeclared: dict[str, list[Any]] = {"instances": [], "tokens": [], "groups": []}
    return {"instances": instances, "keys_recorded": keys or [], "groups": [], "undeclared": undeclared, **fields}


def made_up(count: int, keys: int = 20) -> Lists:
    """What ``count`` hosts with about ``keys`` keys each answered."""
    chance = random.Random(count)  # noqa: S311
    lists: Lists = ([], [], [], [], [])
    hosts, looks, groups, synced, declared = lists
    for number in range(count):
        hosts.append(f"hsm{number:04}.example.com")
        library, model, firmware = chance.choice(MODELS)
        versions = {"library": library, "cryptoki": "2.40", "model": model, "firmware": firmware, "hardware": "1.0"}
        fate = chance.random()
        if fate < 0.01:
            looks.append(
                {"unreachable": True, "msg": "Failed to connect to the host via ssh: ssh: connect to host port 22: No route to host"}
            )
            groups.append({})
            synced.append({})
            declared.append({"problems": [], "keys": []})
            continue
        ends = [{"label": "web-tls", "id": "01", "subject": "CN=web", "not_after": moment(chance.uniform(5 if fate < 0.1 else 40, 300))}]
        both = [slot("payments", versions=versions, certificates=ends), slot("payments-b", versions=versions)]
        if 0.01 <= fate < 0.02:
            gone = "the device was removed (CKR_DEVICE_REMOVED). Check its power and its cable."
            both[1] |= {"accessible": False, "code": "device_removed", "error": gone}
        if 0.02 <= fate < 0.025:
            refused = "token 'payments-b': its PIN was refused (CKR_PIN_INCORRECT). It was tried once, and is not tried again."
            both[1] |= {"accessible": False, "code": "pin_incorrect", "error": refused}
        own = [key(f"dek-{place}", chance.triangular(0, 900, 60)) for place in range(keys)]
        looks.append(found(*both, keys=own))
        lacks = {"label": "dek-1", "lack": [{"instance": "standby"}]}
        groups.append({"results": [{"item": {"name": "cards"}, "members": [lacks] if fate > 0.98 else [], "unread": []}]})
        drift = [{"uid": "hsm::softhsm2::7::dek-3", "field": "operations", "virtual": ["sign", "verify"], "hsm": ["sign"]}]
        synced.append({"results": [{"item": "primary", "drift": drift if 0.95 < fate < 0.97 else []}, {"item": "standby"}]})
        rotated = [
            {"instance": "primary", "group": None, "label": f"dek-{place}", "state": "present", "max_age": 900 * 86400} for place in (1, 2)
        ]
        declared.append({"problems": [], "keys": rotated, "certificates": [], "declared": {}})
    return lists


def main() -> None:
    hosts, folder = int(sys.argv[1]), Path(sys.argv[2])
    told = fleet_report(*made_up(hosts), NOW.strftime("%Y-%m-%dT%H:%M:%SZ"))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "fleet.html").write_text(told["page"])
    (folder / "fleet.json").write_text(json.dumps(told["document"], indent=4))


if __name__ == "__main__":
    main()
