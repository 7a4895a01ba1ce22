# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""Which hosts of a run may meet each other at a token, by what they declare."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from ..declared import is_absent


def sharing_hosts(declared: Mapping[str, Any]) -> list[str]:
    """Of hosts with their hsm_instances those with a token that says ``shared: true``, or whose serial another host declares, too."""
    tokens = {host: list(_tokens(instances)) for host, instances in declared.items()}
    serials = {host: {str(token["serial"]).lower() for token in found if token.get("serial")} for host, found in tokens.items()}
    hosts = Counter(serial for found in serials.values() for serial in found)
    return [
        host
        for host, found in tokens.items()
        if any(is_true(token.get("shared")) for token in found) or any(hosts[serial] > 1 for serial in serials[host])
    ]


def is_true(value: Any) -> bool:
    """As Ansible reads a truth, also one that an inventory in INI has as a text."""
    return str(value).lower() in ("true", "yes", "on", "y", "t", "1")


def _tokens(instances: Any) -> Iterator[Mapping[str, Any]]:
    """What is no declaration is refused elsewhere."""
    for instance in instances if isinstance(instances, (list, tuple)) else ():
        tokens = instance.get("tokens") if isinstance(instance, Mapping) and not is_absent(instance) else None
        yield from (token for token in (tokens if isinstance(tokens, (list, tuple)) else ()) if isinstance(token, Mapping))
