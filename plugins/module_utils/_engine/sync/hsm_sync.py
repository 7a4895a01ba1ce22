# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""hsm_sync: every key of an HSM that the registry lacks becomes a virtual key. Only adds, unless told by name to do more.

All tokens are read before the first record is written, and every record is written in one transaction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ..._cryptoki.objects import read_inventory
from ..._model.errors import InputError, KeyfleetError, TokenError
from ..._model.export_document import export_document
from ..._model.keys.objects import KeyName, group_keys
from ..._model.keys.states import DESTROYED
from ..._model.plan import Context, Outcome
from ..._model.records import GroupRecord, TokenRecord, VirtualKey
from ..._model.sync_request import SyncRequest
from ..._registry import instances as table
from ..._registry import pending_keys, virtual_keys
from ..._registry.database import Database, open_database
from ..members.comparison import MemberSync
from ..tokens.choice import NOT_YET_REGISTERED, chosen_tokens, find_instance
from ..tokens.connection import Target, open_target, target_of
from ..tokens.serving import check_pin, find_group, first_reachable
from ..virtual_keys.addresses import Addresses
from ..virtual_keys.scope import group_scope, token_scope
from ..virtual_keys.seen import Seen, may_be_pruned
from .export_file import ExportPlan, plan_export
from .outcome import _outcome
from .work import Work, work_of


def converge(request: SyncRequest, context: Context) -> Outcome:
    """hsm_sync. A token that cannot be read ends the run with nothing recorded. Raises :class:`KeyfleetError`."""
    try:
        with open_database(request.registry, run=context.run, check_mode=context.check_mode) as database:
            way = _GroupSync if request.connection.group else _InstanceSync
            return way(request, context, database).converge()
    except KeyfleetError as error:
        if context.check_mode and error.code in NOT_YET_REGISTERED:
            context.warn(f"{error.message} In check mode there is nothing to compare yet.")
            return _outcome([], Addresses([]), None, None, None)
        raise


class _Sync:
    def __init__(self, request: SyncRequest, context: Context, database: Database) -> None:
        self.request = request
        self.context = context
        self.database = database
        self.known = table.all_instances(database)
        self.addresses = Addresses(self.known)

    def write(self, works: Sequence[Work]) -> ExportPlan | None:
        """Every record in one transaction, and what becomes of the exported file, which is looked at before anything is committed.

        In check mode the registry is a copy in memory, so that what is planned is what would be.
        """
        self.records_change = any(work.writes for work in works)
        if not self.records_change and not self.request.export:
            return None
        with self.database.transaction():
            for work in works:
                self._write(work)
            return self.export_plan(works[0]) if self.request.export else None

    def write_file(self, export: ExportPlan | None) -> None:
        """The exported file, after the records: a run that dies in between is mended by the next."""
        if export is None or self.context.check_mode:
            return
        try:
            export.write()
        except KeyfleetError as error:
            error.changed = self.records_change
            error.message += " The records are saved; run again when the cause is mended." if error.changed else ""
            raise

    def _write(self, work: Work) -> None:
        """What another run has done meanwhile is left out of the work: the token's lock is given back."""
        added = virtual_keys.add(self.database, ((self.addresses.of(record), record) for record in work.added))
        work.added = [record for record, is_new in zip(work.added, added, strict=True) if is_new]
        if not (work.adopted or work.refreshed or work.moved or work.pruned):
            return
        now = {record.id: record for record in self.current(work)}
        names: dict[KeyName, str | None] = {record.name: record.id for record in now.values() if work.scope.owns(record)}

        def may(before: VirtualKey, after: VirtualKey | None = None) -> bool:
            free = after is None or names.get(after.name, before.id) == before.id
            if not free or not self._is_still(before, now):
                self.context.warn(f"the record of '{before.label}' was changed by another run meanwhile and left as it is: run again.")
                return False
            if after is not None:
                if names.get(before.name) == before.id:
                    del names[before.name]
                names[after.name] = before.id
            return True

        work.adopted = [change for change in work.adopted if may(change.before, change.after)]
        for before, after, _restored in work.adopted:
            virtual_keys.remove(self.database, self.addresses.of(before), before, "adopt_key")
            virtual_keys.add(self.database, [(self.addresses.of(after), after)])
        wanted = {change.before.id for change in work.refreshed}
        work.refreshed = [change for change in work.refreshed if may(change.before, change.after)]
        refused = wanted - {change.before.id for change in work.refreshed}
        for before, after, restored in work.refreshed:
            details = {name: {"was": old, "is": new} for name, old, new in restored}
            virtual_keys.update(self.database, self.addresses.of(before), after, "refresh_key", restored=details)
        work.moved = [(before, after) for before, after in work.moved if before.id not in refused and may(before)]
        for before, after in work.moved:
            virtual_keys.update(self.database, self.addresses.of(before), after, "move_key", to=self.addresses.of(after))
        work.pruned = [record for record in work.pruned if may(record)]
        for record in work.pruned:
            virtual_keys.remove(self.database, self.addresses.of(record), record, "prune_key")

    def current(self, work: Work) -> list[VirtualKey]:
        """The records that the work is about, as they are now."""
        of_group = virtual_keys.of_group(self.database, work.scope.group_id) if work.scope.group_id is not None else []
        return [*virtual_keys.of_tokens(self.database, [work.scope.token_id or 0]), *of_group]

    @staticmethod
    def _is_still(record: VirtualKey, now: Mapping[str | None, VirtualKey]) -> bool:
        found = now.get(record.id)
        return found is not None and replace(found, key_id=record.key_id, label=record.label, token_id=record.token_id) == record

    def export_plan(self, work: Work) -> ExportPlan:
        raise NotImplementedError


class _InstanceSync(_Sync):
    """The keys of an instance's tokens that are in no group. Those that a group has are known."""

    def converge(self) -> Outcome:
        works: list[Work] = []
        targets = self._targets()
        for token, target in targets:
            with open_target(target, self.database, read_write=False) as session:
                keys = group_keys(read_inventory(session).objects)
                seen = Seen(str(session.token), keys, frozenset(pending_keys.of_token(self.database, token.id or 0)))
                scope, slot = token_scope(self.database, token.id), session.token.slot_id
            self.addresses.seen(token.id, slot)
            work = work_of(seen, scope, self.request.refresh, self.context)
            work.pruned = may_be_pruned(work.comparison.missing, seen, (), self.context) if self.request.prune else []
            works.append(work)
        self.token = targets[0][0]
        export = self.write(works)
        self.write_file(export)
        return _outcome(works, self.addresses, None, None, export)

    def _targets(self) -> list[tuple[TokenRecord, Target]]:
        asked = self.request.connection
        record = find_instance(self.known, asked.instance or "", self.database.path)
        tokens = chosen_tokens(record, asked.selector)
        if not tokens:
            raise TokenError(f"instance '{record.name}' has no tokens: declare them with hsm_instance.", code="token_not_declared")
        problems = []
        if len(tokens) > 1 and asked.login.option:
            problems.append(
                f"pin: instance '{record.name}' has several tokens, and one PIN is not tried on all: say which with token_label"
            )
        if len(tokens) > 1 and self.request.export:
            problems.append(
                f"export: instance '{record.name}' has several tokens: say which with token_label, and give each a file of its own"
            )
        if problems:
            raise InputError(problems)
        return [(token, target_of(self.known, record, token, asked.login)) for token in tokens]

    def export_plan(self, work: Work) -> ExportPlan:
        scope = {"instance": self.request.connection.instance, "token_label": self.token.label}
        records = token_scope(self.database, self.token.id).records
        there = {key.name for key in work.seen.keys}
        # A group's key is looked for by its whole name: how it is called elsewhere is the group's matter.
        absent = {record.name for record in records if record.group_id is not None and record.state != DESTROYED} - there
        absent |= {record.name for record in work.comparison.missing}
        document = export_document(scope, records, self.addresses.of, absent=absent, repeated=work.seen.repeated_labels())
        return plan_export(self.request.export or "", document)


class _GroupSync(_Sync):
    """The virtual keys of a group, as the first connection that can be reached has them."""

    def __init__(self, request: SyncRequest, context: Context, database: Database) -> None:
        super().__init__(request, context, database)
        self.group: GroupRecord = find_group(database, request.connection.group or "")
        check_pin(self.group, request.connection.login)
        self.members = MemberSync(self.group, self.known, self.database, request.connection.login, context)

    def converge(self) -> Outcome:
        members = self.members
        with first_reachable(self.group, self.database, self.request.connection.login, self.context, read_write=False) as reached:
            token_id, served_by = reached.target.token_id, reached.shown
            self.addresses.seen(token_id, reached.session.token.slot_id)
            scope = group_scope(self.database, self.group, token_id or 0)
            seen = members.read_serving(reached, scope)
        report = members.read_others(reached)
        work = work_of(seen, scope, self.request.refresh, self.context)
        if self.request.prune:
            work.pruned = members.gone_everywhere(work.comparison.missing, self.context)
        export = self.write([work])
        self.write_file(export)
        if self.request.repair:
            members.repair(report, work.comparison.met)
        return _outcome([work], self.addresses, served_by, report, export)

    def export_plan(self, work: Work) -> ExportPlan:
        by_id = {token.id: (instance.name, token) for instance in self.known for token in instance.tokens}
        connections = [{"instance": by_id[token_id][0], "token_label": by_id[token_id][1].label} for token_id in self.group.members]
        group = {
            "name": self.group.name,
            "description": self.group.description,
            "connections": connections,
            "apply_changes": self.group.apply_changes,
            "key_scan": self.group.key_scan,
        }
        records = virtual_keys.of_group(self.database, self.group.id or "")
        missing = work.comparison.missing
        # What another member has is still the group's: the file stays the same whichever member serves.
        absent = {record.name for record in (self.members.gone_everywhere(missing) if self.members.several else missing)}
        repeated = self.members.repeated_labels()
        document = export_document({"group": group}, records, self.addresses.of, absent=absent, repeated=repeated)
        return plan_export(self.request.export or "", document)
