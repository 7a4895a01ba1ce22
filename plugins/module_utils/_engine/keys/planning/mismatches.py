# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""What differs between a key that is there and what an entry of ``keys:`` asks for: what can be changed, and what cannot. What the
token does not say is no difference: that is for ``unverified``."""

from __future__ import annotations

from ...._model.keys.objects import Key, describe_key
from ...._model.keys.spec import KeySpec
from ...._model.keys.types import CLASS_OPERATIONS, PUBLIC
from .plan import AttributeChange


def fixed_mismatches(spec: KeySpec, key: Key) -> list[str]:
    """Differences that no attribute write can mend (PKCS#11 3.1, sections 4.4, 4.8 to 4.10)."""
    main, is_now = key.main, describe_key(key)
    if spec.type not in (None, main.type):
        return [f"type is {main.type}, asked for {spec.type}"]
    found = [
        f"{name} is {is_now[name]}, asked for {wanted}"
        for name, wanted in (("size", spec.size), ("curve", spec.curve))
        if wanted is not None and is_now[name] not in (wanted, None)
    ]
    if spec.id_given and main.key_id not in (spec.key_id, spec.id_of(main.kind)):
        found.append(f"id is {main.key_id.hex() or 'empty'}, asked for {spec.key_id.hex()}")
    if spec.sensitive is False and main.sensitive:
        found.append("sensitive is true and cannot be taken back")
    if spec.extractable is True and main.extractable is False:
        found.append("extractable is false and cannot be taken back")
    if spec.allowed_mechanisms is not None and main.allowed_mechanisms not in (spec.allowed_mechanisms, None):
        has = ", ".join(main.allowed_mechanisms or ["all"])
        found.append(f"allowed_mechanisms is {has}, asked for {', '.join(spec.allowed_mechanisms)}")
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
                if item.has(operation) not in (wanted, None):
                    changes.append(AttributeChange(item, operation.upper(), wanted))
    if key.main.kind != PUBLIC:
        if spec.sensitive is True and key.main.sensitive is False:
            changes.append(AttributeChange(key.main, "SENSITIVE", True))
        if spec.extractable is False and key.main.extractable:
            changes.append(AttributeChange(key.main, "EXTRACTABLE", False))
    return changes
