# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""The keys of a group's members: read so that they can be compared, and what was found as hsm_sync returns it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..._cryptoki.comparing import check_value, whole_check
from ..._cryptoki.objects import Inventory
from ..._cryptoki.session import Session
from ..._model.groups.member_comparison import Disagreement, MemberKey
from ..._model.keys.objects import Key
from ..._model.keys.types import SECRET


def member_keys(session: Session, inventory: Inventory, keys: Iterable[Key]) -> list[MemberKey]:
    """The keys as values that :func:`compare_members` takes, in the same order.

    Attributes that were read already are enough, but for two kinds of secret keys, which are used once: those
    without CKA_CHECK_VALUE, and those that share one with another of their type on this token. Raises :class:`Cryptoki`; a
    fault of the device is never "no fingerprint".
    """
    keys = list(keys)
    found = [_described(session, inventory, key) for key in keys]
    sharing = Counter((item.kind, item.type, item.fingerprint) for item in found)
    for number, (key, item) in enumerate(zip(keys, found, strict=True)):
        if item.kind == SECRET and item.fingerprint is not None and sharing[item.kind, item.type, item.fingerprint] > 1:
            whole = whole_check(session, inventory, key.main)
            found[number] = replace(item, exact=whole.hex() if whole is not None else None)
    return found


def _described(session: Session, inventory: Inventory, key: Key) -> MemberKey:
    main, fingerprint = key.main, key.fingerprint
    size = main.size or (key.public.size if key.public is not None else None)
    if fingerprint is None and main.kind == SECRET:
        value = check_value(session, inventory, main)
        fingerprint = value.hex() if value is not None else None
    elif fingerprint is None:
        fingerprint = key.public_fingerprint
    return MemberKey(main.kind, main.key_id, main.label, main.type, size, fingerprint)


def report_rows(rows: Iterable[Disagreement], connections: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows with each member's number replaced by what ``connections`` says of it, in the same order as the members compared."""

    def named(members: Iterable[int]) -> list[dict[str, Any]]:
        return [dict(connections[member]) for member in members]

    return [
        {
            "label": row.label,
            "id": row.key_id.hex(),
            "kind": row.kind,
            "type": row.type,
            "size": row.size,
            "fingerprint": row.fingerprint,
            "have": named(row.have),
            "lack": named(row.lack),
            "twice": named(row.twice),
            "different": [{**connections[member], "fingerprint": row.other[member]} for member in row.different],
            "unknown": named(row.unknown),
            "public_only": named(row.public_only),
            "renamed": [
                {**connections[member], "label": label, "id": key_id.hex()} for member, (label, key_id) in sorted(row.renamed.items())
            ],
        }
        for row in rows
    ]
