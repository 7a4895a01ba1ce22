# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""The members of a group side by side: who has which key, and copies for those that lack one, where that was asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from .._model.errors import KeyfleetError
from .._model.key_objects import Key, KeyName, group_keys
from .._model.key_states import COMPROMISED, DESTROYED
from .._model.key_types import PUBLIC, SECRET
from .._model.member_comparison import Disagreement, Held, compare_members
from .._model.records import GroupRecord, InstanceRecord, VirtualKey
from .._registry import pending_keys
from .._registry.database import Database
from .connection import Target
from .members import held
from .members import report as rows_of
from .plan import CREATE, Context, Step
from .scope import Scope
from .serving import Connection, Reached, connections_of, reach


@dataclass
class _Member:
    """A member whose keys were read."""

    connection: Connection
    target: Target
    shown: dict[str, Any]
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
        params: Mapping[str, Any],
        context: Context,
    ) -> None:
        self.group = group
        self.known = known
        self.database = database
        self.params = params
        self.context = context
        self.several = len(group.members) > 1
        self._members: list[_Member] = []
        self._scope = Scope()
        self._serving = 0
        self._unread = False

    def read_serving(self, reached: Reached, keys: Sequence[Key], scope: Scope) -> None:
        """The keys of the member that serves, while its session is open."""
        self._scope = scope
        self._serving = reached.connection.priority
        if self.several:
            self._read(reached, keys)

    def _read(self, reached: Reached, keys: Iterable[Key]) -> None:
        pending = pending_keys.of_token(self.database, reached.target.token_id or 0)
        compared = [key for key in keys if (key.main.label or key.main.key_id) and key.main.label not in pending]
        if self._scope.only_own:
            compared = [key for key in compared if self._is_own(key)]
        found = held(reached.session, reached.inventory, compared)
        self._members.append(_Member(reached.connection, reached.target, reached.shown, found))

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
        failed = [(connection, error) for connection, error in reached.before]
        tried = {connection.priority for connection, _error in failed} | {reached.connection.priority}
        for connection in connections_of(self.known, self.group):
            if connection.priority in tried:
                continue
            try:
                with reach(connection, self.known, self.database, self.params, read_write=False) as other:
                    self._read(other, group_keys(other.inventory.objects))
            except KeyfleetError as error:
                failed.append((connection, error))
                self.context.warn(f"group '{self.group.name}': connection {connection} could not be compared: {error.message}")
        report.unread = [{**connection.shown(), "code": error.code, "error": error.message} for connection, error in failed]
        self._members.sort(key=lambda member: member.connection.priority)
        report.found = compare_members([member.keys for member in self._members])
        report.rows = rows_of(report.found, [member.shown for member in self._members])
        self._unread = bool(failed)
        return report

    def gone_everywhere(self, missing: Sequence[VirtualKey]) -> list[VirtualKey]:
        """The records whose key no member has. A member that could not be read may have any of them."""
        if not missing:
            return []
        if self.several and self._unread:
            self.context.warn(
                f"group '{self.group.name}': nothing was pruned, because a member could not be read and may have the keys that are missing."
            )
            return []
        there: set[object] = set()
        for key in (key for member in self._members for key in member.keys):
            there |= {(key.kind, "label", key.label), (key.kind, "id", key.key_id)}
            there.add((key.kind, "key", key.fingerprint if key.kind != SECRET else None))
        kept = [record for record in missing if not there.isdisjoint(self._known_by(record))]
        if kept:
            listed = ", ".join(f"'{record.label}'" for record in kept[:10]) + (f" and {len(kept) - 10} more" if len(kept) > 10 else "")
            self.context.warn(f"group '{self.group.name}': {listed} not pruned: another member has it, see members.")
        held_back = {record.id for record in kept}
        return [record for record in missing if record.id not in held_back]

    @staticmethod
    def _known_by(record: VirtualKey) -> set[object]:
        """What a member may have the key under; a check value alone is no ground, it has 24 bits."""
        known: set[object] = {(record.kind, "label", record.label)} if record.label else set()
        known |= {(record.kind, "id", record.key_id)} if record.key_id else set()
        return known | ({(record.kind, "key", record.fingerprint)} if record.fingerprint and record.kind != SECRET else set())

    def repair(self, report: MemberReport) -> None:
        """``repair: wrap``: copy what a member lacks from the first one that has it. What differs is never overwritten."""
        orders: dict[tuple[int, int], list[tuple[Disagreement, KeyName]]] = {}
        for row in report.found:
            reason = self._not_to_be_copied(row)
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

    def _not_to_be_copied(self, row: Disagreement) -> str | None:
        """Why a key stays where it is: only what is one of the group's keys now is copied, or a destroyed one would come back."""
        if row.kind == PUBLIC:
            return "it is a public key alone"
        names = {(row.label, row.key_id), *row.renamed.values()}
        own = [record for record in self._scope.records if self._scope.owns(record)]
        states = {record.state for record in own if (record.label, record.key_id) in names}
        if gone := states & {COMPROMISED, DESTROYED}:
            return f"it is {gone.pop()}"
        served = {number for number, member in enumerate(self._members) if member.connection.priority == self._serving}
        if not states and not served & {*row.have, *row.twice}:
            return "the group has no record of it, so it may have been destroyed on purpose: declare it with hsm_key, or remove it there"
        return None

    def _copy(self, report: MemberReport, source: int, lacking: int, wanted: Sequence[tuple[Disagreement, KeyName]]) -> None:
        from .copy_sides import PRESENT  # most runs only read
        from .member_repair import copy_keys

        low = bool(self.params["allow_low_pin_count"])
        try:
            copied = copy_keys(
                self._members[source].target,
                self._members[lacking].target,
                [name for _row, name in wanted],
                self.database,
                check_mode=self.context.check_mode,
                allow_low_pin_count=low,
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
