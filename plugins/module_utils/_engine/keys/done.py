# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""What became of the plans of a batch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..._model.keys.objects import Key, KeyObject
from ..._model.plan import DELETE
from .planning.looking import Look
from .planning.plan import KeyPlan

LeftOver = tuple[KeyObject, bool]  # an object that holds nothing usable, and whether it is removed


@dataclass(frozen=True)
class Failure:
    """Why a plan was not finished. ``changed_hsm``: something of it is done in the HSM all the same."""

    code: str
    text: str
    changed_hsm: bool


@dataclass(frozen=True)
class Done:
    """What became of one plan.

    ``key`` is on the token now; in check mode, what stays of the key that is there. ``fingerprint`` is its own, as far as the token
    lets it be told. ``destroyed``: the key that was there is gone, or a part of it. Neither ``finished`` nor ``failure``: it was not
    attempted.
    """

    key: Key | None
    fingerprint: str | None = None
    finished: bool = False
    destroyed: bool = False
    failure: Failure | None = None


@dataclass(frozen=True)
class Work:
    """What became of a batch: ``done`` has one value for each plan, in their order."""

    done: tuple[Done, ...]
    left_overs: tuple[LeftOver, ...]
    complaints: tuple[str, ...] = ()


def nothing_done(plans: Sequence[KeyPlan], left_overs: Iterable[LeftOver], look: Look) -> Work:
    """Check mode: the token is as it was."""
    keys = [None if plan.makes_key or plan.action == DELETE else plan.key for plan in plans]
    return Work(tuple(Done(key, look.fingerprint(key) if key is not None else None) for key in keys), tuple(left_overs))
