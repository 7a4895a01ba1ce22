# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""Whose virtual keys a run is about: a group's, or those of one token that are in no group."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from .keys.objects import KeyName
from .records import SCAN_OWN, GroupRecord, VirtualKey


@dataclass(frozen=True)
class Scope:
    """``group`` is None for the keys of a token that are in none.

    ``records`` are the virtual keys that count here. Those of the scope come first; then those that say something about a key
    of this token that the scope has no record of. ``groups_of`` has the records that other groups have, by the name of the group:
    of keys that were found on this token, and of keys that a group looks for on it because the token is one of its members.
    ``held_back`` are the names of the groups whose policy keeps changes from the HSM. ``same_token`` are the registry's rows of
    this token: it may be registered through more than one instance. ``unfinished`` are labels that a run which was cut off was
    making on another member, with the name of that member; ``pending`` those on this token.
    """

    token_id: int | None = None
    group: GroupRecord | None = None
    records: tuple[VirtualKey, ...] = ()
    groups_of: Mapping[KeyName, Mapping[str, VirtualKey]] = field(default_factory=dict)
    held_back: frozenset[str] = frozenset()
    same_token: frozenset[int] = frozenset()
    unfinished: Mapping[str, str] = field(default_factory=dict)
    pending: Collection[str] = ()

    @property
    def group_id(self) -> str | None:
        return self.group.id if self.group is not None else None

    @property
    def group_name(self) -> str:
        return self.group.name if self.group is not None else ""

    @property
    def applies_changes(self) -> bool:
        """Whether a change of a virtual key reaches the HSM. Outside any group there is no policy that holds it back."""
        return self.group is None or self.group.apply_changes

    @property
    def only_own(self) -> bool:
        return self.group is not None and self.group.key_scan == SCAN_OWN

    def by_label(self) -> dict[str, VirtualKey]:
        """One record of each label: the scope's own has the last word."""
        return {record.label: record for record in reversed(self.records)}

    def owns(self, record: VirtualKey | None) -> bool:
        return record is not None and record.group_id == self.group_id

    def is_here(self, record: VirtualKey) -> bool:
        """Whether the record's key was last found on the token that serves."""
        return record.token_id == self.token_id or record.token_id in self.same_token

    def is_home(self, record: VirtualKey) -> bool:
        """Whether the record's token still serves this scope."""
        return self.group is None or record.token_id in self.group.members
