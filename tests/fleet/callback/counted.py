# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a run costs, and what it does at once: for each host the number of tasks that were carried out on it, a loop is one; and the hosts
that a throttled hsm_instance was at work for at the same moment.

A host may be done before the process of the next one is made, which does not wait for it. Those that KEYFLEET_MEET names stay at work until
all of them are.
"""

from __future__ import annotations

import json
import multiprocessing
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ansible.executor.process.worker import WorkerProcess
from ansible.plugins.callback import CallbackBase

# What the controller does alone.
LOCAL = {"assert", "debug", "fail", "include_role", "include_tasks", "set_fact", "validate_argument_spec"}


REMOTE: Counter[str] = Counter()
AT_ONCE: set[frozenset[str]] = set()
MEET = frozenset(os.environ.get("KEYFLEET_MEET", "").split())
MET = multiprocessing.get_context("fork").Event()
HANG = 60  # seconds until they go on alone


def count(_callback: object, result: Any) -> None:
    if result._task.action.rpartition(".")[2] not in LOCAL:
        REMOTE[result._host.name] += 1


def is_throttled(task: Any) -> bool:
    return bool(task.action.endswith("hsm_instance") and task.throttle)


def see(_callback: object, host: Any, task: Any) -> None:
    """Called right before Ansible makes the process that is at work for this host."""
    if is_throttled(task):
        at_work = {child._host.name for child in multiprocessing.active_children() if hasattr(child, "_host")}
        AT_ONCE.add(frozenset(at_work | {host.name}))
        if at_work | {host.name} >= MEET:
            MET.set()


def stay(work: Callable[[Any], None]) -> Callable[[Any], None]:
    def staying(process: Any) -> None:
        if process._host.name in MEET and is_throttled(process._task):
            MET.wait(HANG)
        work(process)

    return staying


if MEET:
    WorkerProcess.run = stay(WorkerProcess.run)


def tell(_callback: object, _stats: object) -> None:
    if path := os.environ.get("KEYFLEET_COUNTED"):
        Path(path).write_text(json.dumps({"remote": REMOTE, "at_once": sorted(map(sorted, AT_ONCE))}))


CallbackModule = type(
    "CallbackModule",
    (CallbackBase,),
    {
        "CALLBACK_VERSION": 2.0,
        "CALLBACK_TYPE": "aggregate",
        "CALLBACK_NAME": "counted",
        "CALLBACK_NEEDS_ENABLED": True,
        "v2_runner_on_start": see,
        "v2_runner_on_ok": count,
        "v2_playbook_on_stats": tell,
    },
)
