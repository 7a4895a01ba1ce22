# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""The keys on a token, found by what they are called."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterable

from ...._model.keys.layout import EVIDEN
from ...._model.keys.objects import Key, KeyObject, group_keys
from ...._model.keys.spec import MADE, KeySpec
from .plan import Refusal


class KeyIndex:
    """One pass over the token's objects; then each entry of ``keys:`` is a dictionary look-up."""

    def __init__(self, objects: Iterable[KeyObject]) -> None:
        objects = list(objects)
        self._keys = {item.handle: key for key in group_keys(objects) for item in key.objects}
        self._by_label: dict[str, list[KeyObject]] = defaultdict(list)
        self._by_id: dict[bytes, list[KeyObject]] = defaultdict(list)
        for item in objects:
            # A public half may carry a name of its own (label_pk); it is no candidate for the label of its pair.
            if self._keys[item.handle].label == item.label:
                self._by_label[item.label].append(item)
            self._by_id[item.key_id].append(item)
        # Public halves alone that are called as layout eviden has it, by the label of the pair that each is half of.
        self._lone: dict[str, list[Key]] = defaultdict(list)
        for key in self._keys.values():
            if key.pair_label != key.label:
                self._lone[key.pair_label].append(key)
        self.labels = frozenset(self._by_label)
        self.names = frozenset(key.name for key in self._keys.values())

    def _labelled(self, label: str) -> list[Key]:
        return list({id(key): key for key in (self._keys[item.handle] for item in self._by_label.get(label, ()))}.values())

    def only(self, label: str) -> Key | None:
        """The one key with this label; None where there is none, or more than one."""
        found = self._labelled(label)
        return found[0] if len(found) == 1 else None

    def meant(self, spec: KeySpec) -> Key | Refusal | None:
        """The key that ``spec`` means, None where it is not there, or why that cannot be said. ``id`` and ``type`` narrow several."""
        found = self._labelled(spec.label) or (self._lone.get(spec.label, []) if spec.layout == EVIDEN else [])
        if spec.id_given and (spec.state not in MADE or len(found) > 1 or not spec.label):
            narrowed = [key for key in found if key.main.key_id == spec.id_of(key.main.kind) or key.main.key_id == spec.key_id]
            # What is destroyed or taken out of use must bear both names that were given.
            found = narrowed if narrowed or spec.state not in MADE or not spec.label else found
        if len(found) > 1 and spec.type is not None:
            found = [key for key in found if key.main.type == spec.type] or found
        if len(found) > 1:
            listed = "; ".join(item.named() for item in self._by_label.get(spec.label) or [key.main for key in found])
            return Refusal(
                f"{spec.where}: several objects on the token have the label '{spec.label}': {listed}. Nothing is guessed: "
                f"{_ways_to_one(found)}remove the others with the vendor's tools."
            )
        return found[0] if found else None

    def id_taken(self, spec: KeySpec, leaving: Container[str]) -> str | None:
        """Why a new key cannot have the CKA_IDs of ``spec``: another has one, whose label is not among those that are ``leaving``."""
        ids = dict.fromkeys(spec.id_of(kind) for kind in spec.key_type.halves)
        for item in (item for key_id in ids for item in self._by_id.get(key_id, ())):
            labels = self._labels_of(item, spec)
            if spec.label in labels or any(label in leaving for label in labels):
                continue
            return f"{spec.where}.id: CKA_ID {item.key_id.hex()} belongs to '{item.label}' already ({item.named()}): give another id"
        return None

    def _labels_of(self, item: KeyObject, spec: KeySpec) -> set[str]:
        """By which an object's key may be declared in the layout of ``spec``."""
        key = self._keys[item.handle]
        return {key.pair_label if spec.layout == EVIDEN else key.label} | ({item.label} if key.label == item.label else set())


def _ways_to_one(keys: Iterable[Key]) -> str:
    """By what several keys of one label can be told apart; empty where only the vendor's tools can."""
    ids, types = {key.main.key_id for key in keys}, {key.main.type for key in keys}
    ways = [name for name, values in (("id", ids), ("type", types)) if len(values) > 1]
    return f"name the right one by {' or '.join(ways)}, or " if ways else "they have one id and one type, so "
