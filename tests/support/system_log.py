# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What programs send to the system's log."""

from __future__ import annotations

import fcntl
import os
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def system_log() -> Iterator[list[bytes]]:
    """The lines are there when this ends: by a listener of our own where there is no daemon, else read from the journal.

    There is one for all programs of the machine. Tests that use it are in files ``test_canary*.py``, which one process runs.
    """
    # Other checkouts have the same one.
    with open(os.path.join(tempfile.gettempdir(), "keyfleet-test-system-log.lock"), "a+", encoding="ascii") as alone:
        fcntl.flock(alone, fcntl.LOCK_EX)
        alone.seek(0)
        run, process = os.environ.get("PYTEST_XDIST_TESTRUNUID", "-"), os.environ.get("PYTEST_XDIST_WORKER", "-")
        before = alone.read().split()
        assert before[:1] != [run] or before == [run, process], "two processes of one run listen: they would wait for each other"
        alone.truncate(0)
        alone.write(f"{run} {process}")
        alone.flush()
        with _listening() as lines:
            yield lines


@contextmanager
def _listening() -> Iterator[list[bytes]]:
    lines: list[bytes] = []
    path = Path("/dev/log")
    if _answers(path):
        yield lines
        done = subprocess.run(["journalctl", "--no-pager", "--all", "--output=export", "--since=-10min"], capture_output=True, check=True)
        lines.append(done.stdout)
        return
    path.unlink(missing_ok=True)  # of a listener that was killed
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(path))
        listener.settimeout(0.2)
        end = threading.Event()

        def listen() -> None:
            while True:
                try:
                    lines.append(listener.recv(1 << 20))
                except TimeoutError:
                    if end.is_set():
                        return

        thread = threading.Thread(target=listen)
        thread.start()
        try:
            yield lines
        finally:
            end.set()
            thread.join()
            path.unlink()


def _answers(path: Path) -> bool:
    """Whether somebody listens there."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        try:
            sender.connect(str(path))
        except OSError:
            return False
    return True
