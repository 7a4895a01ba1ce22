# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""The registry's records of a scope, found by what a key or an entry of ``keys:`` is called."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Container

from ...._model.keys.objects import Key, KeyName
from ...._model.keys.spec import KeySpec
from ...._model.keys.states import DESTROYED
from ...._model.records import VirtualKey
from ...._model.scope import Scope
from ...virtual_keys.identity import is_another, record_of_key, record_of_part


class RecordIndex:
    """``there`` are the names of the keys on the token."""

    def __init__(self, scope: Scope, there: Collection[KeyName]) -> None:
        self.scope = scope
        self._there = there
        self._by_label: dict[str, list[VirtualKey]] = defaultdict(list)
        self._by_id: dict[bytes, list[VirtualKey]] = defaultdict(list)
        for record in scope.records:
            self._by_label[record.label].append(record)
            self._by_id[record.key_id].append(record)

    def labelled(self, label: str) -> list[VirtualKey]:
        return self._by_label.get(label, [])

    def _possible(self, key: Key) -> list[VirtualKey]:
        """The records of the key's labels. Where no group is named, a group's record says nothing of a key that is certainly another."""
        found = [record for label in dict.fromkeys((key.main.label, key.pair_label)) for record in self.labelled(label)]
        if self.scope.group is not None:
            return found
        own = self.scope.owns
        return [v for v in found if own(v) or not is_another(key, v, check_values=self.scope.is_here(v), unknown_types=True)]

    def of_key(self, key: Key) -> VirtualKey | None:
        """The record of this key, also where its CKA_ID was edited since."""
        return record_of_key(key, self._possible(key), self._there)

    def any_of(self, key: Key) -> VirtualKey | None:
        """The record of a key that may have lost a half since."""
        return record_of_part(key, self._possible(key), self._there)

    def elsewhere(self, label: str) -> VirtualKey | None:
        """The one record of a group's key that another member has."""
        found = [record for record in self.labelled(label) if self.scope.owns(record)]
        return found[0] if self.scope.group is not None and len(found) == 1 else None

    def id_taken(self, spec: KeySpec, leaving: Container[str]) -> str | None:
        """A group's keys on other members count too: they are to be one row of keys everywhere."""
        if self.scope.group is None:
            return None
        for record in self._by_id.get(spec.key_id, ()):
            other = record.label != spec.label and record.label not in leaving
            if other and self.scope.owns(record) and not self.scope.is_here(record) and record.state != DESTROYED:
                return f"{spec.where}.id: CKA_ID {spec.key_id.hex()} belongs to '{record.label}' on another member: give another id"
        return None

    def named(self, spec: KeySpec) -> list[VirtualKey]:
        """The records with both names that were given; of a key that is gone and had no label, those with the ``id``."""
        found = [v for v in self.labelled(spec.label) if not spec.id_given or v.key_id == spec.key_id]
        nameless = self.labelled("") if spec.id_given else []
        return found or [v for v in nameless if v.key_id == spec.key_id and v.name not in self._there]
