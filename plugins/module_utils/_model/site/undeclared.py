# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""What the registry of a host has and its declaration has not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..records import GroupRecord, InstanceRecord, TokenRecord
from ..tokens.selectors import TokenSelector


@dataclass(frozen=True)
class Declared:
    """Names of what shall be registered. ``tokens`` are those of an instance, each by label, serial number or slot; an instance of which
    no tokens are given may have any."""

    instances: frozenset[str]
    groups: frozenset[str]
    tokens: Mapping[str, Sequence[Mapping[str, str]]]

    @classmethod
    def parse(cls, options: Mapping[str, Any]) -> Declared:
        instances = options["instances"] or []
        tokens = {entry["name"]: entry["tokens"] for entry in instances if entry.get("tokens") is not None}
        return cls(frozenset(entry["name"] for entry in instances), frozenset(options["groups"] or []), tokens)

    def undeclared(self, instances: Sequence[InstanceRecord], groups: Sequence[GroupRecord]) -> dict[str, list[Any]]:
        """Names of instances and groups, and tokens with their instance."""
        return {
            "instances": [record.name for record in instances if record.name not in self.instances],
            "tokens": [
                {"instance": record.name, "token": token.named()}
                for record in instances
                for token in record.tokens
                if record.name in self.tokens and not any(_is(token, options) for options in self.tokens[record.name])
            ],
            "groups": [record.name for record in groups if record.name not in self.groups],
        }


def _is(token: TokenRecord, options: Mapping[str, str]) -> bool:
    """Whether a registered token is the declared one, which may be declared in another way now."""
    declared, _problems = TokenSelector.parse(options, "")
    seen = {"label": token.label, "serial": token.serial, "slot": token.slot}
    return declared is not None and (declared == token.selector or seen[declared.kind] == declared.value)


def told(found: Mapping[str, Sequence[Any]]) -> str:
    """One sentence with all of it; empty where there is nothing."""
    names = [f"instance '{name}'" for name in found["instances"]]
    names += [f"token '{entry['token']}' of instance '{entry['instance']}'" for entry in found["tokens"]]
    names += [f"group '{name}'" for name in found["groups"]]
    return f"registered and not declared: {', '.join(names)}." if names else ""
