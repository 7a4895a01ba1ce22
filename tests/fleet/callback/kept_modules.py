# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs of Ansible share the modules that they have packed, wake up when a host is done, and collect less garbage.

Ansible packs a module with the sixty files that it imports, once a run, and finds these by parsing all of them: a quarter of what a run
costs. Its own cache of what is packed ends with the run. Here it is kept, under a hash of what goes into it.
"""

from __future__ import annotations

import gc
import hashlib
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ansible import constants
from ansible.executor.process.worker import WorkerProcess
from ansible.plugins import strategy
from ansible.plugins.callback import CallbackBase
from ansible.release import __file__ as release

PLUGINS = Path(__file__).resolve().parents[3] / "plugins"
# Between two looks whether the process of a task before has ended.
POLL = 0.005  # seconds
# In which it looks whether one of its processes has died, which sends nothing.
DEAD = 0.25  # seconds
arrived = threading.Event()


class Results(deque[Any]):
    """What a thread hears of the hosts' processes, and the strategy asks for."""

    def append(self, result: Any, /) -> None:
        super().append(result)
        arrived.set()


def until_one_has_arrived(seconds: float) -> None:
    """In place of a pause between two looks at the results."""
    if seconds != constants.DEFAULT_INTERNAL_POLL_INTERVAL:
        time.sleep(seconds)
        return
    arrived.wait(DEAD)
    # Before the look: what arrives after it ends the next wait.
    arrived.clear()


def look_less_often(is_alive: Callable[[Any], bool]) -> Callable[[Any], bool]:
    def looked(process: Any) -> bool:
        alive = is_alive(process)
        if alive:
            time.sleep(POLL)
        return alive

    return looked


def state() -> str:
    """Of the collection all that a module may import, of Ansible its version."""
    files = [Path(release), *sorted(PLUGINS.glob("module*/**/*.py"))]
    text = "".join(f"{file} {hashlib.sha256(file.read_bytes()).hexdigest()}\n" for file in files)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def share(_callback: object, _playbook: object) -> None:
    kept = Path(os.environ.get("KEYFLEET_PACKED") or constants.ANSIBLE_HOME, f"packed-modules-{state()}")
    kept.mkdir(parents=True, exist_ok=True)
    Path(constants.DEFAULT_LOCAL_TMP, "ansiballz_cache").symlink_to(kept)
    # It would look a thousand times a second whether a host is done.
    strategy.deque = Results
    strategy.time = SimpleNamespace(sleep=until_one_has_arrived)
    # It takes a whole processor to wait for the end of a process, as for a throttled task: of the host it waits for, too.
    WorkerProcess.is_alive = look_less_often(WorkerProcess.is_alive)
    # Every task is a fork, whose collections would look at all that Ansible has imported, and copy it.
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


CallbackModule = type(
    "CallbackModule",
    (CallbackBase,),
    {
        "CALLBACK_VERSION": 2.0,
        "CALLBACK_TYPE": "aggregate",
        "CALLBACK_NAME": "kept_modules",
        "CALLBACK_NEEDS_ENABLED": True,
        "v2_playbook_on_start": share,
    },
)
