# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""Which generation an entry of ``keys:`` is about, and which others it brings along.

The current generation is the highest that is on the token or in the registry. It is never taken back by a lower number.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

from ...._model.keys.generations import MAX_GENERATION, known_generations, own_id, recorded_generations, split_label, stored_label
from ...._model.keys.spec import ABSENT, MADE, PUBLIC_ONLY, KeySpec
from ...._model.keys.states import COMPROMISED, DEACTIVATED, DESTROYED, SUSPENDED
from ...._model.records import VirtualKey


def age_seconds(record: VirtualKey | None, now: datetime) -> float | None:
    """How old the recorded key is; None without a record. Of a key that was found, the time since it was recorded counts."""
    moment = (record.made_at or record.created_at) if record is not None else None
    if moment is None:
        return None
    made = datetime.strptime(moment, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)
    return (now - made).total_seconds()


def _of_generation(spec: KeySpec, number: int, **changes: Any) -> KeySpec:
    label = stored_label(spec.base, number)
    if number == 1:
        return replace(spec, label=label, generation=number, **changes)
    return replace(spec, label=label, generation=number, key_id=own_id(label), **{"id_given": False, **changes})


def _retired(spec: KeySpec, number: int) -> KeySpec:
    """The work that ``previous`` asks for on a generation below the current one."""
    unsaid = {"type": None, "size": None, "curve": None, "operations": None, "allowed_mechanisms": None, "material": None, "source": None}
    state = DEACTIVATED if spec.previous == "deactivate" else ABSENT
    return _of_generation(spec, number, **unsaid, state=state, lead=False, id_given=False)


def _is_over(spec: KeySpec, record: VirtualKey | None, now: datetime) -> bool:
    """Whether a generation is known to be as old as ``max_age`` lets it be."""
    age = age_seconds(record, now)
    return age is not None and age >= (spec.max_age or 0)


def _lead_number(spec: KeySpec, there: Sequence[int], records: Mapping[str, VirtualKey], now: datetime) -> tuple[int, str | None]:
    """The generation that is to be current, or why it cannot be."""
    highest = there[-1] if there else 0
    if spec.max_age is None:
        if spec.generation is not None and spec.generation < highest:
            return spec.generation, (
                f"{spec.where}.generation: generation {highest} of this key is there ('{stored_label(spec.base, highest)}'), and a "
                f"generation is not taken back: declare generation: {highest} or a higher one, or leave it out."
            )
        return spec.generation or highest or 1, None
    number = max(spec.generation or 1, highest)
    age = age_seconds(records.get(stored_label(spec.base, number)), now)
    if age is not None and age >= spec.max_age - spec.ahead:
        number += 1
    return number, None


def _expand(
    spec: KeySpec, there: Sequence[int], labels: Container[str], records: Mapping[str, VirtualKey], now: datetime
) -> tuple[list[KeySpec], str | None]:
    if spec.state in MADE:
        number, problem = _lead_number(spec, there, records, now)
        if problem is None and number > MAX_GENERATION:
            problem = f"{spec.where}.generation: there is none after {MAX_GENERATION}"
        lead = _of_generation(spec, number)
        earlier = [other for other in there if other < number]
        if spec.previous == "deactivate":  # what is gone from the token protects nothing any more
            earlier = [other for other in earlier if stored_label(spec.base, other) in labels]
        if spec.ahead:  # until then both are in use
            earlier = [other for other in earlier if _is_over(spec, records.get(stored_label(spec.base, other)), now)]
        others = [] if spec.previous == "keep" else [_retired(spec, other) for other in earlier]
        return [lead, *others], problem
    if spec.generation is not None:
        return [_of_generation(spec, spec.generation)], None
    if spec.state == DEACTIVATED and there:
        return [_of_generation(spec, there[-1]), *(_of_generation(spec, other, lead=False) for other in there[:-1])], None
    if spec.state in (SUSPENDED, COMPROMISED) and there:  # what is in use, and not what came before it
        return [_of_generation(spec, there[-1])], None
    return [_of_generation(spec, 1)], None


def _unnamed(spec: KeySpec, there: Sequence[int], named: Iterable[str]) -> str | None:
    """What is destroyed is named. An entry without a generation means the first, and must not hide that there are others."""
    if spec.state not in (ABSENT, DESTROYED, PUBLIC_ONLY) or spec.generation is not None:
        return None
    left = [number for number in there if number > 1 and stored_label(spec.base, number) not in named]
    if not left:
        return None
    labels = ", ".join(f"'{stored_label(spec.base, number)}'" for number in left)
    return (
        f"{spec.where}.state: this key has later generations: {labels}. Nothing is destroyed that is not named: list each with its label, "
        "or say generation: 1 for the first alone."
    )


def _behind(spec: KeySpec, labels: Container[str], recorded: Mapping[str, Collection[int]]) -> str | None:
    """A label that names a generation is taken as it is. To make one behind those that are there would be to take them back."""
    base, number = split_label(spec.base)
    highest = max(recorded.get(base, ()), default=0)
    if spec.state not in MADE or number is None or number >= highest or spec.label in labels:
        return None
    return (
        f"{spec.where}.label: generation {highest} of '{base}' is there, and an earlier one is not made again: declare '{base}', or "
        "another label."
    )


def expand(
    specs: Iterable[KeySpec], labels: Collection[str], records: Mapping[str, VirtualKey], now: datetime
) -> tuple[list[KeySpec], dict[str, list[int]], list[str]]:
    """A spec for each generation that is to be looked at: each entry's own first, then those that it brings along.

    ``labels`` are those on the token; ``records`` are the registry's, by CKA_LABEL. The second value has the
    known generations of each base label, the third every problem.
    """
    specs, labels = list(specs), set(labels)
    recorded = recorded_generations((label, record.generation) for label, record in records.items())
    families = {spec.base: known_generations(spec.base, labels, recorded.get(spec.base, ()), named=spec.generation or 1) for spec in specs}
    named = {spec.label for spec in specs if spec.state in (ABSENT, DESTROYED, PUBLIC_ONLY) or spec.generation is not None}
    expanded: list[KeySpec] = []
    problems: list[str] = []
    taken: dict[str, KeySpec] = {}
    for spec in specs:
        there = families.get(spec.base, [])
        found, problem = _expand(spec, there, labels, records, now)
        problem = problem or _unnamed(spec, there, named) or _behind(spec, labels, recorded)
        if problem is not None:
            problems.append(problem)
            continue
        for one in found:
            other = taken.setdefault(one.label, one)
            if other is not one:
                problems.append(
                    f"{spec.where}: means '{one.label}', and so does keys[{other.index}] ({other.base}): say generation in one of them."
                )
        expanded += found
    return expanded, families, problems
