# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A module that is forked finds what one finds that is started, and says how it ended."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from forked import Forked, servers

# What a process can see of itself, and what its call must not share with another.
PROBE = """
import atexit, json, os, random, resource, signal, sys, threading, warnings
from ansible.module_utils import basic

def main():
    given = json.loads(sys.stdin.read())
    handlers = {int(number): str(signal.getsignal(number)) for number in signal.valid_signals()}
    limits = [resource.getrlimit(kind) for kind in (resource.RLIMIT_NOFILE, resource.RLIMIT_CORE, resource.RLIMIT_NPROC)]
    mapped = [line.split()[-1] for line in open("/proc/self/maps") if "softhsm" in line or "opencryptoki" in line]
    alike = {
        "given": given, "argv": sys.argv, "path": sys.path, "folder": os.getcwd(), "environment": dict(os.environ),
        "files": os.listdir("/proc/self/fd"), "group": os.getpgid(0), "session": os.getsid(0), "mask": list(signal.pthread_sigmask(0, [])),
        "handlers": handlers, "limits": limits, "threads": os.listdir("/proc/self/task") == [str(os.getpid())], "umask": os.umask(0o22),
        "providers": mapped, "arguments": basic._ANSIBLE_ARGS, "warnings": [str(kind) for kind in warnings.filters],
        "terminal": [stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr)], "encoding": sys.stdout.encoding,
    }
    own = {"pid": os.getpid(), "random": random.random(), "hash": hash("a string")}
    atexit.register(print, "an exit handler", file=sys.stderr)
    if given.get("signal"):
        os.kill(os.getpid(), given["signal"])
    print(json.dumps([alike, own]))
    sys.exit(given.get("code", 0))

if __name__ == "__main__":
    main()
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    servers()  # with the environment before it is changed
    (tmp_path / "probe.py").write_text(PROBE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PLANTED", "for this call")
    monkeypatch.delenv("PATH")


def forked(**given: Any) -> tuple[Any, Any]:
    process = Forked("probe", json.dumps(given))
    out, err = process.communicate(60)
    assert (process.returncode, err) == (0, "an exit handler\n")
    alike, own = json.loads(out)
    assert own["pid"] == process.pid
    return alike, own


def test_a_forked_process_finds_what_a_started_one_finds() -> None:
    """Also while others run, whose pipes are not its own."""
    others = [Forked("probe", json.dumps({"signal": signal.SIGSTOP})) for _server in range(2)]
    environment = dict(os.environ)  # that of the C library has a few more here
    command = [sys.executable, "-m", "probe"]
    started = subprocess.run(command, input='{"a": "b"}', capture_output=True, text=True, check=True, env=environment)
    assert forked(a="b")[0] == json.loads(started.stdout)[0]
    for other in others:
        other.kill()
        other.communicate(60)


def test_calls_share_nothing() -> None:
    """Two that follow each other have different orders of sets, too."""
    seen = [forked()[1] for _call in range(4)]
    assert len({own["pid"] for own in seen}) == len({own["random"] for own in seen}) == 4
    assert all(before["hash"] != after["hash"] for before, after in itertools.pairwise(seen))


def test_a_large_input_and_a_large_output() -> None:
    text = "x" * (1 << 20)
    assert forked(text=text)[0]["given"] == {"text": text}


@pytest.mark.parametrize(("given", "code"), [({"code": 3}, 3), ({"code": "a reason"}, 1), ({"signal": signal.SIGSEGV}, -signal.SIGSEGV)])
def test_how_it_ended_is_known(given: dict[str, Any], code: int) -> None:
    process = Forked("probe", json.dumps(given))
    process.communicate(60)
    assert process.returncode == process.poll() == process.wait() == code


def test_an_error_that_nobody_catches() -> None:
    process = Forked("probe", "no JSON")
    assert "JSONDecodeError" in process.communicate(60)[1]
    assert process.returncode == 1


def test_one_that_hangs_is_killed() -> None:
    process = Forked("probe", json.dumps({"signal": signal.SIGSTOP}))
    assert process.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        process.communicate(0.2)
    process.kill()
    assert process.wait(60) == -signal.SIGKILL


def test_an_environment_that_is_read_at_the_start_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LD_PRELOAD", "/nowhere/library.so")
    with pytest.raises(AssertionError, match="LD_PRELOAD"):
        Forked("probe", "{}")
