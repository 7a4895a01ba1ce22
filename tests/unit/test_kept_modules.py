# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""In the tests Ansible wakes up when a host is done, and still sees one of its processes die."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

# Counts in a run how often the strategy waited.
COUNTED = """
import time
from ansible.plugins import strategy
from ansible.plugins.callback import CallbackBase


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_NAME = "waits"
    CALLBACK_NEEDS_ENABLED = True
    waits = 0

    def v2_playbook_on_play_start(self, play):
        self.begun = time.monotonic()
        pause = strategy.time.sleep

        def counted(seconds):
            CallbackModule.waits += 1
            pause(seconds)

        strategy.time.sleep = counted

    def v2_playbook_on_stats(self, stats):
        seconds = time.monotonic() - self.begun
        self._display.display(f"waited {self.waits} times for {stats.ok['localhost']} tasks in {seconds} seconds")
"""
PLAYBOOK = """
- hosts: localhost
  gather_facts: false
  tasks:
"""


def played(folder: Path, tasks: str) -> subprocess.CompletedProcess[str]:
    (folder / "callback").mkdir()
    (folder / "callback/waits.py").write_text(COUNTED)
    (folder / "playbook.yml").write_text(PLAYBOOK + tasks)
    environment = {
        **os.environ,
        "ANSIBLE_CALLBACK_PLUGINS": f"{os.environ['ANSIBLE_CALLBACK_PLUGINS']}:{folder / 'callback'}",
        "ANSIBLE_CALLBACKS_ENABLED": "kept_modules,waits",
        "ANSIBLE_NOCOLOR": "1",
    }
    command = [str(Path(sys.executable).with_name("ansible-playbook")), str(folder / "playbook.yml")]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=60)


def test_it_waits_once_for_a_task(tmp_path: Path) -> None:
    done = played(tmp_path, 10 * "    - ansible.builtin.command: sleep 0.1\n")
    assert done.returncode == 0, done.stderr
    waited, tasks, seconds = map(float, re.findall(r"[\d.]+", done.stdout.rpartition("waited ")[2]))
    # Four looks a second are for a process that died. A result may come in between two of them and not end a wait.
    assert tasks == 10 <= waited <= 2 * tasks + 4 * seconds


def test_a_process_that_dies_ends_the_run(tmp_path: Path) -> None:
    done = played(tmp_path, "    - ansible.builtin.debug: {msg: \"{{ lookup('ansible.builtin.pipe', 'kill -9 $PPID; sleep 1') }}\"}\n")
    assert done.returncode != 0 and "dead state" in done.stdout + done.stderr, done
