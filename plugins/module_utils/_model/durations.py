# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""A span of time as people write it: ``30d``, ``1w2d``, ``36h``; and how long a probe may take."""

from __future__ import annotations

import re

from .quoting import quoted

# Seconds in each unit. Months and years are left out: they are not always equally long.
UNITS = {"w": 7 * 24 * 3600, "d": 24 * 3600, "h": 3600, "m": 60, "s": 1}
MAX_SECONDS = 36_525 * 24 * 3600  # a hundred years: dates stay within what certificates and registries can hold

MOST_SECONDS = 86_400  # of a probe

# Largest unit first, each at most once. A pattern of digits only, so that no other alphabet's digits count.
_DURATION = re.compile("".join(rf"(?:([0-9]{{1,12}}){unit})?" for unit in UNITS) + r"\Z")


def parse_duration(text: str) -> int:
    """Seconds in a text such as ``30d``, ``1w2d`` or ``36h``; ``0s`` is no time at all.

    Units are w, d, h, m (minutes) and s, largest first and each at most once. Raises ValueError with a plain reason.
    """
    found = _DURATION.match(text)
    if not text or found is None:
        raise ValueError(
            f"{quoted(text)} is no duration: give numbers with the units w, d, h, m (minutes), s, for example 30d, 1w2d or 36h"
        )
    seconds = sum(int(number) * size for number, size in zip(found.groups(), UNITS.values(), strict=True) if number)
    if seconds > MAX_SECONDS:
        raise ValueError(f"{quoted(text)} is more than a hundred years: give a shorter one")
    return seconds


def time_problems(seconds: int) -> list[str]:
    """What is wrong with the option ``timeout`` of a probe."""
    if seconds <= 0:
        return [f"timeout: {seconds} is too short: give seconds above 0"]
    return [f"timeout: {seconds} is too long: give at most {MOST_SECONDS} seconds, which is a day"] if seconds > MOST_SECONDS else []
