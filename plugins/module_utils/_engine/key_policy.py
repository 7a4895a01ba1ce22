# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""What a group's policy makes of a plan: which changes reach the HSM, and which stay on the virtual key."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from .._model.key_objects import Key
from .._model.key_spec import KeySpec
from .._model.key_types import OPERATIONS
from .._model.records import VirtualKey
from .key_plan import REMOVE_PRIVATE, REPLACE, AttributeChange, KeyPlan
from .plan import CHANGE, CREATE, DELETE, KEEP
from .scope import Scope

_BY_NAME = {name.upper() for name in OPERATIONS}
_DESTROYING = (DELETE, REPLACE, REMOVE_PRIVATE)


@dataclass
class Division:
    """``changes`` reach the HSM. ``operations`` are the virtual key's where they are narrower than the HSM key's, else None."""

    changes: list[AttributeChange]
    operations: tuple[str, ...] | None = None
    mismatches: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def divide(spec: KeySpec, changes: Sequence[AttributeChange], scope: Scope) -> Division:
    """Which of ``changes`` reach the HSM. Operations that are taken away may stay on the virtual key; nothing else can."""
    if scope.group is None:
        return Division(list(changes))
    narrowing = [change for change in changes if change.name in _BY_NAME and not change.value]
    if scope.applies_changes:
        virtual = [change for change in narrowing if change.item.modifiable is False]
        found = Division([change for change in changes if change not in virtual], spec.operations if virtual else None)
        if virtual:
            found.warnings.append(
                f"key '{spec.label}' is not modifiable in the HSM, so its operations are narrowed on the virtual key only: "
                f"the HSM still allows {', '.join(sorted({change.name.lower() for change in virtual}))}."
            )
        return found
    found = Division([], spec.operations if narrowing else None)
    for change in changes:
        if change not in narrowing:
            now = str(not change.value).lower()
            found.mismatches.append(
                f"{change.name.lower()} of the {change.item.kind} key is {now} in the HSM, and group '{scope.group.name}' does not apply "
                "changes to it (apply_changes: false)"
            )
    return found


def exchanged(key: Key, record: VirtualKey, fingerprint: str | None) -> str | None:
    """That the key under this name is another one than the group's record is of; None where it is the same, or cannot be told."""
    found = key.fingerprint or fingerprint
    if found is None or record.fingerprint is None or found == record.fingerprint or record.type != key.main.type:
        return None
    return f"it is another key than the one that was recorded (fingerprint {found}, recorded {record.fingerprint})"


def lost(spec: KeySpec, scope: Scope) -> str:
    """Why a group makes no second key in place of one that it has a record of."""
    name = scope.group.name if scope.group is not None else ""
    return (
        f"{spec.where}: group '{name}' has a record of '{spec.label}', and the token that serves does not have this key. Another key under "
        "its name would be a different one. Copy it from the member that has it (hsm_sync with repair: wrap), or, when it is gone for "
        "good, forget it (hsm_sync with prune: true) and run again."
    )


class Claims:
    """Which groups a key belongs to, and what that forbids."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self._by_label: dict[str, set[str]] = {}
        for (_kind, _key_id, label), by_group in scope.groups_of.items():
            self._by_label.setdefault(label, set()).update(by_group)

    def others(self, key: Key | None, label: str) -> list[str]:
        """Names of the other groups that have a record of the key, or of its label where it is not there."""
        if key is None:
            return sorted(self._by_label.get(label, ()))
        claims = self.scope.groups_of.get(key.name, {})
        return sorted(name for name, record in claims.items() if not self._is_another(key, record))

    def _is_another(self, key: Key, record: VirtualKey) -> bool:
        """Whether the key is not the one that the group recorded, for certain. Two HSMs may compute a check value in two ways."""
        comparable = record.public_key is not None or record.token_id == self.scope.token_id
        return comparable and exchanged(key, record, None) is not None

    def problem(self, plan: KeyPlan) -> str | None:
        """Why this scope may not do what is planned; warnings are added to the plan."""
        others = self.others(plan.key, plan.spec.label)
        if not others or plan.action == KEEP:
            return None
        listed = " and ".join(f"'{name}'" for name in others)
        where = f"{plan.spec.where}: '{plan.spec.label}'"
        if self.scope.group is None:
            # Operations may be changed in the HSM by who names the HSM; what ends a key is its group's to decide.
            if plan.action == CHANGE or (plan.action == CREATE and plan.spec.material is not None):
                return None  # a copy that is brought along is not another key under its name
            return (
                f"{where} belongs to group {listed}, whose policy decides about it: say group instead of instance, or take the token out "
                "of the group first."
            )
        if self.scope.owns(plan.virtual):
            if plan.action in _DESTROYING:
                plan.warnings.append(f"key '{plan.spec.label}' was also recorded by group {listed}, which will report it as missing.")
            return None
        if self.scope.only_own or plan.action in _DESTROYING:
            return f"{where} belongs to group {listed} and not to '{self.scope.group.name}': choose another label, or say that group."
        return None
