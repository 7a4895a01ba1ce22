# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""One entry of ``keys:``, checked before any provider is loaded."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..durations import parse_duration
from ..quoting import bracketed, quoted
from .generations import MAX_GENERATION, own_id, split_label, stored_label
from .layout import PKCS11, pair_id, pair_label, public_id, public_label
from .material import KeyMaterial, WrappedMaterial
from .objects import KeyObject
from .post_quantum import PARAMETER_SETS
from .ranges import MAX_KEYS, is_range, labels_in, range_size
from .source_rules import KeySource, source_problems
from .states import ACTIVE, COMPROMISED, DEACTIVATED, PRE_ACTIVE
from .types import CURVES, KEY_TYPES, LEAST_HMAC_BITS, PUBLIC, WEAK_TYPES, KeyType, class_operations, is_short, ordered

_MECHANISM = re.compile(r"(?!CKM_)[A-Z][A-Z0-9_]*|0x[0-9a-fA-F]{1,8}")
PRESENT, ABSENT, PUBLIC_ONLY = "present", "absent", "public_only"

# What a key is made for when it is not there; with the other states it must be there.
MADE = (PRESENT, PRE_ACTIVE, ACTIVE)


@dataclass(frozen=True)
class KeySpec:
    """A key as it is asked for. None means: not said, so not compared with a key that exists.

    ``base`` is the label as it was given, ``label`` the CKA_LABEL of the
    generation that this spec is about. ``lead`` is false for the other generations that an entry brings along. ``max_age`` is
    in seconds, and so is ``ahead`` (the option ``lead``). ``material`` is what ``source`` held. ``layout`` is that of the token's instance.
    ``range`` is the label that was given for many keys, of which this is one.
    """

    index: int
    base: str
    label: str
    generation: int | None
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
    max_age: int | None = None
    ahead: int = 0
    previous: str = "keep"
    enforce: bool = False
    allow_weak: bool = False
    source: KeySource | None = None
    material: KeyMaterial | WrappedMaterial | None = None
    lead: bool = True
    on_vanished: str = "fail"
    wrap_with_trusted: bool | None = None
    unverifiable: str = "fail"
    allowed_mechanisms: tuple[str, ...] | None = None
    layout: str = PKCS11
    range: str | None = None

    @property
    def entry(self) -> tuple[int, str]:
        """What the generations of one declared key have in common, and no others."""
        return self.index, self.base

    @property
    def where(self) -> str:
        """How errors name this entry."""
        return f"keys[{self.index}] ({self.base or f'id {self.key_id.hex()}'})"

    @property
    def key_type(self) -> KeyType:
        """The type's rules. Only for a state in ``MADE``, which has a type."""
        return KEY_TYPES[self.type or ""]

    def id_of(self, kind: str) -> bytes:
        """CKA_ID of a new object of this kind."""
        return public_id(self.layout, self.key_id) if kind == PUBLIC else self.key_id

    def label_of(self, kind: str) -> str:
        """CKA_LABEL of a new object of this kind."""
        return public_label(self.layout, self.label) if kind == PUBLIC else self.label

    def beside(self, half: KeyObject) -> KeySpec:
        """The spec, for the other half of the pair that ``half`` is of: under its names, which were perhaps edited."""
        if half.kind != PUBLIC or self.layout == PKCS11:
            return replace(self, label=half.label, key_id=half.key_id)
        return replace(self, label=pair_label(half.label), key_id=pair_id(half.key_id))

    @property
    def new_size(self) -> int | None:
        """Bits of a key that is made now; for EC, the curve's."""
        if isinstance(self.material, KeyMaterial):
            return self.material.size
        if self.type == "EC":
            return CURVES[self.new_curve or ""].bits
        if self.material is not None:
            return self.size  # a wrapped key: only the token will know
        return self.size or self.key_type.default_size

    @property
    def new_curve(self) -> str | None:
        known = self.material.curve if self.material is not None else None
        return known or self.curve or "P-256" if self.type == "EC" else None

    @property
    def new_operations(self) -> tuple[str, ...]:
        return self.operations if self.operations is not None else self.key_type.default_operations

    @property
    def new_attributes(self) -> dict[str, bool]:
        """The operations and attributes that a key is made with now, by name."""
        may = {name: name in self.new_operations for kind in self.key_type.halves for name in class_operations(self.key_type.name, kind)}
        given = {"modifiable": self.modifiable, "destroyable": self.destroyable, "wrap_with_trusted": self.wrap_with_trusted}
        kept = {"sensitive": self.sensitive is not False, "extractable": bool(self.extractable)}
        return {**may, **kept, **{name: value for name, value in given.items() if value is not None}}


def _parse_id(text: str | None, label: str, where: str, problems: list[str]) -> tuple[bytes, bool]:
    if text is None:
        return own_id(label), False
    try:
        key_id = bytes.fromhex(text)
    except ValueError:
        problems.append(f"{where}.id: {quoted(text)} is not hex: give CKA_ID as pairs of hex digits, for example 0a1b")
        return b"", True
    if not key_id:
        problems.append(f"{where}.id: is empty: leave it out to use the label's bytes")
    return key_id, True


def _check_label(options: Mapping[str, Any], where: str, problems: list[str]) -> None:
    label = options["label"]
    if options.get("id") is not None and options.get("state", PRESENT) != PRESENT and label:
        return  # the name of a key of others that shall go, whatever is in it
    if not label.strip():
        problems.append(f"{where}.label: is empty: every key needs a label, and one that is there without a label its id")
    elif not label.isprintable():
        problems.append(f"{where}.label: {quoted(label)} contains a character that cannot be printed")
    elif label != label.strip():
        problems.append(f"{where}.label: {quoted(label)} begins or ends with a blank")


def _check_nameless(options: Mapping[str, Any], where: str, problems: list[str]) -> None:
    """A key without a label is one that others made. It is looked at, taken out of use and destroyed."""
    given = {name: options.get(name) for name in ("generation", "max_age", "source", "previous", "on_mismatch", "on_vanished")}
    for name, value in given.items():
        if value not in (None, "keep", "fail"):
            problems.append(f"{where}.{name}: is for keys with a label, and this has none: leave it out")


def _check_type(options: Mapping[str, Any], where: str, problems: list[str]) -> None:
    key_type = KEY_TYPES[options["type"]]
    size, curve, operations = options.get("size"), options.get("curve"), options.get("operations")
    if key_type.name in WEAK_TYPES and not options.get("allow_weak"):
        problems.append(f"{where}.type: {key_type.name} is too weak for use today: choose AES, or say allow_weak: true")
    if key_type.name == "EC":
        if size is not None:
            problems.append(f"{where}.size: an EC key has a curve, not a size: give curve ({', '.join(CURVES)})")
    else:
        if curve is not None:
            problems.append(f"{where}.curve: {key_type.name} keys have no curve{': give size' if key_type.sizes else ''}")
        if size is not None and not key_type.sizes:
            problems.append(f"{where}.size: {key_type.name} keys have one size: leave it out")
        # An imported RSA key may have any size that is not too small; what it has is known when its source was read.
        elif size is not None and size not in key_type.sizes and not (key_type.name == "RSA" and options.get("source")):
            one_of = "one of " if isinstance(key_type.sizes, tuple) and len(key_type.sizes) > 1 else ""
            problems.append(f"{where}.size: {size} is no size of {key_type.name} keys: use {one_of}{key_type.sizes_text}")
        elif is_short(key_type.name, size) and not options.get("allow_weak"):
            problems.append(f"{where}.size: {size} bits are too weak for use today: use {LEAST_HMAC_BITS} or more, or say allow_weak: true")
    if options.get("source") is not None and key_type.name in PARAMETER_SETS:
        problems.append(f"{where}.source: {key_type.name} keys are generated in the HSM and not imported: leave it out")
    if operations is not None:
        if not operations:
            problems.append(f"{where}.operations: is empty, and the key could do nothing: name operations or leave it out")
        for operation in sorted(set(operations) - key_type.operations):
            allowed = ", ".join(ordered(key_type.operations))
            problems.append(f"{where}.operations: {key_type.name} keys cannot {operation}: use {allowed}")


def _check_allowed(names: Sequence[str] | None, where: str, problems: list[str]) -> None:
    """Which names PKCS#11 has is known where python-pkcs11 is."""
    if names is not None and not names:
        problems.append(f"{where}.allowed_mechanisms: is empty, and the key could do nothing: name mechanisms or leave it out")
    for name in names or ():
        if not _MECHANISM.fullmatch(name):
            problems.append(
                f"{where}.allowed_mechanisms: {quoted(name)} is not a mechanism: give its name without CKM_, for example "
                'SHA256_RSA_PKCS_PSS, or a vendor\'s number in quotes, for example "0x80000001"'
            )


def _check_generation(options: Mapping[str, Any], where: str, problems: list[str]) -> None:
    asked = options.get("generation")
    base, named = split_label(options["label"])
    if asked is not None and not 1 <= asked <= MAX_GENERATION:
        problems.append(f"{where}.generation: {asked} is no generation: give a number from 1 to {MAX_GENERATION}")
    if named is not None and (asked is not None or options.get("max_age") is not None):
        option = "generation" if asked is not None else "max_age"
        problems.append(f"{where}.{option}: the label names generation {named} of '{base}' already: give label {base} with generation: n")


def _parse_max_age(options: Mapping[str, Any], where: str, problems: list[str]) -> int | None:
    text = options.get("max_age")
    if text is None:
        return None
    try:
        seconds = parse_duration(text)
    except ValueError as error:
        problems.append(f"{where}.max_age: {error}")
        return None
    if seconds == 0:
        problems.append(f"{where}.max_age: {quoted(text)} is no time at all, and every run would make another key: give a longer one")
    return seconds


def _parse_lead(options: Mapping[str, Any], max_age: int | None, where: str, problems: list[str]) -> int:
    text = options.get("lead")
    if text is None:
        return 0
    try:
        seconds = parse_duration(text)
    except ValueError as error:
        problems.append(f"{where}.lead: {error}")
        return 0
    if options.get("max_age") is None:
        problems.append(f"{where}.lead: is counted back from max_age: give that, too")
    elif max_age is not None and seconds >= max_age:
        problems.append(f"{where}.lead: is not shorter than max_age, and every run would make another key: give a shorter one")
    return seconds


def _check_rotation(options: Mapping[str, Any], state: str, generation: int | None, where: str, problems: list[str]) -> None:
    previous, enforce = options.get("previous") or "keep", bool(options.get("enforce"))
    if options.get("id") is not None and ((generation or 1) > 1 or options.get("max_age") is not None):
        problems.append(f"{where}.id: is generation 1's; later generations have their label's bytes: leave it out")
    if state not in MADE:
        for option in ("max_age", "source"):
            if options.get(option) is not None:
                problems.append(f"{where}.{option}: goes with state: present only: leave it out")
        if previous != "keep":
            problems.append(f"{where}.previous: goes with state: present only: leave it out")
    elif state != PRESENT and (options.get("max_age") is not None or previous != "keep"):
        option = "previous" if previous != "keep" else "max_age"
        problems.append(f"{where}.{option}: goes with state: present only: leave it out")
    elif options.get("source") is not None and options.get("max_age") is not None:
        problems.append(f"{where}.max_age: an imported key cannot be rotated by its age: raise generation and give the next source")
    if enforce and not (state in (DEACTIVATED, COMPROMISED) or (state == PRESENT and previous == "deactivate")):
        problems.append(f"{where}.enforce: goes with state: deactivated or compromised, or previous: deactivate: leave it out")


def _check_public_only(options: Mapping[str, Any], where: str, problems: list[str]) -> None:
    key_type = KEY_TYPES.get(options.get("type") or "")
    if key_type is not None and not key_type.is_pair:
        problems.append(f"{where}.state: {key_type.name} keys have no public half: public_only is for key pairs")


def _each(entries: Sequence[Mapping[str, Any]], problems: list[str]) -> Iterator[tuple[int, Mapping[str, Any], str]]:
    """Every key of ``keys``: index and options of its entry, and its label. A range is many; with an id a label is taken as it is."""
    ranges: dict[int, int] = {}
    for index, options in enumerate(entries):
        label = options["label"]
        if not is_range(label) or options.get("id") is not None:
            continue
        try:
            ranges[index] = range_size(label)
        except ValueError as error:
            ranges[index] = 0
            problems.append(f"keys[{index}].label: {error}")
        if options.get("source") is not None:
            problems.append(f"keys[{index}].source: {quoted(label)} is many keys, which would all be one: give each its own entry")
    total = len(entries) - len(ranges) + sum(ranges.values())
    if total > MAX_KEYS:
        problems.append(f"keys: holds {total} {'keys' if ranges else 'entries'}: give at most {MAX_KEYS} in one task")
    for index, options in enumerate(entries):
        if index not in ranges:
            yield index, options, options["label"]
        elif ranges[index] and total <= MAX_KEYS:
            for label in labels_in(options["label"]):
                yield index, options, label


def parse_keys(entries: Sequence[Mapping[str, Any]]) -> tuple[list[KeySpec], list[str]]:
    """Specs of the good entries of the option ``keys``, in order, and every problem of the others, each naming its index.

    Files that a ``source`` names are not read here.
    """
    problems: list[str] = []
    if not entries:
        problems.append("keys: is empty: name at least one key")
    specs: list[KeySpec] = []
    by_name: dict[str, int] = {}
    by_id: dict[bytes, int] = {}
    wrong: set[int] = set()  # one mistake of a range is not told of each of its keys
    for index, options, label in _each(entries, problems):
        if index in wrong:
            continue
        nameless = label == "" and bool(options.get("id"))
        shown = f"id {options['id']}" if nameless else label
        where = f"keys[{index}]{bracketed(shown)}"
        before = len(problems)
        (_check_nameless if nameless else _check_label)({**options, "label": label}, where, problems)
        state = options.get("state") or PRESENT
        generation = options.get("generation")
        _check_generation({**options, "label": label}, where, problems)
        stored = stored_label(label, generation or 1)
        key_id, id_given = _parse_id(options.get("id"), stored, where, problems)
        if state in MADE and options.get("type") is None:
            problems.append(f"{where}.type: is missing: a key that is to be present needs one of {', '.join(KEY_TYPES)}")
        elif state in MADE:
            _check_type(options, where, problems)
        elif state == PUBLIC_ONLY:
            _check_public_only(options, where, problems)
        allowed = options.get("allowed_mechanisms")
        _check_allowed(allowed, where, problems)
        max_age = _parse_max_age(options, where, problems)
        ahead = _parse_lead(options, max_age, where, problems)
        _check_rotation(options, state, generation, where, problems)
        source = KeySource(**options["source"]) if options.get("source") is not None else None
        if source is not None:
            problems += source_problems(source, where, type=options.get("type"))
        if nameless and stored in by_name:
            problems.append(f"{where}.label: keys[{by_name[stored]}] has none either: give keys without a label one by one, with loop")
        elif stored in by_name:
            problems.append(f"{where}.label: keys[{by_name[stored]}] has the same label: give each key once")
        elif key_id in by_id and len(problems) == before:
            problems.append(f"{where}.id: keys[{by_id[key_id]}] has the same CKA_ID {key_id.hex()}: give each key its own")
        by_name.setdefault(stored, index)
        by_id.setdefault(key_id, index)
        if len(problems) > before:
            wrong.add(index)
        else:
            operations = options.get("operations")
            specs.append(
                KeySpec(
                    index=index,
                    base=label,
                    label=stored,
                    generation=generation,
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
                    max_age=max_age,
                    ahead=ahead,
                    previous=options.get("previous") or "keep",
                    enforce=bool(options.get("enforce")),
                    allow_weak=bool(options.get("allow_weak")),
                    source=source,
                    on_vanished=options.get("on_vanished") or "fail",
                    wrap_with_trusted=options.get("wrap_with_trusted"),
                    unverifiable=options.get("unverifiable") or "fail",
                    allowed_mechanisms=None if allowed is None else tuple(sorted(set(allowed))),
                    range=options["label"] if label != options["label"] else None,
                )
            )
    return specs, problems
