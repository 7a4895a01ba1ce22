# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs of Ansible share the modules that they have packed, look less often whether a host is done, load plugins once, and collect
less garbage.

Ansible packs a module with the sixty files that it imports, once a run, and finds these by parsing all of them: a quarter of what a run
costs. Its own cache of what is packed ends with the run. Here it is kept, under a hash of what goes into it.

Every task is a fork, which loads the plugins that it needs: all filters and tests where a template uses one, and those of a collection are
compiled each time. That was a third of what a fork does in Python.
"""

from __future__ import annotations

import gc
import hashlib
import os
from pathlib import Path

from ansible import constants
from ansible.plugins import loader
from ansible.plugins.callback import CallbackBase
from ansible.release import __file__ as release

PLUGINS = Path(__file__).resolve().parents[3] / "plugins"
# What nearly every task uses. Of these the class is loaded, of filters and tests all that there are.
USED = {
    loader.action_loader: ("ansible.legacy.normal", "ansible.builtin.command", "ansible.builtin.copy", "ansible.builtin.set_fact"),
    loader.become_loader: ("ansible.legacy.sudo",),
    loader.connection_loader: ("ansible.legacy.ssh", "ansible.legacy.local"),
    loader.lookup_loader: ("ansible.builtin.file", "ansible.builtin.template"),
    loader.shell_loader: ("ansible.legacy.sh",),
}


def state() -> str:
    """Of the collection all that a module may import, of Ansible its version."""
    files = [Path(release), *sorted(PLUGINS.glob("module*/**/*.py"))]
    text = "".join(f"{file} {hashlib.sha256(file.read_bytes()).hexdigest()}\n" for file in files)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def load_before_forks() -> None:
    for kind, names in USED.items():
        for name in names:
            kind.get(name, class_only=True)
    for kind in (loader.filter_loader, loader.test_loader):
        list(kind.all())
    # To find one in a collection, all files there are loaded.
    if filters := sorted(file.stem for file in PLUGINS.glob("filter/*.py")):
        loader.filter_loader.get(f"keyfleet.hsm.{filters[0]}")


def share(_callback: object, _playbook: object) -> None:
    kept = Path(os.environ.get("KEYFLEET_PACKED") or constants.ANSIBLE_HOME, f"packed-modules-{state()}")
    kept.mkdir(parents=True, exist_ok=True)
    Path(constants.DEFAULT_LOCAL_TMP, "ansiballz_cache").symlink_to(kept)
    # It would look a thousand times a second whether a host is done. No variable of the environment says so.
    constants.DEFAULT_INTERNAL_POLL_INTERVAL = 0.005
    load_before_forks()
    # The collections of a fork would look at all that Ansible has imported, and copy it.
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
