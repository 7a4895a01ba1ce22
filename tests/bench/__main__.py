# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The command: rounds, then the tables. Ends well also where an aim is missed; it only fails when something did not run."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from . import growth, network, payloads
from .measure import Failed
from .report import machine, report
from .rounds import QUICK, Settings, measure, memory, whole_loop


def _settings() -> tuple[Settings, growth.Growth | None, network.Network | None, list[str] | None]:
    """What to measure: hsm_key, or the growth of hsm_sync, an HSM that is far away or what a task sends where that is asked for."""
    parser = argparse.ArgumentParser(prog="bench", description="hsm_key side by side with a bare loop, a task loop, and nothing to do.")
    parser.add_argument("--quick", action="store_true", help="one round with a few keys: only to see that it runs")
    parser.add_argument("--full", action="store_true", help="run the pkcs11-tool loop once with all its items too (minutes)")
    parser.add_argument("--sync", action="store_true", help="how hsm_sync grows up to 10,000 keys, instead of the rest")
    parser.add_argument("--network", action="store_true", help="PKCS#11 calls a key, with a millisecond added to each, instead of the rest")
    parser.add_argument(
        "--payload", nargs="*", choices=payloads.MODULES, metavar="MODULE", help="what a task of each module sends, and by which imports"
    )
    parser.add_argument("--rounds", type=int, help="how often; 5 or more for figures to show")
    given = parser.parse_args()
    settings = QUICK if given.quick else Settings()
    sync = growth.QUICK if given.quick else growth.Growth()
    far = network.QUICK if given.quick else network.Network()
    if given.rounds is not None:
        if given.rounds < 1:
            parser.error("--rounds: at least 1")
        settings, sync, far = (replace(one, rounds=given.rounds) for one in (settings, sync, far))
    return replace(settings, full=given.full), sync if given.sync else None, far if given.network else None, given.payload


def main() -> int:
    settings, sync, far, modules = _settings()
    if modules is not None:
        print(payloads.report(modules))
        return 0
    begun = time.monotonic()

    def say(text: str) -> None:
        print(f"[{time.monotonic() - begun:4.0f} s] {text}", file=sys.stderr, flush=True)

    print(machine(), flush=True)
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        scratch = Path(folder)
        try:
            if sync is not None:
                print(growth.report(growth.measure(sync, scratch, say), sync))
                return 0
            if far is not None:
                print(network.report(network.measure(far, scratch, say), network.sizes(far, scratch), far))
                return 0
            samples = measure(settings, scratch, say)
            peaks = memory(settings, scratch, say)
            whole = whole_loop(settings, scratch, say)
        except Failed as problem:
            print(f"bench: {problem}", file=sys.stderr)
            return 1
    print(report(samples, peaks, whole, settings))
    return 0


sys.exit(main())
