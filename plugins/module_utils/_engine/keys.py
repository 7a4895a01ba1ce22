# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""hsm_key: a batch of keys in one login and one search."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from .._cryptoki import objects as cryptoki
from .._cryptoki.roundtrip import use_once
from .._cryptoki.session import Session
from .._model.errors import Cryptoki, InputError, KeyfleetError, RegistryError
from .._model.key_objects import Key, group_keys
from .._model.key_spec import KeySpec, parse_keys
from .._model.uids import key_id_text, uid
from .._registry import virtual_keys
from .._registry.database import Database, open_database
from .connection import NOT_YET_REGISTERED, Target, connection_problems, direct_target, instance_target, open_target
from .key_plan import RECORD, REPLACE, KeyPlan, describe_key, describe_new, plan_keys, public_pem, virtual_of
from .plan import CHANGE, CREATE, DELETE, KEEP, Context, Outcome, diff_of


def _parse(params: Mapping[str, Any]) -> list[KeySpec]:
    problems = connection_problems(params)
    try:
        specs = parse_keys(params["keys"])
    except InputError as error:
        problems += error.problems
    if problems:
        raise InputError(problems)
    return specs


def converge(params: Mapping[str, Any], context: Context) -> Outcome:
    """hsm_key. Raises :class:`KeyfleetError` before the first write; a failure after it is told in the outcome."""
    specs = _parse(params)
    if params.get("library"):
        return _Run(params, context, specs, direct_target(params), None).converge()
    try:
        with open_database(params["registry"], run=context.run, check_mode=context.check_mode) as database:
            return _Run(params, context, specs, instance_target(database, params), database).converge()
    except KeyfleetError as error:
        if context.check_mode and error.code in NOT_YET_REGISTERED:
            context.warn(
                f"{error.message} In check mode it is taken for one that an earlier task of this play would register, with an empty token."
            )
            plans, problems = plan_keys(specs, [], [], recorded=True)
            if problems:
                raise InputError(problems) from None
            return _outcome(plans, [_result(plan, None, None) for plan in plans], [], context)
        raise


def _outcome(plans: list[KeyPlan], keys: list[dict[str, Any]], failed: list[dict[str, Any]], context: Context) -> Outcome:
    changing = [plan for plan in plans if plan.action != KEEP]
    bad = {entry["index"] for entry in failed}
    applied = [plan for plan in changing if plan.done or (context.check_mode and not failed)]
    # By index: plans are large, and comparing each with each would make a batch's cost grow with its square.
    finished = {plan.spec.index for plan in applied}
    settled = bad | finished
    untried = [plan for plan in changing if plan.spec.index not in settled]
    shown = finished if failed else {plan.spec.index for plan in changing}
    outcome = Outcome(
        changed=bool(applied) or any(entry["changed_hsm"] for entry in failed),
        diff=diff_of([plan.step for plan in plans if plan.destroyed or plan.spec.index in shown]),
        values={
            "keys": keys,
            "applied": [_named(plan) for plan in applied],
            # Not "failed": Ansible keeps that name for its own boolean, and overwrites a list in it.
            "failed_keys": [{name: value for name, value in entry.items() if name != "changed_hsm"} for entry in failed],
            "not_attempted": [_named(plan) for plan in untried],
        },
    )
    if failed:
        outcome.failure = (
            f"{len(failed)} of {len(plans)} keys failed, {len(applied)} were applied, {len(untried)} were not attempted. "
            + "; ".join(f"{entry['label']}: {entry['error']}" for entry in failed[:5])
        )
        outcome.failure_code = failed[0]["code"]
    return outcome


def _named(plan: KeyPlan) -> dict[str, Any]:
    return {"index": plan.spec.index, "label": plan.spec.label, "action": plan.action}


def _result(plan: KeyPlan, key: Key | None, address: tuple[str, int] | None) -> dict[str, Any]:
    """One entry of ``keys`` in the answer: read from the token, except for what check mode only predicts."""
    spec = plan.spec
    fields: dict[str, Any] = {"label": spec.label, "id": spec.key_id.hex(), "uid": None, "type": None, "size": None, "curve": None}
    fields |= {"operations": [], "sensitive": None, "extractable": None, "local": None, "public_key": None, "state": "absent"}
    if key is not None:
        fields |= {**describe_key(key), "local": key.main.local, "public_key": public_pem(key), "state": "present"}
    elif plan.action in (CREATE, REPLACE) and not plan.done:
        fields |= {**describe_new(spec), "local": True, "state": "present"}
    if address is not None:
        text = key.key_id_text if key is not None else key_id_text(spec.key_id, spec.label)
        fields["uid"] = uid(address[0], address[1], text)
    if plan.mismatches:
        fields["mismatches"] = plan.mismatches
    return fields


class _Run:
    """One call of hsm_key against one token."""

    def __init__(
        self, params: Mapping[str, Any], context: Context, specs: list[KeySpec], target: Target, database: Database | None
    ) -> None:
        self.params = params
        self.context = context
        self.specs = specs
        self.target = target
        self.database = database
        self.failed: list[dict[str, Any]] = []
        self.keys: dict[int, Key | None] = {}

    def converge(self) -> Outcome:
        low = self.params["allow_low_pin_count"]
        with open_target(self.target, self.database, read_write=not self.context.check_mode, allow_low_pin_count=low) as session:
            self.session: Session = session
            self.inventory = cryptoki.read_inventory(session)
            plans = self._plan()
            if not self.context.check_mode:
                self._apply(plans)
        prefix = self.target.prefix
        address = (prefix, session.token.slot_id) if prefix else None
        results = []
        bad = {failure["index"] for failure in self.failed}
        for plan in plans:
            after = self.keys.get(plan.spec.index, None if plan.action in (CREATE, REPLACE, DELETE) else plan.key)
            entry = _result(plan, after, address)
            if plan.spec.index in bad:
                known = None if plan.destroyed else self.keys.get(plan.spec.index, plan.key)
                entry = {**_result(replace(plan, action=KEEP), known, address), "state": "failed"}
            elif not self.context.check_mode and plan.touches_hsm and not plan.done:
                entry = {**_result(replace(plan, action=KEEP), plan.key, address)}
            elif self.context.check_mode and plan.action == CHANGE:
                entry |= dict(plan.step.after or {})
            results.append(entry)
        return _outcome(plans, results, self.failed, self.context)

    def _plan(self) -> list[KeyPlan]:
        token = self.target.token
        known = virtual_keys.of_tokens(self.database, [token.id]) if self.database and token and token.id is not None else []
        plans, problems = plan_keys(self.specs, self.inventory.objects, known, recorded=self.database is not None)
        problems += self._unsupported(plans)
        for plan in plans:
            # A key that no run has vouched for yet may be what a crash left of one: use it once before it counts.
            if plan.key is not None and plan.virtual is None and plan.action in (KEEP, CHANGE, RECORD):
                try:
                    use_once(self.session, self.inventory, plan.key)
                except Cryptoki as error:
                    problems.append(
                        f"keys[{plan.spec.index}] ({plan.spec.label}): exists but cannot be used ({error.rv}; {plan.key.main.named()}), "
                        "as after a generation that was cut off. Make it absent, then present again."
                    )
        if problems:
            raise KeyfleetError(
                "\n".join(["nothing was changed:", *(f"- {problem}" for problem in problems)]) if len(problems) > 1 else problems[0],
                code="cannot_plan",
                details={"problems": problems},
            )
        for plan in plans:
            if plan.mismatches:
                self.context.warn(f"key '{plan.spec.label}' is kept as it is: {', '.join(plan.mismatches)}.")
            for change in plan.changes:
                if change.name in ("SENSITIVE", "EXTRACTABLE"):
                    self.context.warn(f"key '{plan.spec.label}': {change.name.lower()} = {str(change.value).lower()} cannot be undone.")
        return plans

    def _unsupported(self, plans: list[KeyPlan]) -> list[str]:
        """Types and sizes that this token cannot generate, known before anything is made or destroyed."""
        wanted = [plan.spec for plan in plans if plan.action in (CREATE, REPLACE)]
        if not wanted:
            return []
        problems = []
        mechanisms = self.session.mechanisms()
        limits: dict[str, tuple[int, int]] = {}
        for spec in wanted:
            mechanism, where = spec.key_type.generate, f"keys[{spec.index}] ({spec.label})"
            if mechanism not in mechanisms:
                can = ", ".join(sorted(name for name in mechanisms if name.endswith(("KEY_GEN", "KEY_PAIR_GEN"))))
                problems.append(f"{where}.type: {self.session.token} cannot generate {spec.type} keys; it can: {can or 'none'}")
                continue
            if spec.key_type.is_pair:
                if mechanism not in limits:
                    limits[mechanism] = self.session.key_sizes(mechanism)
                least, greatest = limits[mechanism]
                size = spec.new_size or 0
                if greatest and not least <= size <= greatest:
                    problems.append(f"{where}: {self.session.token} generates {spec.type} keys of {least} to {greatest} bits, not {size}")
        return problems

    def _apply(self, plans: list[KeyPlan]) -> None:
        self._record_known(plans)
        for plan in plans:
            if plan.done or plan.action in (KEEP, RECORD):
                continue
            try:
                self._apply_one(plan)
                plan.done = True
            except KeyfleetError as error:
                touched = isinstance(error, RegistryError) or plan.destroyed or bool(error.details.get("changed_hsm"))
                if isinstance(error, RegistryError):
                    error.message += "; the work in the HSM is done, and the next run records it"
                self.failed.append({**_named(plan), "code": error.code, "error": error.message, "changed_hsm": touched})
                if not isinstance(error, Cryptoki) or error.device:
                    return  # the device or the registry is in trouble: the rest is not attempted

    @contextmanager
    def _recording(self) -> Iterator[Database | None]:
        if self.database is None:
            yield None
        else:
            with self.database.transaction():
                yield self.database

    def _record_known(self, plans: list[KeyPlan]) -> None:
        pending = [plan for plan in plans if plan.action == RECORD]
        if not pending:
            return
        with self._recording() as database:
            for plan in pending:
                if plan.key is not None:
                    if database is not None and plan.virtual is not None and plan.virtual.key_id != plan.key.main.key_id:
                        virtual_keys.remove(database, self._uid(plan.key), plan.virtual, "rename_key")
                    self._add_record(database, plan.key, "hsm_key")
        for plan in pending:
            plan.done = True

    def _uid(self, key: Key) -> str:
        return uid(self.target.prefix or "", self.session.token.slot_id, key.key_id_text)

    def _add_record(self, database: Database | None, key: Key, origin: str) -> None:
        token = self.target.token
        if database is not None and token is not None and token.id is not None:
            virtual_keys.add(database, [(self._uid(key), virtual_of(key, token.id, origin))], overwrite=True)

    def _apply_one(self, plan: KeyPlan) -> None:
        if plan.action in (DELETE, REPLACE) and plan.key is not None:
            self._destroy(plan)
        if plan.action in (CREATE, REPLACE):
            try:
                key = self._create(plan.spec)
            except Cryptoki as error:
                if plan.destroyed:
                    error.details["changed_hsm"] = True
                    error.message += "; the key that was to be replaced is destroyed"
                raise
            self.keys[plan.spec.index] = key
            with self._recording() as database:
                self._add_record(database, key, "hsm_key")
        elif plan.action == CHANGE and plan.key is not None:
            self._change(plan, plan.key)
        elif plan.stale:
            with self._recording() as database:
                if database is not None:
                    for record in plan.stale:
                        token_uid = uid(self.target.prefix or "", self.session.token.slot_id, record.key_id_text)
                        virtual_keys.remove(database, token_uid, record, "forget_key")

    def _destroy(self, plan: KeyPlan) -> None:
        key = plan.key
        if key is None:
            return
        done = 0
        try:
            for item in key.objects:
                cryptoki.destroy(self.inventory, item)
                done += 1
        except Cryptoki as error:
            if done:
                error.details["changed_hsm"] = True
                error.message += "; its other half is destroyed already"
            raise
        plan.destroyed = True
        if plan.virtual is not None:
            with self._recording() as database:
                if database is not None:
                    virtual_keys.remove(database, self._uid(key), plan.virtual, "destroy_key")

    def _change(self, plan: KeyPlan, key: Key) -> None:
        done = 0
        try:
            for change in plan.changes:
                cryptoki.set_attribute(self.inventory, change.item, change.name, change.value)
                done += 1
        except Cryptoki as error:
            error.details["changed_hsm"] = done > 0
            raise
        after = cryptoki.read_back(self.inventory, key)
        self.keys[plan.spec.index] = after
        with self._recording() as database:
            if database is None:
                return
            if plan.virtual is None:
                self._add_record(database, after, "hsm_key")
            else:
                virtual_keys.update(database, self._uid(after), replace(plan.virtual, operations=after.operations))

    def _create(self, spec: KeySpec) -> Key:
        """Generate, and use once before it counts. After an error the token is searched again: it may be there all the same."""
        try:
            key = cryptoki.generate(self.session, self.inventory, spec)
        except Cryptoki as error:
            key = self._made_all_the_same(spec, error)
        try:
            use_once(self.session, self.inventory, key)
        except Cryptoki as error:
            error.details["changed_hsm"] = True
            error.message = f"the key was made but cannot be used: {error.message} ({key.main.named()})"
            raise
        return key

    def _made_all_the_same(self, spec: KeySpec, error: Cryptoki) -> Key:
        try:
            labelled, unlabelled = cryptoki.search_label(self.session, self.inventory, spec.label)
        except Cryptoki:
            raise error from None
        keys = group_keys(labelled)
        if len(keys) == 1 and not (spec.key_type.is_pair and keys[0].is_half):
            return keys[0]
        left = [*labelled, *unlabelled]
        if left:
            error.details["changed_hsm"] = True
            error.message += ". Left over on the token: " + "; ".join(item.named() for item in left)
        raise error
