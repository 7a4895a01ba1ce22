# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The command: rounds, then the tables. Ends well also where an aim is missed; it only fails when something did not run."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from . import growth, network, payloads, peer
from .measure import Failed
from .report import machine, report
from .rounds import QUICK, Settings, measure, memory, whole_loop


@dataclass(frozen=True)
class Wanted:
    """What to measure: hsm_key, or what is there in its place where that is asked for."""

    settings: Settings
    sync: growth.Growth | None
    far: network.Network | None
    modules: list[str] | None
    beside: tuple[peer.Binaries, peer.Settings] | None


def _wanted() -> Wanted:
    parser = argparse.ArgumentParser(prog="bench", description="hsm_key side by side with a bare loop, a task loop, and nothing to do.")
    parser.add_argument("--quick", action="store_true", help="one round with a few keys: only to see that it runs")
    parser.add_argument("--full", action="store_true", help="run the pkcs11-tool loop once with all its items too (minutes)")
    parser.add_argument("--sync", action="store_true", help="how hsm_sync grows up to 10,000 keys, instead of the rest")
    parser.add_argument("--network", action="store_true", help="PKCS#11 calls a key, with a millisecond added to each, instead of the rest")
    parser.add_argument(
        "--peer",
        action="store_true",
        help=f"OpenTofu or Terraform ({peer.CLI} names the binary) with terraform-provider-pkcs11 ({peer.PROVIDER}), instead of the rest",
    )
    parser.add_argument(
        "--payload", nargs="*", choices=payloads.MODULES, metavar="MODULE", help="what a task of each module sends, and by which imports"
    )
    parser.add_argument("--rounds", type=int, help="how often; 5 or more for figures to show")
    given = parser.parse_args()
    settings = QUICK if given.quick else Settings()
    sync = growth.QUICK if given.quick else growth.Growth()
    far = network.QUICK if given.quick else network.Network()
    beside = peer.QUICK if given.quick else peer.Settings()
    if given.rounds is not None:
        if given.rounds < 1:
            parser.error("--rounds: at least 1")
        settings, sync, far, beside = (replace(one, rounds=given.rounds) for one in (settings, sync, far, beside))
    try:
        binaries = peer.Binaries.named(os.environ) if given.peer else None
    except peer.Missing as problem:
        parser.error(f"--peer: {problem}")
    return Wanted(
        replace(settings, full=given.full),
        sync if given.sync else None,
        far if given.network else None,
        given.payload,
        (binaries, beside) if binaries else None,
    )


def _report(wanted: Wanted, scratch: Path, say: Callable[[str], None]) -> str:
    """Measures, and gives the tables. Raises :class:`Failed`."""
    if wanted.beside is not None:
        binaries, beside = wanted.beside
        print(binaries.line(), flush=True)
        return peer.report(peer.measure(binaries, beside, scratch, say), beside)
    if wanted.sync is not None:
        return growth.report(growth.measure(wanted.sync, scratch, say), wanted.sync)
    if wanted.far is not None:
        return network.report(network.measure(wanted.far, scratch, say), network.sizes(wanted.far, scratch), wanted.far)
    samples = measure(wanted.settings, scratch, say)
    peaks = memory(wanted.settings, scratch, say)
    return report(samples, peaks, whole_loop(wanted.settings, scratch, say), wanted.settings)


def main() -> int:
    wanted = _wanted()
    if wanted.modules is not None:
        print(payloads.report(wanted.modules))
        return 0
    begun = time.monotonic()

    def say(text: str) -> None:
        print(f"[{time.monotonic() - begun:4.0f} s] {text}", file=sys.stderr, flush=True)

    print(machine(), flush=True)
    in_memory = tempfile.TemporaryDirectory(prefix="bench-", dir="/dev/shm") if wanted.beside else None
    with in_memory or tempfile.TemporaryDirectory(prefix="bench-") as folder:
        try:
            print(_report(wanted, Path(folder), say))
        except Failed as problem:
            print(f"bench: {problem}", file=sys.stderr)
            return 1
    return 0


sys.exit(main())
