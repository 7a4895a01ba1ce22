# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The command: every state, or those whose name or module holds a word; the table; and with ``--page`` the page in docs."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

from faulty import build_fault_library

from .page import table, write_page
from .scratch import Site
from .states import STATES
from .trial import Result, drawn, run_state

SAMPLE = 20  # states


def main() -> int:
    parser = argparse.ArgumentParser(prog="faults", description="Fail every PKCS#11 call of every module once, and look what comes of it.")
    parser.add_argument("--only", default="", metavar="WORD", help="states whose name or module holds this")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="of the calls that write nothing, fail each N-th only")
    parser.add_argument("--sample", default="", metavar="SEED", help="twenty states and two points of each, the same ones for one seed")
    parser.add_argument("--page", action="store_true", help="write docs/faults.md")
    given = parser.parse_args()
    states = [state for state in STATES if given.only in f"{state.module} {state.name}"]
    if given.sample:
        states = sorted(states, key=lambda state: drawn(given.sample, state.name))[:SAMPLE]
    results: list[Result] = []
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="faults-", dir="/dev/shm") as built:
        library = build_fault_library(Path(built))
        for number, state in enumerate(states):
            folder = Path(built, str(number))
            folder.mkdir()
            for found in run_state(Site(folder, library), state, every=given.every, sample=given.sample):
                if isinstance(found, Result):
                    results.append(found)
                    print(table([found])[-1], flush=True)
                else:
                    print(f"  {found}", flush=True)
            shutil.rmtree(folder)
    print("\n".join(["", *table(results, total=True), f"{time.monotonic() - begin:.0f} s"]))
    if given.page:
        write_page(results, given.every)
    return 1 if any(result.violations for result in results) else 0


sys.exit(main())
