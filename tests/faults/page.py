# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The table of the results, and the page in docs that it stands on."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date
from pathlib import Path

from .trial import Result

PAGE = Path(__file__).resolve().parents[2] / "docs" / "faults.md"
_BEGIN, _END = "<!-- begin of the table -->", "<!-- end of the table -->"


def table(results: Sequence[Result], *, total: bool = False) -> list[str]:
    rows = [(one.state.module, one.state.name, one.calls, one.points, one.unsure, len(one.violations)) for one in results]
    if total:
        rows.append(("all", "", *(sum(row[number] for row in rows) for number in range(2, 6))))  # type: ignore[misc]
    head = ["| module | state | calls | points | cannot be told | violations |", "|---|---|---|---|---|---|"]
    return [*head, *(f"| {' | '.join(map(str, row))} |" for row in rows)]


def write_page(results: Sequence[Result], every: int) -> None:
    """Put the table, its date and its command into the page."""
    command = "make faults" + (f" FAULTS_ARGS='--every {every}'" if every > 1 else "")
    text = "\n".join([_BEGIN, "", f"`{command}`, {date.today():%d %B %Y}:", "", *table(results, total=True), "", _END])
    PAGE.write_text(re.sub(f"{re.escape(_BEGIN)}.*{re.escape(_END)}", lambda _match: text, PAGE.read_text(), flags=re.DOTALL))
