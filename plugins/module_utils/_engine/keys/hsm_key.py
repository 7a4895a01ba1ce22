# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""hsm_key: a batch of keys in one login and one search."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timezone

from ..._cryptoki.allowed import canonical, nearest
from ..._cryptoki.objects import Inventory, read_inventory
from ..._cryptoki.session import Session
from ..._model.errors import InputError, KeyfleetError
from ..._model.grouping import grouped_problems, grouped_texts, told
from ..._model.keys.in_use import InUse
from ..._model.keys.layout import EVIDEN
from ..._model.keys.mechanism_types import none_fits
from ..._model.keys.objects import KeyObject
from ..._model.keys.request import KeyRequest
from ..._model.keys.spec import KeySpec
from ..._model.keys.types import may_use, usable_types
from ..._model.listing import listed_keys
from ..._model.plan import Context, Outcome
from ..._model.quoting import listed
from ..._model.records import GroupRecord, PendingKey
from ..._model.scope import Scope
from ..._registry import instances as table
from ..._registry import pending_keys
from ..._registry.database import Database, open_database
from ..files.softhsm import hidden_objects
from ..tokens.choice import NOT_YET_REGISTERED
from ..tokens.connection import Target, open_target, target_of_request
from ..tokens.serving import Reached, check_pin, connections_of, find_group, first_reachable, reach
from ..virtual_keys.scope import group_scope, token_scope
from .apply import Applier
from .ask_members import other_members
from .done import nothing_done
from .look import EmptyToken, TokenLook
from .own_services import with_own_services
from .planning.circumstances import Circumstances
from .planning.looking import is_hollow
from .planning.member_answers import OtherMembers
from .planning.neighbours import Neighbours
from .planning.other_members import generates
from .planning.plan import KeyPlan
from .planning.planner import not_for_eviden, plan_keys
from .results import Results


def _with_every_source(request: KeyRequest, context: Context) -> list[KeySpec]:
    """The specs with what their sources hold. Raises :class:`InputError` with every problem of the request."""
    specs, problems = list(request.specs), list(request.problems)
    specs = [_with_mechanisms(spec, problems) for spec in specs]
    if any(spec.source is not None for spec in specs):
        specs = _with_sources(specs, problems, context)
    if problems:
        raise InputError(problems)
    return specs


def _with_mechanisms(spec: KeySpec, problems: list[str]) -> KeySpec:
    """The spec with the mechanisms that it allows as tokens' answers name them."""
    if spec.allowed_mechanisms is None:
        return spec
    known = {text: canonical(text) for text in spec.allowed_mechanisms}
    for text in (text for text, name in known.items() if name is None):
        near = nearest(text)
        hint = f"did you mean {near}?" if near else "give the name that PKCS#11 has, without CKM_, or its number"
        problems.append(f"{spec.where}.allowed_mechanisms: there is no mechanism {text}; {hint}")
    names = tuple(sorted({name for name in known.values() if name is not None}))
    if None not in known.values() and none_fits(spec.type or "", names):
        text = f"{spec.type} keys are used with none of {', '.join(names)}, and the key could do nothing: name mechanisms of such keys"
        problems.append(f"{spec.where}.allowed_mechanisms: {text}, or leave it out")
    return replace(spec, allowed_mechanisms=names)


def _with_sources(specs: list[KeySpec], problems: list[str], context: Context) -> list[KeySpec]:
    from .source import read_source  # it imports cryptography, which most runs do not need

    loaded: list[KeySpec] = []
    warnings: list[str] = []
    for spec in specs:
        if spec.source is None:
            loaded.append(spec)
            continue
        try:
            found = read_source(
                spec.source,
                type=spec.type or "",
                size=spec.size,
                curve=spec.curve,
                allow_weak=spec.allow_weak,
                where=spec.where,
                allowed=spec.allowed_mechanisms or (),
            )
        except InputError as error:
            problems += error.problems
            continue
        warnings += found.warnings
        loaded.append(replace(spec, material=found.material))
    for text in grouped_problems(warnings):
        context.warn(text)
    return loaded


def converge(request: KeyRequest, context: Context) -> Outcome:
    """hsm_key. Raises :class:`KeyfleetError` before the first write; a failure after it is told in the outcome."""
    outcome = _converged(request, context)
    outcome.values = listed_keys(outcome.values, request.results)
    return outcome


def _converged(request: KeyRequest, context: Context) -> Outcome:
    """With every list whole."""
    specs, connection = _with_every_source(request, context), request.connection
    if connection.library:
        return _Run(request, context, specs, target_of_request(None, connection), None).converge()
    try:
        with open_database(request.registry, run=context.run, check_mode=context.check_mode, for_writing=True) as database:
            if connection.group:
                return _GroupRun(request, context, specs, database).converge()
            return _Run(request, context, specs, target_of_request(database, connection), database).converge()
    except KeyfleetError as error:
        if context.check_mode and error.code in NOT_YET_REGISTERED:
            context.warn(
                f"{error.message} In check mode it is taken for one that an earlier task of this play would register, with an empty token."
            )
            return _on_an_empty_token(specs, context)
        raise


def _on_an_empty_token(specs: list[KeySpec], context: Context) -> Outcome:
    circumstances = Circumstances(
        recorded=True, repair=False, pending={}, look=EmptyToken(), neighbours=Neighbours([], ()), check_mode=True
    )
    plans, problems = plan_keys(specs, [], circumstances, datetime.now(timezone.utc))
    if problems:
        raise InputError(problems)
    _tell(plans, context)
    return Results(plans, nothing_done(plans, [], circumstances.look), context.check_mode).outcome()


def _tell(plans: Sequence[KeyPlan], context: Context) -> None:
    for text in grouped_texts((plan.spec.label, text) for plan in plans for text in _warnings(plan)):
        context.warn(text)


def _warnings(plan: KeyPlan) -> Iterator[str]:
    yield from plan.warnings
    if plan.mismatches:
        yield f"key '{plan.spec.label}' is kept as it is: {', '.join(plan.mismatches)}."
    for change in plan.changes:
        if change.name in ("SENSITIVE", "EXTRACTABLE"):
            yield f"key '{plan.spec.label}': {change.name.lower()} = {str(change.value).lower()} cannot be undone."


def _cannot_plan(problems: list[str]) -> KeyfleetError:
    text, details = told(problems, "nothing was changed:")
    return KeyfleetError(text, code="cannot_plan", details=details)


class _Batch:
    """One call of hsm_key against one token in an open session."""

    def __init__(self, request: KeyRequest, context: Context, specs: list[KeySpec], database: Database | None) -> None:
        self.request = request
        self.context = context
        self.specs = specs
        self.database = database

    def cut_off(self, target: Target) -> bool:
        """Whether objects that were cut off are looked for: after a run that died, or when that was asked for."""
        return bool(self.request.repair or self._pending(target))

    def _in_use(self) -> InUse:
        # A run that ends no earlier generation asks nobody.
        return with_own_services(self.request.in_use) if any(spec.previous != "keep" for spec in self.specs) else self.request.in_use

    def _pending(self, target: Target) -> dict[str, PendingKey]:
        if self.database is None or target.token_id is None:
            return {}
        return pending_keys.of_token(self.database, target.token_id)

    def _on(
        self, session: Session, target: Target, inventory: Inventory, scope: Scope, others: OtherMembers | None = None
    ) -> Outcome | None:
        """Plan the batch and carry it out. None: nothing was done yet, and ``others`` are to be asked first."""
        self.session, self.inventory = session, inventory
        pending = self._pending(target)
        fingerprints = {label: record.fingerprint for label, record in scope.by_label().items() if record.fingerprint}
        self.look = TokenLook(session, inventory, fingerprints)
        neighbours = Neighbours(inventory.objects, inventory.certified)
        circumstances = Circumstances(
            self.database is not None,
            self.request.repair,
            pending,
            self.look,
            neighbours,
            scope,
            self.context.check_mode,
            others,
            self.request.on_elsewhere,
            self.request.on_unreachable,
            self._in_use(),
            None if scope.group is not None else session.token.identity.label,
        )
        plans = self._plan(circumstances, target.layout)
        if others is None and any(generates(plan, circumstances) for plan in plans):
            return None
        _tell(plans, self.context)
        left_overs = self._left_overs(circumstances)
        if self.context.check_mode:
            work = nothing_done(plans, left_overs, self.look)
        else:
            work = Applier(session, inventory, self.database, target, self.look, pending, scope).apply(plans, left_overs)
        for text in grouped_texts(("", text) for text in work.complaints):
            self.context.warn(text)
        return Results(plans, work, self.context.check_mode, session.token.identity, target.prefix).outcome()

    def _plan(self, circumstances: Circumstances, layout: str) -> list[KeyPlan]:
        specs = [replace(spec, layout=layout) for spec in self.specs]
        plans, problems = plan_keys(specs, self.inventory.objects, circumstances, datetime.now(timezone.utc))
        if EVIDEN in self._layouts(layout):
            problems += not_for_eviden(plans)
            self._warn_of_ages(specs)
        problems += [*self._unsupported(plans), *self._hidden(plans)]
        if problems and (reason := self._hides()) is not None:
            problems.append(f"keys: what is not found may be there all the same: {reason}.")
        if problems:
            raise _cannot_plan(problems)
        return plans

    def _warn_of_ages(self, specs: Sequence[KeySpec]) -> None:
        if labels := [spec.base for spec in specs if spec.max_age is not None]:
            text = "keys of an instance with layout: eviden are not rotated, and the run fails when they are due."
            self.context.warn(f"max_age of {listed(labels)}: {text}")

    def _layouts(self, serving: str) -> set[str]:
        """The layouts of the tokens that the keys are for, one of which is ``serving``."""
        return {serving}

    def _unsupported(self, plans: list[KeyPlan]) -> list[str]:
        """Types and sizes that this token cannot generate or use, known before anything is made or destroyed."""
        wanted = [plan.spec for plan in plans if plan.makes_key]
        if not wanted:
            return []
        problems = []
        mechanisms = self.session.mechanisms()
        usable = usable_types(mechanisms)
        limits: dict[str, tuple[int, int]] = {}
        for spec in wanted:
            mechanism = spec.key_type.generate
            if spec.material is not None:
                if not may_use(spec.type or "", mechanisms):
                    problems.append(f"{spec.where}.type: {self.session.token} cannot use {spec.type} keys; it can use {', '.join(usable)}")
                continue
            if mechanism not in mechanisms:
                can = ", ".join(sorted(name for name in mechanisms if name.endswith(("KEY_GEN", "KEY_PAIR_GEN"))))
                problems.append(f"{spec.where}.type: {self.session.token} cannot generate {spec.type} keys; it can: {can or 'none'}")
                continue
            if spec.type in ("RSA", "EC"):
                if mechanism not in limits:
                    limits[mechanism] = self.session.key_sizes(mechanism)
                least, greatest = limits[mechanism]
                size = spec.new_size or 0
                if greatest and not least <= size <= greatest:
                    problems.append(
                        f"{spec.where}: {self.session.token} generates {spec.type} keys of {least} to {greatest} bits, not {size}"
                    )
        return problems

    def _hides(self) -> str | None:
        return hidden_objects(self.session.token.model, self.session.token.serial)

    def _hidden(self, plans: Sequence[KeyPlan]) -> list[str]:
        """Why a key that is to be made may be there, unseen. What else rests on a key's absence is told in a warning."""
        absent = [plan for plan in plans if plan.key is None]
        reason = self._hides() if absent else None
        if reason is None:
            return []
        labels = [plan.spec.label for plan in absent if not plan.makes_key]
        if labels:
            self.context.warn(f"{self.session.token}: {reason}: {listed(labels)} may be there all the same.")
        return [
            f"{plan.spec.where}: '{plan.spec.label}' may be there already: {reason}. Run as the user whose files they are, or give this "
            "user access to them."
            for plan in absent
            if plan.makes_key
        ]

    def _left_overs(self, circumstances: Circumstances) -> list[tuple[KeyObject, bool]]:
        """Key objects that are on the token only in part and hold nothing usable, and whether this run removes them."""
        found = [item for item in self.inventory.cut_off if not item.label and not item.key_id]
        hollow = [item for item in found if is_hollow(item, self.look)]
        before = [note.nameless for note in circumstances.pending.values()]
        ours = bool(before) and max(before) == 0
        return [(item, (ours or circumstances.repair) and item.destroyable is not False) for item in hollow]


class _Run(_Batch):
    """A batch on the one token that the task names."""

    def __init__(self, request: KeyRequest, context: Context, specs: list[KeySpec], target: Target, database: Database | None) -> None:
        super().__init__(request, context, specs, database)
        self.target = target

    def converge(self) -> Outcome:
        target = self.target
        with open_target(target, self.database, read_write=not self.context.check_mode) as session:
            inventory = read_inventory(session, cut_off=self.cut_off(target))
            scope = token_scope(self.database, target.token_id) if self.database is not None else Scope()
            outcome = self._on(session, target, inventory, scope, OtherMembers())
        if outcome is None:
            raise TypeError("outside a group there is nobody to ask")
        outcome.values["served_by"] = None
        return outcome


class _GroupRun(_Batch):
    """A batch on the connection of a group that serves."""

    def __init__(self, request: KeyRequest, context: Context, specs: list[KeySpec], database: Database) -> None:
        super().__init__(request, context, specs, database)
        self.registry = database
        self.group = find_group(database, request.connection.group or "")
        check_pin(self.group, request.connection.login)

    def converge(self) -> Outcome:
        writes, login = not self.context.check_mode, self.request.connection.login
        with first_reachable(self.group, self.registry, login, self.context, read_write=writes, cut_off=self.cut_off) as reached:
            outcome, scope = self._with(reached, None if len(self.group.members) > 1 else OtherMembers())
        if outcome is None:
            # Never two logins at once, and two configurations of one library cannot be in one process: the token that serves is
            # given back, and planned anew from what it holds afterwards.
            connection = reached.connection
            others = other_members(self.group, self.registry, login, connection, reached.before, scope.same_token)
            known = table.all_instances(self.registry)
            with reach(connection, known, self.registry, login, read_write=writes, cut_off=self.cut_off) as again:
                outcome, _scope = self._with(again, others)
        if outcome is None:
            raise TypeError("the other members were asked")
        if len(self.group.members) > 1:
            self._warn_of_the_others(reached, outcome)
        return outcome

    def _layouts(self, serving: str) -> set[str]:
        members = connections_of(table.all_instances(self.registry), self.group)
        return {serving} | {member.instance.layout for member in members}

    def _with(self, reached: Reached, others: OtherMembers | None) -> tuple[Outcome | None, Scope]:
        scope = group_scope(self.registry, self._group_now(reached), reached.connection.token.id or 0)
        outcome = self._on(reached.session, reached.target, reached.inventory, scope, others)
        if outcome is not None:
            outcome.values["served_by"] = reached.shown
        return outcome, scope

    def _group_now(self, reached: Reached) -> GroupRecord:
        """The group as it is under the token's lock: it may have been changed while this run waited."""
        now = find_group(self.registry, self.group.name)
        if now.id != self.group.id or now.members != self.group.members:
            raise KeyfleetError(
                f"group '{now.name}' was changed while this run waited for {reached.session.token}: nothing was done, run again.",
                code="group_changed",
            )
        return now

    def _warn_of_the_others(self, reached: Reached, outcome: Outcome) -> None:
        gone = [entry["label"] for entry in outcome.values["applied"] if entry["action"] in ("delete", "replace", "remove_private")]
        if gone:
            self.context.warn(
                f"group '{self.group.name}': {listed(gone)} went from connection {reached.connection} only. The other members are not "
                "touched; hsm_sync tells which of them still have it."
            )
