# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""``make bench`` still runs: one round with a few keys. How fast it is, is nobody's business here."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[2]


def bench(*options: str) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join([os.environ["PYTHONPATH"], str(TESTS), str(TESTS / "support")])
    command = [sys.executable, "-m", "bench", *options]
    return subprocess.run(command, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, check=False, timeout=600)


def test_a_quick_run_gives_every_row() -> None:
    done = bench("--quick", "--full")
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [re.split(r" {2,}", line.strip()) for line in done.stdout.splitlines()]
    compared = [(row[0], row[2], row[4]) for row in rows if row[0] in ("(a)", "(b)", "(c)")]
    assert compared == [
        ("(a)", "hsm_key", "bare loop + ping play"),
        ("(a)", "hsm_key, keys written out", "bare loop + ping play"),
        ("(b)", "pkcs11-tool loop", "hsm_key"),
        ("(b)", "pkcs11-tool loop, every item", "hsm_key"),
        ("(c)", "hsm_key again", "enumeration + ping play"),
        # CPU seconds of the same.
        ("(a)", "hsm_key", "bare loop + ping play"),
        ("(c)", "hsm_key again", "enumeration + ping play"),
    ]
    assert [row[0] for row in rows if row[0].startswith("(d)")] == [
        "(d) milliseconds per key",
        "(d) cost per key, growth",
        "(d) peak memory in MiB",
    ]
    assert re.match(r"machine: \d+ CPUs, .*ansible-core [\d.]+, python-pkcs11 [\d.]+, SoftHSM [\d.]+; load ", done.stdout)


def test_a_quick_run_of_the_growth_of_hsm_sync_gives_every_row() -> None:
    done = bench("--sync", "--quick")
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [re.split(r" {2,}", line.strip()) for line in done.stdout.splitlines()]
    processes = ["hsm_sync, adds all", "hsm_sync again", "enumeration", "pkcs11-tool --list-objects"]
    alone = ["compare 3 members that agree", "compare 3 members that share no key"]
    sizes = [(name, size) for name in processes for size in ("0", "2", "4")] + [(name, size) for name in alone for size in ("2", "4")]
    assert [(row[1], row[0]) for row in rows if row[0] in ("0", "2", "4")] == sizes
    grown = [(word, row[0]) for row in rows if len(row) > 2 and (word := row[1]) in ("seconds", "CPU seconds", "memory")]
    assert grown == [
        *(("seconds", name) for name in processes),
        *(("CPU seconds", name) for name in [*processes, *alone]),
        *(("memory", name) for name in processes),
    ]
    assert [row[-1] for row in rows if row[-1] == "not judged"] == ["not judged"] * 6


def test_the_bare_loop_makes_the_same_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(TESTS)
    from bench import variants
    from bench.hsm import fresh

    bare, ours = fresh(tmp_path / "bare"), fresh(tmp_path / "ours")
    variants.bare_loop(bare, 2)
    answer = ours.keys({"label": "key-1", "type": "AES"}, {"label": "key-2", "type": "AES"})
    assert answer["changed"], answer
    made = [sorted(re.findall(r"^  (label|ID|Usage|Access): +(.*)$", hsm.tool("--list-objects"), re.MULTILINE)) for hsm in (bare, ours)]
    assert made[0] == made[1]
    assert len(made[0]) == 8


def test_the_loop_in_c_makes_no_call_too_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(TESTS)
    from bench import network

    far = network.Far.built(tmp_path)
    hsm = far.hsm("theirs")
    calls = [far.counted(lambda action=action: far.in_c(hsm, action, 3)).calls for action in ("make", "read")]
    assert calls == [3 + 6, 3 + 10]  # with the start, the search for the token and the login
    assert hsm.tool("--list-objects").count("Secret Key Object") == 3
    # They are as hsm_key makes them: it has nothing to change in the HSM, and records them.
    assert {entry["action"] for entry in hsm.keys({"label": "key-[1:3]", "type": "AES"})["applied"]} == {"record"}


def test_calls_and_ratios_are_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(TESTS)
    from bench import network

    costs = {network.KEYS: (9, 4021), network.AGAIN: (3, 1011), network.C_MAKE: (3, 1006), network.C_READ: (1, 1010), network.PING: (1, 0)}
    rounds = [{name: network.Run(network.Cost(seconds, 1, 1), calls) for name, (seconds, calls) in costs.items()}]
    lines = network.report(rounds, [["bytes", "of", "KiB"], ["payload", "ping", "165"]], network.Network()).splitlines()
    cells = {tuple(re.split(r" {2,}", line)) for line in lines}
    assert ("hsm_key", "9.00", "9.00 - 9.00", "1.00", "4021", "4.02", "at most 4.1", "met") in cells
    assert ("hsm_key", "C, one call a key + ping play", "2.25", "2.25 - 2.25", "at most 2.2", "missed by 2 %") in cells
    assert ("hsm_key again", "C, one read a key + ping play", "1.50", "1.50 - 1.50", "at most 1.3", "missed by 15 %") in cells


def test_a_peer_that_nobody_named_is_refused_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("KEYFLEET_TOFU", "KEYFLEET_TOFU_PROVIDER"):
        monkeypatch.delenv(variable, raising=False)
    done = bench("--peer", "--quick")
    assert (done.returncode, done.stdout) == (2, "")
    assert (
        "--peer: KEYFLEET_TOFU is not set: set it to OpenTofu's or Terraform's binary; KEYFLEET_TOFU_PROVIDER is not set: " in done.stderr
    )


@pytest.mark.parametrize(
    ("kind", "limit", "ratio", "verdict"),
    [
        ("at most", 1.25, 1.25, "met"),
        ("at most", 1.25, 1.40, "missed by 12 %"),
        ("at most", 1.25, 1.251, "missed by less than 1 %"),
        ("at least", 40, 40.0, "met"),
        ("at least", 40, 30.0, "missed by 25 %"),
    ],
)
def test_a_missed_aim_is_told(kind: str, limit: float, ratio: float, verdict: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(TESTS)
    from bench.report import Aim

    assert Aim(kind, limit).verdict(ratio) == verdict
