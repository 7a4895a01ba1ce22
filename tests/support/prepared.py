# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Scratch HSMs as calls of modules have left them: made once for all tests of a process, and copied for each.

A copy has tokens with the serial numbers of the others. It is in a folder of its own, which the configuration and the registry name.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from hsm_fixture import Hsm


def bare(scratch: Path) -> Hsm:
    (scratch / "tokens").mkdir()
    (scratch / "softhsm2.conf").write_text(f"directories.tokendir = {scratch}/tokens\nlog.level = ERROR\n")
    return Hsm(scratch)


def copy(made: Path, scratch: Path) -> None:
    """Into a scratch folder, and every path with it."""
    shutil.copytree(made, scratch, dirs_exist_ok=True)
    for configuration in scratch.rglob("softhsm2.conf"):
        configuration.write_text(configuration.read_text().replace(str(made), str(scratch)))
    with closing(sqlite3.connect(scratch / "registry.db")) as registry:
        tables = [name for (name,) in registry.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            texts = [column[1] for column in registry.execute(f"PRAGMA table_info({table})") if column[2] == "TEXT"]
            for column in texts:
                change = " ".join(["UPDATE", table, "SET", column, "= replace(", column, ", ?, ?)"])
                registry.execute(change, (str(made), str(scratch)))
        registry.commit()
        # What still named it would be shared by all tests.
        assert str(made) not in "".join(registry.iterdump())


class Prepared:
    def __init__(self, factory: pytest.TempPathFactory) -> None:
        self.factory = factory
        self.made: dict[str, Path] = {}

    def give(self, hsm: Hsm, kind: str, make: Callable[[Hsm], object]) -> None:
        """Into this bare scratch folder what ``make`` does in one."""
        if kind not in self.made:
            folder = self.factory.mktemp(kind)
            make(bare(folder))
            self.made[kind] = folder
        copy(self.made[kind], hsm.scratch)
