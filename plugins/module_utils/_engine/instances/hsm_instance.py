# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""Instances: register, change and remove them; the tokens themselves are :mod:`.token_setup`'s."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ..._cryptoki.provider import Provider, Token, open_provider
from ..._model.addresses import check_addresses, prefix_of, renumberings
from ..._model.errors import InputError, KeyfleetError, Refused, is_unreachable
from ..._model.plan import CHANGE, CREATE, DELETE, KEEP, Context, Outcome, Step, diff_of
from ..._model.records import InstanceRecord, TokenRecord, identity_in
from ..._model.tokens.identity import TokenIdentity
from ..._model.tokens.instance_spec import InstanceRequest, InstanceSpec, TokenSpec
from ..._model.tokens.selectors import TokenSelector
from ..._model.uids import prefix_order
from ..._registry import instances as table
from ..._registry import references, virtual_keys
from ..._registry.database import Database, open_database, registry_exists
from ..tokens.refused_pins import note_any_login, with_refusals
from . import token_setup
from .in_use import described, kept_by_groups, let_go, reasons_of_files, reasons_of_tokens, refuse
from .plan import Access, Look, TokenPlan, plan_token
from .token_setup import TokenDone

_NO_LIBRARY = ("library_missing", "library_invalid", "library_init_failed", "lock_timeout")
_STARTING = ("environment", "init_args", "os_locking")
# What a declared instance and its record call alike, the library apart.
_SETTINGS = ("name", "description", "model", "admins", "max_sessions", "connection_timeout", *_STARTING, "layout")


def converge(request: InstanceRequest, context: Context) -> Outcome:
    """hsm_instance. Raises :class:`KeyfleetError`, and then nothing was changed unless its text says so."""
    if request.spec is None:
        return _remove(request, context)
    return _Registration(request, request.spec, context).converge()


class _Registration:
    """One call of hsm_instance for an instance that is to be there."""

    def __init__(self, request: InstanceRequest, spec: InstanceSpec, context: Context) -> None:
        self.request = request
        self.spec = spec
        self.context = context
        self.pins = [token_setup.prepare(token) for token in spec.tokens]
        self.access = Access(request.allow_low_pin_count, request.allow_renumber, spec.connection_timeout)

    def converge(self) -> Outcome:
        spec, path = self.spec, self.request.registry
        if "*" in spec.admins:
            self.context.warn(f"instance '{spec.name}': admins holds '*', so everyone may administer its keys.")
        # A registry that is not there yet is made when there is something to put into it: a run that is refused leaves none behind.
        in_memory = self.context.check_mode or not registry_exists(path)
        with open_database(path, run=self.context.run, check_mode=in_memory, create=True, for_writing=True) as database:
            if self.request.broken is not None:
                return self._converge(database, self.request.broken)
            try:
                with open_provider(spec.libraries, spec.starting, self.access.timeout) as provider:
                    return self._converge(database, provider)
            except KeyfleetError as error:
                if self.request.validate or error.code not in _NO_LIBRARY:
                    raise
                return self._converge(database, error)

    def _converge(self, database: Database, provider: Provider | KeyfleetError) -> Outcome:
        """``provider`` is the error where there is none, and the instance is saved all the same."""
        self.library = provider.library if isinstance(provider, Provider) else self.spec.libraries[0]
        # The registry's refusals come before the first login: a refused run costs no PIN attempt.
        known = table.all_instances(database)
        existing = _named(known, self.spec.name)
        plans = [TokenPlan(token) for token in self.spec.tokens]
        looks = [plan.look for plan in plans]
        self._check_expected(known, self._wanted(database, existing, known, looks), check_mode=self.context.check_mode)
        if isinstance(provider, Provider):
            plans, looks = self._look(database, provider, existing)
        else:
            looks = [look.failed(provider) for look in looks]
        if self.request.validate:
            _raise_errors(looks)
        else:
            unreached = zip(plans, self.pins, looks, strict=True)
            plans = [plan.unreached(pins, look) if _out_of_reach(look) else plan for plan, pins, look in unreached]
        record = self._wanted(database, existing, known, looks)
        for text in kept_by_groups(database, _left_out(existing, record)):
            self.context.warn(f"instance '{record.name}': a token that is not declared any more: {text}")
        steps = [step for plan, look in zip(plans, looks, strict=True) if look.error is None or _out_of_reach(look) for step in plan.steps]
        steps.append(self._step(known, existing, record, plans))
        changed = any(step.changes for step in steps)
        if changed and not self.context.check_mode:
            looks, known = self._apply(database, provider, existing, plans, looks)
            record = _named(known, record.name) or record
        values = {"instance": describe(record, prefix_of(_with(known, record))[record.name], plans, looks)}
        return Outcome(changed=changed, diff=diff_of(steps), values=values)

    def _look(self, database: Database, provider: Provider, existing: InstanceRecord | None) -> tuple[list[TokenPlan], list[Look]]:
        """Find the tokens, plan, and test those that need nothing first: the plans, and the last look at each token."""
        plans, looks = [], []
        founds = [token_setup.observe(provider, spec) for spec in self.spec.tokens]
        rows = [_row(existing, spec) for spec in self.spec.tokens]
        rows = [with_refusals(database, row, found.token) for row, found in zip(rows, founds, strict=True)]
        for spec, pins, found, row in zip(self.spec.tokens, self.pins, founds, rows, strict=True):
            plans.append(plan_token(spec, pins, found, self.access, row))
        _check_distinct(plans)
        for index, plan in enumerate(plans):
            look = token_setup.test_existing(provider, plan, self.access)
            if look is not None and (not self.context.check_mode or registry_exists(database.path)):
                note_any_login(database, rows[index], plan.look.token, plan.tried, look.error)
            if look is not None and not self.context.check_mode:
                token_setup.drop_stale(plan, look)
            if look is not None and look.error is not None and look.error.code == "pin_not_initialized":
                again = plan_token(plan.spec, plan.pins, founds[index], self.access, rows[index], says_unset=True)
                if again.writes_token or again.look.error is not None:
                    plans[index], look = again, again.look
            looks.append(look or plan.look)
        return plans, looks

    def _apply(
        self,
        database: Database,
        provider: Provider | KeyfleetError,
        existing: InstanceRecord | None,
        plans: Sequence[TokenPlan],
        looks: Sequence[Look],
    ) -> tuple[list[Look], list[InstanceRecord]]:
        """Carry the plans out, one after the other, and save the instance: the last look at each token, and all instances.

        Raises :class:`KeyfleetError` that says what was done before.
        """
        done: list[TokenDone] = []
        try:
            for plan, look in zip(plans, looks, strict=True):
                if isinstance(provider, Provider) and look.error is None:
                    done.append(token_setup.apply(provider, plan, look, self.access))
                    if plan.writes_token and not (done[-1].failure and done[-1].steps):  # the PIN that was to be proven, no later one
                        note_any_login(database, _row(existing, plan.spec), plan.look.token, plan.tried, done[-1].failure)
                elif _out_of_reach(look):
                    done.append(token_setup.keep_pin(plan, look))
                else:
                    done.append(TokenDone(look))
                if (failure := done[-1].failure) is not None:
                    raise failure
            looks = [one.look for one in done]
            with open_database(self.request.registry, run=self.context.run, create=True) as writable:
                return list(looks), self._save(writable, looks)
        except KeyfleetError as error:
            error.changed = any(one.changed for one in done)
            if steps := [text for one in done for text in one.steps]:
                error.message += f" Before that: {'; '.join(steps)}. The instance was not saved; run again once the cause is fixed."
            raise

    def _save(self, database: Database, looks: Sequence[Look]) -> list[InstanceRecord]:
        """Write the instance, and return all there are. Everything is looked at again under the write lock: another run may have
        registered an instance meanwhile."""
        with database.transaction():
            known = table.all_instances(database)
            existing = _named(known, self.spec.name)
            record = self._wanted(database, existing, known, looks)
            self._check_expected(known, record, check_mode=False)
            if self._step(known, existing, record).changes:
                # Refused above unless force was said.
                let_go(database, _left_out(existing, record))
                table.save(database, record, "register_instance" if existing is None else "change_instance")
            return table.all_instances(database)

    def _record(self, existing: InstanceRecord | None, looks: Sequence[Look]) -> InstanceRecord:
        spec, tokens = self.spec, []
        for declared, look in zip(spec.tokens, looks, strict=True):
            seen, selector = look.token, declared.selector
            token = _known_token(existing, declared) or _renamed_token(existing, seen, spec.tokens) or TokenRecord(selector)
            label = str(selector.value) if selector.kind == "label" else token.label
            as_declared = {name: getattr(declared, name) for name in ("login", "pinpad", "user_type", "pin_file")}
            token = replace(token, selector=selector, label=label, **as_declared)
            tokens.append(replace(token, label=seen.label, serial=seen.serial, slot=seen.slot_id) if seen else token)
        if existing is not None and not self.request.exclusive:
            kept = {token.id for token in tokens}
            tokens += [token for token in existing.tokens if token.id not in kept]
        record = existing or InstanceRecord(spec.name, spec.model, self.library)
        settings = {name: getattr(spec, name) for name in _SETTINGS}
        return replace(record, **settings, library=self.library, tokens=tuple(tokens))

    def _wanted(
        self, database: Database, existing: InstanceRecord | None, known: Sequence[InstanceRecord], looks: Sequence[Look]
    ) -> InstanceRecord:
        """The record as it will be. ``looks`` are the last at its tokens, in their order.

        Raises :class:`Refused` for what would re-address stored UIDs, orphan virtual keys or take a connection away from a group.
        """
        record = self._record(existing, looks)
        moved = renumberings(prefix_of(known), prefix_of(_with(known, record)))
        if existing is not None:
            left_out = reasons_of_tokens(database, _left_out(existing, record), force=self.request.force)
            refuse(f"instance '{record.name}': tokens", left_out)
            used = {key.token_id for key in virtual_keys.of_tokens(database, _ids(existing.tokens))}
            after = {token.id: token for token in record.tokens}
            for token in existing.tokens:
                new = after.get(token.id)
                if token.id not in used or new is None or token.slot is None:
                    continue
                if new.slot != token.slot or token.replaced_by(identity_in(record, new)):
                    moved.append(f"token {token.selector} of instance '{record.name}' was {token.place()} and is now {new.place()}")
        check_addresses(moved, allowed=self.request.allow_renumber)
        return record

    def _check_expected(self, known: Sequence[InstanceRecord], record: InstanceRecord, *, check_mode: bool) -> None:
        """The prefix that a declaration counts with, before a token is made for an instance that would get another.

        Check mode registers nothing, so others of a play that come first may still move a new one to a higher number.
        """
        expected = self.request.expect_prefix
        prefixes = prefix_of(_with(known, record))
        found = prefixes[record.name]
        if expected is None or found == expected:
            return
        if check_mode and record.id is None and prefix_order(found) < prefix_order(expected):
            return
        same = [f"'{item.name}' ({prefixes[item.name]})" for item in known if item.model == record.model and item.name != record.name]
        raise Refused(
            f"expect_prefix: refused, instance '{record.name}' has {found or 'no prefix'} by the order in which instances were registered "
            f"here, and {expected} is expected. Others of its model: {', '.join(same) or 'none'}. Keep the declared instances in their "
            "order, and put new ones at the end. One that is not declared any more is removed with state: absent.",
            code="renumbering",
            details={"moved": [f"instance '{record.name}' would have {found or 'no prefix'} and not {expected}"]},
        )

    def _step(
        self, known: Sequence[InstanceRecord], existing: InstanceRecord | None, record: InstanceRecord, plans: Sequence[TokenPlan] = ()
    ) -> Step:
        created = {plan.spec.selector for plan in plans if plan.create}
        after = _declared(record, prefix_of(_with(known, record))[record.name], created)
        subject = f"instance {record.name}"
        if existing is None:
            return Step(CREATE, subject, None, after)
        before = _declared(existing, prefix_of(known)[existing.name], created)
        return Step(CHANGE if before != after else KEEP, subject, before, after)


def _raise_errors(looks: Sequence[Look]) -> None:
    errors = [look.error for look in looks if look.error is not None]
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise KeyfleetError(
            "\n".join([f"{len(errors)} tokens cannot be used, nothing was changed:", *(f"- {error.message}" for error in errors)]),
            code=errors[0].code if len({error.code for error in errors}) == 1 else "several",
            details={"errors": [{"code": error.code, "error": error.message} for error in errors]},
        )


def _check_distinct(plans: Sequence[TokenPlan]) -> None:
    seen: dict[int, TokenSpec] = {}
    problems = []
    for plan in plans:
        token = plan.look.token
        if token is not None and token.slot_id in seen:
            problems.append(f"{plan.spec.where} and {seen[token.slot_id].where} are the same {token}: name it once")
        elif token is not None:
            seen[token.slot_id] = plan.spec
    if problems:
        raise InputError(problems)


def _known_token(existing: InstanceRecord | None, spec: TokenSpec) -> TokenRecord | None:
    """The registry's row of this selector."""
    return next((token for token in existing.tokens if token.selector == spec.selector), None) if existing else None


def _row(existing: InstanceRecord | None, spec: TokenSpec) -> TokenRecord:
    """The same, empty for a token that is not registered."""
    return _known_token(existing, spec) or TokenRecord(spec.selector)


def _renamed_token(existing: InstanceRecord | None, seen: Token | None, specs: Sequence[TokenSpec]) -> TokenRecord | None:
    """The row of a token that is declared by another selector now, and that no other entry of ``specs`` names."""
    if existing is None or seen is None:
        return None
    named = {spec.selector for spec in specs}
    rows = [row for row in existing.tokens if row.selector not in named]
    return next((row for row in rows if _was_seen_as(row.identity(), seen.identity)), None)


def _was_seen_as(row: TokenIdentity, seen: TokenIdentity) -> bool:
    """Both of one instance. A serial number that tells is enough: a label can be changed."""
    return row.serial == seen.serial and (seen.serial_tells or (row.label, row.slot) == (seen.label, seen.slot))


def _out_of_reach(look: Look) -> bool:
    return look.error is not None and (look.error.code == "library_crashed" or is_unreachable(look.error))


def _named(known: Sequence[InstanceRecord], name: str) -> InstanceRecord | None:
    return next((record for record in known if record.name == name), None)


def _with(known: Sequence[InstanceRecord], record: InstanceRecord) -> list[InstanceRecord]:
    if _named(known, record.name) is None:
        return [*known, record]
    return [record if item.name == record.name else item for item in known]


def _left_out(existing: InstanceRecord | None, record: InstanceRecord) -> list[TokenRecord]:
    """The tokens that are registered and not declared any more."""
    kept = {token.id for token in record.tokens}
    return [token for token in existing.tokens if token.id not in kept] if existing is not None else []


def _ids(tokens: Sequence[TokenRecord]) -> list[int]:
    return [token.id for token in tokens if token.id is not None]


def _settings(record: InstanceRecord) -> dict[str, Any]:
    """The settings as plain values."""
    values = {name: getattr(record, name) for name in ("library", *_SETTINGS)}
    return {**values, "admins": list(record.admins), "environment": dict(record.environment)}


def _declared(record: InstanceRecord, prefix: str | None, new_tokens: set[TokenSelector]) -> dict[str, Any]:
    """For the diff. What a new token chooses is left out, so that check mode says the same."""
    tokens = []
    for token in record.tokens:
        fields: dict[str, Any] = {token.selector.kind: token.selector.value}
        if token.selector not in new_tokens:
            fields |= {"label": token.label, "serial": token.serial, "slot": token.slot}
        tokens.append(fields | {"login": token.shown_login, "user_type": token.user_type, "pin_file": token.pin_file})
    settings = _settings(record)
    del settings["name"]
    return {"prefix": prefix, **settings, "tokens": tokens}


def describe(record: InstanceRecord, prefix: str | None, plans: Sequence[TokenPlan] = (), looks: Sequence[Look] = ()) -> dict[str, Any]:
    """An instance as hsm_instance returns it. No PIN, only the path of its file."""
    tokens = []
    for index, token in enumerate(record.tokens):
        look = looks[index] if index < len(looks) else None
        known = {name: getattr(token, name) for name in ("slot", "label", "serial", "pin_file", "user_type")}
        known["login"] = token.shown_login
        seen = {name: getattr(look.status, name) if look else None for name in ("accessible", "probe", "error", "code", "pin_state")}
        tokens.append({**known, **seen, "initialized": index < len(plans) and plans[index].create})
    dates = {"created_at": record.created_at, "updated_at": record.updated_at}
    return {"id": record.id, "prefix": prefix, **_settings(record), **dates, "tokens": tokens}


def _remove(request: InstanceRequest, context: Context) -> Outcome:
    name, nothing = request.name, Outcome(changed=False, values={"instance": None})
    if not registry_exists(request.registry):
        return nothing
    with (
        open_database(request.registry, run=context.run, check_mode=context.check_mode, for_writing=True) as database,
        database.transaction(),
    ):
        known = table.all_instances(database)
        existing = _named(known, name)
        if existing is None or existing.id is None:
            return nothing
        remaining = [record for record in known if record is not existing]
        moved = renumberings(prefix_of(known), prefix_of(remaining))
        reasons = [
            *reasons_of_files(database, existing.id),
            *reasons_of_tokens(database, existing.tokens, force=request.force),
        ]
        tokens = [described(database, token) for token in existing.tokens]
        prefix = prefix_of(known)[name]
        refuse(f"instance '{name}'", reasons, prefix=prefix, moved=moved, tokens=tokens)
        check_addresses(moved, allowed=request.allow_renumber, prefix=prefix, tokens=tokens)
        step = Step(DELETE, f"instance {name}", _declared(existing, prefix, set()), None)
        references.forget_instance(database, existing.id)
        for text in kept_by_groups(database, existing.tokens):
            context.warn(f"instance '{name}': {text}")
        let_go(database, existing.tokens)
        table.remove(database, existing)
        return Outcome(changed=True, diff=diff_of([step]), values={"instance": describe(existing, prefix)})
