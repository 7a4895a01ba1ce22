# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""The bars of the report's two charts, as numbers that a template draws as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

# Days from which a bar begins, and what stands beside it.
AGES = (
    (0, "under 30 days"),
    (30, "30 to 89 days"),
    (90, "90 to 179 days"),
    (180, "180 to 364 days"),
    (365, "1 to 2 years"),
    (730, "over 2 years"),
)
WIDTH, _LABEL, _NUMBER, _STEP, _BAR = 480, 130, 70, 30, 20


@dataclass(frozen=True)
class Bar:
    """``y`` is the upper edge; ``width`` is 0 for none, and at least 2 for any."""

    label: str
    count: int
    tone: str
    y: int
    width: int

    @property
    def x(self) -> int:
        return _LABEL

    @property
    def height(self) -> int:
        return _BAR

    @property
    def baseline(self) -> int:
        return self.y + 15


@dataclass(frozen=True)
class Chart:
    bars: tuple[Bar, ...]
    width: int = WIDTH

    @property
    def height(self) -> int:
        return len(self.bars) * _STEP

    @property
    def said(self) -> str:
        """What the chart says, for who does not see it."""
        return ", ".join(f"{one.label}: {one.count:,}" for one in self.bars)


def chart(counts: Sequence[tuple[str, int, str]]) -> Chart:
    """One bar for each label, count and tone, the longest as long as there is place."""
    most = max((count for _label, count, _tone in counts), default=0)
    room = WIDTH - _LABEL - _NUMBER
    return Chart(
        tuple(
            Bar(label, count, tone, number * _STEP + 4, max(2, round(count * room / most)) if count else 0)
            for number, (label, count, tone) in enumerate(counts)
        )
    )


def by_age(ages: Sequence[float]) -> list[tuple[str, int, str]]:
    """How many keys are how old, in days. The bars say no more than that: how old a key may be is declared key by key."""
    counts = [0] * len(AGES)
    for age in ages:
        counts[max((number for number, (begin, _label) in enumerate(AGES) if age >= begin), default=0)] += 1
    return [(label, count, "plain") for (_begin, label), count in zip(AGES, counts, strict=True)]
