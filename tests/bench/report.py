# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What was measured, as tables of ratios with the aims beside them."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version

from .measure import Spread
from .rounds import AGAIN, BARE, ENUMERATION, KEYS, LOOP, PING, WRITTEN_OUT, Peaks, Round, Samples, Settings

AT_MOST, AT_LEAST = "at most", "at least"
_BUSY = 0.7


@dataclass(frozen=True)
class Aim:
    """A limit for a ratio."""

    kind: str
    limit: float

    def verdict(self, ratio: float) -> str:
        over = ratio / self.limit - 1 if self.kind == AT_MOST else 1 - ratio / self.limit
        if over <= 0:
            return "met"
        return f"missed by {over:.0%}".replace("%", " %") if over >= 0.01 else "missed by less than 1 %"

    def __str__(self) -> str:
        return f"{self.kind} {self.limit:g}"


A, B, C, D = Aim(AT_MOST, 1.25), Aim(AT_LEAST, 40), Aim(AT_MOST, 1.5), Aim(AT_MOST, 1.3)
# Of CPU seconds, which depend less on what else the machine does.
CPU_A, CPU_C, CPU_C_LARGE = Aim(AT_MOST, 1.2), Aim(AT_MOST, 1.15), Aim(AT_MOST, 1.2)


def machine() -> str:
    """The line that says where the figures come from."""
    done = subprocess.run(["softhsm2-util", "--version"], capture_output=True, text=True, check=False)
    versions = ", ".join(f"{name} {version(name)}" for name in ("ansible-core", "python-pkcs11"))
    load = os.getloadavg()[0]
    return (
        f"machine: {len(os.sched_getaffinity(0))} CPUs, {platform.system()} {platform.machine()}, Python {platform.python_version()}, "
        f"{versions}, SoftHSM {done.stdout.strip() or 'unknown'}; load {load:.2f} before the first round"
        + (", so other programs were busy: run it again on a quiet machine for figures to show" if load > _BUSY else "")
    )


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns as wide as their widest cell, those of numbers to the right."""
    columns = []
    for cells in zip(*rows, strict=True):
        width = max(map(len, cells))
        numbers = all(cell[:1].isdigit() for cell in cells[1:])
        columns.append([cell.rjust(width) if numbers else cell.ljust(width) for cell in cells])
    lines = ["  ".join(cells).rstrip() for cells in zip(*columns, strict=True)]
    return [lines[0], "-" * max(map(len, lines)), *lines[1:]]


def ratio_cells(ratio: Spread) -> list[str]:
    digits = 2 if ratio.median < 10 else 1
    return [f"{ratio.median:.{digits}f}", f"{ratio.least:.{digits}f} - {ratio.greatest:.{digits}f}"]


def _judged(aim: Aim | None, ratio: float, settings: Settings) -> list[str]:
    if aim is None:
        return ["", ""]
    return [str(aim), aim.verdict(ratio) if settings.judged else "not judged"]


def _ratios(samples: Samples, settings: Settings, whole: float | None) -> list[list[str]]:
    rows = [["", "keys", "what", "seconds", "against", "seconds", "ratio", "least - most", "aim", ""]]

    def row(part: str, size: int, what: str, seconds: float, against: Sequence[str], ratio: list[str], verdict: list[str]) -> None:
        under = samples.used("seconds", size, *against).median
        rows.append([part, str(size), what, f"{seconds:.2f}", " + ".join(against), f"{under:.2f}", *ratio, *verdict])

    def compare(part: str, size: int, what: str, against: Sequence[str], aim: Aim | None) -> None:
        ratio = samples.ratio("seconds", size, what, against)
        row(part, size, what, samples.used("seconds", size, what).median, against, ratio_cells(ratio), _judged(aim, ratio.median, settings))

    for size in settings.sizes:
        compare("(a)", size, KEYS, (BARE, PING), A if size == settings.main else None)
    compare("(a)", settings.main, WRITTEN_OUT, (BARE, PING), A)
    compare("(b)", settings.main, LOOP, (KEYS,), B)
    if whole is not None:
        times = whole / samples.used("seconds", settings.main, KEYS).median
        ratio = [ratio_cells(Spread(times, times, times))[0], "once"]
        row("(b)", settings.main, f"{LOOP}, every item", whole, (KEYS,), ratio, _judged(B, times, settings))
    for size in settings.sizes:
        compare("(c)", size, AGAIN, (ENUMERATION, PING), C)
    return rows


def _cpu(samples: Samples, settings: Settings) -> list[list[str]]:
    rows = [["CPU seconds", "keys", "what", "used", "against", "used", "ratio", "least - most", "aim", ""]]
    aims = {("(a)", settings.main): CPU_A, ("(c)", settings.large): CPU_C_LARGE, ("(c)", settings.main): CPU_C}
    for part, what, against in (("(a)", KEYS, (BARE, PING)), ("(c)", AGAIN, (ENUMERATION, PING))):
        for size in settings.sizes:
            ratio = samples.ratio("cpu", size, what, against)
            used = [f"{samples.used('cpu', size, *names).median:.2f}" for names in ((what,), against)]
            verdict = _judged(aims.get((part, size)), ratio.median, settings)
            rows.append([part, str(size), what, used[0], " + ".join(against), used[1], *ratio_cells(ratio), *verdict])
    return rows


def _above_ping(at: Round, size: int) -> float:
    """Seconds of a round that hsm_key takes more than a play that does nothing."""
    return at[size, KEYS].seconds - at[size, PING].seconds


def _per_key(samples: Samples, settings: Settings) -> list[list[str]]:
    def ours(size: int) -> Spread:
        return samples.each_round(lambda at: _above_ping(at, size) / size * 1000)

    def bare(size: int) -> Spread:
        return samples.each_round(lambda at: at[size, BARE].seconds / size * 1000)

    def above(size: int) -> Spread:
        return samples.each_round(lambda at: (_above_ping(at, size) - at[size, BARE].seconds) / size * 1000)

    named = (("hsm_key, above the ping play", ours), ("bare loop", bare), ("the difference of the two", above))
    rows = [["(d) milliseconds per key", *(f"{size} keys" for size in settings.sizes)]]
    return rows + [[name, *(f"{figure(size).median:.2f}" for size in settings.sizes)] for name, figure in named]


def _growth(samples: Samples, settings: Settings) -> list[list[str]]:
    small, large = settings.main, settings.large
    ours = samples.each_round(lambda at: _above_ping(at, large) / large / (_above_ping(at, small) / small))
    bare = samples.each_round(lambda at: at[large, BARE].seconds / large / (at[small, BARE].seconds / small))
    both = samples.each_round(
        lambda at: _above_ping(at, large) / _above_ping(at, small) / (at[large, BARE].seconds / at[small, BARE].seconds)
    )
    rows = [["(d) cost per key, growth", "ratio", "least - most", "aim", ""]]
    between = f"at {large} keys against {small}"
    rows.append([f"hsm_key above the ping play, {between}", *ratio_cells(ours), "", ""])
    rows.append([f"bare loop: the provider's own, {between}", *ratio_cells(bare), "", ""])
    rows.append(["the first divided by the second", *ratio_cells(both), *_judged(D, both.median, settings)])
    return rows


def _memory(peaks: Iterable[Peaks]) -> list[list[str]]:
    peaks = list(peaks)
    first, last = peaks[0], peaks[-1]
    rows = [["(d) peak memory in MiB", *(f"{peak.size} keys" for peak in peaks), "KiB more per key"]]
    for name, figures in (
        ("module hsm_key", [peak.module for peak in peaks]),
        ("module hsm_key again", [peak.again for peak in peaks]),
        ("bare loop", [peak.bare for peak in peaks]),
    ):
        slope = (figures[-1] - figures[0]) * 1024 / max(last.size - first.size, 1)
        rows.append([name, *(f"{figure:.1f}" for figure in figures), f"{slope:.1f}"])
    return rows


def report(samples: Samples, peaks: Iterable[Peaks], whole: float | None, settings: Settings) -> str:
    """All tables, with what their words mean."""
    rounds = "1 round" if settings.rounds == 1 else f"{settings.rounds} rounds"
    head = [
        f"{rounds}, every variant once in each, in turn, every time on a new token. Seconds are medians of whole processes;",
        "a ratio is worked out within each round, and the median of these is shown.",
        f"The pkcs11-tool loop ran {settings.loop_items} items in a round on an empty token, which favours it: the tool gets slower with",
        "the objects that are there. Its seconds are those of one play with as many items as keys, each as fast as these.",
    ]
    tables = (
        _ratios(samples, settings, whole),
        _cpu(samples, settings),
        _per_key(samples, settings),
        _growth(samples, settings),
        _memory(peaks),
    )
    return "\n".join([*head, *(line for rows in tables for line in ("", *table(rows)))])
