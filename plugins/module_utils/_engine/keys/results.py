# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""The answer of hsm_key: one entry for each entry of ``keys:``, read from the token, and what was done or is to be done."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..._cryptoki.public_key import to_pem
from ..._model.keys.generations import split_label
from ..._model.keys.objects import Key, KeyObject, describe_key
from ..._model.keys.states import ACTIVE, DEACTIVATED, DESTROYED, STATES
from ..._model.plan import CHANGE, DELETE, KEEP, Outcome, Step, diff_of
from ..._model.uids import key_id_text, uid
from .apply import Applier
from .planning.plan import DEACTIVATE, REMOVE_PRIVATE, REPAIR, SET_STATE, KeyPlan, describe_new, predicted_fingerprint, predicted_public_key
from .planning.planner import Planner


def _named(plan: KeyPlan) -> dict[str, Any]:
    return {"index": plan.spec.index, "label": plan.spec.label, "action": plan.action}


class Results:
    """Plans and what became of them. Without ``applier`` and ``planner`` there was no token to look at."""

    def __init__(
        self,
        plans: Sequence[KeyPlan],
        left_overs: Sequence[tuple[KeyObject, bool]],
        check_mode: bool,
        applier: Applier | None = None,
        planner: Planner | None = None,
        address: tuple[str, int] | None = None,
    ) -> None:
        self.plans = plans
        self.left_overs = left_overs
        self.check_mode = check_mode
        self.applier = applier
        self.planner = planner
        self.address = address
        self.failed = applier.failed if applier is not None else []
        self._by_label = {plan.spec.label: plan for plan in plans}
        self._failed_labels = {entry["label"] for entry in self.failed}

    def outcome(self) -> Outcome:
        changing = [plan for plan in self.plans if plan.action != KEEP]
        applied = [plan for plan in changing if plan.done or self.check_mode]
        # By label: plans are large, and comparing each with each would make a batch's cost grow with its square.
        finished = {plan.spec.label for plan in applied}
        untried = [plan for plan in changing if plan.spec.label not in finished | self._failed_labels] if self.failed else []
        shown = finished if self.failed else {plan.spec.label for plan in changing}
        cleared = {item.handle for item in applier.cleared} if (applier := self.applier) is not None and not self.check_mode else None
        left_overs = [(item, removed if cleared is None else item.handle in cleared) for item, removed in self.left_overs]
        removed_now = [item for item, removed in left_overs if removed]
        # Not by handle: those change from one session to the next, and check mode is to show the same diff.
        steps = [self._left_over_step(item, number) for number, item in enumerate(removed_now, 1)]
        entries = self._entries()
        outcome = Outcome(
            changed=bool(applied) or bool(steps) or any(entry["changed_hsm"] for entry in self.failed),
            diff=diff_of([*steps, *(plan.step for plan in self.plans if plan.destroyed or plan.spec.label in shown)]),
            values={
                "key_results": entries,
                # The older name, which Jinja2 cannot read with a dot.
                "keys": entries,
                "applied": [_named(plan) for plan in applied],
                # Not "failed": Ansible keeps that name for its own boolean, and overwrites a list in it.
                "failed_keys": [{name: value for name, value in entry.items() if name != "changed_hsm"} for entry in self.failed],
                "not_attempted": [_named(plan) for plan in untried],
                "left_overs": [
                    {"handle": item.handle, "kind": item.kind, "type": item.type, "removed": removed} for item, removed in left_overs
                ],
            },
        )
        if self.failed:
            outcome.failure = (
                f"{len(self.failed)} of {len(self.plans)} keys failed, {len(applied)} were applied, {len(untried)} were not attempted. "
                + "; ".join(f"{entry['label']}: {entry['error']}" for entry in self.failed[:5])
            )
            outcome.failure_code = self.failed[0]["code"]
        return outcome

    def _left_over_step(self, item: KeyObject, number: int) -> Step:
        return Step(DELETE, f"left-over {number}", {"kind": item.kind, "type": item.type, "label": "", "id": ""}, None)

    def _entries(self) -> list[dict[str, Any]]:
        leads = sorted((plan for plan in self.plans if plan.spec.lead), key=lambda plan: plan.spec.index)
        return [self._entry(plan) for plan in leads]

    def _entry(self, plan: KeyPlan) -> dict[str, Any]:
        entry = self._fields(plan)
        others = self._others(plan)
        later = [other for other in others if other["generation"] > (plan.spec.generation or 1) and other["state"] != "absent"]
        return {**entry, "current": entry["state"] not in ("absent", "destroyed", "failed") and not later, "other_generations": others}

    def _others(self, plan: KeyPlan) -> list[dict[str, Any]]:
        """The other generations of the key that are on the token or were, by rising number."""
        planned = self._by_label
        found = []
        for label in self._family(plan.spec.base):
            if label == plan.spec.label:
                continue
            if label in planned:
                fields = self._fields(planned[label])
                state = fields["state"]
                found.append({"generation": fields["generation"], "label": label, "id": fields["id"], "uid": fields["uid"], "state": state})
            elif self.planner is not None:
                key = self.planner.key_of(label)
                if key is not None:
                    known = self.planner.records.of_key(key)
                    state = known.state if known is not None and known.state != ACTIVE else "present"
                    number = split_label(label)[1] or 1
                    found.append(
                        {
                            "generation": number,
                            "label": label,
                            "id": key.main.key_id.hex(),
                            "uid": self._uid(key.key_id_text),
                            "state": state,
                        }
                    )
        return sorted(found, key=lambda entry: int(entry["generation"]))

    def _family(self, base: str) -> Sequence[str]:
        return self.planner.family(base) if self.planner is not None else ()

    def _uid(self, text: str) -> str | None:
        return uid(self.address[0], self.address[1], text) if self.address is not None else None

    def _key_after(self, plan: KeyPlan) -> Key | None:
        """The key that is on the token now; in check mode that which is there before."""
        if self.applier is not None and plan.spec.label in self.applier.keys:
            return self.applier.keys[plan.spec.label]
        return None if plan.makes_key and (self.check_mode or plan.destroyed) else plan.key

    def _fields(self, plan: KeyPlan) -> dict[str, Any]:
        """Read from the token, except for what check mode only predicts."""
        spec, key = plan.spec, self._key_after(plan)
        predicted = self.check_mode and plan.action != KEEP
        fields: dict[str, Any] = {"label": spec.base, "id": spec.key_id.hex(), "uid": None, "type": None, "size": None, "curve": None}
        fields |= {"operations": [], "sensitive": None, "extractable": None, "local": None, "public_key": None, "state": "absent"}
        fields |= {"generation": plan.generation, "fingerprint": None}
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
        elif key is not None and not (predicted and plan.action == DELETE):
            fingerprint = self.applier.look.fingerprint(key) if self.applier is not None else key.fingerprint
            pem = public_pem(key)
            fields |= {
                **describe_key(key),
                "local": key.main.local,
                "public_key": pem,
                "fingerprint": fingerprint,
                "state": self._state(plan, key),
            }
            if predicted and plan.action in (CHANGE, DEACTIVATE, SET_STATE, REMOVE_PRIVATE, REPAIR):
                fields |= {name: value for name, value in dict(plan.step.after or {}).items() if name != "state"}
        elif plan.new_state is not None or (spec.state == DESTROYED and plan.action == KEEP):
            fields["state"] = spec.state  # all that is left is the record
        fields["operations"] = self._virtual_operations(plan, fields["operations"])
        if key is None and (known := plan.virtual or next(iter(plan.stale), None)) is not None:
            fields |= {"id": known.key_id.hex(), "uid": self._uid(known.key_id_text)}
        else:
            fields["uid"] = self._uid(key.key_id_text if key is not None else key_id_text(spec.key_id, spec.label))
        if spec.label in self._failed_labels:
            fields["state"] = "failed"
        if plan.mismatches:
            fields["mismatches"] = plan.mismatches
        return fields

    def _virtual_operations(self, plan: KeyPlan, allowed: list[str]) -> list[str]:
        """What the virtual key may do of what the HSM allows: in a group it may be less."""
        scope = self.planner.scope if self.planner is not None else None
        if scope is None or scope.group is None:
            return allowed
        if plan.operations is not None:
            return list(plan.operations)
        if plan.recorded_as is not None:
            return list(plan.recorded_as.operations)
        known = plan.virtual
        if known is None or not scope.owns(known) or plan.makes_key or plan.spec.operations is not None:
            return allowed
        return [name for name in allowed if name in known.operations]

    def _state(self, plan: KeyPlan, key: Key) -> str:
        known = plan.virtual.state if plan.virtual is not None and not plan.makes_key else ACTIVE
        if plan.new_state is not None and (plan.done or self.check_mode):
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
