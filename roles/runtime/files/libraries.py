# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a virtual environment really has of the libraries that it should have.

Run by its own Python, with the requirements as JSON in the argument. Prints one line of JSON: ``installed`` (versions by name),
``missing`` (requirements that nothing installed meets, also those of the libraries themselves) and ``damage`` (why nothing less
than a new virtual environment will do, or null).
"""

from __future__ import annotations

import csv
import importlib
import json
import os
import sys
import sysconfig
from collections.abc import Sequence
from importlib import metadata
from typing import Any

# By the names that the modules import.
IMPORTS = ("pkcs11", "cryptography.x509.verification", "tomli_w", "yaml")


def damage(folder: str, distributions: Sequence[metadata.Distribution]) -> str | None:
    """The first file that a library has lost, or that is not as long as it was, or what an interrupted pip left behind."""
    for name in sorted(os.listdir(folder)):
        if name.startswith("~"):
            return f"pip was interrupted: {os.path.join(folder, name)}"
    for distribution in distributions:
        # The record is what pip writes last. From Python 3.12 on, importlib leaves out files that are not there.
        record = distribution.read_text("RECORD")
        if not record or distribution.metadata["Name"] is None:
            return f"a library in {folder} was not finished"
        for file, _digest, size in csv.reader(record.splitlines()):
            path = os.path.normpath(os.path.join(folder, file))
            if size and not os.path.exists(path):
                return f"{path} is gone"
            if size and os.path.getsize(path) != int(size):
                return f"{path} is {os.path.getsize(path)} bytes long instead of {size}"
    return None


def unimportable() -> str | None:
    for name in IMPORTS:
        try:
            importlib.import_module(name)
        except Exception as error:  # pylint: disable=broad-exception-caught
            return f"{name} cannot be imported: {error}"
    return None


def missing(requirements: Sequence[str], distributions: Sequence[metadata.Distribution]) -> list[str]:
    """Requirements that are not met, those of the libraries included."""
    from pip._vendor.packaging.requirements import Requirement
    from pip._vendor.packaging.utils import canonicalize_name

    by_name = {canonicalize_name(distribution.metadata["Name"]): distribution for distribution in distributions}
    wanted = list(requirements)
    seen: set[str] = set()
    found: list[str] = []
    while wanted:
        text = wanted.pop(0)
        requirement = Requirement(text)
        if text in seen or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        seen.add(text)
        distribution = by_name.get(canonicalize_name(requirement.name))
        if distribution is None or not requirement.specifier.contains(distribution.version, prereleases=True):
            found.append(f"{requirement.name}{requirement.specifier}")
        else:
            wanted += distribution.requires or []
    return found


def main(requirements: Sequence[str]) -> None:
    folder = sysconfig.get_paths()["platlib"]
    answer: dict[str, Any] = {"installed": {}, "missing": [], "damage": None}
    try:
        distributions = list(metadata.distributions(path=[folder]))
        answer["damage"] = damage(folder, distributions)
        if not answer["damage"]:
            answer["installed"] = {distribution.metadata["Name"]: distribution.version for distribution in distributions}
            answer["missing"] = missing(requirements, distributions)
            answer["damage"] = None if answer["missing"] else unimportable()
    except Exception as error:  # pylint: disable=broad-exception-caught
        answer["damage"] = f"{type(error).__name__}: {error}"
    print(json.dumps(answer))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
