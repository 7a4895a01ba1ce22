# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""hsm_sync: every key of an HSM that the registry lacks becomes a virtual key. Only adds, unless told by name to do more.

All tokens are read before the first record is written, and every record is written in one transaction.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from .._cryptoki.objects import read_inventory
from .._model.addresses import prefix_of
from .._model.errors import InputError, KeyfleetError, TokenError
from .._model.export_document import export_document
from .._model.key_objects import Key, KeyName, group_keys
from .._model.records import GroupRecord, InstanceRecord, TokenRecord, VirtualKey
from .._model.uids import uid
from .._registry import instances as table
from .._registry import pending_keys, virtual_keys
from .._registry.database import Database, open_database
from .connection import (
    NOT_YET_REGISTERED,
    Target,
    chosen_tokens,
    connection_problems,
    find_instance,
    open_target,
    target_of,
)
from .export_file import ExportPlan, export_problems, plan_export
from .key_comparison import Comparison, compare
from .key_plan import describe_key, virtual_of
from .member_sync import MemberReport, MemberSync
from .plan import CHANGE, CREATE, DELETE, Context, Outcome, Step, diff_of
from .scope import Scope, group_scope, token_scope
from .serving import check_pin, find_group, first_reachable


class Addresses:
    """The UID of a record: that of its token, with the slot of this moment where the token was read."""

    def __init__(self, known: Sequence[InstanceRecord]) -> None:
        prefixes = prefix_of(known)
        tokens = [(instance, token) for instance in known for token in instance.tokens]
        self._of_token = {token.id: (prefixes[instance.name], token.slot) for instance, token in tokens}

    def seen(self, token_id: int | None, slot: int) -> None:
        self._of_token[token_id] = (self._of_token[token_id][0], slot)

    def of(self, record: VirtualKey) -> str:
        prefix, slot = self._of_token.get(record.token_id, (None, None))
        if prefix is None or slot is None:  # an instance that was never reached: there is no address yet
            return record.key_id_text
        return uid(prefix, slot, record.key_id_text)


@dataclass
class Work:
    """What one token, or the member of a group that serves, makes of the records of a scope."""

    scope: Scope
    comparison: Comparison
    added: list[VirtualKey] = field(default_factory=list)
    adopted: list[VirtualKey] = field(default_factory=list)  # records in no group that become the group's
    known_elsewhere: int = 0
    refreshed: list[tuple[VirtualKey, VirtualKey, list[tuple[str, Any, Any]]]] = field(default_factory=list)
    moved: list[tuple[VirtualKey, VirtualKey]] = field(default_factory=list)
    pruned: list[VirtualKey] = field(default_factory=list)

    @property
    def new(self) -> list[VirtualKey]:
        """What the scope lacked: records that are made, and those that it takes over."""
        return [*self.added, *self.adopted]


def converge(params: Mapping[str, Any], context: Context) -> Outcome:
    """hsm_sync. A token that cannot be read ends the run with nothing recorded. Raises :class:`KeyfleetError`."""
    problems = [*connection_problems(params), *export_problems(params.get("export"))]
    if params.get("repair") and not params.get("group"):
        problems.append("repair: is for the members of a group: give group, or leave it out")
    if problems:
        raise InputError(problems)
    try:
        with open_database(params["registry"], run=context.run, check_mode=context.check_mode) as database:
            way = _GroupSync if params.get("group") else _InstanceSync
            return way(params, context, database).converge()
    except KeyfleetError as error:
        if context.check_mode and error.code in NOT_YET_REGISTERED:
            context.warn(f"{error.message} In check mode there is nothing to compare yet.")
            return _outcome([], Addresses([]), None, None, None)
        raise


class _Sync:
    def __init__(self, params: Mapping[str, Any], context: Context, database: Database) -> None:
        self.params = params
        self.context = context
        self.database = database
        self.known = table.all_instances(database)
        self.addresses = Addresses(self.known)

    def compared(self, keys: Iterable[Key], scope: Scope, token: str) -> Work:
        """What the keys of one token make of the scope's records."""
        token_id = scope.token_id or 0
        keys = self._addressable(keys, token, pending_keys.of_token(self.database, token_id))
        own = [record for record in scope.records if scope.owns(record)]
        loose: dict[KeyName, VirtualKey] = {record.name: record for record in scope.records if not scope.owns(record)}
        work = Work(scope, compare(keys, own))
        for key in work.comparison.added:
            if scope.group is None and key.name in loose:
                work.known_elsewhere += 1  # a group has it
            elif key.name in loose and not scope.only_own:
                work.adopted.append(loose[key.name])
            elif not scope.only_own:
                work.added.append(replace(virtual_of(key, token_id, "hsm_sync"), group_id=scope.group_id))
        for met in work.comparison.met:
            restored = [entry for entry in met.drift if entry[0] in self.params["refresh"]]
            record = met.record
            if restored:
                names = {"id": "key_id", "label": "label"}
                values = {names[name]: getattr(met.key.main, names[name]) for name, _old, _new in restored}
                record = replace(record, **values)
                work.refreshed.append((met.record, record, restored))
            if not scope.is_home(record):
                moved = replace(record, token_id=token_id)
                work.moved.append((record, moved))
        return work

    def _addressable(self, keys: Iterable[Key], token: str, pending: Container[str]) -> list[Key]:
        """Keys that a UID can name, and that no dead run may have left half made. The others are told, not hidden."""
        good: list[Key] = []
        seen: set[KeyName] = set()
        nameless, repeated, unfinished = [], [], []
        for key in keys:
            if not key.main.key_id and not key.main.label:
                nameless.append(str(key.main.handle))
            elif key.main.label in pending:
                unfinished.append(f"'{key.main.label}'")
            elif key.name in seen:
                repeated.append(f"'{key.main.label}'")
            else:
                good.append(key)
            seen.add(key.name)
        if nameless:
            self.context.warn(
                f"{token}: {len(nameless)} keys have neither CKA_ID nor CKA_LABEL and cannot be addressed (handles {', '.join(nameless)})."
            )
        if unfinished:
            self.context.warn(
                f"{token}: a run that was cut off was making {', '.join(unfinished)}: not recorded, run hsm_key with them again."
            )
        if repeated:
            self.context.warn(
                f"{token}: {', '.join(repeated)} stand there more than once with the same CKA_ID and CKA_LABEL; one record each."
            )
        return good

    def prunable(self, work: Work) -> list[VirtualKey]:
        """The records whose key is missing, but for those that a run which was cut off was at work on."""
        pending = pending_keys.of_token(self.database, work.scope.token_id or 0)
        return [record for record in work.comparison.missing if record.label not in pending]

    def write(self, works: Sequence[Work]) -> ExportPlan | None:
        """Every record in one transaction, and what becomes of the exported file, which is looked at before anything is committed.

        In check mode the registry is a copy in memory, so that what is planned is what would be.
        """
        self.records_change = any(work.new or work.refreshed or work.moved or work.pruned for work in works)
        if not self.records_change and not self.params["export"]:
            return None
        with self.database.transaction():
            for work in works:
                self._write(work)
            return self.export_plan() if self.params["export"] else None

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
        virtual_keys.add(self.database, ((self.addresses.of(record), record) for record in work.added))
        if not (work.adopted or work.refreshed or work.moved or work.pruned):
            return
        # The token's lock is given back: what another run has written since is not overwritten by what we read before it.
        now = {record.id: record for record in self.current(work)}
        for record in work.adopted:
            if self._is_still(record, now):
                virtual_keys.remove(self.database, self.addresses.of(record), record, "adopt_key")
                virtual_keys.add(self.database, [(self.addresses.of(record), replace(record, group_id=work.scope.group_id))])
        for before, after, restored in work.refreshed:
            if self._is_still(before, now):
                details = {name: {"was": old, "is": new} for name, old, new in restored}
                virtual_keys.update(self.database, self.addresses.of(before), after, "refresh_key", restored=details)
        for before, after in work.moved:
            if self._is_still(before, now):
                virtual_keys.update(self.database, self.addresses.of(before), after, "move_key", to=self.addresses.of(after))
        for record in work.pruned:
            if self._is_still(record, now):
                virtual_keys.remove(self.database, self.addresses.of(record), record, "prune_key")

    def current(self, work: Work) -> list[VirtualKey]:
        """The records that the work is about, as they are now."""
        of_group = virtual_keys.of_group(self.database, work.scope.group_id) if work.scope.group_id is not None else []
        return [*virtual_keys.of_tokens(self.database, [work.scope.token_id or 0]), *of_group]

    def _is_still(self, record: VirtualKey, now: Mapping[str | None, VirtualKey]) -> bool:
        found = now.get(record.id)
        if found is not None and replace(found, key_id=record.key_id, label=record.label, token_id=record.token_id) == record:
            return True
        self.context.warn(f"the record of '{record.label}' was changed by another run meanwhile and left as it is: run again.")
        return False

    def export_plan(self) -> ExportPlan:
        raise NotImplementedError


class _InstanceSync(_Sync):
    """The keys of an instance's tokens that are in no group. Those that a group has are known."""

    def converge(self) -> Outcome:
        works: list[Work] = []
        targets = self._targets()
        for token, target in targets:
            low = self.params["allow_low_pin_count"]
            with open_target(target, self.database, read_write=False, allow_low_pin_count=low) as session:
                keys = group_keys(read_inventory(session).objects)
                name, slot = str(session.token), session.token.slot_id
            self.addresses.seen(token.id, slot)
            work = self.compared(keys, token_scope(self.database, token.id), name)
            work.pruned = self.prunable(work) if self.params["prune"] else []
            works.append(work)
        self.token = targets[0][0]
        export = self.write(works)
        self.write_file(export)
        return _outcome(works, self.addresses, None, None, export)

    def _targets(self) -> list[tuple[TokenRecord, Target]]:
        params = self.params
        record = find_instance(self.known, params["instance"], self.database.path)
        tokens = chosen_tokens(record, params)
        if not tokens:
            raise TokenError(f"instance '{record.name}' has no tokens: declare them with hsm_instance.", code="token_not_declared")
        problems = []
        if len(tokens) > 1 and (params.get("pin") or params.get("pin_file")):
            problems.append(
                f"pin: instance '{record.name}' has several tokens, and one PIN is not tried on all: say which with token_label"
            )
        if len(tokens) > 1 and params["export"]:
            problems.append(
                f"export: instance '{record.name}' has several tokens: say which with token_label, and give each a file of its own"
            )
        if problems:
            raise InputError(problems)
        return [(token, target_of(self.known, record, token, params)) for token in tokens]

    def export_plan(self) -> ExportPlan:
        scope = {"instance": self.params["instance"], "token_label": self.token.label}
        records = token_scope(self.database, self.token.id).records
        return plan_export(self.params["export"], export_document(scope, records, self.addresses.of))


class _GroupSync(_Sync):
    """The virtual keys of a group, as the first connection that can be reached has them."""

    def __init__(self, params: Mapping[str, Any], context: Context, database: Database) -> None:
        super().__init__(params, context, database)
        self.group: GroupRecord = find_group(database, params["group"])
        check_pin(self.group, params)

    def converge(self) -> Outcome:
        members = MemberSync(self.group, self.known, self.database, self.params, self.context)
        with first_reachable(self.group, self.database, self.params, self.context, read_write=False) as reached:
            token_id, keys = reached.target.token_id, group_keys(reached.inventory.objects)
            name, served_by = str(reached.session.token), reached.shown
            self.addresses.seen(token_id, reached.session.token.slot_id)
            scope = group_scope(self.database, self.group, token_id)
            members.read_serving(reached, keys, scope)
        report = members.read_others(reached)
        work = self.compared(keys, scope, name)
        if self.params["prune"]:
            work.pruned = members.gone_everywhere(self.prunable(work))
        export = self.write([work])
        self.write_file(export)
        if self.params["repair"]:
            members.repair(report)
        return _outcome([work], self.addresses, served_by, report, export)

    def export_plan(self) -> ExportPlan:
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
        return plan_export(self.params["export"], export_document({"group": group}, records, self.addresses.of))


def _record_fields(record: VirtualKey) -> dict[str, Any]:
    return {
        "id": record.key_id.hex(),
        "type": record.type,
        "size": record.size,
        "curve": record.curve,
        "operations": list(record.operations),
    }


def _steps(works: Sequence[Work], addresses: Addresses) -> list[Step]:
    steps: list[Step] = []
    for work in works:
        found = {key.name: describe_key(key) for key in work.comparison.added}
        steps += [Step(CREATE, addresses.of(record), None, found.get(record.name)) for record in work.new]
        for before, after, _restored in work.refreshed:
            was, becomes = {"label": before.label, "id": before.key_id.hex()}, {"label": after.label, "id": after.key_id.hex()}
            steps.append(Step(CHANGE, addresses.of(before), was, becomes))
        for before, after in work.moved:
            steps.append(Step(CHANGE, f"virtual key {after.label}", {"address": addresses.of(before)}, {"address": addresses.of(after)}))
        steps += [Step(DELETE, addresses.of(record), _record_fields(record), None) for record in work.pruned]
    return steps


def _outcome(
    works: Sequence[Work],
    addresses: Addresses,
    served_by: dict[str, Any] | None,
    report: MemberReport | None,
    export: ExportPlan | None,
) -> Outcome:
    added = sorted(addresses.of(record) for work in works for record in work.new)
    missing = sorted(addresses.of(record) for work in works for record in work.comparison.missing)
    drift = _entries((addresses.of(met.record), met.drift) for work in works for met in work.comparison.met)
    steps = _steps(works, addresses)
    if export is not None:
        steps.append(export.step)
    if report is not None:
        steps += report.steps
    return Outcome(
        changed=any(step.changes for step in steps),
        diff=diff_of(steps),
        values={
            "added": added,
            "missing": missing,
            "drift": drift,
            "refreshed": _entries((addresses.of(before), restored) for work in works for before, _after, restored in work.refreshed),
            "pruned": sorted(addresses.of(record) for work in works for record in work.pruned),
            "members": report.rows if report is not None else [],
            "unread": report.unread if report is not None else [],
            "repaired": report.repaired if report is not None else [],
            "not_repaired": report.not_repaired if report is not None else [],
            "summary": {
                "added": len(added),
                "known": sum(len(work.comparison.met) + work.known_elsewhere for work in works),
                "missing": len(missing),
                "drifted": len({entry["uid"] for entry in drift}),
            },
            "served_by": served_by,
        },
    )


def _entries(found: Iterable[tuple[str, Iterable[tuple[str, Any, Any]]]]) -> list[dict[str, Any]]:
    entries = [{"uid": address, "field": name, "virtual": old, "hsm": new} for address, drift in found for name, old, new in drift]
    return sorted(entries, key=lambda entry: (entry["uid"], entry["field"]))
