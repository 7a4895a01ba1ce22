# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A page in docs that a command writes a part of: the tables of what it found, with its date."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date
from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs"


def write_part(page: Path, part: str, command: str, lines: Sequence[str]) -> None:
    """Put ``lines`` between the comments that begin and end ``part`` of the page, below the command that made them."""
    begin, end = f"<!-- begin of {part} -->", f"<!-- end of {part} -->"
    text = "\n".join([begin, "", f"{command}, {date.today():%d %B %Y}:", "", *lines, "", end])
    page.write_text(re.sub(f"{re.escape(begin)}.*{re.escape(end)}", lambda _match: text, page.read_text(), flags=re.DOTALL))
