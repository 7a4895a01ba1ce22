# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The table of the results, and the page in docs that it stands on."""

from __future__ import annotations

from collections.abc import Sequence

from docs_page import DOCS, write_part

from .trial import Result


def table(results: Sequence[Result], *, total: bool = False) -> list[str]:
    numbers = [(one.calls, one.points, one.unsure, len(one.violations)) for one in results]
    rows = [[one.state.module, one.state.name, *map(str, row)] for one, row in zip(results, numbers, strict=True)]
    if total:
        rows.append(["all", "", *(str(sum(column)) for column in zip(*numbers, strict=True))])
    head = ["| module | state | calls | points | cannot be told | violations |", "|---|---|---|---|---|---|"]
    return [*head, *(f"| {' | '.join(row)} |" for row in rows)]


def write_page(results: Sequence[Result], every: int) -> None:
    """Put the table, its date and its command into the page."""
    command = "make faults" + (f" FAULTS_ARGS='--every {every}'" if every > 1 else "")
    write_part(DOCS / "faults.md", "the table", f"`{command}`", table(results, total=True))
