# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""What differs between a key that is there and what an entry of ``keys:`` asks for: what can be changed, and what cannot."""

from __future__ import annotations

from typing import Any

from ...._model.keys.objects import Key, describe_key
from ...._model.keys.spec import KeySpec
from ...._model.keys.types import CLASS_OPERATIONS, PUBLIC
from ...._model.records import VirtualKey
from .plan import AttributeChange


def as_known(key: Key, known: VirtualKey | None) -> dict[str, Any]:
    """What the key is; what its token does not say, as it was recorded on one that does. A copy that was unwrapped may not say its size."""
    is_now = describe_key(key)
    if known is not None and known.type == key.main.type:
        is_now |= {name: getattr(known, name) for name in ("size", "curve") if is_now[name] is None}
    return is_now


def untold(spec: KeySpec, key: Key, known: VirtualKey | None) -> str | None:
    """What was asked for and nobody says: no ground to call it different, let alone to replace it."""
    is_now = as_known(key, known)
    names = [name for name in ("size", "curve") if getattr(spec, name) is not None and is_now[name] is None and spec.type == key.main.type]
    if not names or spec.material is not None:  # an import is compared by its value
        return None
    return f"{spec.where}.{names[0]}: the token does not say the {names[0]} of this key, so it cannot be compared: leave it out."


def fixed_mismatches(spec: KeySpec, key: Key, known: VirtualKey | None) -> list[str]:
    """Differences that no attribute write can mend (PKCS#11 3.1, sections 4.4, 4.8 to 4.10)."""
    main, is_now = key.main, as_known(key, known)
    if spec.type not in (None, main.type):
        return [f"type is {main.type}, asked for {spec.type}"]
    found = [
        f"{name} is {is_now[name]}, asked for {wanted}"
        for name, wanted in (("size", spec.size), ("curve", spec.curve))
        if wanted is not None and is_now[name] not in (wanted, None)
    ]
    if spec.id_given and main.key_id != spec.key_id:
        found.append(f"id is {main.key_id.hex() or 'empty'}, asked for {spec.key_id.hex()}")
    if spec.sensitive is False and main.sensitive:
        found.append("sensitive is true and cannot be taken back")
    if spec.extractable is True and main.extractable is False:
        found.append("extractable is false and cannot be taken back")
    fixed = {"modifiable": spec.modifiable, "destroyable": spec.destroyable, "wrap_with_trusted": spec.wrap_with_trusted}
    for name, wanted in fixed.items():
        actual = getattr(main, name)
        if wanted is not None and actual is not None and actual != wanted:
            found.append(f"{name} is {str(actual).lower()}, asked for {str(wanted).lower()}")
    return found


def attribute_changes(spec: KeySpec, key: Key) -> list[AttributeChange]:
    changes: list[AttributeChange] = []
    if spec.operations is not None:
        for item in key.objects:
            for operation in CLASS_OPERATIONS[item.kind]:
                wanted = operation in spec.operations
                if wanted != (operation in item.operations):
                    changes.append(AttributeChange(item, operation.upper(), wanted))
    if key.main.kind != PUBLIC:
        if spec.sensitive is True and key.main.sensitive is False:
            changes.append(AttributeChange(key.main, "SENSITIVE", True))
        if spec.extractable is False and key.main.extractable:
            changes.append(AttributeChange(key.main, "EXTRACTABLE", False))
    return changes
