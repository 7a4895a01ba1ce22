# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Does a key cost hsm_sync more where there are more of them? Beside it, what finding and reading them costs with nothing else.

What starting up and a login cost is taken off: each variant also runs on an empty token. Every key is made once, and each round
begins with a copy of the registry that knows none.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.keyfleet.hsm.plugins.module_utils._cryptoki.objects import _READ
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.groups.member_comparison import MemberKey, compare_members
from hsm_fixture import PIN, Hsm, ok

from .hsm import INSTANCE, TOKEN, fresh
from .measure import Cost, Failed, cost, spread
from .report import AT_MOST, Aim, ratio_cells, table
from .variants import BARE, bare_loop

# What hsm_sync reads of an object, but for the one that python-pkcs11 cannot read by itself.
READ = [name for name in _READ if name != "ALLOWED_MECHANISMS"]
GROUP, MEMBERS = "growth", 3
FIRST, AGAIN, ENUMERATION, TOOL = ("hsm_sync, adds all", "hsm_sync again", "enumeration", "pkcs11-tool --list-objects")
AGREE, DIFFER = (f"compare {MEMBERS} members that {what}" for what in ("agree", "share no key"))
VARIANTS = (FIRST, AGAIN, ENUMERATION, TOOL)
AIM = Aim(AT_MOST, 1)
MODULE = "ansible_collections.keyfleet.hsm.plugins.modules.hsm_sync"


@dataclass(frozen=True)
class Growth:
    """``small`` and ``large`` are the numbers of keys that are compared.

    What takes half a second is measured ``repeats`` times in a round, and the median of these counts.
    """

    small: int = 1000
    large: int = 10000
    rounds: int = 5
    repeats: int = 5
    judged: bool = True


QUICK = Growth(small=2, large=4, rounds=1, repeats=1, judged=False)

# What one round cost, by number of keys and variant.
Round = dict[tuple[int, str], Cost]


@dataclass(frozen=True)
class _Site:
    """A token that is made once, and its registry as it is before the first sync."""

    hsm: Hsm
    size: int

    @classmethod
    def made(cls, folder: Path, size: int) -> _Site:
        site = cls(fresh(folder), size)
        if size:
            bare_loop(site.hsm, size)
        ok(site.hsm.run("hsm_group", name=GROUP, connections=[{"instance": INSTANCE}]))
        shutil.copy(site.hsm.registry, folder / "before.db")
        return site

    def sync(self, known: int) -> Cost:
        arguments = {"registry": self.hsm.registry, "group": GROUP}
        extra = {**self.hsm.environment, "PYTHONPATH": os.environ["PYTHONPATH"]}
        used, output = cost([sys.executable, "-m", MODULE], extra, self.hsm.scratch, json.dumps({"ANSIBLE_MODULE_ARGS": arguments}))
        summary: dict[str, Any] = json.loads(output)["summary"]
        if (summary["added"], summary["known"]) != (self.size - known, known):
            raise Failed(f"{self.size} keys, {known} of them known: {summary}")
        return used

    def syncs(self) -> dict[str, Cost]:
        shutil.copy(self.hsm.scratch / "before.db", self.hsm.registry)
        return {FIRST: self.sync(0), AGAIN: self.sync(self.size)}

    def enumeration(self) -> dict[str, Cost]:
        command = [sys.executable, str(BARE), "read", self.hsm.library, TOKEN, PIN, ",".join(READ)]
        used, output = cost(command, self.hsm.environment, self.hsm.scratch)
        if int(output) != self.size:
            raise Failed(f"{output.strip()} objects on the token instead of {self.size}")
        return {ENUMERATION: used}

    def tool(self) -> dict[str, Cost]:
        command = ["pkcs11-tool", "--module", self.hsm.library, "--token-label", TOKEN, "--login", "--pin", PIN, "--list-objects"]
        quiet = ["sh", "-c", 'exec "$@" 2>/dev/null', "sh", *command]  # it warns of each key's value, in the middle of lines
        used, output = cost(quiet, self.hsm.environment, self.hsm.scratch)
        if output.count("Secret Key Object") != self.size:
            raise Failed(f"pkcs11-tool lists {output.count('Secret Key Object')} keys instead of {self.size}")
        return {TOOL: used}

    def each(self, turn: int) -> Round:
        """Every variant once; the one that begins is another in each round."""
        parts: Sequence[Callable[[], dict[str, Cost]]] = (self.syncs, self.enumeration, self.tool)
        turn %= len(parts)
        return {(self.size, name): used for part in (*parts[turn:], *parts[:turn]) for name, used in part().items()}


def _held(size: int, member: int) -> list[MemberKey]:
    """Keys of one member. Two of them never share a check value here."""
    numbers = range(member * size, (member + 1) * size)
    return [MemberKey("secret", f"key-{number}".encode(), f"key-{number}", "AES", 256, f"{number:06x}") for number in numbers]


def _comparisons(size: int) -> Round:
    """The comparison alone, in this process: time without memory."""
    found: Round = {}
    for name, members, rows in (
        (AGREE, [_held(size, 0) for _member in range(MEMBERS)], 0),
        (DIFFER, [_held(size, member) for member in range(MEMBERS)], MEMBERS * size),
    ):
        begun, cpu = time.perf_counter(), time.process_time()
        if len(compare_members(members)) != rows:
            raise Failed(f"{name}: not {rows} rows")
        found[size, name] = Cost(time.perf_counter() - begun, time.process_time() - cpu, 0)
    return found


def _middle(costs: Sequence[Round]) -> Round:
    """The median of each figure."""
    return {
        key: Cost(*(spread(getattr(found[key], part) for found in costs).median for part in ("seconds", "cpu", "mib"))) for key in costs[0]
    }


def measure(settings: Growth, scratch: Path, say: Callable[[str], None]) -> list[Round]:
    """All rounds. Raises :class:`measure.Failed` when a variant does not do its work."""
    sites = []
    for size in (0, settings.small, settings.large):
        say(f"making {size} keys")
        sites.append(_Site.made(scratch / str(size), size))
    rounds: list[Round] = []
    for turn in range(settings.rounds):
        found: Round = {}
        for site in sites[:: -1 if turn % 2 else 1]:
            repeats = settings.repeats if site.size < settings.large else 1
            found |= _middle([site.each(turn + repeat) for repeat in range(repeats)])
            if site.size:
                found |= _middle([_comparisons(site.size) for _repeat in range(repeats)])
            used = "; ".join(f"{name} {found[site.size, name].seconds:.2f} s" for name in VARIANTS)
            say(f"round {turn + 1} of {settings.rounds}, {site.size} keys: {used}")
        rounds.append(found)
    return rounds


def _per_key(at: Round, size: int, name: str, part: str) -> float:
    """What a key costs above an empty token. Where the noise is larger than that, hardly anything rather than less than nothing."""
    empty = at.get((0, name), Cost(0, 0, 0))
    return max(float(getattr(at[size, name], part)) - float(getattr(empty, part)), 1e-9) / size


def _costs(rounds: Sequence[Round], settings: Growth) -> list[list[str]]:
    rows = [["keys", "what", "seconds", "least - most", "CPU seconds", "CPU ms per key", "MiB", "KiB per key"]]
    sizes = (0, settings.small, settings.large)
    for name, size in ((name, size) for name in (*VARIANTS, AGREE, DIFFER) for size in sizes if (size, name) in rounds[0]):
        costs = [at[size, name] for at in rounds]
        seconds, cpu, mib = (spread(getattr(used, part) for used in costs) for part in ("seconds", "cpu", "mib"))
        row = [str(size), name, f"{seconds.median:.2f}", f"{seconds.least:.2f} - {seconds.greatest:.2f}", f"{cpu.median:.2f}", "", "", ""]
        if size:
            row[5] = f"{spread(_per_key(at, size, name, 'cpu') for at in rounds).median * 1000:.3f}"
        if mib.median:
            row[6] = f"{mib.median:.1f}"
        if size and mib.median:
            row[7] = f"{spread(_per_key(at, size, name, 'mib') for at in rounds).median * 1024:.1f}"
        rows.append(row)
    return rows


def _ratios(rounds: Sequence[Round], settings: Growth) -> list[list[str]]:
    def grown(at: Round, name: str, part: str) -> float:
        return _per_key(at, settings.large, name, part) / _per_key(at, settings.small, name, part)

    rows = [["growth of a key's cost", "measured in", "ratio", "least - most", "against the enumeration", "least - most", "aim", ""]]
    for part, word in (("seconds", "seconds"), ("cpu", "CPU seconds"), ("mib", "memory")):
        for name in (FIRST, AGAIN, ENUMERATION, TOOL, *((AGREE, DIFFER) if part == "cpu" else ())):
            row = [name, word, *ratio_cells(spread(grown(at, name, part) for at in rounds))]
            if name in (FIRST, AGAIN):
                against = spread(grown(at, name, part) / grown(at, ENUMERATION, part) for at in rounds)
                row += [*ratio_cells(against), str(AIM), AIM.verdict(against.median) if settings.judged else "not judged"]
            rows.append([*row, *[""] * (len(rows[0]) - len(row))])
    return rows


def report(rounds: Sequence[Round], settings: Growth) -> str:
    """The tables, with what their words mean."""
    counted = "1 round" if len(rounds) == 1 else f"{len(rounds)} rounds"
    head = [
        f"{counted}, every variant in each, in turn, on the same tokens. Whole processes, and medians of them; up to",
        f"{settings.small} keys each round runs a variant {settings.repeats} times and takes the median.",
        "A key's cost is what is above an empty token, worked out within each round, divided by the number of keys.",
        f"Growth is that cost at {settings.large} keys divided by that at {settings.small}. 1 is: in proportion to the number of keys.",
        "The enumeration is one search and one call for each object's attributes, the same ones, with python-pkcs11 alone.",
    ]
    return "\n".join([*head, "", *table(_costs(rounds, settings)), "", *table(_ratios(rounds, settings))])
