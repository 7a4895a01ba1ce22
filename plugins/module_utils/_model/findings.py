# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""What hsm_info found, made of the lines that its child wrote until it ended."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

# Of which a look has several, in the order in which they are found.
LISTS = ("slots", "mechanisms", "capabilities", "objects")
_SINGLE = ("library", "token", "login", "probe")


def line(section: str, value: Any) -> dict[str, Any]:
    """One finding. Of a list None says that more of it is there than is shown."""
    return {"section": section, "value": value}


def cut(section: str, values: Iterable[Any], most: int) -> Iterator[dict[str, Any]]:
    """A line for each of the first ``most`` values."""
    for number, value in enumerate(values):
        if number == most:
            yield line(section, None)
            return
        yield line(section, value)


def findings(lines: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The sections by name; ``left_off`` names the lists that are not whole, and ``problems`` has what ended a step.

    Each problem gets the ``step`` that was begun last.
    """
    found: dict[str, Any] = {**dict.fromkeys(_SINGLE), **{name: [] for name in LISTS}, "left_off": [], "problems": []}
    step = "library"
    for entry in lines:
        section, value = entry["section"], entry["value"]
        if section == "step":
            step = value
        elif section == "problems":
            found["problems"].append({"step": step, **value})
        elif section in LISTS and value is None:
            found["left_off"].append(section)
        elif section in LISTS:
            found[section].append(value)
        else:
            found[section] = value
    return found
