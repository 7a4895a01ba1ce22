# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What each Python of the test hosts, and of the tests, starts with. The only argument is the folder for sitecustomize.py."""

from __future__ import annotations

import os
import sys
from pathlib import Path

START = "".join(Path(__file__).with_name(name).read_text() for name in ("host_bytecode.py", "host_start.py"))


def write(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    # Other processes may be starting with it.
    fresh = folder / f"{os.getpid()}.new"
    fresh.write_text(START)
    fresh.replace(folder / "sitecustomize.py")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
