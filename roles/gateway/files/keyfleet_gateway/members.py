# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The members of a group side by side, as hsm_sync compares them. In a process of its own.

Groups and records are those of the copy of the host's registry. The way to a token, its PIN and what it refused are this service's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.members.comparison import read_member
from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.tokens.serving import Connection, connections_of, find_group, reach
from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.virtual_keys.scope import group_scope
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.errors import KeyfleetError, TokenError
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.groups.member_comparison import (
    Disagreement,
    MemberKey,
    compare_members,
)
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.records import InstanceRecord
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.tokens.connection_request import Login
from ansible_collections.keyfleet.hsm.plugins.module_utils._registry import instances as table
from ansible_collections.keyfleet.hsm.plugins.module_utils._registry import pending_keys
from ansible_collections.keyfleet.hsm.plugins.module_utils._registry.database import open_database

from .memory import RUN

_MOST_LABELS = 10


def compare(request: Mapping[str, Any]) -> dict[str, Any]:
    """``members`` as fields of :class:`.known.Member`, ``keys`` and ``labels`` on which those that could be read disagree; or ``error`` and
    ``code``. Changes nothing on a token."""
    try:
        with (
            open_database(request["copy"], run=RUN, check_mode=True) as host,
            open_database(request["registry"], run=RUN, check_mode=True) as own,
        ):
            known, ours = table.all_instances(host), table.all_instances(own)
            group = find_group(host, request["group"])
            shown: list[dict[str, Any]] = []
            read: list[list[MemberKey]] = []
            for connection in connections_of(known, group):
                token_id = connection.token.id or 0
                member = {"instance": connection.instance.name, "token": connection.token.named()}
                try:
                    with reach(_our_way(connection, ours), ours, own, Login(), read_write=False) as reached:
                        pending = pending_keys.of_token(host, token_id)
                        read.append(list(read_member(reached, group_scope(host, group, token_id), pending).keys))
                except KeyfleetError as error:
                    shown.append({**member, "error": error.message})
                else:
                    shown.append({**member, "disagreements": 0})
    except KeyfleetError as error:
        return {"error": error.message, "code": error.code}
    found = compare_members(read)
    counts = iter(_disagreements(found, len(read)))
    members = [{**member, "disagreements": next(counts)} if "disagreements" in member else member for member in shown]
    labels = [row.label or row.key_id.hex() for row in found[:_MOST_LABELS]]
    return {"members": members, "keys": len(found), "labels": labels}


def _our_way(connection: Connection, ours: Sequence[InstanceRecord]) -> Connection:
    """The same token as this service is to reach it, and known as the registry has last seen it."""
    for instance in ours:
        for token in instance.tokens:
            if (instance.name, token.selector) == (connection.instance.name, connection.token.selector):
                seen = connection.token
                return Connection(connection.priority, instance, replace(token, label=seen.label, serial=seen.serial, slot=seen.slot))
    raise TokenError(f"connection {connection} is not declared for this service", code="token_not_declared")


def _disagreements(found: Sequence[Disagreement], members: int) -> list[int]:
    """For each member the keys that it lacks, has twice, under another name or as another key, or of which that cannot be told."""
    rows = [{*row.lack, *row.twice, *row.different, *row.unknown, *row.renamed} for row in found]
    return [sum(member in row for row in rows) for member in range(members)]
