# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""When an instance is probed."""

from __future__ import annotations

from collections.abc import Callable

_JITTER = 0.1  # of the interval: gateways that were started together do not ask one HSM at the same moment for ever
_STAGGER = 0.2  # seconds between the first probes of two instances


def first_delay(place: int) -> float:
    """Seconds before the first probe of the instance at this place of the declaration."""
    return place * _STAGGER


def next_delay(interval: float, took: float, random: Callable[[], float]) -> float:
    """Seconds from the end of a probe that took ``took`` to the next one. ``random`` gives 0 to 1.

    Probes begin ``interval`` apart, give or take a tenth. One that takes longer than that is followed by a pause of a tenth.
    """
    begins = interval * (1 - _JITTER + 2 * _JITTER * random())
    return max(begins - took, interval * _JITTER)


def stale_after(interval: float, timeout: float) -> float:
    """Seconds after which the answer of a probe counts no more: two that came to nothing, with all the time that they may take."""
    return 2 * (interval * (1 + _JITTER) + timeout) + _GRACE


_GRACE = 10.0  # seconds for a busy machine
DEADLINE_MARGIN = 5.0  # seconds beyond the timeout that a probe has to start and to say what it found
