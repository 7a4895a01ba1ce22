# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An HSM that is a network away: every PKCS#11 call takes a millisecond longer. How many calls does a key take, and what does a run cost
above a ping and a C program that makes none too many?

Calls and bytes are exact, on any machine.
"""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from faulty import build_fault_library
from hsm_fixture import PIN, SOFTHSM, Hsm
from payload import sent

from . import variants
from .hsm import INSTANCE, TOKEN, without_token
from .measure import Cost, Failed, cost, spread
from .report import AT_MOST, Aim, ratio_cells, table

DELAY = 1000  # microseconds
KEYS, AGAIN, C_MAKE, C_READ, PING = "hsm_key", "hsm_key again", "C, one call a key", "C, one read a key", "ping play"
VARIANTS = (KEYS, AGAIN, C_MAKE, C_READ, PING)
# Calls a key, and the ratio to the C program and a ping.
AIMS = {KEYS: (Aim(AT_MOST, 4.1), Aim(AT_MOST, 2.2), C_MAKE), AGAIN: (Aim(AT_MOST, 1.1), Aim(AT_MOST, 1.3), C_READ)}
MODULES = ("ansible.builtin.ping", "keyfleet.hsm.hsm_key", "keyfleet.hsm.hsm_sync", "keyfleet.hsm.hsm_status")


@dataclass(frozen=True)
class Network:
    keys: int = 1000
    rounds: int = 5
    judged: bool = True


QUICK = Network(keys=3, rounds=1, judged=False)


@dataclass(frozen=True)
class Run:
    """What one variant cost, and how many PKCS#11 calls it made."""

    cost: Cost
    calls: int


Round = dict[str, Run]


@dataclass(frozen=True)
class Far:
    """HSMs behind the library that counts calls, and makes each take longer."""

    scratch: Path
    library: str
    program: str

    @classmethod
    def built(cls, scratch: Path) -> Far:
        program = scratch / "loop"
        subprocess.run(
            ["gcc", "-std=gnu17", "-O2", "-Wall", "-Werror", "-o", program, Path(__file__).with_name("loop.c"), "-ldl"], check=True
        )
        (scratch / "calls").write_bytes(bytes(8))
        return cls(scratch, build_fault_library(scratch), str(program))

    def hsm(self, name: str) -> Hsm:
        """An empty token, and a registry that knows it."""
        folder = self.scratch / name
        without_token(folder)
        extra = {"FAULT_REAL": SOFTHSM, "FAULT_COUNT": str(self.scratch / "calls"), "FAULT_DELAY": str(DELAY)}
        hsm = Hsm(folder, library=self.library, extra_environment=extra)
        hsm.register(INSTANCE)
        return hsm

    def counted(self, work: Callable[[], Cost]) -> Run:
        counter = self.scratch / "calls"
        counter.write_bytes(bytes(8))
        used = work()
        return Run(used, struct.unpack("q", counter.read_bytes())[0])

    def in_c(self, hsm: Hsm, action: str, number: int) -> Cost:
        return cost([self.program, action, self.library, TOKEN, PIN, str(number)], hsm.environment, hsm.scratch)[0]


def _tasks(hsm: Hsm, settings: Network) -> dict[str, object]:
    keys = [{"label": f"key-[1:{settings.keys}]", "type": "AES"}]
    return {"registry": hsm.registry, "instance": INSTANCE, "keys": keys}


def _round(far: Far, settings: Network, turn: int) -> Round:
    ours, theirs, found = far.hsm("ours"), far.hsm("theirs"), {}
    task = {"keyfleet.hsm.hsm_key": _tasks(ours, settings)}

    def play() -> None:
        found[KEYS] = far.counted(lambda: variants.played(ours, task, 1))
        found[AGAIN] = far.counted(lambda: variants.played(ours, task, 0))

    def in_c() -> None:
        found[C_MAKE] = far.counted(lambda: far.in_c(theirs, "make", settings.keys))
        found[C_READ] = far.counted(lambda: far.in_c(theirs, "read", settings.keys))

    def ping() -> None:
        found[PING] = far.counted(lambda: variants.played(ours, {"ansible.builtin.ping": None}, 0))

    parts = (play, in_c, ping)
    for part in (*parts[turn % 3 :], *parts[: turn % 3]):
        part()
    return found


def measure(settings: Network, scratch: Path, say: Callable[[str], None]) -> list[Round]:
    """All rounds. Raises :class:`measure.Failed` when a variant does not do its work."""
    far, rounds = Far.built(scratch), []
    for turn in range(settings.rounds):
        rounds.append(_round(far, settings, turn))
        used = "; ".join(f"{name} {rounds[-1][name].cost.seconds:.2f} s" for name in VARIANTS)
        say(f"round {turn + 1} of {settings.rounds}: {used}")
    return rounds


def sizes(settings: Network, scratch: Path) -> list[list[str]]:
    """What goes to the host, and what a play that registers the answer keeps."""
    rows = [["bytes", "of", "KiB"]]
    rows += [["payload of a task", name, f"{payload['bytes'] / 1024:.0f}"] for name, payload in sent(*MODULES).items()]
    shutil.rmtree(scratch / "sizes", ignore_errors=True)
    hsm = without_token(scratch / "sizes")
    hsm.register(INSTANCE)
    for name in ("hsm_key", "hsm_key again"):
        answer = hsm.run("hsm_key", **_tasks(hsm, settings))
        if answer.get("failed"):
            raise Failed(str(answer.get("msg")))
        kept = {key: value for key, value in answer.items() if key not in ("invocation", "diff", "_raw")}
        rows.append([f"registered result, {settings.keys} keys", name, f"{len(json.dumps(kept)) / 1024:.1f}"])
    return rows


def _costs(rounds: Sequence[Round], settings: Network) -> list[list[str]]:
    rows = [["what", "seconds", "least - most", "CPU seconds", "calls", "calls a key", "aim", ""]]
    for name in VARIANTS:
        seconds, cpu = (spread(getattr(at[name].cost, part) for at in rounds) for part in ("seconds", "cpu"))
        calls = max(at[name].calls for at in rounds)
        row = [name, f"{seconds.median:.2f}", f"{seconds.least:.2f} - {seconds.greatest:.2f}", f"{cpu.median:.2f}", str(calls)]
        row.append(f"{calls / settings.keys:.2f}")
        aim = AIMS[name][0] if name in AIMS else None
        verdict = [str(aim), aim.verdict(calls / settings.keys) if settings.judged else "not judged"] if aim else ["", ""]
        rows.append(row + verdict)
    return rows


def _ratios(rounds: Sequence[Round], settings: Network) -> list[list[str]]:
    rows = [["what", "against", "ratio", "least - most", "aim", ""]]
    for name, (_calls, aim, other) in AIMS.items():
        ratio = spread(at[name].cost.seconds / (at[other].cost.seconds + at[PING].cost.seconds) for at in rounds)
        verdict = aim.verdict(ratio.median) if settings.judged else "not judged"
        rows.append([name, f"{other} + ping play", *ratio_cells(ratio), str(aim), verdict])
    return rows


def report(rounds: Sequence[Round], size_rows: list[list[str]], settings: Network) -> str:
    """The tables, with what their words mean."""
    counted = "1 round" if len(rounds) == 1 else f"{len(rounds)} rounds"
    head = f"{counted}, {settings.keys} AES keys, every PKCS#11 call {DELAY / 1000:g} ms longer, calls counted in all processes."
    parts = [table(_costs(rounds, settings)), table(_ratios(rounds, settings)), table(size_rows)]
    return "\n".join([head, *("\n" + "\n".join(lines) for lines in parts)])
