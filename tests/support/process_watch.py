# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Secrets in the arguments and the environment of every process of this machine, also of those on its test hosts, while a run goes on."""

from __future__ import annotations

import heapq
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


def newest() -> int:
    """The last process number, or number of a thread, that was given: they go upwards. To list them all takes ten times as long."""
    return int(Path("/proc/loadavg").read_text().split()[-1])


class Watcher(threading.Thread):
    """Looks at each process when it is new, and again: a program may start another in its place, soon after its own start, hardly ever
    later. So it is looked at in each of its first rounds, and then ever more seldom."""

    def __init__(self, secrets: Sequence[bytes], every: float) -> None:
        super().__init__()
        self.secrets, self.every = secrets, every
        self.seen: set[str] = set()
        self.looked = 0
        self._end = threading.Event()
        # In which round a process is looked at next, and how many it has seen.
        self._due: list[tuple[int, str, int]] = []
        self._last = 0

    def run(self) -> None:
        now = 0
        # As fast as it can, it would take one of two processors from the run itself.
        while not self._end.wait(self.every):
            for process in self._fresh():
                heapq.heappush(self._due, (now, process, 0))
            while self._due and self._due[0][0] <= now:
                _now, process, rounds = heapq.heappop(self._due)
                if self._look(process):
                    wait = 1 + rounds // 8
                    heapq.heappush(self._due, (now + wait, process, rounds + wait))
            now += 1

    def _fresh(self) -> Iterator[str]:
        last, self._last = self._last, newest()
        if 0 < last <= self._last:
            yield from map(str, range(last + 1, self._last + 1))
        else:
            # At first, and when they have begun again with small numbers.
            self._due.clear()
            yield from filter(str.isdigit, os.listdir("/proc"))

    def _look(self, process: str) -> bool:
        """Whether it is still there."""
        for part in ("cmdline", "environ"):
            try:
                content = Path("/proc", process, part).read_bytes()
            except PermissionError:
                continue
            # It has ended, or is one of the kernel's.
            except (FileNotFoundError, ProcessLookupError):
                return False
            self.looked += 1
            if any(secret in content for secret in self.secrets):
                self.seen.add(f"{part}: {content!r}")
        return True

    def stop(self) -> None:
        self._end.set()
        self.join()


@contextmanager
def watched(*secrets: str, every: float = 0.002) -> Iterator[Watcher]:
    """Of what runs meanwhile. ``every``: the seconds of a round."""
    watcher = Watcher([secret.encode() for secret in secrets], every)
    watcher.start()
    try:
        yield watcher
    finally:
        watcher.stop()
