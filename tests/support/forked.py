# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A module as a process of its own, forked from one that has imported it: a tenth of the time that a new Python takes to start."""

from __future__ import annotations

import atexit
import itertools
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

SERVER = Path(__file__).with_name("fork_server.py")
# What a program reads when it starts. A call with another value needs a process that starts.
READ_AT_START = ("GLIBC_", "LANG", "LC_", "LD_", "MALLOC_", "OPENSSL_", "PYTHON", "TZ")


class Server:
    """A process that forks, and ends when this one does. ``by``: a command that starts it."""

    def __init__(self, *by: str) -> None:
        self.environment = dict(os.environ)
        self.control, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with other:
            command = [*by, sys.executable, str(SERVER), str(other.fileno())]
            self.process = subprocess.Popen(
                command, pass_fds=[other.fileno()], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=self.environment
            )
        atexit.register(self.close)

    def close(self) -> None:
        atexit.unregister(self.close)
        self.control.close()
        self.process.wait()

    def fork(self, module: str, *stdio: int) -> socket.socket:
        """Ask for a process that runs ``module``. What it answers with is given back."""
        environment = dict(os.environ)
        changed = {name for name, _value in environment.items() ^ self.environment.items() if name.startswith(READ_AT_START)}
        assert not changed, f"{changed} is read when a program starts: use a process that starts"
        request = {"module": module, "folder": os.getcwd(), "environment": environment}
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            socket.send_fds(self.control, [json.dumps(request).encode()], [*stdio, theirs.fileno()])
        return ours


@cache
def servers() -> Iterator[Server]:
    """Two in turn, which order a set each in its own way: a plan that depends on that is not the one that is carried out."""
    return itertools.cycle([Server(), Server()])


class Forked:
    """A process that runs a module, with what the tests need of subprocess.Popen."""

    def __init__(self, module: str, given: str, server: Server | None = None) -> None:
        self.returncode: int | None = None
        pipes = [os.pipe(), os.pipe(), os.pipe()]
        (its_input, self._input), (self._output, its_output), (self._errors, its_errors) = pipes
        self._answers = (server or next(servers())).fork(module, its_input, its_output, its_errors)
        for descriptor in (its_input, its_output, its_errors):
            os.close(descriptor)
        number, handles, _flags, _address = socket.recv_fds(self._answers, 32, 1)
        assert number, "the process that forks has ended"
        self.pid, (self._handle,) = int(number), handles
        with open(self._input, "w", encoding="utf-8") as pipe:
            pipe.write(given)

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._handle, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def poll(self) -> int | None:
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def wait(self, timeout: float | None = None) -> int:
        """The exit code; a signal that ended it as a negative number. ``timeout`` in seconds."""
        if self.returncode is None:
            self._answers.settimeout(timeout)
            try:
                self.returncode = int(self._answers.recv(32))
            except (BlockingIOError, TimeoutError):
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0) from None
            self._answers.close()
            os.close(self._handle)
        return self.returncode

    def communicate(self, timeout: float) -> tuple[str, str]:
        """What it writes until it has ended, on both ways."""
        deadline = time.monotonic() + timeout
        written = {self._output: b"", self._errors: b""}
        with selectors.DefaultSelector() as waiting:
            for descriptor in written:
                waiting.register(descriptor, selectors.EVENT_READ)
            while waiting.get_map():
                ready = waiting.select(max(0.0, deadline - time.monotonic()))
                if not ready:
                    raise subprocess.TimeoutExpired(str(self.pid), timeout)
                for key, _events in ready:
                    part = os.read(key.fd, 1 << 16)
                    written[key.fd] += part
                    if not part:
                        waiting.unregister(key.fd)
                        os.close(key.fd)
        self.wait(max(0.0, deadline - time.monotonic()))
        return written[self._output].decode(), written[self._errors].decode()


def answer_of(program: str, **given: Any) -> dict[str, Any]:
    """What a program of this folder answers: JSON in, JSON out. ``environment`` is set before it loads a library."""
    process = Forked(program, json.dumps(given))
    try:
        out, err = process.communicate(180)
    finally:
        process.kill()
    assert out and process.returncode == 0, err
    answer: dict[str, Any] = json.loads(out)
    return answer
