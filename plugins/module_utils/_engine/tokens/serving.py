# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""A group's connections, and which of them serves: the first by priority that can be reached.

Only what cannot be reached is passed over. A PIN that is refused, a token that was exchanged or is not initialised, and a
mistake in what was declared stop the run: going on with the next HSM would hide them, and split the group's keys.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from ..._cryptoki.objects import Inventory, read_inventory
from ..._cryptoki.session import Session
from ..._model.errors import InputError, KeyfleetError, TokenError, is_unreachable
from ..._model.plan import Context
from ..._model.records import GroupRecord, InstanceRecord, TokenRecord
from ..._model.tokens.connection_request import Login
from ..._registry import groups
from ..._registry import instances as table
from ..._registry.database import Database
from .choice import find_named
from .connection import Target, open_target, target_of


@dataclass(frozen=True)
class Connection:
    """One member of a group. ``priority`` begins with 1."""

    priority: int
    instance: InstanceRecord
    token: TokenRecord

    def shown(self, slot: int | None = None) -> dict[str, Any]:
        """As modules return it. ``slot`` is the one that the token is in now, where that is known."""
        known = self.token.slot if slot is None else slot
        return {"priority": self.priority, "instance": self.instance.name, "token_label": self.token.label, "slot": known}

    def __str__(self) -> str:
        return f"{self.priority} (instance '{self.instance.name}', token '{self.token.named()}')"


@dataclass(frozen=True)
class Reached:
    """An open connection, and all keys of its token. ``before`` are those that were tried in vain, with the reason."""

    connection: Connection
    target: Target
    session: Session
    inventory: Inventory
    before: tuple[tuple[Connection, KeyfleetError], ...] = ()

    @property
    def shown(self) -> dict[str, Any]:
        return self.connection.shown(self.session.token.slot_id)


def find_group(database: Database, name: str) -> GroupRecord:
    """The group called ``name``. Raises :class:`TokenError` that lists those there are."""
    return find_named(groups.all_groups(database), name, database.path, "group", "groups")


def connections_of(known: Sequence[InstanceRecord], group: GroupRecord) -> list[Connection]:
    """The group's members in priority order."""
    tokens = {token.id: (instance, token) for instance in known for token in instance.tokens}
    return [Connection(priority, *tokens[token_id]) for priority, token_id in enumerate(group.members, 1)]


def check_pin(group: GroupRecord, login: Login) -> None:
    """Raises :class:`InputError` for one PIN that would be tried on several tokens."""
    if login.option is not None and len(group.members) > 1:
        raise InputError(
            [
                f"{login.option}: group '{group.name}' has several connections, and one PIN is not tried on all: register each token's own "
                "pin_file with hsm_instance, and leave it out here"
            ]
        )


@contextmanager
def reach(
    connection: Connection,
    known: Sequence[InstanceRecord],
    database: Database,
    login: Login,
    *,
    read_write: bool,
    cut_off: Callable[[Target], bool] | None = None,
) -> Iterator[Reached]:
    """One connection, opened, with all its keys read. ``cut_off`` tells whether objects that were cut off are looked for.

    Raises :class:`KeyfleetError`.
    """
    if connection.token.user_type == "so":
        raise TokenError(
            f"connection {connection} is registered with user_type: so, and the security officer sees no private keys. Register it with "
            "the user's PIN.",
            code="login_needed",
        )
    target = target_of(known, connection.instance, connection.token, login)
    with open_target(target, database, read_write=read_write) as session:
        yield Reached(connection, target, session, read_inventory(session, cut_off=cut_off is not None and cut_off(target)))


@contextmanager
def first_reachable(
    group: GroupRecord,
    database: Database,
    login: Login,
    context: Context,
    *,
    read_write: bool,
    cut_off: Callable[[Target], bool] | None = None,
    may_be_gone: Callable[[Connection, KeyfleetError], bool] = lambda _connection, _error: False,
) -> Iterator[Reached]:
    """The first connection by priority that can be reached, or that ``may_be_gone`` does not say to pass over. Nothing is written before
    it is.

    Raises :class:`TokenError` with every cause (code ``no_connection``) when none can.
    """
    known = table.all_instances(database)
    causes: list[tuple[Connection, KeyfleetError]] = []
    for connection in connections_of(known, group):
        with ExitStack() as stack:
            try:
                reached = stack.enter_context(reach(connection, known, database, login, read_write=read_write, cut_off=cut_off))
            except KeyfleetError as error:
                if not is_unreachable(error) and not may_be_gone(connection, error):
                    error.message = f"group '{group.name}', connection {connection}: {error.message}"
                    error.message += "".join(f" Before that, connection {_cause(*cause)}" for cause in causes)
                    raise
                causes.append((connection, error))
                continue
            for cause in causes:
                context.warn(f"group '{group.name}': connection {_cause(*cause)} Connection {connection} serves.")
            yield Reached(reached.connection, reached.target, reached.session, reached.inventory, tuple(causes))
            return
    raise TokenError(
        f"group '{group.name}': none of its {len(causes)} connections can be reached. "
        + " ".join(f"Connection {_cause(*cause)}" for cause in causes),
        code="no_connection",
        details={"connections": [{**connection.shown(), "code": error.code, "error": error.message} for connection, error in causes]},
    )


def _cause(connection: Connection, error: KeyfleetError) -> str:
    return f"{connection} could not be reached: {error.message.rstrip('.')}."
