# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Processes and what they cost: seconds of the whole process, or the peak of its memory."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PEAK = Path(__file__).with_name("peak.py")
TOO_LONG = 3600


class Failed(Exception):
    """A process that is measured did not do its work, so its time means nothing."""


def environment(extra: Mapping[str, str]) -> dict[str, str]:
    """This process's environment without what somebody has set for what is measured, and ``extra``."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "PKCS11_", "PYTHON", "TF_"))}
    return {**kept, **extra}


def _run(command: Sequence[str], extra: Mapping[str, str], folder: Path, given: str) -> subprocess.CompletedProcess[str]:
    surroundings = environment(extra)
    os.sync()  # so that what was written before this is not written on its time
    done = subprocess.run(command, env=surroundings, cwd=folder, input=given, capture_output=True, text=True, check=False, timeout=TOO_LONG)
    if done.returncode:
        raise Failed(f"{' '.join(command)[:200]}: exit {done.returncode}\n{(done.stdout + done.stderr)[-4000:]}")
    return done


@dataclass(frozen=True)
class Cost:
    """Of one process: seconds, seconds of CPU time, and the most memory (resident set) that it had at a time, in MiB."""

    seconds: float
    cpu: float
    mib: float


def cost(command: Sequence[str], extra: Mapping[str, str], folder: Path, given: str = "") -> tuple[Cost, str]:
    """What the command cost, and its output. Raises :class:`Failed`."""
    done = _run([sys.executable, "-I", "-S", str(PEAK), *command], extra, folder, given)
    kib, cpu, seconds = map(float, done.stdout.split())
    return Cost(seconds, cpu, kib / 1024), done.stderr


def peak(command: Sequence[str], extra: Mapping[str, str], folder: Path, given: str = "") -> float:
    """The most memory (resident set) that the command had at a time, in MiB. Raises :class:`Failed`."""
    return cost(command, extra, folder, given)[0].mib


@dataclass(frozen=True)
class Spread:
    """A median, and between what it lies."""

    median: float
    least: float
    greatest: float


def spread(values: Iterable[float]) -> Spread:
    found = list(values)
    return Spread(statistics.median(found), min(found), max(found))
