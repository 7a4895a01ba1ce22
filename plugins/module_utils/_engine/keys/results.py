# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""The answer of hsm_key: one entry for each entry of ``keys:``, read from the token, and what was done or is to be done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ..._cryptoki.public_key import to_pem
from ..._model.diff_text import Section, prepared_diff
from ..._model.grouping import grouped_texts
from ..._model.keys.objects import Key, KeyObject, describe_key
from ..._model.keys.states import ACTIVE, DEACTIVATED, DESTROYED, STATES
from ..._model.keys.types import PRIVATE, PUBLIC, SECRET
from ..._model.pkcs11_uri import uri_in
from ..._model.plan import CHANGE, CREATE, DELETE, KEEP, REPLACE, Outcome, Step
from ..._model.tokens.identity import TokenIdentity
from ..._model.uids import key_id_text, uid
from .done import Done, Work
from .planning.plan import (
    DEACTIVATE,
    REMOVE_PRIVATE,
    REPAIR,
    SET_STATE,
    KeyPlan,
    Sibling,
    describe_new,
    predicted_fingerprint,
    predicted_public_key,
)

# States of an entry whose key is not on this token.
_NOT_HERE = ("absent", DESTROYED, "elsewhere")


def _range(plan: KeyPlan) -> str | None:
    """The range that the key's label is one of: the declared one, with the generation where that is not in it."""
    spec = plan.spec
    return None if spec.range is None else f"{spec.range}{spec.label.removeprefix(spec.base)}"


def _named(plan: KeyPlan) -> dict[str, Any]:
    named, one_of = {"index": plan.spec.index, "label": plan.spec.label, "action": plan.action}, _range(plan)
    return named if one_of is None else {**named, "range": one_of}


def _step(plan: KeyPlan, done: Done) -> Step:
    """The plan's line in the diff. Of one that failed half way, what was done of it."""
    step, one_of = plan.step, _range(plan)
    if one_of is not None:
        step = replace(step, part_of=f"key {one_of}")
    if done.finished or done.failure is None:
        return step
    before, after = (describe_key(key) if key is not None else None for key in (plan.key, done.key))
    if before == after and not done.destroyed:
        return replace(step, action=KEEP, before=before, after=after)
    return replace(step, action=CREATE if before is None else DELETE if after is None else CHANGE, before=before, after=after)


class Results:
    """Plans and what became of them. ``token`` is the one that was read, None for one that is to come; ``prefix`` is that of its
    instance, where it has one."""

    def __init__(
        self, plans: Sequence[KeyPlan], work: Work, check_mode: bool, token: TokenIdentity | None = None, prefix: str | None = None
    ) -> None:
        self.pairs = list(zip(plans, work.done, strict=True))
        self.work = work
        self.check_mode = check_mode
        self.token = token
        self.address = (prefix, token.slot) if prefix and token is not None and token.slot is not None else None
        self._by_label = {plan.spec.label: (plan, done) for plan, done in self.pairs}

    def outcome(self) -> Outcome:
        changing = [(plan, done) for plan, done in self.pairs if plan.action != KEEP]
        applied = [plan for plan, done in changing if done.finished or self.check_mode]
        failed = [(plan, done.failure) for plan, done in changing if done.failure is not None]
        untried = [plan for plan, done in changing if failed and done.failure is None and not done.finished]
        removed = [item for item, gone in self.work.left_overs if gone]
        # Not by handle: those change from one session to the next, and check mode is to show the same diff.
        steps = [self._left_over_step(item, number) for number, item in enumerate(removed, 1)]
        shown = [_step(plan, done) for plan, done in changing if done.finished or done.failure is not None or not failed]
        outcome = Outcome(
            changed=bool(applied) or bool(steps) or any(failure.changed_hsm for _plan, failure in failed),
            diff=prepared_diff(Section("left-over", steps, len(steps)), Section("key", shown, len(self.pairs))),
            values={
                "key_results": self._entries(),
                "applied": [_named(plan) for plan in applied],
                # Not "failed": Ansible keeps that name for its own boolean, and overwrites a list in it.
                "failed_keys": [{**_named(plan), "code": failure.code, "error": failure.text} for plan, failure in failed],
                "not_attempted": [_named(plan) for plan in untried],
                "left_overs": [
                    {"handle": item.handle, "kind": item.kind, "type": item.type, "removed": gone} for item, gone in self.work.left_overs
                ],
                "summary": self._summary(applied, len(failed), len(untried)),
            },
        )
        if failed:
            causes = grouped_texts(((plan.spec.label, failure.text) for plan, failure in failed), label_first=True)
            outcome.failure = (
                f"{len(failed)} of {len(self.pairs)} keys failed, {len(applied)} were applied, {len(untried)} were not attempted. "
                + "; ".join(causes[:5])
            )
            outcome.failure_code = failed[0][1].code
        return outcome

    def _summary(self, applied: Sequence[KeyPlan], failed: int, untried: int) -> dict[str, int]:
        """How many keys; each is counted in one of the other numbers."""
        done = Counter(plan.step.action for plan in applied)
        counts = {"created": done[CREATE], "replaced": done[REPLACE], "changed": done[CHANGE], "deleted": done[DELETE]}
        unchanged = len(self.pairs) - len(applied) - failed - untried
        return {"total": len(self.pairs), **counts, "unchanged": unchanged, "failed": failed, "not_attempted": untried}

    def _left_over_step(self, item: KeyObject, number: int) -> Step:
        return Step(DELETE, f"left-over {number}", {"kind": item.kind, "type": item.type, "label": "", "id": ""}, None)

    def _entries(self) -> list[dict[str, Any]]:
        leads = sorted((pair for pair in self.pairs if pair[0].spec.lead), key=lambda pair: pair[0].spec.index)
        return [self._entry(plan, done) for plan, done in leads]

    def _entry(self, plan: KeyPlan, done: Done) -> dict[str, Any]:
        entry = self._fields(plan, done)
        others = [self._other(sibling) for sibling in plan.siblings]
        later = [other for other in others if other["generation"] > (plan.spec.generation or 1) and other["state"] != "absent"]
        return {
            "index": plan.spec.index,
            **entry,
            "current": entry["state"] not in ("absent", "destroyed", "failed", "elsewhere") and not later,
            "other_generations": others,
        }

    def _other(self, sibling: Sibling) -> dict[str, Any]:
        """Another generation of an entry's key."""
        named, key = {"generation": sibling.number, "label": sibling.label}, sibling.key
        if key is None:
            fields = self._fields(*self._by_label[sibling.label])
            return named | {name: fields[name] for name in ("id", "uid", "state")}
        state = "present" if sibling.state == ACTIVE else sibling.state
        return named | {"id": key.main.key_id.hex(), "uid": self._uid(key.key_id_text), "state": state}

    def _uid(self, text: str) -> str | None:
        return uid(self.address[0], self.address[1], text) if self.address is not None else None

    def _uri(self, plan: KeyPlan, key: Key | None, state: str) -> str | None:
        """The URI of the half that counts, as it is on the token or will be."""
        if self.token is None or state in _NOT_HERE:
            return None
        if key is not None:
            kind = PUBLIC if state == "public_only" else key.main.kind
            half = next((item for item in key.objects if item.kind == kind), key.main)
            return uri_in(self.token, half.label, half.key_id, half.kind)
        if not plan.makes_key:
            return None
        kind = next(kind for kind in (SECRET, PRIVATE, PUBLIC) if kind in plan.spec.key_type.halves)
        return uri_in(self.token, plan.spec.label_of(kind), plan.spec.id_of(kind), kind)

    def _fields(self, plan: KeyPlan, done: Done) -> dict[str, Any]:
        """Read from the token, except for what check mode only predicts."""
        spec, key = plan.spec, done.key
        predicted = self.check_mode and plan.action != KEEP
        fields: dict[str, Any] = {"label": spec.base, "id": spec.key_id.hex(), "uid": None, "pkcs11_uri": None}
        fields |= dict.fromkeys(("type", "size", "curve", "sensitive", "extractable", "local", "public_key", "fingerprint"))
        fields |= {"operations": [], "state": "absent", "generation": plan.generation}
        if predicted and plan.makes_key:
            der = predicted_public_key(spec)
            pem, fingerprint = to_pem(der) if der else None, predicted_fingerprint(spec)
            fields |= {
                **describe_new(spec),
                "local": spec.material is None,
                "public_key": pem,
                "fingerprint": fingerprint,
                "state": plan.new_state or "present",
            }
        elif key is not None:
            fields |= {
                **describe_key(key),
                "local": key.main.local,
                "public_key": public_pem(key),
                "fingerprint": done.fingerprint,
                "state": self._state(plan, done, key),
            }
            if predicted and plan.action in (CHANGE, DEACTIVATE, SET_STATE, REMOVE_PRIVATE, REPAIR):
                fields |= {name: value for name, value in dict(plan.step.after or {}).items() if name != "state"}
        elif plan.adopted is not None:
            found = plan.adopted.key
            fields |= {**describe_key(found), "public_key": public_pem(found), "fingerprint": found.fingerprint, "state": "elsewhere"}
        elif plan.new_state is not None or (spec.state == DESTROYED and plan.action == KEEP):
            fields["state"] = spec.state  # all that is left is the record
        fields["operations"] = list(plan.virtual_operations(fields["operations"]))
        if key is None and (known := plan.virtual or next(iter(plan.stale), None)) is not None:
            fields |= {"id": known.key_id.hex(), "uid": self._uid(known.key_id_text)}
        else:
            fields["uid"] = self._uid(key.key_id_text if key is not None else key_id_text(spec.key_id, spec.label))
        if plan.adopted is not None:
            fields["uid"] = plan.adopted.uid
        if done.failure is not None:
            fields["state"] = "failed"
        fields["pkcs11_uri"] = self._uri(plan, None if predicted and plan.makes_key else key, fields["state"])
        if plan.mismatches:
            fields["mismatches"] = list(plan.mismatches)
        return fields

    def _state(self, plan: KeyPlan, done: Done, key: Key) -> str:
        known = plan.virtual.state if plan.virtual is not None and not plan.makes_key else ACTIVE
        if plan.new_state is not None and (done.finished or self.check_mode):
            known = plan.new_state
        if plan.spec.state == DEACTIVATED and self.address is None:
            return DEACTIVATED  # without a registry only its operations tell
        if plan.spec.state in STATES or known != ACTIVE:
            return known
        if key.main.kind == "public" or plan.recorded_as is not None or (plan.action == REMOVE_PRIVATE and self.check_mode):
            return "public_only"
        return "present"


def public_pem(key: Key) -> str | None:
    der = key.public.public_key if key.public else None
    return to_pem(der) if der else None
