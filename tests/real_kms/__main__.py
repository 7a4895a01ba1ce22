# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The command: every step on a scene of its own, the table, and with ``--page`` the table in docs/kms.md."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from docs_page import DOCS, write_part

from . import server
from .refusals import REFUSALS
from .scene import Scene
from .steps import STEPS


def row(step: Callable[[Scene], Any]) -> tuple[str, bool]:
    """A line of the table, and whether the step did what it says."""
    folder = Path(tempfile.mkdtemp(prefix="real-kms-", dir="/dev/shm"))
    try:
        scene = Scene.made(folder)
        title = " ".join((step.__doc__ or "").split())
        try:
            return f"| {title} | {_words(step(scene))} |", True
        except Exception as error:  # a step that fails is a row, and the others go on
            return f"| {title} | **fault**: {_words(f'{type(error).__name__}: {error}')} |", False
    finally:
        shutil.rmtree(folder)


def _words(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")[:400]


def main() -> int:
    parser = argparse.ArgumentParser(prog="real_kms", description="Ask a real Eviden server what it does with our files and keys.")
    parser.add_argument("--only", default="", metavar="WORD", help="steps whose name holds this")
    parser.add_argument("--page", action="store_true", help="write the tables of docs/kms.md")
    given = parser.parse_args()
    lines, good = [], True
    for head, steps in (("what works", STEPS), ("what is refused or warned of here", REFUSALS)):
        lines += [f"| {head} | the server |", "|---|---|"]
        for step in steps:
            if given.only not in step.__name__:
                continue
            line, well = row(step)
            good = good and well
            lines.append(line)
            print(line, flush=True)
        lines.append("")
    if given.page:
        write_part(DOCS / "kms.md", "the real server's tables", f"`make real-kms` with {server.version()}", lines[:-1])
    return 0 if good else 1


sys.exit(main())
