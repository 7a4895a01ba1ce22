# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Make ``ansible_collections.keyfleet.hsm`` importable from a plain checkout, here and in the processes that tests start."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
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


COLLECTIONS = _collections_root()
if str(COLLECTIONS) not in sys.path:
    sys.path.insert(0, str(COLLECTIONS))
# The folder may have been made just now, after Python looked for it and remembered that there is none.
sys.path_importer_cache.pop(str(COLLECTIONS), None)
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(COLLECTIONS), os.environ.get("PYTHONPATH", "")]))
os.environ["ANSIBLE_COLLECTIONS_PATH"] = str(COLLECTIONS)


def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    """Tests of opencryptoki stay in one process: the machine has one daemon and one token of it."""
    for item in items:
        if "locking" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group("opencryptoki"))
