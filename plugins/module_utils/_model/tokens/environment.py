# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""Variables that a library reads from its environment."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..quoting import quoted

VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


def texts_of(environment: Mapping[Any, Any]) -> dict[str, str]:
    """Variables without problems, numbers as text, in the order of their names."""
    return {str(variable): str(value) for variable, value in sorted(environment.items())}


def environment_problems(environment: Mapping[Any, Any], where: str) -> list[str]:
    """Every problem, each beginning with ``where: ``. No value is shown."""
    problems = []
    for variable, value in environment.items():
        if not VARIABLE_NAME.match(str(variable)):
            problems.append(f"{where}: {quoted(variable)} is no variable name")
        elif isinstance(value, bool) or not isinstance(value, (str, int, float)):
            problems.append(f"{where}: the value of {variable} is no text: put it in quotes")
        elif "\0" in str(value):
            problems.append(f"{where}: the value of {variable} contains a NUL byte")
    return problems
