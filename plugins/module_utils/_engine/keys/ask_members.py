# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""Ask the other members of a group which keys they have, before one is generated on the member that serves."""

from __future__ import annotations

from collections.abc import Collection

from ..._model.errors import KeyfleetError, is_unreachable
from ..._model.keys.objects import group_keys
from ..._model.records import GroupRecord
from ..._model.tokens.connection_request import Login
from ..._registry import instances as table
from ..._registry.database import Database
from ..files.softhsm import hidden_objects
from ..tokens.serving import Connection, connections_of, reach
from .planning.member_answers import MemberAnswer, OtherMembers


def other_members(
    group: GroupRecord,
    database: Database,
    login: Login,
    serving: Connection,
    before: Collection[tuple[Connection, KeyfleetError]],
    same_token: Collection[int],
) -> OtherMembers:
    """All keys of the members beside ``serving``, each read once, one after the other. No session and no provider is open.

    ``before`` could not be reached a moment ago, and are not tried again. A member that may hide keys
    counts as one that could not be reached. ``same_token`` are the rows of the token that serves.
    Raises :class:`KeyfleetError` for a member that can be reached and not read: somebody has to look at that.
    """
    known, keys = table.all_instances(database), []
    texts: list[str] = []
    unreached = {connection.priority: error for connection, error in before}
    connections = connections_of(known, group)
    for connection in connections:
        token_id = connection.token.id or 0
        if connection.priority in (*unreached, serving.priority) or token_id in same_token:
            continue
        try:
            with reach(connection, known, database, login, read_write=False) as member:
                token = member.session.token
                if reason := hidden_objects(token.model, token.serial):
                    texts.append(f"connection {connection}: {reason}")
                address = (member.target.prefix or "", token.slot_id)
                keys += [MemberAnswer(str(connection), token_id, key, address) for key in group_keys(member.inventory.objects)]
        except KeyfleetError as error:
            if not is_unreachable(error):
                error.message = (
                    f"group '{group.name}', connection {connection} could not be asked for the keys that are to be made: {error.message}"
                )
                raise
            unreached[connection.priority] = error
    texts += [
        f"connection {connection} cannot be reached: {unreached[connection.priority].message.rstrip('.')}"
        for connection in connections
        if connection.priority in unreached and connection.token.id not in same_token
    ]
    return OtherMembers(tuple(keys), tuple(texts))
