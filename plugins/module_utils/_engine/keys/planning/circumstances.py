# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""What the plan of a batch of keys depends on beside the keys that were found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ...._model.keys.in_use import InUse
from ...._model.records import PendingKey
from ...._model.scope import Scope
from .looking import Look
from .member_answers import OtherMembers
from .neighbours import Neighbours


@dataclass(frozen=True)
class Circumstances:
    """What the plan depends on beside the token: what the registry knows (``recorded`` is false without one), and what was allowed.

    ``others`` is what the other members of the group have, None where they were not asked yet. ``on_elsewhere`` (fail, adopt) and
    ``on_unreachable`` (fail, generate) say what follows from it.
    ``in_use`` is what other hosts say of keys, and ``token`` the label by which they know the token.
    """

    recorded: bool
    repair: bool
    pending: Mapping[str, PendingKey]
    look: Look
    neighbours: Neighbours
    scope: Scope = field(default_factory=Scope)
    check_mode: bool = False
    others: OtherMembers | None = None
    on_elsewhere: str = "fail"
    on_unreachable: str = "fail"
    in_use: InUse = field(default_factory=InUse)
    # None for any: the members of a group may be called differently.
    token: str | None = None
