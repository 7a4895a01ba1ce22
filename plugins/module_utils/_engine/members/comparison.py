# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""The members of a group side by side: who has which key, and copies for those that lack one, where that was asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from ..._model.errors import KeyfleetError
from ..._model.groups.member_comparison import Disagreement, Held, compare_members
from ..._model.keys.objects import Key, KeyName, group_keys
from ..._model.plan import CREATE, Context, Step
from ..._model.records import GroupRecord, InstanceRecord, VirtualKey
from ..._model.scope import Scope
from ..._model.tokens.connection_request import Login
from ..._registry import pending_keys
from ..._registry.database import Database
from ..tokens.connection import Target
from ..tokens.serving import Connection, Reached, connections_of, reach
from ..virtual_keys.comparison import Met
from ..virtual_keys.scope import group_scope
from ..virtual_keys.seen import Seen, may_be_pruned
from .copy_rules import CopyRules
from .reading import held
from .reading import report as rows_of


@dataclass
class _Member:
    """A member whose keys were read."""

    connection: Connection
    target: Target
    shown: dict[str, Any]
    seen: Seen
    keys: list[Held]


@dataclass
class MemberReport:
    """``rows`` are the keys on which the members disagree, ``unread`` the members that could not be read."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    unread: list[dict[str, Any]] = field(default_factory=list)
    repaired: list[dict[str, Any]] = field(default_factory=list)
    not_repaired: list[dict[str, Any]] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    found: list[Disagreement] = field(default_factory=list)


class MemberSync:
    """Reads the members one after the other, each in a session of its own: never two logins at once."""

    def __init__(
        self,
        group: GroupRecord,
        known: Sequence[InstanceRecord],
        database: Database,
        login: Login,
        context: Context,
    ) -> None:
        self.group = group
        self.known = known
        self.database = database
        self.login = login
        self.context = context
        self.several = len(group.members) > 1
        self._members: list[_Member] = []
        self._scope = Scope()
        self._serving = 0
        self._unread = False

    def read_serving(self, reached: Reached, scope: Scope) -> Seen:
        """What is on the member that serves, while its session is open."""
        self._scope = scope
        self._serving = reached.connection.priority
        return self._read(reached)

    def _read(self, reached: Reached) -> Seen:
        """The notes of dead runs are read while the token is held: later ones are of runs that are at work."""
        keys = group_keys(reached.inventory.objects)
        seen = Seen(str(reached.session.token), keys, frozenset(pending_keys.of_token(self.database, reached.target.token_id or 0)))
        compared = [key for key in keys if (key.main.label or key.main.key_id) and key.main.label not in seen.pending]
        if self._scope.only_own:
            compared = [key for key in compared if self._is_own(key)]
        found = held(reached.session, reached.inventory, compared) if self.several else []
        self._members.append(_Member(reached.connection, reached.target, reached.shown, seen, found))
        return seen

    def _is_own(self, key: Key) -> bool:
        own = self._own
        label = (key.main.kind, key.main.label)
        return key.name in own or label in own or (key.fingerprint is not None and key.fingerprint in own)

    @cached_property
    def _own(self) -> set[object]:
        """What the group's own keys are known by: whole names, labels, fingerprints."""
        records = [record for record in self._scope.records if self._scope.owns(record)]
        by_label = {(record.kind, record.label) for record in records if record.label}
        return {record.name for record in records} | by_label | {record.fingerprint for record in records if record.fingerprint}

    def read_others(self, reached: Reached) -> MemberReport:
        """Every member, and on which keys they disagree. A member that cannot be read is told, and says nothing about any key."""
        report = MemberReport()
        if not self.several:
            return report
        failed = list(reached.before)
        tried = {connection.priority for connection, _error in failed} | {reached.connection.priority}
        for connection in connections_of(self.known, self.group):
            if connection.priority in tried:
                continue
            try:
                with reach(connection, self.known, self.database, self.login, read_write=False) as other:
                    self._read(other)
            except KeyfleetError as error:
                failed.append((connection, error))
                self.context.warn(f"group '{self.group.name}': connection {connection} could not be compared: {error.message}")
        report.unread = [{**connection.shown(), "code": error.code, "error": error.message} for connection, error in failed]
        self._members.sort(key=lambda member: member.connection.priority)
        report.found = compare_members([member.keys for member in self._members])
        report.rows = rows_of(report.found, [member.shown for member in self._members])
        self._unread = bool(failed)
        return report

    def gone_everywhere(self, missing: Sequence[VirtualKey], context: Context | None = None) -> list[VirtualKey]:
        """The records whose key no member has. A member that could not be read may have any of them. With ``context`` it is told
        what is kept."""
        if not missing:
            return []
        if self.several and self._unread:
            if context is not None:
                context.warn(
                    f"group '{self.group.name}': nothing was pruned, because a member could not be read and may have the keys that are "
                    "missing."
                )
            return []
        serving = next(member.seen for member in self._members if member.connection.priority == self._serving)
        others = [member.seen for member in self._members if member.seen is not serving]
        return may_be_pruned(missing, serving, others, context, self.group.name)

    def repeated_labels(self) -> set[str]:
        """Labels that stand more than once on any member."""
        return {label for member in self._members for label in member.seen.repeated_labels()}

    def repair(self, report: MemberReport, met: Sequence[Met]) -> None:
        """``repair: wrap``: copy what a member lacks from the first one that has it. What differs is never overwritten.

        ``met`` are the group's records and the keys of the serving member that they point at.
        """
        if not any(row.lack for row in report.found):
            return
        around = [group_scope(self.database, self.group, token_id) for token_id in self.group.members]
        served = {number for number, member in enumerate(self._members) if member.connection.priority == self._serving}
        rules = CopyRules(self._scope, met, around, served)
        orders: dict[tuple[int, int], list[tuple[Disagreement, KeyName]]] = {}
        for row in report.found:
            reason = rules.refusal(row) if row.lack else None
            for lacking in row.lack:
                if reason is not None or not row.have:
                    text = reason or "no member has it exactly once, so it is not clear which one to copy"
                    report.not_repaired.append(self._entry(row, None, lacking, code="not_copied", reason=text))
                    continue
                source = row.have[0]
                label, key_id = row.renamed.get(source, (row.label, row.key_id))
                orders.setdefault((source, lacking), []).append((row, (row.kind, key_id, label)))
        for (source, lacking), wanted in sorted(orders.items(), key=lambda item: item[0]):
            self._copy(report, source, lacking, wanted)

    def _copy(self, report: MemberReport, source: int, lacking: int, wanted: Sequence[tuple[Disagreement, KeyName]]) -> None:
        from .copy import copy_keys
        from .copy_sides import PRESENT  # most runs only read

        try:
            copied = copy_keys(
                self._members[source].target,
                self._members[lacking].target,
                [name for _row, name in wanted],
                self.database,
                check_mode=self.context.check_mode,
            )
        except KeyfleetError as error:
            report.not_repaired += [self._entry(row, source, lacking, code=error.code, reason=error.message) for row, _name in wanted]
            return
        for (row, _name), answer in zip(wanted, copied, strict=True):
            if not answer.done:
                report.not_repaired.append(self._entry(row, source, lacking, code=answer.code, reason=answer.reason))
                continue
            if answer.code == PRESENT:  # another run was quicker
                continue
            report.repaired.append(self._entry(row, source, lacking))
            where = self._members[lacking].connection
            after = {"id": row.key_id.hex(), "type": row.type, "from": str(self._members[source].connection)}
            report.steps.append(Step(CREATE, f"key {row.label} on connection {where}", None, after))

    def _entry(self, row: Disagreement, source: int | None, lacking: int, **more: Any) -> dict[str, Any]:
        shown_from = self._members[source].shown if source is not None else None
        return {"label": row.label, "id": row.key_id.hex(), "from": shown_from, "to": self._members[lacking].shown, **more}
