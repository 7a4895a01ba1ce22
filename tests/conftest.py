# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Make ``ansible_collections.keyfleet.hsm`` importable from a plain checkout, here and in the processes that tests start."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
import python_start
from hypothesis import settings

# Seconds are no part of what a test finds: this machine may be busy.
settings.register_profile("keyfleet", deadline=None)
settings.load_profile("keyfleet")

CHECKOUT = Path(__file__).resolve().parent.parent


def _collections_root() -> Path:
    if CHECKOUT.parent.name == "keyfleet" and CHECKOUT.parent.parent.name == "ansible_collections":
        return CHECKOUT.parent.parent.parent
    root = CHECKOUT / ".build" / "collections"
    link = root / "ansible_collections" / "keyfleet" / "hsm"
    link.parent.mkdir(parents=True, exist_ok=True)
    if not link.exists():
        link.symlink_to(CHECKOUT, target_is_directory=True)
    return root


def _start_of_python() -> Path:
    """What Ansible sends to this machine is packed, compiled and imported once, as on the test hosts, and not in every run and task."""
    build, fleet = CHECKOUT / ".build", CHECKOUT / "tests" / "fleet"
    folders = {"PACKED": build / "packed", "BYTECODE": build / "bytecode"}
    for name, kept in folders.items():
        kept.mkdir(parents=True, exist_ok=True)
        os.environ[f"KEYFLEET_{name}"] = str(kept)
    os.environ["ANSIBLE_CALLBACK_PLUGINS"] = str(fleet / "callback")
    os.environ["ANSIBLE_CALLBACKS_ENABLED"] = "kept_modules,kept_templates"
    # One process for a module in place of five. The tests that look for secrets have it off, since a file then holds a module's arguments.
    os.environ["ANSIBLE_PIPELINING"] = "1"
    python_start.write(build / "start")
    return build / "start"


COLLECTIONS = _collections_root()
if str(COLLECTIONS) not in sys.path:
    sys.path.insert(0, str(COLLECTIONS))
# The folder may have been made just now, after Python looked for it and remembered that there is none.
sys.path_importer_cache.pop(str(COLLECTIONS), None)
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(COLLECTIONS), str(_start_of_python()), os.environ.get("PYTHONPATH", "")]))
os.environ["ANSIBLE_COLLECTIONS_PATH"] = str(COLLECTIONS)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole playbooks come first: a test of a minute that begins last is waited for by the other process. (Of folders that are named in
    a command pytest drops those that lie in another.)"""
    items.sort(key=lambda item: "whole" not in item.path.parts)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Tests that listen to the system's log run in one process: the machine has one, and the other process would wait.

    By name: pytest-xdist 3.8 tells of the marker xdist_group by an attribute that pytest 9.2 does not have any more.
    """
    from xdist.scheduler import LoadScopeScheduling

    class InTurn(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return "system log" if Path(nodeid.partition("::")[0]).name.startswith("test_canary") else nodeid

    return InTurn(config, log)
