# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""Objects of a token that may have to do with a key although they are not part of it: nothing beside them is destroyed or added."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from ...._model.keys.layout import EVIDEN, certificate_ids, public_id, public_label
from ...._model.keys.objects import Key, KeyObject


class Neighbours:
    """``objects`` are the token's key objects, ``certified`` the CKA_IDs of its certificates."""

    def __init__(self, objects: Iterable[KeyObject], certified: Iterable[bytes]) -> None:
        self._certified = frozenset(certified)
        self._by_name: dict[bytes | str, list[KeyObject]] = defaultdict(list)
        for item in objects:
            for name in (item.key_id, item.label, item.modulus):
                if name:
                    self._by_name[name].append(item)

    def has_certificate(self, key: Key) -> bool:
        return not self._certified.isdisjoint(certificate_ids(key.pair_id))

    def reason(self, key: Key) -> str | None:
        """Why nothing is destroyed or added here: other objects with its CKA_ID, its CKA_LABEL or its modulus, as a half that goes
        by another name has. None where there are none."""
        own = {item.handle for item in key.objects}
        names = {name for item in key.objects for name in (item.key_id, item.label, item.modulus) if name}
        names |= {name for name in (key.pair_id, key.pair_label) if name}
        names |= {name for name in (public_id(EVIDEN, key.pair_id), public_label(EVIDEN, key.pair_label)) if name and key.secret is None}
        found = {item.handle: item for name in names for item in self._by_name.get(name, ()) if item.handle not in own}
        words = [f"{item.named()}, label '{item.label}'" for item in found.values()]
        ids = dict.fromkeys(one for item in key.objects for one in (item.key_id, *certificate_ids(key.pair_id)))
        words += [f"a certificate, CKA_ID {key_id.hex()}" for key_id in ids if key_id in self._certified]
        return f"other objects on the token may belong to it: {'; '.join(words)}" if words else None
