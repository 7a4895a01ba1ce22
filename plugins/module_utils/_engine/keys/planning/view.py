# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""What the plan of one key is worked out from: the keys on the token, the records, and what the whole batch asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

from ...._model.keys.objects import Key
from ...._model.keys.spec import MADE, KeySpec
from ...._model.keys.types import PRIVATE, PUBLIC
from ...._model.records import VirtualKey
from ...._model.scope import Scope
from .circumstances import Circumstances
from .key_index import KeyIndex
from .looking import Look
from .plan import Refusal
from .record_index import RecordIndex
from .unverified import remembered


@dataclass(frozen=True)
class View:
    """``labels`` are those of keys that are there, on the token or on another member of the group. ``families`` are the known generations
    of each base label, ``asked`` the base labels that the batch is about, ``leaving`` the labels of the keys that it ends."""

    circumstances: Circumstances
    keys: KeyIndex
    records: RecordIndex
    labels: Set[str]
    families: Mapping[str, Sequence[int]]
    asked: frozenset[str]
    leaving: frozenset[str]

    @property
    def scope(self) -> Scope:
        return self.circumstances.scope

    @property
    def look(self) -> Look:
        return self.circumstances.look

    def id_taken(self, spec: KeySpec) -> str | None:
        return self.keys.id_taken(spec, self.leaving) or self.records.id_taken(spec, self.leaving)

    def meant(self, spec: KeySpec) -> Key | Refusal | None:
        """The key that an entry means, with what its token does not say as it was recorded."""
        key = self.keys.meant(spec)
        if isinstance(key, Key) and key.label != spec.label and spec.state not in MADE and not self._is_half_of(key, spec):
            return None
        return self.remembered(key) if isinstance(key, Key) else key

    def _is_half_of(self, key: Key, spec: KeySpec) -> bool:
        """Whether a public half alone, which has another label, is known to be that of the key that is meant.

        Somebody may call a public key so, and what is destroyed is named.
        """
        of_pair = [record for record in self.records.labelled(spec.label) if record.kind == PRIVATE]
        made = [record for record in self.records.labelled(key.main.label) if record.kind == PUBLIC and record.origin == "hsm_key"]
        known = {record.public_fingerprint for record in (*of_pair, *made)}
        return spec.label in self.circumstances.pending or key.public_fingerprint in known

    def remembered(self, key: Key) -> Key:
        known = self.records.any_of(key)
        return remembered(key, known, same_token=known is not None and self.scope.is_here(known))

    def known(self, spec: KeySpec, key: Key | None) -> VirtualKey | Refusal | None:
        """The record that an entry means, or why that cannot be said."""
        if key is not None:
            return self.records.any_of(key)
        named = self.records.named(spec)
        if len(named) > 1:
            ids = ", ".join(record.key_id.hex() or "(none)" for record in named)
            return Refusal(f"{spec.where}: there are several records of '{spec.label}' (CKA_ID {ids}): name the right one by id")
        return next(iter(named), None)
