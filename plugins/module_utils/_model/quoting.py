# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""Values of options in error texts, as long as they look like what belongs there."""

from __future__ import annotations

from collections.abc import Sequence

_LONGEST = 120
_SHOWN = 10


def quoted(text: str) -> str:
    """The value in quotes; of a long one, or one of several lines, only the length: it may be a key in the wrong place."""
    if len(text) > _LONGEST or "\n" in text or "-----" in text:
        return f"a text of {len(text)} characters"
    return repr(text)


def listed(labels: Sequence[str]) -> str:
    """For a warning: the first of them by name."""
    more = f" and {len(labels) - _SHOWN} more" if len(labels) > _SHOWN else ""
    return ", ".join(f"'{label}'" for label in labels[:_SHOWN]) + more
