# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""The members of a group side by side: who has which key."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from ..._model.errors import KeyfleetError
from ..._model.groups.member_comparison import Disagreement, MemberKey, compare_members
from ..._model.keys.objects import group_keys
from ..._model.plan import Context
from ..._model.records import GroupRecord, InstanceRecord
from ..._model.scope import Scope
from ..._model.tokens.connection_request import Login
from ..._registry import pending_keys
from ..._registry.database import Database
from ..files.softhsm import hidden_objects
from ..tokens.connection import Target
from ..tokens.serving import Connection, Reached, connections_of, reach
from ..virtual_keys.contents import TokenContents
from .reading import member_keys, report_rows


@dataclass(frozen=True)
class Member:
    """A member that was read. ``keys`` are those that are compared."""

    connection: Connection
    target: Target
    shown: dict[str, Any]
    contents: TokenContents
    keys: Sequence[MemberKey]


@dataclass(frozen=True)
class MemberReport:
    """``members`` were read, in priority order; ``serving`` says which of them serves. ``unread`` are those that could not be read,
    and ``found`` the keys on which the others disagree."""

    members: tuple[Member, ...]
    serving: int = 0
    unread: tuple[dict[str, Any], ...] = ()
    found: tuple[Disagreement, ...] = ()

    @property
    def rows(self) -> list[dict[str, Any]]:
        return report_rows(self.found, [member.shown for member in self.members])

    @property
    def others(self) -> list[TokenContents] | None:
        """What the members hold that do not serve; None where one of them could not be read."""
        return None if self.unread else [member.contents for number, member in enumerate(self.members) if number != self.serving]

    @property
    def elsewhere(self) -> list[tuple[int, TokenContents]]:
        """What those hold that could be read, each with its token."""
        return [(member.target.token_id or 0, member.contents) for number, member in enumerate(self.members) if number != self.serving]

    def repeated_labels(self) -> set[str]:
        """Labels that stand more than once on any member."""
        return {label for member in self.members for label in member.contents.repeated_labels()}


def read_member(reached: Reached, scope: Scope, pending: Collection[str], *, several: bool = True) -> Member:
    """What is on a member, while its session is open; of one that is alone, no keys to be compared. ``pending`` are the labels that dead
    runs were making on it. Raises :class:`KeyfleetError`."""
    token = reached.session.token
    hidden = hidden_objects(token.model, token.serial)
    contents = TokenContents(str(token), group_keys(reached.inventory.objects), pending, hidden)
    found = member_keys(reached.session, reached.inventory, contents.compared(scope)) if several else []
    return Member(reached.connection, reached.target, reached.shown, contents, found)


class Members:
    """Reads the members one after the other, each in a session of its own: never two logins at once."""

    def __init__(self, group: GroupRecord, known: Sequence[InstanceRecord], database: Database, login: Login, context: Context) -> None:
        self.group = group
        self.known = known
        self.database = database
        self.login = login
        self.context = context
        self.several = len(group.members) > 1

    def read(self, reached: Reached, scope: Scope) -> Member:
        """What is on a member, while its session is open. Raises :class:`KeyfleetError`.

        The notes of dead runs are read while the token is held: later ones are of runs that are at work.
        """
        pending = frozenset(pending_keys.of_token(self.database, reached.target.token_id or 0))
        return read_member(reached, scope, pending, several=self.several)

    def compare(
        self,
        serving: Member,
        reached: Reached,
        scope: Scope,
        must_answer: Callable[[Connection, KeyfleetError], bool] = lambda _connection, _error: False,
    ) -> MemberReport:
        """Read the members that do not serve, and where they all disagree. One that cannot be read is told, and says nothing about
        any key; the error is raised where ``must_answer`` says so."""
        if not self.several:
            return MemberReport((serving,))
        members, failed = [serving], list(reached.before)
        tried = {connection.priority for connection, _error in failed} | {serving.connection.priority}
        for connection in connections_of(self.known, self.group):
            if connection.priority in tried:
                continue
            try:
                with reach(connection, self.known, self.database, self.login, read_write=False) as other:
                    members.append(self.read(other, scope))
            except KeyfleetError as error:
                if must_answer(connection, error):
                    raise
                failed.append((connection, error))
                self.context.warn(f"group '{self.group.name}': connection {connection} could not be compared: {error.message}")
        members.sort(key=lambda member: member.connection.priority)
        unread = tuple({**connection.shown(), "code": error.code, "error": error.message} for connection, error in failed)
        found = compare_members([member.keys for member in members])
        return MemberReport(tuple(members), members.index(serving), unread, tuple(found))
