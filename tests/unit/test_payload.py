# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What Ansible sends to a host for one task does not grow unseen."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from payload import sent

FETCHING = {"hsm_status", "hsm_status_info"}


@pytest.mark.parametrize(("name", "most"), [("hsm_key", 255), ("hsm_status_info", 186)])
def test_what_is_sent_does_not_grow_unseen(name: str, most: int) -> None:
    files = sent(f"keyfleet.hsm.{name}", Path(os.environ["ANSIBLE_COLLECTIONS_PATH"]))
    ours = sum(size for file, size in files.items() if "/keyfleet/" in file)
    assert ours <= most * 1024, f"{ours / 1024:.0f} KiB of our own files"
    assert ("ansible/module_utils/urls.py" in files) is (name in FETCHING)
