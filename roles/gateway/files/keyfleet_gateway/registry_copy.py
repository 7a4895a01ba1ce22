# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A copy of the host's registry that the service may read. Run by root, from a timer: ``registry_copy REGISTRY COPY GROUP``.

The registry is root's alone, and so is the right to write beside it, which SQLite needs to read it. It holds no PIN.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from ansible_collections.keyfleet.hsm.plugins.module_utils._model.errors import KeyfleetError
from ansible_collections.keyfleet.hsm.plugins.module_utils._registry.backup import registry_copy, writing
from ansible_collections.keyfleet.hsm.plugins.module_utils._registry.database import registry_exists

from .journal import ERROR, log
from .memory import RUN


def copy(registry: str, path: str, group: str) -> None:
    """Raises :class:`KeyfleetError`, OSError, LookupError for a group that is not there."""
    if not registry_exists(registry):
        # Nothing was registered yet, or the registry is elsewhere by now: what an old copy says is nobody's word any more.
        Path(path).unlink(missing_ok=True)
        return
    with registry_copy(registry, run=RUN) as (connection, _contents):
        with writing(connection, path):
            pass
        shutil.chown(path, group=group)
        os.chmod(path, 0o640)


def main(arguments: Sequence[str]) -> int:
    try:
        copy(*arguments)
    except (KeyfleetError, OSError, LookupError) as failure:
        log(ERROR, f"the registry was not copied: {failure}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
