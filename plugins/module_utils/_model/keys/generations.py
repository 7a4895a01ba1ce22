# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""Generations of a key: the first has the label itself, those after it ``<label>@<n>``."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Container, Iterable

MAX_GENERATION = 9999

# Without leading zeros, so that each generation has one label only. 1 is not written.
_LABEL = re.compile(r"(?P<base>.+)@(?P<generation>[2-9]|[1-9][0-9]{1,3})\Z", re.DOTALL)


def split_label(label: str) -> tuple[str, int | None]:
    """The base of a stored label, and the generation that it names; None where it names none (the first, or any)."""
    match = _LABEL.match(label)
    return (match["base"], int(match["generation"])) if match else (label, None)


def stored_label(base: str, generation: int) -> str:
    """CKA_LABEL of a generation; its CKA_ID is the bytes of it."""
    return base if generation == 1 else f"{base}@{generation}"


def own_id(label: str) -> bytes:
    """The CKA_ID that a key with this label has unless another is given: the label's bytes, as the Eviden server finds keys."""
    return label.encode("utf-8", "surrogateescape")


def recorded_generations(records: Iterable[tuple[str, int]]) -> dict[str, set[int]]:
    """For each base label its generations in the registry. Records are given by label and generation, which is 1 unless hsm_key made
    the key as a later one."""
    found: dict[str, set[int]] = defaultdict(set)
    for label, generation in records:
        found[label].add(1)
        if generation > 1:
            found[split_label(label)[0]].add(generation)
    return found


def known_generations(base: str, labels: Container[str], recorded: Collection[int], *, named: int = 1) -> list[int]:
    """The generations of a key that are on the token or in the registry, in rising order.

    A label ``<label>@<n>`` alone proves nothing: it may be somebody's own name for another key. A generation is one that is
    ``recorded`` as such, one in an unbroken row behind the first, and any up to the number that somebody has ``named``.
    """
    found = set(recorded)
    if base in labels:
        found.add(1)
    following = 2
    while 1 in found and (following in found or stored_label(base, following) in labels):
        found.add(following)
        following += 1
    found |= {number for number in range(following, named + 1) if stored_label(base, number) in labels}
    return sorted(found)
