# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a program of the tools compiles, the next one need not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("machine", [{}, {"PYTHONDONTWRITEBYTECODE": "1"}])
def test_it_is_kept_below_build_whatever_the_machine_says(machine: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "compiled.py").write_text("")
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    command = [
        "bash",
        "-c",
        'source tools/lib.sh; cd "$1"; "$0" -c "import compiled; print(compiled.__cached__)"',
        sys.executable,
        str(tmp_path),
    ]
    done = subprocess.run(command, cwd=CHECKOUT, env={**environment, **machine}, capture_output=True, text=True, check=True)
    kept = Path(done.stdout.strip())
    try:
        assert kept.is_relative_to(CHECKOUT / ".build/pycache") and kept.exists()
        assert os.listdir(tmp_path) == ["compiled.py"]
    finally:
        kept.unlink(missing_ok=True)
