# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A scratch site: one or two SoftHSM2 behind the fault library, one registry, and all of it as it was, whenever that is wanted."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from forked import Forked
from hsm_fixture import PIN, SOFTHSM, Hsm

from .view import View, look

NEW_PIN = "5520191"


@dataclass(frozen=True)
class Answer:
    """What a run gave: its exit code, its answer where there is one, and what it wrote to standard error."""

    code: int
    values: dict[str, Any]
    errors: str

    @property
    def failed(self) -> bool:
        return bool(self.values.get("failed"))


class Site:
    """``folder`` holds the site, ``site`` below it what is put back before each trial."""

    def __init__(self, folder: Path, library: str) -> None:
        self.folder = folder
        self.library = library
        self.root = folder / "site"
        self.log, self.count = folder / "calls", folder / "count"
        self.folders = [self.root, self.root / "standby"]
        for one in self.folders:
            (one / "tokens").mkdir(parents=True)
            (one / "softhsm2.conf").write_text(f"directories.tokendir = {one}/tokens\nlog.level = ERROR\n")
        self.hsm, self.standby = (Hsm(one) for one in self.folders)
        self.files = [self.root / name for name in ("request.csr", "keys.yml", "pins/payments", "pins/payments.new", "kms.toml")]

    @property
    def registry(self) -> Path:
        return Path(self.hsm.registry)

    def instance(self, which: Hsm, **options: Any) -> dict[str, Any]:
        """Arguments of hsm_instance behind the fault library, which takes its faults from the environment of the run."""
        environment = {**which.environment, "FAULT_REAL": SOFTHSM}
        return {**which.instance(), "library": self.library, "environment": environment, **options}

    def call(self, module: str, args: dict[str, Any], plan: str = "") -> Answer:
        """One run. ``plan`` is of the fault library."""
        self.log.unlink(missing_ok=True)
        self.count.write_bytes(bytes(8))
        os.environ.update(FAULT_PLAN=plan, FAULT_LOG=str(self.log), FAULT_COUNT=str(self.count))
        given = {"registry": self.hsm.registry, **args}
        name = f"ansible_collections.keyfleet.hsm.plugins.modules.{module}"
        process = Forked(name, json.dumps({"ANSIBLE_MODULE_ARGS": {**given, "_ansible_check_mode": False, "_ansible_diff": True}}))
        out, err = process.communicate(timeout=120)
        process.wait(10)
        return Answer(process.returncode or 0, json.loads(out) if out.strip() else {}, err)

    def ok(self, module: str, **args: Any) -> dict[str, Any]:
        answer = self.call(module, args)
        assert answer.values and not answer.failed, answer
        return answer.values

    def calls(self) -> list[str]:
        """The names of the last run's calls."""
        return self.log.read_text().split() if self.log.exists() else []

    def look(self) -> View:
        return look(self.folders, (PIN, NEW_PIN), self.registry, self.files)

    def keep(self) -> None:
        shutil.copytree(self.root, self.folder / "kept", symlinks=True)

    def restore(self) -> None:
        shutil.rmtree(self.root)
        shutil.copytree(self.folder / "kept", self.root, symlinks=True)
