# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""Generations of a key: the first has the label itself, those after it ``<label>@<n>``."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable

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


def generations_of(labels: Iterable[str]) -> dict[str, list[int]]:
    """For each base among ``labels`` its generations, in rising order and each once."""
    found: dict[str, set[int]] = defaultdict(set)
    for label in labels:
        base, generation = split_label(label)
        found[base].add(generation or 1)
    return {base: sorted(numbers) for base, numbers in found.items()}
