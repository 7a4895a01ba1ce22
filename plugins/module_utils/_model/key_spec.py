# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""One entry of ``keys:``, checked before any provider is loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .errors import InputError
from .key_types import CURVES, KEY_TYPES, KeyType, ordered

MAX_KEYS = 10_000


@dataclass(frozen=True)
class KeySpec:
    """A key as it is asked for. None means: not said, so not compared with a key that exists."""

    index: int
    label: str
    key_id: bytes
    id_given: bool
    type: str | None
    size: int | None
    curve: str | None
    operations: tuple[str, ...] | None
    sensitive: bool | None
    extractable: bool | None
    modifiable: bool | None
    destroyable: bool | None
    on_mismatch: str
    state: str

    @property
    def key_type(self) -> KeyType:
        """The type's rules. Only for ``state: present``, which has a type."""
        return KEY_TYPES[self.type or ""]

    @property
    def new_size(self) -> int | None:
        """Bits of a key that is generated now; for EC, the curve's."""
        if self.type == "EC":
            return CURVES[self.new_curve or ""].bits
        return self.size or self.key_type.default_size

    @property
    def new_curve(self) -> str | None:
        return (self.curve or "P-256") if self.type == "EC" else None

    @property
    def new_operations(self) -> tuple[str, ...]:
        return self.operations if self.operations is not None else self.key_type.default_operations


def _parse_id(text: str | None, label: str, where: str, problems: list[str]) -> tuple[bytes, bool]:
    if text is None:
        return label.encode("utf-8", "surrogateescape"), False
    try:
        key_id = bytes.fromhex(text)
    except ValueError:
        problems.append(f"{where}.id: {text!r} is not hex: give CKA_ID as pairs of hex digits, for example 0a1b")
        return b"", True
    if not key_id:
        problems.append(f"{where}.id: is empty: leave it out to use the label's bytes")
    return key_id, True


def _check_label(label: str, where: str, problems: list[str]) -> None:
    if not label.strip():
        problems.append(f"{where}.label: is empty: every key needs a label")
    elif not label.isprintable():
        problems.append(f"{where}.label: {label!r} contains a character that cannot be printed")
    elif label != label.strip():
        problems.append(f"{where}.label: {label!r} begins or ends with a blank")


def _check_type(options: Mapping[str, Any], where: str, problems: list[str]) -> None:
    key_type = KEY_TYPES[options["type"]]
    size, curve, operations = options.get("size"), options.get("curve"), options.get("operations")
    if key_type.name == "EC":
        if size is not None:
            problems.append(f"{where}.size: an EC key has a curve, not a size: give curve ({', '.join(CURVES)})")
    else:
        if curve is not None:
            problems.append(f"{where}.curve: {key_type.name} keys have no curve: give size")
        if size is not None and size not in key_type.sizes:
            sizes = ", ".join(str(bits) for bits in key_type.sizes)
            problems.append(f"{where}.size: {size} is no size of {key_type.name} keys: use one of {sizes}")
    if operations is not None:
        if not operations:
            problems.append(f"{where}.operations: is empty, and the key could do nothing: name operations or leave it out")
        for operation in sorted(set(operations) - key_type.operations):
            allowed = ", ".join(ordered(key_type.operations))
            problems.append(f"{where}.operations: {key_type.name} keys cannot {operation}: use {allowed}")


def parse_keys(entries: Sequence[Mapping[str, Any]]) -> list[KeySpec]:
    """Key specs from the option ``keys``, in order.

    Raises :class:`InputError` with every problem of every entry, each naming its index.
    """
    problems: list[str] = []
    if not entries:
        problems.append("keys: is empty: name at least one key")
    if len(entries) > MAX_KEYS:
        problems.append(f"keys: holds {len(entries)} entries: give at most {MAX_KEYS} in one task")
    specs: list[KeySpec] = []
    by_label: dict[str, int] = {}
    by_id: dict[bytes, int] = {}
    for index, options in enumerate(entries):
        label = options["label"]
        where = f"keys[{index}] ({label})"
        before = len(problems)
        _check_label(label, where, problems)
        key_id, id_given = _parse_id(options.get("id"), label, where, problems)
        state = options.get("state") or "present"
        if state == "present":
            if options.get("type") is None:
                problems.append(f"{where}.type: is missing: a key that is to be present needs one of {', '.join(KEY_TYPES)}")
            else:
                _check_type(options, where, problems)
        if label in by_label:
            problems.append(f"{where}.label: keys[{by_label[label]}] has the same label: give each key once")
        elif key_id in by_id and len(problems) == before:
            problems.append(f"{where}.id: keys[{by_id[key_id]}] has the same CKA_ID {key_id.hex()}: give each key its own")
        by_label.setdefault(label, index)
        by_id.setdefault(key_id, index)
        if len(problems) == before:
            operations = options.get("operations")
            specs.append(
                KeySpec(
                    index=index,
                    label=label,
                    key_id=key_id,
                    id_given=id_given,
                    type=options.get("type"),
                    size=options.get("size"),
                    curve=options.get("curve"),
                    operations=None if operations is None else ordered(operations),
                    sensitive=options.get("sensitive"),
                    extractable=options.get("extractable"),
                    modifiable=options.get("modifiable"),
                    destroyable=options.get("destroyable"),
                    on_mismatch=options.get("on_mismatch") or "fail",
                    state=state,
                )
            )
    if problems:
        raise InputError(problems)
    return specs
