# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What Ansible sends to a host for one task. It follows every import of a file, also one inside a function.

A program, since Ansible has to be the first to import the collection: ``payload.py COLLECTIONS MODULE...`` prints for each module the bytes
of the script, and those that each file takes in it.
"""

from __future__ import annotations

import base64
import io
import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

from ansible.executor.module_common import modify_module
from ansible.modules import __path__ as modules
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import init_plugin_loader
from ansible.template import Templar


def _path(name: str, collections: Path) -> Path:
    namespace, collection, module = name.split(".")
    if namespace == "ansible":
        return Path(modules[0], f"{module}.py")
    return collections / "ansible_collections" / namespace / collection / "plugins" / "modules" / f"{module}.py"


def built(name: str, collections: Path) -> bytes:
    """The script that Ansible sends for a task of this module without arguments."""
    made: Any = modify_module(
        module_name=name,
        module_path=str(_path(name, collections)),
        module_args={},
        templar=Templar(loader=DataLoader()),
        task_vars={"ansible_python_interpreter": "/usr/bin/python3"},
        module_compression="ZIP_DEFLATED",
    )
    data: bytes = getattr(made, "b_module_data", None) or made[0]  # a tuple before ansible-core 2.19
    return data


def in_it(script: bytes) -> dict[str, int]:
    """The files, with the bytes that each takes."""
    archive = base64.b64decode(max(re.findall(rb"[A-Za-z0-9+/=]{1000,}", script), key=len))
    with zipfile.ZipFile(io.BytesIO(archive)) as files:
        return {file.filename: file.compress_size for file in files.infolist()}


def sent(*names: str) -> dict[str, Any]:
    """The same, from a process of its own."""
    collections = os.environ["ANSIBLE_COLLECTIONS_PATH"]
    command = [sys.executable, __file__, collections, *names]
    found: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return found


if __name__ == "__main__":
    init_plugin_loader([sys.argv[1]])
    scripts = {name: built(name, Path(sys.argv[1])) for name in sys.argv[2:]}
    print(json.dumps({name: {"bytes": len(script), "files": in_it(script)} for name, script in scripts.items()}))
