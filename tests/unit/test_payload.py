# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What Ansible sends to a host for one task. It follows every import of a file, also one inside a function."""

from __future__ import annotations

import base64
import io
import os
import re
import zipfile
from pathlib import Path
from typing import Any

import pytest
from ansible.executor.module_common import modify_module
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import init_plugin_loader
from ansible.template import Templar
from ansible.utils.collection_loader import AnsibleCollectionConfig

FETCHING = {"hsm_status", "hsm_status_info"}


def sent(name: str, folder: Path) -> dict[str, int]:
    """The files in a task's payload, with the bytes that each takes there."""
    if AnsibleCollectionConfig.collection_finder is None:
        init_plugin_loader([str(folder)])
    path = folder / "ansible_collections" / "keyfleet" / "hsm" / "plugins" / "modules" / f"{name}.py"
    built: Any = modify_module(
        module_name=f"keyfleet.hsm.{name}",
        module_path=str(path),
        module_args={},
        templar=Templar(loader=DataLoader()),
        task_vars={"ansible_python_interpreter": "/usr/bin/python3"},
        module_compression="ZIP_DEFLATED",
    )
    data = getattr(built, "b_module_data", None) or built[0]  # a tuple before ansible-core 2.19
    archive = base64.b64decode(max(re.findall(rb"[A-Za-z0-9+/=]{1000,}", data), key=len))
    return {file.filename: file.compress_size for file in zipfile.ZipFile(io.BytesIO(archive)).infolist()}


@pytest.mark.parametrize(("name", "most"), [("hsm_key", 255), ("hsm_status_info", 186)])
def test_what_is_sent_does_not_grow_unseen(name: str, most: int) -> None:
    files = sent(name, Path(os.environ["ANSIBLE_COLLECTIONS_PATH"]))
    ours = sum(size for file, size in files.items() if "/keyfleet/" in file)
    assert ours <= most * 1024, f"{ours / 1024:.0f} KiB of our own files"
    assert ("ansible/module_utils/urls.py" in files) is (name in FETCHING)
