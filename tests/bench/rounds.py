# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The rounds: in each, every variant once at every size, in turn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, field
from pathlib import Path

from . import variants
from .hsm import fresh, without_token
from .measure import Cost, Spread, spread

PING, BARE, KEYS, WRITTEN_OUT, AGAIN, ENUMERATION, LOOP = (
    "ping play",
    "bare loop",
    "hsm_key",
    "hsm_key, keys written out",
    "hsm_key again",
    "enumeration",
    "pkcs11-tool loop",
)


@dataclass(frozen=True)
class Settings:
    """What a run measures. ``main`` is the number of keys of the aims, ``large`` the one that it grows to."""

    sizes: tuple[int, ...] = (10, 100, 1000, 5000)
    rounds: int = 5
    main: int = 1000
    large: int = 5000
    loop_items: int = 25
    full: bool = False
    judged: bool = True


QUICK = Settings(sizes=(3,), rounds=1, main=3, large=3, loop_items=1, judged=False)

# What one round cost, by number of keys and variant.
Round = dict[tuple[int, str], Cost]


@dataclass
class Samples:
    """What all rounds took."""

    rounds: list[Round] = field(default_factory=list)

    def each_round(self, figure: Callable[[Round], float]) -> Spread:
        """A figure worked out within each round, so that what is compared ran side by side."""
        return spread(figure(found) for found in self.rounds)

    def used(self, part: str, size: int, *names: str) -> Spread:
        """Of one variant, or of several together: ``seconds``, or seconds of CPU time (``cpu``)."""
        return self.each_round(lambda at: sum(getattr(at[size, name], part) for name in names))

    def ratio(self, part: str, size: int, what: str, against: Sequence[str]) -> Spread:
        """Of one variant to others together, which ran in the same round."""
        return self.each_round(lambda at: getattr(at[size, what], part) / sum(getattr(at[size, name], part) for name in against))


def _one_size(size: int, turn: int, settings: Settings, scratch: Path) -> dict[str, Cost]:
    """Every variant once with ``size`` keys. Each round begins with another, so that none is always the first."""
    found: dict[str, Cost] = {}

    def ping() -> None:
        found[PING] = variants.ping(without_token(scratch / "ping"))

    def bare() -> None:
        found[BARE] = variants.bare_loop(fresh(scratch / "bare"), size)

    def keys() -> None:
        hsm = fresh(scratch / "keys")
        found[KEYS] = variants.hsm_key(hsm, size)
        found[ENUMERATION] = variants.enumeration(hsm, size)
        found[AGAIN] = variants.hsm_key(hsm, size, again=True)

    def written_out() -> None:
        found[WRITTEN_OUT] = variants.hsm_key_written_out(fresh(scratch / "written"), size)

    def loop() -> None:
        found[LOOP] = variants.tool_loop(fresh(scratch / "loop"), settings.loop_items)

    parts = [ping, bare, keys, *([written_out, loop] if size == settings.main else [])]
    turn %= len(parts)
    for part in parts[turn:] + parts[:turn]:
        part()
    if LOOP in found:
        # One play and as many items as there are keys, each as fast as in a token that is nearly empty.
        items = size / settings.loop_items
        found[LOOP] = Cost(*(once + (some - once) * items for once, some in zip(astuple(found[PING]), astuple(found[LOOP]), strict=True)))
    return found


def measure(settings: Settings, scratch: Path, say: Callable[[str], None]) -> Samples:
    """All rounds. Raises :class:`measure.Failed` when a variant does not do its work."""
    if settings.judged:
        variants.ping(without_token(scratch / "ping"))  # not counted: Python compiles what it imports for the first time
    samples = Samples()
    for turn in range(settings.rounds):
        used: Round = {}
        for size in settings.sizes:
            found = _one_size(size, turn, settings, scratch)
            taken = "; ".join(f"{name} {cost.seconds:.2f} s" for name, cost in found.items())
            say(f"round {turn + 1} of {settings.rounds}, {size} keys: {taken}")
            used |= {(size, name): cost for name, cost in found.items()}
        samples.rounds.append(used)
    return samples


@dataclass(frozen=True)
class Peaks:
    """MiB at one size."""

    size: int
    module: float
    again: float
    bare: float


def memory(settings: Settings, scratch: Path, say: Callable[[str], None]) -> list[Peaks]:
    """Peak memory at every size, once: unlike time it hardly differs from run to run."""
    peaks = []
    for size in settings.sizes:
        hsm = fresh(scratch / "keys")
        module, again = variants.module_peak(hsm, size), variants.module_peak(hsm, size)
        peaks.append(Peaks(size, module, again, variants.bare_peak(fresh(scratch / "bare"), size)))
        say(f"memory, {size} keys: {module:.0f} MiB")
    return peaks


def whole_loop(settings: Settings, scratch: Path, say: Callable[[str], None]) -> float | None:
    """Seconds of the loop with all its items, where that is asked for."""
    if not settings.full:
        return None
    say(f"the pkcs11-tool loop with all {settings.main} items: this takes minutes")
    return variants.tool_loop(fresh(scratch / "loop"), settings.main).seconds
