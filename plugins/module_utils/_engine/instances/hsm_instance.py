# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""Instances: register, change and remove them; the tokens themselves are :mod:`.token_setup`'s."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from ..._cryptoki.provider import Provider, open_provider
from ..._model.addresses import check_addresses, prefix_of, renumberings
from ..._model.errors import InputError, KeyfleetError, Refused
from ..._model.plan import CHANGE, CREATE, DELETE, KEEP, Context, Outcome, Step, diff_of
from ..._model.quoting import listed
from ..._model.records import InstanceRecord, TokenRecord
from ..._model.tokens.instance_spec import InstanceSpec, TokenSpec, name_problem, require_instance
from ..._model.tokens.selectors import TokenSelector
from ..._model.uids import prefix_order
from ..._registry import groups, references, virtual_keys
from ..._registry import instances as table
from ..._registry.database import Database, open_database, registry_exists
from ..tokens.refused_pins import note_login
from . import token_setup
from .token_setup import Access, TokenWork


def converge(params: Mapping[str, Any], context: Context) -> Outcome:
    """hsm_instance. ``params`` are its options, PINs as Secret. Raises :class:`KeyfleetError`, and then nothing was changed
    unless its text says so."""
    if params["state"] == "absent":
        return _remove(params, context)
    spec = require_instance(params)
    if "*" in spec.admins:
        context.warn(f"instance '{spec.name}': admins holds '*', so everyone may administer its keys.")
    works = [token_setup.prepare(token) for token in spec.tokens]
    access = Access(
        allow_low_pin_count=params["allow_low_pin_count"],
        allow_renumber=params["allow_renumber"],
        timeout=spec.connection_timeout,
    )
    # A registry that is not there yet is made when there is something to put into it: a run that is refused leaves none behind.
    in_memory = context.check_mode or not registry_exists(params["registry"])
    with open_database(params["registry"], run=context.run, check_mode=in_memory, create=True) as database:
        try:
            with open_provider(spec.libraries, spec.environment, access.timeout) as provider:
                return _converge(database, params, context, spec, works, access, provider)
        except KeyfleetError as error:
            if params["validate"] or error.code not in ("library_missing", "library_invalid", "library_init_failed"):
                raise
            for work in works:
                work.fail(error)
            return _converge(database, params, context, spec, works, access, None)


def _converge(
    database: Database,
    params: Mapping[str, Any],
    context: Context,
    spec: InstanceSpec,
    works: Sequence[TokenWork],
    access: Access,
    provider: Provider | None,
) -> Outcome:
    library = provider.library if provider else spec.libraries[0]
    # The registry's refusals come before the first login: a refused run costs no PIN attempt.
    known = table.all_instances(database)
    existing = next((record for record in known if record.name == spec.name), None)
    _check_registry(database, known, existing, spec, library, works, params)
    _check_expected(known, _record(existing, spec, library, works), params, check_mode=context.check_mode)
    if provider is not None:
        for work in works:
            token_setup.observe(provider, work, access, _known_token(existing, work.spec, None))
        _check_distinct(works)
        for work in works:
            token_setup.test_existing(provider, work, access)
            if not context.check_mode:
                work.drop_stale()
                if work.tested:
                    note_login(database, _known_token(existing, work.spec, None), work.pin_path, work.error)
    if params["validate"]:
        _raise_errors(works)
    record = _record(existing, spec, library, works)
    _check_registry(database, known, existing, spec, library, works, params)
    steps = [step for work in works if work.error is None for step in work.steps]
    steps.append(_instance_step(known, existing, record, works))
    if not context.check_mode and any(step.changes for step in steps):
        with _telling_what_was_done(works):
            for work in works:
                if provider is not None and work.error is None:
                    work.apply(provider, access)
            with open_database(params["registry"], run=context.run, create=True) as writable:
                known = _save(writable, spec, library, works, params)
        record = next(item for item in known if item.name == spec.name)
    prefix = prefix_of(_with(known, record))[spec.name]
    return Outcome(changed=any(step.changes for step in steps), diff=diff_of(steps), values={"instance": describe(record, prefix, works)})


def _save(
    database: Database, spec: InstanceSpec, library: str, works: Sequence[TokenWork], params: Mapping[str, Any]
) -> list[InstanceRecord]:
    """Write the instance, and return all there are. Everything is looked at again under the write lock: another run may have
    registered an instance meanwhile."""
    with database.transaction():
        known = table.all_instances(database)
        existing = next((item for item in known if item.name == spec.name), None)
        _check_registry(database, known, existing, spec, library, works, params)
        record = _record(existing, spec, library, works)
        _check_expected(known, record, params, check_mode=False)
        if _instance_step(known, existing, record, works).changes:
            # Refused above unless force was said.
            kept = {token.id for token in record.tokens}
            gone = [token.id for token in existing.tokens if token.id not in kept] if existing else []
            virtual_keys.forget_tokens(database, [identity for identity in gone if identity is not None])
            table.save(database, record, "register_instance" if existing is None else "change_instance")
        return table.all_instances(database)


@contextmanager
def _telling_what_was_done(works: Sequence[TokenWork]) -> Iterator[None]:
    try:
        yield
    except KeyfleetError as error:
        done = [text for work in works for text in work.done]
        if done:
            error.changed = True
            error.message += f" Before that: {'; '.join(done)}. The instance was not saved; run again when the cause is mended."
        raise


def _raise_errors(works: Sequence[TokenWork]) -> None:
    errors = [work.error for work in works if work.error is not None]
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise KeyfleetError(
            "\n".join([f"{len(errors)} tokens cannot be used, nothing was changed:", *(f"- {error.message}" for error in errors)]),
            code=errors[0].code if len({error.code for error in errors}) == 1 else "several",
            details={"errors": [{"code": error.code, "error": error.message} for error in errors]},
        )


def _check_distinct(works: Sequence[TokenWork]) -> None:
    seen: dict[str, TokenSpec] = {}
    problems = []
    for work in works:
        serial = work.token.serial if work.token else None
        if serial and serial in seen:
            problems.append(f"{work.spec.where} and {seen[serial].where} are the same token (serial {serial}): name it once")
        if serial:
            seen.setdefault(serial, work.spec)
    if problems:
        raise InputError(problems)


def _known_token(existing: InstanceRecord | None, spec: TokenSpec, serial: str | None) -> TokenRecord | None:
    """The registry's row for this token: by the same selector, else by the serial that it was last seen with."""
    tokens = existing.tokens if existing else ()
    same = [token for token in tokens if token.selector == spec.selector]
    return next(iter(same or [token for token in tokens if serial and token.serial == serial]), None)


def _record(existing: InstanceRecord | None, spec: InstanceSpec, library: str, works: Sequence[TokenWork]) -> InstanceRecord:
    tokens = []
    for work in works:
        seen = work.token
        known = _known_token(existing, work.spec, seen.serial if seen else None)
        before = known or TokenRecord(selector=work.spec.selector)
        label = work.spec.selector.value if work.spec.selector.kind == "label" else before.label
        tokens.append(
            TokenRecord(
                id=before.id,
                selector=work.spec.selector,
                label=seen.label if seen else (str(label) if label is not None else None),
                serial=seen.serial if seen else before.serial,
                slot=seen.slot_id if seen else before.slot,
                login=work.spec.login,
                user_type=work.spec.user_type,
                pin_file=work.spec.pin_file,
            )
        )
    return InstanceRecord(
        id=existing.id if existing else None,
        position=existing.position if existing else None,
        created_at=existing.created_at if existing else None,
        updated_at=existing.updated_at if existing else None,
        name=spec.name,
        description=spec.description,
        model=spec.model,
        library=library,
        admins=spec.admins,
        max_sessions=spec.max_sessions,
        connection_timeout=spec.connection_timeout,
        environment=spec.environment,
        tokens=tuple(tokens),
    )


def _with(known: Sequence[InstanceRecord], record: InstanceRecord) -> list[InstanceRecord]:
    names = [item.name for item in known]
    if record.name not in names:
        return [*known, record]
    return [record if item.name == record.name else item for item in known]


def _check_registry(
    database: Database,
    known: Sequence[InstanceRecord],
    existing: InstanceRecord | None,
    spec: InstanceSpec,
    library: str,
    works: Sequence[TokenWork],
    params: Mapping[str, Any],
) -> None:
    """Refuse what would re-address stored UIDs, orphan virtual keys or take a connection away from a group."""
    record = _record(existing, spec, library, works)
    moved = renumberings(prefix_of(known), prefix_of(_with(known, record)))
    if existing is not None:
        kept = {token.id for token in record.tokens}
        gone = [token for token in existing.tokens if token.id not in kept]
        _drop_or_refuse(database, gone, params, f"instance '{spec.name}': tokens")
        used = {key.token_id for key in virtual_keys.of_tokens(database, [t.id for t in existing.tokens if t.id is not None])}
        after = {token.id: token for token in record.tokens}
        for token in existing.tokens:
            new = after.get(token.id)
            if token.id in used and new is not None and token.serial and (new.serial, new.slot) != (token.serial, token.slot):
                moved.append(
                    f"token {token.selector} of instance '{spec.name}' was in slot {token.slot} with serial {token.serial} and is now "
                    f"in slot {new.slot} with serial {new.serial}"
                )
    check_addresses(moved, allowed=params["allow_renumber"])


def _check_expected(known: Sequence[InstanceRecord], record: InstanceRecord, params: Mapping[str, Any], *, check_mode: bool) -> None:
    """The prefix that a declaration counts with, before a token is made for an instance that would get another.

    Check mode registers nothing, so others of a play that come first may still move a new one to a higher number.
    """
    expected = params["expect_prefix"]
    found = prefix_of(_with(known, record))
    if expected is None or found[record.name] == expected:
        return
    if check_mode and record.id is None and prefix_order(found[record.name]) < prefix_order(expected):
        return
    same = [f"'{item.name}' ({found[item.name]})" for item in known if item.model == record.model and item.name != record.name]
    raise Refused(
        f"expect_prefix: refused, instance '{record.name}' has {found[record.name] or 'no prefix'} by the order in which instances were "
        f"registered here, and {expected} is expected. Others of its model: {', '.join(same) or 'none'}. Keep the declared instances "
        "in their order, and put new ones at the end. One that is not declared any more is removed with state: absent.",
        code="renumbering",
        details={"moved": [f"instance '{record.name}' would have {found[record.name] or 'no prefix'} and not {expected}"]},
    )


def _drop_or_refuse(database: Database, tokens: Sequence[TokenRecord], params: Mapping[str, Any], what: str) -> None:
    identities = [token.id for token in tokens if token.id is not None]
    names = groups.of_tokens(database, identities)
    if names:
        raise Refused(
            f"{what}: refused, these groups have a connection to it: {listed(names)}. Take it out of those groups first with hsm_group.",
            code="in_use",
            details={"groups": names},
        )
    keys = virtual_keys.of_tokens(database, identities)
    if keys and not params["force"]:
        labels = [key.label for key in keys]
        raise Refused(
            f"{what}: refused, {len(keys)} virtual keys refer to it: {listed(labels)}. Make those keys absent first, or say force: true to "
            "forget the records (the keys in the HSM stay).",
            code="in_use",
            details={"virtual_keys": labels},
        )


def _declared(record: InstanceRecord, prefix: str | None, new_tokens: set[TokenSelector]) -> dict[str, Any]:
    tokens = []
    for token in record.tokens:
        fields: dict[str, Any] = {token.selector.kind: token.selector.value}
        if token.selector not in new_tokens:
            fields |= {"label": token.label, "serial": token.serial, "slot": token.slot}
        tokens.append(fields | {"login": token.login, "user_type": token.user_type, "pin_file": token.pin_file})
    return {
        "prefix": prefix,
        "model": record.model,
        "description": record.description,
        "library": record.library,
        "admins": list(record.admins),
        "max_sessions": record.max_sessions,
        "connection_timeout": record.connection_timeout,
        "environment": dict(record.environment),
        "tokens": tokens,
    }


def _instance_step(
    known: Sequence[InstanceRecord], existing: InstanceRecord | None, record: InstanceRecord, works: Sequence[TokenWork]
) -> Step:
    created = {work.spec.selector for work in works if work.create}
    after = _declared(record, prefix_of(_with(known, record))[record.name], created)
    subject = f"instance {record.name}"
    if existing is None:
        return Step(CREATE, subject, None, after)
    before = _declared(existing, prefix_of(known)[existing.name], created)
    return Step(CHANGE if before != after else KEEP, subject, before, after)


def describe(record: InstanceRecord, prefix: str | None, works: Sequence[TokenWork] = ()) -> dict[str, Any]:
    """An instance as hsm_instance returns it. No PIN, only the path of its file."""
    tokens = []
    for index, token in enumerate(record.tokens):
        status = works[index].status if index < len(works) else None
        created = bool(works) and works[index].create
        tokens.append(
            {
                "slot": token.slot,
                "label": token.label,
                "serial": token.serial,
                "accessible": status.accessible if status else None,
                "error": status.error if status else None,
                "code": status.code if status else None,
                "pin_state": status.pin_state if status else None,
                "pin_file": token.pin_file,
                "login": token.login,
                "user_type": token.user_type,
                "initialized": created,
            }
        )
    return {
        "id": record.id,
        "name": record.name,
        "description": record.description,
        "model": record.model,
        "prefix": prefix,
        "library": record.library,
        "admins": list(record.admins),
        "max_sessions": record.max_sessions,
        "connection_timeout": record.connection_timeout,
        "environment": dict(record.environment),
        "created_at": record.created_at,
        "updated_at": record.updated_at,
        "tokens": tokens,
    }


def _is_there(path: str) -> bool:
    """Whether a file that named an instance is still there; when that cannot be told, it counts as there."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def _remove(params: Mapping[str, Any], context: Context) -> Outcome:
    name = params["name"]
    if problem := name_problem(name):
        raise InputError([f"name: {problem}"])
    if not registry_exists(params["registry"]):
        return Outcome(changed=False, values={"instance": None})
    with open_database(params["registry"], run=context.run, check_mode=context.check_mode) as database, database.transaction():
        known = table.all_instances(database)
        existing = next((record for record in known if record.name == name), None)
        if existing is None or existing.id is None:
            return Outcome(changed=False, values={"instance": None})
        files = [path for path in references.of_instance(database, existing.id) if _is_there(path)]
        if files:
            raise Refused(
                f"instance '{name}': refused, {' and '.join(files)} refers to it. Render the file without it first (role kms).",
                code="in_use",
                details={"files": files},
            )
        _drop_or_refuse(database, existing.tokens, params, f"instance '{name}'")
        remaining = [record for record in known if record.name != name]
        check_addresses(renumberings(prefix_of(known), prefix_of(remaining)), allowed=params["allow_renumber"])
        prefix = prefix_of(known)[name]
        step = Step(DELETE, f"instance {name}", _declared(existing, prefix, set()), None)
        references.forget_instance(database, existing.id)
        virtual_keys.forget_tokens(database, [token.id for token in existing.tokens if token.id is not None])
        table.remove(database, existing)
        return Outcome(changed=True, diff=diff_of([step]), values={"instance": describe(existing, prefix)})
