# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""A key that may both wrap and decrypt hands out every extractable key beside it in clear: none is made, and none becomes one."""

from __future__ import annotations

from ...._model.keys.types import EXPOSING
from .plan import KeyPlan, Refusal


def judged(plan: KeyPlan) -> KeyPlan | Refusal:
    """The plan, or why it makes such a key. One that is there already stays as it is."""
    spec = plan.spec
    if spec.allow_weak or not _operations(plan) >= EXPOSING or (not plan.makes_key and _before(plan) >= EXPOSING):
        return plan
    return Refusal(
        f"{spec.where}.operations: '{spec.label}' would wrap and decrypt, and a key that may do both hands out every extractable key on "
        "its token in clear: make two keys, or say allow_weak: true"
    )


def _before(plan: KeyPlan) -> set[str]:
    return set(plan.key.operations) if plan.key is not None else set()


def _operations(plan: KeyPlan) -> set[str]:
    """What the key may do in the HSM when the plan was carried out."""
    if plan.makes_key:
        return set(plan.spec.new_operations)
    added = {change.name.lower() for change in plan.changes if change.value}
    return (_before(plan) | added) - {change.name.lower() for change in plan.changes if not change.value}
