# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""Stability of addresses: a stored UID must not come to mean another key because an inventory was edited."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from .errors import Refused
from .records import InstanceRecord
from .uids import prefixes


def prefix_of(instances: Sequence[InstanceRecord]) -> dict[str, str | None]:
    """The prefix of each instance by name, for instances in declared order."""
    found = prefixes((instance.model, bool(instance.tokens)) for instance in instances)
    return {instance.name: prefix for instance, prefix in zip(instances, found, strict=True)}


def renumberings(before: dict[str, str | None], after: dict[str, str | None]) -> list[str]:
    """One line for each instance that had a prefix and would get another, or lose it while it stays."""
    return [
        f"instance '{name}' would move from {old} to {after[name] or 'no prefix'}"
        for name, old in before.items()
        if old is not None and name in after and after[name] != old
    ]


def check_addresses(moved: Iterable[str], *, allowed: bool, **more: Any) -> None:
    """Raise :class:`Refused` when addresses move and that was not asked for by name. ``more`` goes into its details."""
    moved = list(moved)
    if moved and not allowed:
        raise Refused(
            "refused: stored UIDs would point elsewhere: "
            + "; ".join(moved)
            + ". Keep the instances, their order and their tokens, or say allow_renumber: true after the stored UIDs have been dealt with.",
            code="renumbering",
            details={"moved": moved, **more},
        )
