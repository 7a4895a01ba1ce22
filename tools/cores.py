# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which versions of ansible-core run here, on which Pythons: asked of the package index and of this machine each time.

Arguments: ``all``, or ``newest`` for one pair, of the newest that a Python here takes; a folder; the lowest version (``2.18``).
Prints a line for each pair: the version of ansible-core, that of Python, and the interpreter. What is left out, and why, goes to
standard error. The folder gets ``pythons``, with a link to each Python here, and ``wheels`` of ansible-core.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

Version = tuple[int, ...]
# Reads the name of ansible-core's wheel, and the file in it that lists the Pythons.
WHEEL = re.compile(r"ansible_core-(\d+(?:\.\d+)*)-py3-none-any\.whl")
CONSTANTS = "ansible_test/_util/target/common/constants.py"


def version(text: str) -> Version:
    return tuple(map(int, text.split(".")))


def dotted(numbers: Version) -> str:
    return ".".join(map(str, numbers))


def pythons() -> dict[Version, str]:
    """The interpreters by version, those that run and can make a virtual environment: the distribution's, of the PATH, of pyenv."""
    folders = [Path("/usr/bin"), *(Path(folder) for folder in os.get_exec_path())]
    folders += sorted(Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")).glob("versions/*/bin"))
    # Of a virtual environment the Python that made it.
    code = "import ensurepip, sys, venv; print('%d.%d' % sys.version_info[:2], sys._base_executable)"
    found: dict[Version, str] = {}
    for path in (path for folder in folders for path in sorted(folder.glob("python3.*"))):
        # A name proves nothing: it may be a pyenv shim without a version behind it.
        if re.fullmatch(r"python3\.\d+", path.name) and version(path.name.removeprefix("python")) not in found:
            done = subprocess.run([path, "-c", code], capture_output=True, text=True, check=False)
            if done.returncode == 0:
                name, interpreter = done.stdout.rstrip("\n").split(" ", 1)
                found.setdefault(version(name), interpreter)
    return found


def fetch(folder: Path, wanted: str) -> tuple[Version, Path]:
    """The newest release of ``wanted`` (``ansible-core==2.19.*``), and its wheel. Without an answer of the index, that in the folder."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest", str(folder)]
    # Whatever Python it is for.
    command += ["--python-version", "3.99", wanted]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    within = version(wanted.partition("==")[2].removesuffix(".*") or "2")
    there = {version(match[1]): path for path in folder.glob("*.whl") if (match := WHEEL.fullmatch(path.name))}
    there = {number: path for number, path in there.items() if number[: len(within)] == within}
    if not there:
        raise SystemExit(f"There is no wheel of {wanted}.\n{done.stderr}")
    newest = max(there)
    if done.returncode:
        print(f"The package index does not answer: ansible-core {dotted(newest)} is what was fetched before.", file=sys.stderr)
    return newest, there[newest]


def controllers(wheel: Path) -> list[Version]:
    """The Pythons that ansible-core runs on, as its own tests have them."""
    with zipfile.ZipFile(wheel) as archive:
        tree = ast.parse(archive.read(CONSTANTS))
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "CONTROLLER_PYTHON_VERSIONS":
            return [version(text) for text in ast.literal_eval(node.value)]
    raise SystemExit(f"{wheel.name}: there is no CONTROLLER_PYTHON_VERSIONS in {CONSTANTS}")


def cores(folder: Path, lowest: Version) -> Iterator[tuple[Version, list[Version]]]:
    """Each minor version of ansible-core, the newest first: its newest release, and the Pythons that it runs on."""
    wanted = "ansible-core"
    while True:
        release, wheel = fetch(folder, wanted)
        yield release, controllers(wheel)
        if release[:2] <= lowest:
            return
        wanted = f"ansible-core=={release[0]}.{release[1] - 1}.*"


def link(folder: Path, here: dict[Version, str]) -> None:
    """For a PATH on which every name is an interpreter that runs."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for number, interpreter in here.items():
        (folder / f"python{dotted(number)}").symlink_to(interpreter)


def main(which: str, folder: Path, lowest: Version) -> None:
    here = pythons()
    link(folder / "pythons", here)
    taken: list[tuple[Version, list[Version]]] = []
    for release, supported in cores(folder / "wheels", lowest):
        taken.append((release, supported))
        if which == "newest" and here.keys() & set(supported):
            break
    known = sorted({python for _release, supported in taken for python in supported})
    for release, supported in reversed(taken):
        chosen = sorted(here.keys() & set(supported))
        for python in known:
            reason = None
            if python not in supported:
                reason = f"ansible-core {dotted(release[:2])} runs on Python {dotted(supported[0])} to {dotted(supported[-1])}"
            elif python not in here:
                reason = "not on this machine"
            elif which == "newest" and python != chosen[-1]:
                reason = "left to make matrix"
            if reason:
                print(f"left out: ansible-core {dotted(release)} on Python {dotted(python)}: {reason}", file=sys.stderr)
            else:
                print(dotted(release), dotted(python), here[python])


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), version(sys.argv[3]))
