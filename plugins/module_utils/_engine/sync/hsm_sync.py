# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""hsm_sync: every key of an HSM that the registry lacks becomes a virtual key. Only adds, unless told by name to do more.

All tokens are read before the first record is written, and every record is written in one transaction.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

from ..._cryptoki.certificates import read_certificates
from ..._cryptoki.objects import read_inventory
from ..._cryptoki.session import Session
from ..._model.errors import InputError, KeyfleetError
from ..._model.export_document import export_document
from ..._model.keys.layout import EVIDEN
from ..._model.keys.misfits import Misfit, misfits
from ..._model.keys.objects import Key, group_keys
from ..._model.keys.states import DESTROYED
from ..._model.listing import listed_sync
from ..._model.plan import Context, Outcome
from ..._model.quoting import listed
from ..._model.recall import Recall
from ..._model.records import GroupRecord, TokenRecord, VirtualKey, options_of
from ..._model.sync_request import SyncRequest
from ..._registry import instances as table
from ..._registry import pending_keys, pending_layouts, virtual_keys
from ..._registry.database import Database, open_database
from ..files.softhsm import hidden_objects
from ..members.comparison import MemberReport, Members
from ..members.coverage import Gap, gaps_of, judge
from ..members.leaving import may_be_gone, tokens_of, would_be_lost
from ..members.repair import Repair, Repairs
from ..tokens.choice import NOT_YET_REGISTERED, chosen_tokens, find_instance
from ..tokens.connection import Target, open_target, target_of
from ..tokens.serving import Connection, check_pin, connections_of, find_group, first_reachable
from ..virtual_keys.addresses import Addresses
from ..virtual_keys.contents import TokenContents
from ..virtual_keys.scope import group_scope, token_scope
from .export_file import plan_export
from .outcome import Written, outcome_of
from .plan import SyncPlan, plan_sync
from .records import recall, write
from .relabel import Relabel, Relabelled, not_attempted, predicted, untouched


def converge(request: SyncRequest, context: Context) -> Outcome:
    """hsm_sync. A token that cannot be read ends the run with nothing recorded. Raises :class:`KeyfleetError`."""
    outcome = _converged(request, context)
    outcome.values = listed_sync(outcome.values, request.results)
    return outcome


def _converged(request: SyncRequest, context: Context) -> Outcome:
    """With every list whole."""
    try:
        with open_database(request.registry, run=context.run, check_mode=context.check_mode, for_writing=True) as database:
            way = _GroupSync if request.connection.group else _InstanceSync
            sync = way(request, context, database)
            try:
                return sync.converge()
            except KeyfleetError as error:
                error.changed = error.changed or sync.touched
                raise
    except KeyfleetError as error:
        if context.check_mode and error.code in NOT_YET_REGISTERED:
            context.warn(f"{error.message} In check mode there is nothing to compare yet.")
            return outcome_of([], Written([]), Addresses([]))
        raise


class _Sync(ABC):
    def __init__(self, request: SyncRequest, context: Context, database: Database) -> None:
        self.request = request
        self.context = context
        self.database = database
        self.known = table.all_instances(database)
        self.addresses = Addresses(self.known)
        self.touched = False  # whether anything was changed so far

    def tell(self, plan: SyncPlan) -> SyncPlan:
        for text in plan.warnings:
            self.context.warn(text)
        return plan

    def note(self, changed: bool) -> None:
        """What is done stays done, whatever fails after it."""
        self.touched = self.touched or (changed and not self.context.check_mode)

    @abstractmethod
    def records(self, plan: SyncPlan) -> Sequence[VirtualKey]:
        """Those that count in the plan's scope, as they are now."""

    def write(self, plans: Sequence[SyncPlan], document: Callable[[], Mapping[str, Any]]) -> Written:
        """Every record in one transaction, then the file; it is looked at before anything is committed.

        In check mode the registry is a copy in memory, so that what is planned is what would be. A run that dies before the file
        is written is mended by the next.
        """
        path, memory = self.request.export, self.request.recall
        due = bool(path or memory) or any(plan.changes.any for plan in plans)
        with self.database.transaction() if due else nullcontext():
            done = [write(self.database, self.addresses, plan, self.context) if due else plan.changes for plan in plans]
            recalled = recall(self.database, self.addresses, plans[0], self.records(plans[0]), memory) if memory else Recall()
            found = document() if len(plans) == 1 else None
            export = plan_export(path, found) if path and found else None
        self.note(bool(recalled.changes) or any(changes.any for changes in done))
        if export is not None and not self.context.check_mode:
            try:
                export.write()
            except KeyfleetError as error:
                error.message += " The records are saved; run again once the cause is fixed." if self.touched else ""
                raise
            self.note(export.step.changes)
        return Written(done, found, export, recalled)


class _InstanceSync(_Sync):
    """The keys of an instance's tokens that are in no group. Those that a group has are known."""

    def converge(self) -> Outcome:
        plans: list[SyncPlan] = []
        targets = self._targets()
        for token, target in targets:
            with open_target(target, self.database, read_write=False) as session:
                keys = group_keys(read_inventory(session).objects)
                pending = frozenset(pending_keys.of_token(self.database, token.id or 0))
                hidden = hidden_objects(session.token.model, session.token.serial)
                contents = TokenContents(str(session.token), keys, pending, hidden, self._misfits(session, target, keys))
                scope, slot = token_scope(self.database, token.id), session.token.slot_id
            self.addresses.seen(token.id, slot)
            plans.append(self.tell(plan_sync(contents, scope, refresh=self.request.refresh, prune=self.request.prune)))
        written = self.write(plans, lambda: self._document(targets[0][0], plans[0]))
        if not self.request.relabel:
            self._tell_misfits(plans)
            return outcome_of(plans, written, self.addresses)
        return outcome_of(plans, written, self.addresses, relabelled=self._relabelled(plans, targets))

    def _misfits(self, session: Session, target: Target, keys: Sequence[Key]) -> tuple[Misfit, ...]:
        if target.layout != EVIDEN:
            return ()
        notes = pending_layouts.of_token(self.database, target.token_id or 0)
        return tuple(misfits(keys, read_certificates(session).names, notes))

    def _tell_misfits(self, plans: Sequence[SyncPlan]) -> None:
        for plan in plans:
            labels = list(dict.fromkeys(misfit.key.label for misfit in plan.contents.misfits))
            if labels:
                self.context.warn(
                    f"{plan.contents.token}: the public halves or certificates of {listed(labels)} are not laid out for the Eviden server "
                    "(layout: eviden), which may not be able to use these keys. repair: layout relabels them."
                )

    def _relabelled(self, plans: Sequence[SyncPlan], targets: Sequence[tuple[TokenRecord, Target]]) -> list[Relabelled]:
        """After the records are written: they tell the public keys, too. Tokens that need nothing are not opened again."""
        done = [predicted(plan.contents.misfits, plan.contents.token) for plan in plans]
        if self.context.check_mode:
            return done
        for number, (plan, (_token, target)) in enumerate(zip(plans, targets, strict=True)):
            found = plan.contents.misfits
            if broken := next((before for before in done[:number] if before.broken), None):
                done[number] = not_attempted(found, broken)
            elif done[number].done or pending_layouts.of_token(self.database, target.token_id or 0):
                done[number] = self._relabelled_on(target, found)
                self.note(bool(done[number].done) or done[number].touched)
        return done

    def _relabelled_on(self, target: Target, found: Sequence[Misfit]) -> Relabelled:
        """A token that fails is one entry of the answer among others: tokens before it may have been changed."""
        try:
            with open_target(target, self.database, read_write=True) as session:
                return Relabel(session, self.database, target.token_id or 0).run()
        except KeyfleetError as error:
            failed = untouched(found, error)
            if not failed.broken:  # only a note of a run that was cut off was to be taken back
                raise
            return failed

    def _targets(self) -> list[tuple[TokenRecord, Target]]:
        asked = self.request.connection
        record = find_instance(self.known, asked.instance or "", self.database.path)
        tokens = chosen_tokens(record, asked.selector)
        problems = []
        if len(tokens) > 1 and asked.login.option:
            problems.append(
                f"pin: instance '{record.name}' has several tokens, and one PIN is not tried on all: say which with token_label"
            )
        if len(tokens) > 1 and self.request.export:
            problems.append(
                f"export: instance '{record.name}' has several tokens: say which with token_label, and give each a file of its own"
            )
        if len(tokens) > 1 and self.request.recall:
            problems.append(f"recall: instance '{record.name}' has several tokens, and a document is of one: say which with token_label")
        elif self.request.recall and self.request.recall.token != options_of(record, tokens[0]):
            problems.append(f"recall: is the document of another token than that of instance '{record.name}' that is read")
        if self.request.relabel and record.layout != EVIDEN:
            problems.append(f"repair: instance '{record.name}' has layout: {record.layout}: declare layout: eviden with hsm_instance first")
        if problems:
            raise InputError(problems)
        return [(token, target_of(self.known, record, token, asked.login)) for token in tokens]

    def records(self, plan: SyncPlan) -> Sequence[VirtualKey]:
        return token_scope(self.database, plan.scope.token_id).records

    def _document(self, token: TokenRecord, plan: SyncPlan) -> Mapping[str, Any]:
        record = find_instance(self.known, self.request.connection.instance or "", self.database.path)
        scope = {"instance": record.name, **options_of(record, token)}
        records = self.records(plan)
        there = {key.name for key in plan.contents.keys}
        # A group's key is looked for by its whole name: how it is called elsewhere is the group's matter.
        absent = {record.name for record in records if record.group_id is not None and record.state != DESTROYED} - there
        absent |= {record.name for record in plan.missing}
        repeated = plan.contents.repeated_labels()
        return export_document(scope, records, self.addresses.of, uri=self.addresses.uri, absent=absent, repeated=repeated)


class _GroupSync(_Sync):
    """The virtual keys of a group, as the first connection that can be reached has them."""

    def __init__(self, request: SyncRequest, context: Context, database: Database) -> None:
        super().__init__(request, context, database)
        self.group: GroupRecord = find_group(database, request.connection.group or "")
        check_pin(self.group, request.connection.login)
        self.leaving = tokens_of(request.leaving, self.known, self.group, database)

    def converge(self) -> Outcome:
        login = self.request.connection.login
        members = Members(self.group, self.known, self.database, login, self.context)
        with first_reachable(self.group, self.database, login, self.context, read_write=False, may_be_gone=self._is_gone) as reached:
            token_id = reached.target.token_id
            self.addresses.seen(token_id, reached.session.token.slot_id)
            scope = group_scope(self.database, self.group, token_id or 0)
            serving = members.read(reached, scope)
        report = self._without_gaps(members.compare(serving, reached, scope, self._has_to_answer))
        refresh, prune, memory = self.request.refresh, self.request.prune, self.request.recall
        claimed = memory.claims if memory is not None else lambda record: False
        others, elsewhere = report.others, report.elsewhere
        plan = self.tell(
            plan_sync(serving.contents, scope, refresh=refresh, prune=prune, others=others, elsewhere=elsewhere, claimed=claimed)
        )
        written = self.write([plan], lambda: self._document(plan, report))
        repairs, gap = Repairs(), None
        if self.request.repair or self.request.require != "none":
            repair = Repair(report, self.database, self.context)
            rules = repair.rules(self.group, group_scope(self.database, self.group, token_id or 0), plan.comparison.matches)
            made = repair.run(rules) if self.request.repair else None
            repairs = made or repairs
            self.note(bool(repairs.repaired) or repairs.left)
            gap = self._gap(report, gaps_of(repair, rules, made, self._going(report)) if self.request.require != "none" else [])
        lost = []
        if self.leaving:
            count = len(self.group.members)
            lost = would_be_lost(report, plan.missing, repairs, self.leaving, count, copies=self.request.repair)
        outcome = outcome_of([plan], written, self.addresses, served_by=serving.shown, report=report, repairs=repairs, lost=lost)
        if gap is not None and outcome.failure is None:
            outcome.failure = gap
            del outcome.values["document"]  # of a thousand keys, in the midst of an error
            outcome.failure_code = "not_covered"
        return outcome

    def _gap(self, report: MemberReport, gaps: Sequence[Gap]) -> str | None:
        going = {member.priority for member in connections_of(self.known, self.group) if member.token.id in self.leaving}
        unread = [entry for entry in report.unread if entry["priority"] not in going]
        return judge(self.group.name, gaps, unread, self.request.require, self.context.warn)

    def _is_gone(self, connection: Connection, error: KeyfleetError) -> bool:
        return connection.token.id in self.leaving and may_be_gone(error)

    def _has_to_answer(self, connection: Connection, error: KeyfleetError) -> bool:
        """What a member that leaves may have is not given up on account of a wrong PIN."""
        return connection.token.id in self.leaving and not may_be_gone(error)

    def _going(self, report: MemberReport) -> set[int]:
        return {number for number, member in enumerate(report.members) if member.target.token_id in self.leaving}

    def _without_gaps(self, report: MemberReport) -> MemberReport:
        """Nothing is copied to a member that leaves."""
        going = self._going(report)
        found = [replace(row, lack=[number for number in row.lack if number not in going]) for row in report.found]
        return replace(report, found=tuple(found))

    def records(self, plan: SyncPlan) -> Sequence[VirtualKey]:
        return virtual_keys.of_group(self.database, self.group.id or "")

    def _document(self, plan: SyncPlan, report: MemberReport) -> Mapping[str, Any]:
        members = connections_of(self.known, self.group)
        connections = [{"instance": member.instance.name, **options_of(member.instance, member.token)} for member in members]
        group = {
            "name": self.group.name,
            "description": self.group.description,
            "connections": connections,
            "apply_changes": self.group.apply_changes,
            "key_scan": self.group.key_scan,
        }
        records = self.records(plan)
        # What another member has is still the group's: the file stays the same whichever member serves.
        absent = {record.name for record in (plan.gone if len(self.group.members) > 1 else plan.missing)}
        repeated = report.repeated_labels()
        return export_document({"group": group}, records, self.addresses.of, uri=self.addresses.uri, absent=absent, repeated=repeated)
