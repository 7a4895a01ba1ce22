# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""What a group's policy makes of a plan: which changes reach the HSM, and which stay on the virtual key."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ...._model.keys.objects import Key
from ...._model.keys.spec import MADE, KeySpec
from ...._model.keys.types import OPERATIONS, SECRET
from ...._model.plan import CHANGE, CREATE, DELETE, KEEP, REPLACE
from ...._model.records import VirtualKey
from ...._model.scope import Scope
from ...virtual_keys.identity import PAIR, facts, is_another, known_as
from .looking import Look
from .plan import RECORD, REMOVE_PRIVATE, REPAIR, AttributeChange, KeyPlan, Refusal, unless

_BY_NAME = {name.upper() for name in OPERATIONS}
_DESTROYING = (DELETE, REPLACE, REMOVE_PRIVATE)


@dataclass(frozen=True)
class Division:
    """``changes`` reach the HSM. ``operations`` are the virtual key's where they are narrower than the HSM key's, else None."""

    changes: tuple[AttributeChange, ...]
    operations: tuple[str, ...] | None = None
    mismatches: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def divide(spec: KeySpec, changes: Sequence[AttributeChange], scope: Scope) -> Division:
    """Which of ``changes`` reach the HSM. Operations that are taken away may stay on the virtual key; nothing else can."""
    if scope.group is None:
        return Division(tuple(changes))
    narrowing = [change for change in changes if change.name in _BY_NAME and not change.value]
    if not scope.applies_changes:
        mismatches = [
            f"{change.name.lower()} of the {change.item.kind} key is {str(not change.value).lower()} in the HSM, and group "
            f"'{scope.group.name}' does not apply changes to it (apply_changes: false)"
            for change in changes
            if change not in narrowing
        ]
        return Division((), spec.operations if narrowing else None, tuple(mismatches))
    virtual = [change for change in narrowing if change.item.modifiable is False]
    if not virtual:
        return Division(tuple(changes))
    warning = (
        f"key '{spec.label}' is not modifiable in the HSM, so its operations are narrowed on the virtual key only: "
        f"the HSM still allows {', '.join(sorted({change.name.lower() for change in virtual}))}."
    )
    return Division(tuple(change for change in changes if change not in virtual), spec.operations, warnings=(warning,))


def exchanged(key: Key, record: VirtualKey, fingerprint: str | None) -> str | None:
    """That the key under this name is another one than the group's record is of; None where it is the same, or cannot be told."""
    other = is_another(key, record, check_values=True, check_value=fingerprint, unknown_types=True)
    if other is None:
        return None
    return f"it is another key than the one that was recorded ({other.field} {other.found}, recorded {other.recorded})"


def lost(spec: KeySpec) -> str:
    """Why a group makes no second key in place of one that it has a record of."""
    return (
        f"{spec.where}: '{spec.label}' is not on the token that serves, and the registry has a record of it. Another key "
        "under its name would be a different one. Copy it from the member that has it (hsm_sync with repair: wrap), or, when it is gone "
        "for good, say on_vanished: recreate."
    )


def vanished(spec: KeySpec, records: Sequence[VirtualKey], scope: Scope) -> str:
    """Why no other key is made in place of one that is gone from the token."""
    others = sorted({name for record in records for name in scope.groups_of.get(record.name, ()) if not scope.owns(record)})
    whose = f"group {_listed(others)}" if others else "the registry"
    return (
        f"{spec.where}: '{spec.label}' is gone from the token, and {whose} has a record of it. Nothing was changed. Find out why first: "
        "another key does not open what this one protected. Restore it from a backup, or say on_vanished: recreate to make another."
    )


def unfinished(spec: KeySpec, scope: Scope) -> str:
    """Why a key is not made here: a run that was cut off may have made it on another member."""
    return (
        f"{spec.where}: a run that was cut off was making '{spec.label}' on another member ({scope.unfinished[spec.label]}), and may have "
        "made it: run again when that member serves."
    )


def elsewhere(spec: KeySpec, scope: Scope) -> str:
    """Why a key of another member is neither destroyed nor taken for destroyed."""
    return (
        f"{spec.where}.state: '{spec.label}' of group '{scope.group_name}' was last found on another token than the one that serves, so it "
        "cannot be destroyed now: run again when that one serves. When it is gone for good, forget it with hsm_sync and prune: true."
    )


def gave_up_private(spec: KeySpec, scope: Scope) -> str:
    return (
        f"{spec.where}: in group '{scope.group_name}' '{spec.label}' was left with its public half: say state: public_only, or make it "
        "absent first to take the pair up again."
    )


class Claims:
    """Which groups a key belongs to, and what that forbids."""

    def __init__(self, scope: Scope, look: Look) -> None:
        self.scope = scope
        self.look = look
        self._by: dict[object, dict[str, VirtualKey]] = {}
        for by_group in scope.groups_of.values():
            for name, record in by_group.items():
                for known in known_as(record):
                    self._by.setdefault(known, {})[name] = record

    def others(self, key: Key | None, label: str) -> list[str]:
        """Names of the other groups that have a record of the key, or of its label where it is not there.

        Halves of a pair are one key here, and one of its names is enough: the other may have been edited.
        """
        if key is None:
            return sorted({name for kind in (SECRET, PAIR) for known in facts(kind, label) for name in self._by.get(known, ())})
        found: set[str] = set()
        for known in known_as(key):
            for name, record in self._by.get(known, {}).items():
                if not is_another(key, record, check_values=self.scope.is_here(record), unknown_types=True):
                    found.add(name)
        return sorted(found)

    def judged(self, plan: KeyPlan) -> KeyPlan | Refusal:
        """The plan, with what there is to tell about other groups, or why this scope may not do it."""
        if plan.action == KEEP:
            return plan
        others = self.others(plan.key, plan.spec.label)
        problem = self._stranger(plan) or (self._of_others(plan, others) if others else None) or self._another(plan)
        if problem is None and others and plan.action in _DESTROYING and self.scope.group is not None and self.scope.owns(plan.virtual):
            text = f"key '{plan.spec.label}' was also recorded by group {_listed(others)}, which will report it as missing."
            return replace(plan, warnings=(*plan.warnings, text))
        return unless(problem, plan)

    def _stranger(self, plan: KeyPlan) -> str | None:
        """A group with ``key_scan: own`` takes a key over by declaring it, and does nothing else to one that is not its own."""
        if not self.scope.only_own or plan.key is None or self.scope.owns(plan.virtual) or plan.spec.label in self.scope.pending:
            return None
        if plan.action in (RECORD, CHANGE) and plan.spec.state in MADE:
            return None
        return (
            f"{plan.spec.where}: '{plan.spec.label}' is on the token and does not belong to group '{self.scope.group_name}' "
            "(key_scan: own): declare it present first, and it becomes the group's."
        )

    def _of_others(self, plan: KeyPlan, others: Sequence[str]) -> str | None:
        where = f"{plan.spec.where}: '{plan.spec.label}' {'is gone from the token, and ' if plan.vanished else ''}".rstrip()
        imported = plan.action == CREATE and plan.spec.material is not None  # a copy that is brought along is no other key
        if self.scope.group is None:
            # Operations may be changed in the HSM by who names the HSM; what ends a key is its group's to decide.
            if imported or (plan.action == CHANGE and plan.new_state is None):
                return None
            return (
                f"{where} belongs to group {_listed(others)}, whose policy decides about it: say group instead of instance, or take the "
                "token out of the group first."
            )
        if self.scope.owns(plan.virtual):
            veto = [name for name in others if name in self.scope.held_back]
            if plan.action in _DESTROYING and veto:
                return f"{where} belongs to group '{veto[0]}' too, which does not apply changes to the HSM (apply_changes: false)."
            return None
        if imported or not (self.scope.only_own or plan.action == CREATE or touches(plan)):
            return None
        return f"{where} belongs to group {_listed(others)} and not to '{self.scope.group.name}': choose another label, or say that group."

    def _another(self, plan: KeyPlan) -> str | None:
        """What is destroyed or taken out of use in the HSM must be the key that the group recorded."""
        key, known = plan.key, plan.virtual
        if self.scope.group is None or key is None or known is None or plan.spec.state in MADE or not touches(plan):
            return None
        text = exchanged(key, known, self.look.fingerprint(key))
        if text is None:
            return None
        return (
            f"{plan.spec.where}: '{plan.spec.label}' on the token that serves: {text}. Nothing was changed; hsm_sync tells more (drift, "
            "members)."
        )


def touches(plan: KeyPlan) -> bool:
    """Whether the plan changes or destroys something in the HSM that is there."""
    return plan.action in _DESTROYING or plan.action == REPAIR or bool(plan.changes)


def _listed(groups: Sequence[str]) -> str:
    return " and ".join(f"'{name}'" for name in groups)
