# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An HSM behind the library that makes faults on purpose."""

from __future__ import annotations

import json
import sqlite3
import subprocess
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

from hsm_fixture import SOFTHSM, Hsm


def build_fault_library(folder: Path) -> str:
    """Compile fault_library.c into ``folder``."""
    source, built = Path(__file__).with_name("fault_library.c"), folder / "libfault.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-Wl,-z,nodelete", "-Wall", "-Werror", "-o", str(built), str(source), "-ldl"], check=True)
    return str(built)


class Faulty:
    """An HSM behind the fault library. Keys are reached directly, so that each run can have its own faults."""

    def __init__(self, hsm: Hsm, library: str) -> None:
        self.hsm = hsm
        self.library = library
        self.log = hsm.scratch / "fault.log"

    def environment(self, plan: str, **more: str) -> dict[str, str]:
        return {**self.hsm.environment, "FAULT_REAL": SOFTHSM, "FAULT_PLAN": plan, "FAULT_LOG": str(self.log), **more}

    def register(self, plan: str = "", name: str = "primary", *, check: bool = False, **options: Any) -> dict[str, Any]:
        args = {**self.hsm.instance(name, **options), "library": self.library, "environment": self.environment(plan)}
        return self.hsm.run("hsm_instance", check=check, **args)

    def start(self, module: str, args: dict[str, Any]) -> subprocess.Popen[str]:
        return self.hsm.start(module, {"registry": self.hsm.registry, **args})

    def calls(self) -> Counter[str]:
        return Counter(self.log.read_text().split())

    def labels(self) -> list[str]:
        listing = self.hsm.tool("--list-objects")
        return sorted(line.split("label:")[1].strip() for line in listing.splitlines() if "label:" in line)


def crashed(answer: dict[str, Any], where: str = "") -> list[str]:
    """What an answer says was done before the library ended the work, in the call ``where``."""
    assert answer["failed"] is True and answer["failure"]["code"] == "library_crashed", answer
    details = answer["failure"]["details"]
    assert where in ("", details["function"]) and where in answer["msg"], answer
    done: list[str] = details["applied"]
    return done


def with_plan(faulty: Faulty, plan: str, **more: str) -> None:
    """Give the registered instance other faults, in the registry itself: hsm_instance would log in. ``more``: other variables."""
    with closing(sqlite3.connect(faulty.hsm.registry)) as registry:
        environment = json.dumps(faulty.environment(plan, **more))
        registry.execute("UPDATE instance SET environment = ? WHERE name = 'primary'", (environment,))
        registry.commit()
    faulty.log.unlink(missing_ok=True)
