# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""Desired keys against the keys that are there: what to do for each, and every reason not to, before any write."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from ...._model.keys.generations import stored_label
from ...._model.keys.material import WrappedMaterial
from ...._model.keys.objects import Key, KeyObject
from ...._model.keys.spec import ABSENT, MADE, PRESENT, PUBLIC_ONLY, KeySpec
from ...._model.keys.states import ACTIVE, COMPROMISED, DEACTIVATED, DESTROYED, PRE_ACTIVE, SUSPENDED
from ...._model.plan import CREATE, KEEP, REPLACE
from . import other_members, unverified, weak
from .circumstances import Circumstances
from .ending import plan_absent, plan_destroyed, plan_public_only
from .generations import expand
from .key_index import KeyIndex
from .plan import KeyPlan, Refusal, Sibling
from .policy import Claims
from .present import plan_present
from .record_index import RecordIndex
from .states import plan_move
from .view import View

_WAYS: dict[str, Callable[[KeySpec, Key | None, View], KeyPlan | Refusal]] = {
    PRESENT: plan_present,
    PRE_ACTIVE: plan_present,
    ACTIVE: plan_present,
    ABSENT: plan_absent,
    DESTROYED: plan_destroyed,
    SUSPENDED: plan_move,
    DEACTIVATED: plan_move,
    COMPROMISED: plan_move,
    PUBLIC_ONLY: plan_public_only,
}


def plan_keys(
    entries: Iterable[KeySpec], objects: Iterable[KeyObject], circumstances: Circumstances, now: datetime
) -> tuple[list[KeyPlan], list[str]]:
    """A plan for each entry, and for each other generation that it brings along; and every problem found. Nothing is written."""
    scope, keys = circumstances.scope, KeyIndex(objects)
    # What another member of the group has is there as well.
    elsewhere = {record.label for record in scope.records if scope.owns(record) and record.state != DESTROYED} if scope.group else set()
    labels = keys.labels | elsewhere | (circumstances.others.labels() if circumstances.others is not None else set())
    specs, families, problems = expand(entries, labels, scope.by_label(), now)
    asked = frozenset(spec.base for spec in specs)
    leaving = frozenset(spec.label for spec in specs if spec.label and spec.state in (ABSENT, DESTROYED))
    view = View(circumstances, keys, RecordIndex(scope, keys.names), labels, families, asked, leaving)
    doomed = {spec.label: spec for spec in specs if spec.label in leaving or spec.on_mismatch == "replace"}
    claims = Claims(scope, circumstances.look)
    used = _still_used(specs, view)
    to_make = {spec.label: spec for spec in reversed(specs) if spec.state in MADE}
    found = [_planned(spec, view, claims, doomed, to_make) for spec in specs if spec.label not in used]
    plans = [plan for plan in found if isinstance(plan, KeyPlan)]
    told = _told_in_use(plans, view)
    plans = [_waiting(plan, used, told) for plan in plans if plan.spec.label not in told]
    problems += [*(refusal.problem for refusal in found if isinstance(refusal, Refusal)), *_unsafe(plans, view), *_one_id(plans)]
    planned = {plan.spec.label for plan in plans}
    return [replace(plan, siblings=tuple(_siblings(plan, planned, view))) if plan.spec.lead else plan for plan in plans], problems


def _still_used(specs: Iterable[KeySpec], view: View) -> dict[str, tuple[int, str]]:
    """Earlier generations that services use: each has a certificate, and the current generation has none yet. With their entries."""
    specs = list(specs)
    current = {spec.entry: view.meant(spec) for spec in specs if spec.lead and spec.ahead}
    used = {}
    for spec in (spec for spec in specs if spec.ahead and not spec.lead):
        old, new = view.meant(spec), current.get(spec.entry)
        moved = isinstance(new, Key) and view.circumstances.neighbours.has_certificate(new)
        if isinstance(old, Key) and view.circumstances.neighbours.has_certificate(old) and not moved:
            used[spec.label] = spec.entry
    return used


def _told_in_use(plans: Sequence[KeyPlan], view: View) -> dict[str, tuple[tuple[int, str], str]]:
    """Earlier generations that ``previous`` would end now, and that another host uses or may use. With their entries, and why."""
    leads = {plan.spec.entry for plan in plans if plan.spec.lead and plan.spec.state in MADE and plan.spec.previous != "keep"}
    told = {}
    for plan in plans:
        if not plan.spec.lead and plan.spec.entry in leads and plan.key is not None and plan.action != KEEP:
            reason = view.circumstances.in_use.reason(plan.spec.label, view.circumstances.token)
            if reason is not None:
                told[plan.spec.label] = (plan.spec.entry, reason)
    return told


def _waiting(plan: KeyPlan, used: Mapping[str, tuple[int, str]], told: Mapping[str, tuple[tuple[int, str], str]]) -> KeyPlan:
    if not plan.spec.lead:
        return plan
    warnings = [
        f"key '{label}' stays as it is until services use '{plan.spec.label}': {reason}."
        for label, (entry, reason) in told.items()
        if entry == plan.spec.entry
    ]
    if earlier := [label for label, entry in used.items() if entry == plan.spec.entry]:
        text = f"key '{earlier[0]}' is older than max_age and stays as it is: it has a certificate, and '{plan.spec.label}' has none yet."
        warnings.append(f"{text} Have one issued, and let the services use it.")
    return replace(plan, warnings=(*plan.warnings, *warnings)) if warnings else plan


def _planned(spec: KeySpec, view: View, claims: Claims, doomed: Mapping[str, KeySpec], to_make: Mapping[str, KeySpec]) -> KeyPlan | Refusal:
    warnings: tuple[str, ...] = ()
    if isinstance(spec.material, WrappedMaterial):
        where, name = f"{spec.where}.source.wrapping_key", spec.material.wrapping_key
        if name in doomed:
            return Refusal(f"{where}: '{name}' may be destroyed by {doomed[name].where} before it is used: do that in another task")
        if name == spec.label:
            return Refusal(f"{where}: '{name}' is this key itself: name the key that it is wrapped with")
        if name in to_make and name not in view.keys.labels:
            return Refusal(f"{where}: '{name}' is only made by this list ({to_make[name].where}): make it in a task before this one")
        if view.circumstances.check_mode and not view.keys.labels & {name, spec.label}:
            text = f"{where}: there is no key '{name}' on the token."
            warnings = (f"{text} In check mode it is taken for one that an earlier task of this play would make.",)
        elif problem := view.look.openable(spec):
            return Refusal(problem)
    key = view.meant(spec)
    plan = key if isinstance(key, Refusal) else _WAYS[spec.state](spec, key, view)
    plan = plan if isinstance(plan, Refusal) else other_members.judged(plan, view)
    plan = plan if isinstance(plan, Refusal) else claims.judged(_narrowed(plan, view))
    plan = plan if isinstance(plan, Refusal) else weak.judged(plan)
    if not isinstance(plan, Refusal) and plan.makes_key and not warnings:
        misfit, untold = view.look.unwraps(plan.spec)
        plan = Refusal(f"{misfit}. Nothing was changed") if misfit is not None else unverified.judged(plan, untold)
    return plan if isinstance(plan, Refusal) else replace(plan, warnings=(*warnings, *plan.warnings))


def _narrowed(plan: KeyPlan, view: View) -> KeyPlan:
    """What a group has narrowed on its virtual key stays so, unless other operations are declared or another key is made."""
    known, spec, scope = plan.virtual, plan.spec, view.scope
    declared = plan.operations is not None or (spec.operations is not None and spec.state in MADE)
    if known is None or scope.group is None or not scope.owns(known) or declared or plan.action == REPLACE:
        return plan
    return replace(plan, operations=known.operations)


def _unsafe(plans: Sequence[KeyPlan], view: View) -> Iterator[str]:
    """Earlier generations go only when the current one works, and is known for one without them."""
    going = [plan for plan in plans if not plan.spec.lead and plan.spec.state == ABSENT and plan.action != KEEP]
    retired, destroyed = {plan.spec.entry for plan in going}, {plan.spec.entry for plan in going if plan.key is not None}
    for plan in (plan for plan in plans if plan.spec.lead and plan.spec.entry in retired):
        where = f"{plan.spec.where}.previous: the current generation '{plan.spec.label}'"
        known = plan.virtual.generation if plan.virtual is not None else 1
        of_others = view.scope.group is None and plan.virtual is not None and not view.scope.owns(plan.virtual)
        if plan.mismatches and plan.spec.entry in destroyed:
            yield f"{where} is not what is declared ({', '.join(plan.mismatches)}), so the earlier ones are not destroyed."
        elif view.circumstances.recorded and (plan.action == KEEP or of_others) and known < plan.generation:
            yield f"{where} is not recorded as one here, and only the earlier ones tell that it is, so they are not given up."
        if plan.spec.entry not in destroyed:
            continue
        if plan.vanished:
            yield f"{where} was lost by the token, so the earlier ones are not destroyed. Say previous: keep, and look into it."
        if plan.key is not None and not plan.makes_key and (failure := view.look.use(plan.key)) is not None:
            yield f"{where} cannot be used ({failure.rv}), so the earlier ones are not destroyed"


def not_for_eviden(plans: Iterable[KeyPlan]) -> list[str]:
    """Why keys are not rotated where the Eviden server uses them: see docs/kms.md. A later generation that is there stays."""
    return [
        f"{plan.spec.where}.{'generation' if plan.spec.max_age is None else 'max_age'}: keys of an instance with layout: eviden are not "
        "rotated, because the server would go on with the first generation. Make the next key under another label, and give its UID to "
        "the clients."
        for plan in plans
        if plan.action == CREATE and not plan.vanished and (plan.spec.generation or 1) > 1
    ]


def _one_id(plans: Sequence[KeyPlan]) -> Iterator[str]:
    """Objects that are made must not get one CKA_ID. What the batch declares differs in that already; what stands beside a key may not."""
    taken: dict[bytes, KeyPlan] = {}
    for plan in (plan for plan in plans if plan.makes_key):
        for kind in plan.spec.key_type.halves:
            other = taken.setdefault(plan.spec.id_of(kind), plan)
            if other is not plan:
                yield (
                    f"{plan.spec.where}: its {kind} key would get CKA_ID {plan.spec.id_of(kind).hex()}, and so would an object of "
                    f"'{other.spec.label}': choose another label or id"
                )


def _siblings(plan: KeyPlan, planned: Container[str], view: View) -> Iterator[Sibling]:
    """The other generations that are on the token, or that the batch is about, by rising number."""
    for number in view.families.get(plan.spec.base, ()):
        label = stored_label(plan.spec.base, number)
        key = view.keys.only(label) if label not in planned else None
        known = view.records.of_key(key) if key is not None else None
        if label != plan.spec.label and (key is not None or label in planned):
            yield Sibling(label, number, key, known.state if known is not None else ACTIVE)
