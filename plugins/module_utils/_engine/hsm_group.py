# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""hsm_group: make, change and remove groups. All of it is the registry's; no HSM is asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .._model.errors import InputError, Refused, RegistryError, TokenError
from .._model.groups.spec import ConnectionSpec, GroupRequest, selector_options
from .._model.plan import CHANGE, CREATE, DELETE, KEEP, Context, Outcome, Step, diff_of
from .._model.quoting import listed
from .._model.records import GroupRecord, InstanceRecord, TokenRecord, is_same_token, options_of
from .._registry import groups, virtual_keys
from .._registry import instances as table
from .._registry.database import Database, open_database, registry_exists
from .tokens.choice import NOT_YET_REGISTERED, chosen_token, find_instance

_TO_COME = "In check mode it is taken for one that an earlier task of this play would register."


@dataclass(frozen=True)
class _Registered:
    """A token and its instance, as the registry has them."""

    instance: InstanceRecord
    token: TokenRecord

    def __str__(self) -> str:
        return f"token '{self.token.named()}' of instance '{self.instance.name}'"


@dataclass(frozen=True)
class _Member:
    """One declared connection. ``found`` is None for a token that check mode takes as one to come."""

    spec: ConnectionSpec
    found: _Registered | None = None

    @property
    def token_id(self) -> int | None:
        return self.found.token.id if self.found is not None else None


def converge(request: GroupRequest, context: Context) -> Outcome:
    """hsm_group. Raises :class:`KeyfleetError`, and then nothing was changed."""
    if request.absent:
        return _remove(request, context)
    try:
        with (
            open_database(request.registry, run=context.run, check_mode=context.check_mode, for_writing=True) as database,
            database.transaction(),
        ):
            return _save(database, request, context)
    except RegistryError as error:
        if error.code != "registry_missing":
            raise
        if request.problems:
            raise InputError(request.problems) from None
        if not context.check_mode:
            raise
        context.warn(f"{error.message} {_TO_COME}")
        return _outcome([], None, request, [_Member(entry) for entry in request.connections])


def _save(database: Database, request: GroupRequest, context: Context) -> Outcome:
    """Look at everything under the write lock, and write what changes. Raises :class:`InputError`, :class:`Refused`."""
    known = table.all_instances(database)
    members, found, to_come = _members(known, request, context)
    if request.problems or found:
        raise InputError([*request.problems, *found])
    existing = groups.named(database, request.name)
    _check_scan(existing, request)
    if existing is not None and not request.exclusive:
        members = _added_to(known, existing, members)
    for text in to_come:
        context.warn(f"{text} {_TO_COME}")
    outcome = _outcome(known, existing, request, members)
    if outcome.changed and existing is not None:
        _tell_of_left_keys(database, known, existing, members, context)
    if outcome.changed and not context.check_mode:
        groups.save(database, _record(existing, request, members))
        outcome.values = _values(groups.named(database, request.name), members)
    return outcome


def _members(known: Sequence[InstanceRecord], request: GroupRequest, context: Context) -> tuple[list[_Member], list[str], list[str]]:
    """The connections in their order, every problem, and what check mode takes as to come."""
    members: list[_Member] = []
    problems: list[tuple[int, str]] = []
    to_come: list[str] = []
    for entry in request.connections:
        try:
            found = _token_of(known, entry, request.registry)
        except TokenError as error:
            option, _colon, _rest = error.message.partition(": ")
            names_option = option in ("instance", "token_label", "token_serial", "slot")
            text = f"{entry.where}{'.' if names_option else ': '}{error.message}"
            if context.check_mode and error.code in NOT_YET_REGISTERED:
                to_come.append(text)
                members.append(_Member(entry))
            else:
                problems.append((entry.index, text))
        else:
            members.append(_Member(entry, found))
    problems += _repeated(members)
    return members, [text for _index, text in sorted(problems)], to_come


def _added_to(known: Sequence[InstanceRecord], existing: GroupRecord, members: Sequence[_Member]) -> list[_Member]:
    """The connections that the group has, in their order, and behind them those of ``members`` that it has not."""
    kept = [_Member(ConnectionSpec(0, found.instance.name), found) for _token_id, found in _registered(known, existing)]
    return [*kept, *(member for member in members if member.token_id not in existing.members)]


def _token_of(known: Sequence[InstanceRecord], entry: ConnectionSpec, registry: str) -> _Registered:
    """The registered token that an entry means. Raises :class:`TokenError`."""
    record = find_instance(known, entry.instance, registry)
    return _Registered(record, chosen_token(record, entry.selector))


def _repeated(members: Sequence[_Member]) -> list[tuple[int, str]]:
    """Entries that name a token which an entry above names already, by their index."""
    written = sorted(members, key=lambda member: member.spec.index)
    problems = []
    for place, member in enumerate(written):
        for above in written[:place]:
            if member.found is None or above.found is None:
                continue
            one, two = member.found, above.found
            if is_same_token(one.instance, one.token, two.instance, two.token, any_model=False):
                text = f"{member.spec.where}: names the same token as {above.spec.where}: {member.found}"
                if member.token_id != above.token_id:
                    text += f" and {above.found} both have serial {member.found.token.serial}"
                problems.append((member.spec.index, f"{text}: name it once"))
                break
    return problems


def _check_scan(existing: GroupRecord | None, request: GroupRequest) -> None:
    if existing is None or request.key_scan in (None, existing.key_scan):
        return
    was, asked = existing.key_scan, request.key_scan
    raise Refused(
        f"group '{request.name}': refused, key_scan is fixed once a group is saved. It is '{was}', and '{asked}' is asked for. Leave "
        f"key_scan out or say key_scan: {was}. For the other mode declare a new group, or make this one absent and declare it anew.",
        code="key_scan_fixed",
        details={"key_scan": was, "asked": asked},
    )


def _tell_of_left_keys(
    database: Database, known: Sequence[InstanceRecord], existing: GroupRecord, members: Sequence[_Member], context: Context
) -> None:
    """Virtual keys stay in the group when the member on which they were found leaves it."""
    kept = {member.token_id for member in members}
    keys = virtual_keys.of_group(database, existing.id) if existing.id is not None else []
    for token_id, left in _registered(known, existing):
        count = sum(key.token_id == token_id for key in keys)
        if count and token_id not in kept:
            words = f"{count} virtual keys were" if count > 1 else "1 virtual key was"
            context.warn(f"group '{existing.name}': {words} last found on {left}, which is no member any more: run hsm_sync.")


def _registered(known: Sequence[InstanceRecord], group: GroupRecord) -> list[tuple[int, _Registered]]:
    """The members of a group by their ids, in priority order."""
    tokens = {token.id: _Registered(instance, token) for instance in known for token in instance.tokens}
    return [(token_id, tokens[token_id]) for token_id in group.members]


def _record(existing: GroupRecord | None, request: GroupRequest, members: Sequence[_Member]) -> GroupRecord:
    before = existing or GroupRecord(request.name)
    return replace(
        before,
        description=request.description,
        apply_changes=request.apply_changes,
        key_scan=request.key_scan or before.key_scan,
        members=tuple(member.token_id for member in members if member.token_id is not None),
    )


def _outcome(known: Sequence[InstanceRecord], existing: GroupRecord | None, request: GroupRequest, members: Sequence[_Member]) -> Outcome:
    record = _record(existing, request, members)
    kept = dict(_registered(known, existing)) if existing else {}
    # A new member stands in the diff as it was declared, so that check mode shows the same for one that is not registered yet.
    rows = [_named(kept[member.token_id]) if member.token_id in kept else _as_declared(member.spec) for member in members]
    after = _declared(record, rows)
    if existing is None:
        step = Step(CREATE, f"group {request.name}", None, after)
    else:
        same = record == existing and all(member.found for member in members)
        step = Step(KEEP if same else CHANGE, f"group {request.name}", _before(known, existing), after)
    return Outcome(changed=step.changes, diff=diff_of([step]), values=_values(record, members))


def _as_declared(entry: ConnectionSpec) -> dict[str, Any]:
    return {"instance": entry.instance, **selector_options(entry.selector)}


def _named(member: _Registered) -> dict[str, Any]:
    return {"instance": member.instance.name, **options_of(member.instance, member.token)}


def _declared(record: GroupRecord, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "description": record.description,
        "connections": [{"priority": priority, **row} for priority, row in enumerate(rows, 1)],
        "apply_changes": record.apply_changes,
        "key_scan": record.key_scan,
    }


def _before(known: Sequence[InstanceRecord], existing: GroupRecord) -> dict[str, Any]:
    return _declared(existing, [_named(member) for _token_id, member in _registered(known, existing)])


def _values(record: GroupRecord | None, members: Sequence[_Member]) -> dict[str, Any]:
    rows = []
    for member in members:
        selector = member.spec.selector
        label = selector.value if selector is not None and selector.kind == "label" else None
        rows.append(_row(member.found) if member.found else {"instance": member.spec.instance, "token_label": label, "slot": None})
    return {"group": _describe(record, rows), "forgotten": []}


def _row(member: _Registered) -> dict[str, Any]:
    return {"instance": member.instance.name, "token_label": member.token.label, "slot": member.token.slot}


def _describe(record: GroupRecord | None, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """A group as hsm_group returns it."""
    if record is None:
        return None
    return {
        "id": record.id,
        "name": record.name,
        "description": record.description,
        "connections": [{"priority": priority, **row} for priority, row in enumerate(rows, 1)],
        "apply_changes": record.apply_changes,
        "key_scan": record.key_scan,
        "created_at": record.created_at,
        "updated_at": record.updated_at,
    }


def _remove(request: GroupRequest, context: Context) -> Outcome:
    name = request.name
    if request.problems:
        raise InputError(request.problems)
    nothing = Outcome(changed=False, values={"group": None, "forgotten": []})
    if not registry_exists(request.registry):
        return nothing
    with (
        open_database(request.registry, run=context.run, check_mode=context.check_mode, for_writing=True) as database,
        database.transaction(),
    ):
        existing = groups.named(database, name)
        if existing is None or existing.id is None:
            return nothing
        labels = [key.label for key in virtual_keys.of_group(database, existing.id)]
        if labels and not request.force:
            raise Refused(
                f"group '{name}': refused, {len(labels)} virtual keys are in it: {listed(labels)}. Make those keys absent first, or say "
                "force: true, which removes the records and never the keys in the HSM.",
                code="in_use",
                details={"virtual_keys": labels},
            )
        known = table.all_instances(database)
        step = Step(DELETE, f"group {name}", _before(known, existing), None)
        rows = [_row(member) for _token_id, member in _registered(known, existing)]
        virtual_keys.forget_group(database, existing.id)
        groups.remove(database, existing)
        return Outcome(changed=True, diff=diff_of([step]), values={"group": _describe(existing, rows), "forgotten": labels})
