# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""What hosts say of the keys that their services use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..pkcs11_uri import uri_parts
from ..quoting import listed


@dataclass(frozen=True)
class InUse:
    """``hosts`` has for each the labels of token and key that it named, and None where it said nothing: silence is no consent."""

    hosts: Mapping[str, frozenset[tuple[str, str]] | None] = field(default_factory=dict)

    @classmethod
    def parse(cls, value: Mapping[str, Any] | None) -> tuple[InUse, list[str]]:
        """From lists of URIs by host, and all that is wrong with them."""
        hosts: dict[str, frozenset[tuple[str, str]] | None] = {}
        problems = []
        for host, uris in (value or {}).items():
            if uris is None:
                hosts[str(host)] = None
                continue
            given = list(uris) if isinstance(uris, (list, tuple)) else [uris]
            named = [uri_parts(uri) if isinstance(uri, str) else None for uri in given]
            bad = [number for number, parts in enumerate(named) if not parts or not parts.get("object")]
            if bad:
                problems.append(f"in_use.{host}: {given[bad[0]]!r} is not a PKCS#11 URI that names an object: give those of keys, or null")
                continue
            hosts[str(host)] = frozenset((parts.get("token", ""), parts["object"]) for parts in named if parts)
        return cls(hosts), problems

    def of_this_host(self, uris: Sequence[str] | None) -> InUse:
        """With what the host that has the module says. What is no URI of a key says nothing."""
        said, problems = InUse.parse({"this host": uris})
        return InUse({**self.hosts, **({"this host": None} if problems else said.hosts)})

    def reason(self, label: str, token: str | None) -> str | None:
        """Why the key is not to be ended yet. Without ``token`` it counts on any."""
        users = [
            host
            for host, keys in self.hosts.items()
            if keys is not None and any(key == label and (not where or token is None or where == token) for where, key in keys)
        ]
        silent = [host for host, keys in self.hosts.items() if keys is None]
        if users:
            return f"services of {listed(users)} use it"
        return f"nobody knows whether services of {listed(silent)} use it" if silent else None
