# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What role runtime has to know of a host before it writes: its Python, and what there is where the virtual environment goes.

Run on the target by the Python that is to make the virtual environment, with the path of that and what there should be beside it, as
JSON, in the arguments. Needs nothing but Python itself, also one that is too old. Prints one line of JSON.
"""

import json
import os
import platform
import stat
import sys
import sysconfig

MARK = ".keyfleet-runtime"
HERE = ".".join(map(str, sys.version_info[:2]))


def without_pip() -> "str | None":
    """Why a virtual environment made by this Python would have no pip, or None."""
    try:
        import ensurepip
        import venv

        return None if hasattr(venv, "EnvBuilder") and ensurepip.version() else "no pip"
    except Exception as error:  # pylint: disable=broad-exception-caught
        return str(error)


def is_debian() -> bool:
    try:
        with open("/etc/os-release", encoding="utf-8") as lines:
            told = dict(line.strip().split("=", 1) for line in lines if "=" in line)
    except OSError:
        return False
    return "debian" in f"{told.get('ID', '')} {told.get('ID_LIKE', '')}".replace('"', "").split()


def package() -> "str | None":
    """The distribution's package that makes virtual environments complete. Only Debian splits it off."""
    if not is_debian():
        return None
    if os.path.realpath(sys.executable) == os.path.realpath("/usr/bin/python3"):
        return "python3-venv"
    return f"python{HERE}-venv"


def machine() -> str:
    """The architecture of this Python, which may be one of 32 bits on a machine of 64."""
    narrow = {"x86_64": "i686", "aarch64": "armv7l"} if sys.maxsize <= 2**32 else {}
    return narrow.get(platform.machine(), platform.machine())


def state(venv: str) -> str:
    """absent, ours (also when nothing is in it), foreign, or unknown where one may not look."""
    if not os.path.lexists(venv):
        return "absent"
    if os.path.islink(venv) or not os.path.isdir(venv):
        return "foreign"
    try:
        names = os.listdir(venv)
    except OSError:
        return "unknown"
    return "ours" if MARK in names or not names else "foreign"


def unsafe(venv: str) -> "str | None":
    """The first path that others may write to, may not read, or that is not root's."""
    for folder, folders, files in os.walk(venv):
        for path in [folder] + [os.path.join(folder, name) for name in folders + files]:
            found = os.lstat(path)
            if found.st_uid != 0:
                return f"{path} is not root's"
            if stat.S_ISLNK(found.st_mode):
                continue
            if found.st_mode & 0o022:
                return f"{path} can be written to by others than root"
            if not found.st_mode & 0o004 or (stat.S_ISDIR(found.st_mode) and not found.st_mode & 0o001):
                return f"{path} cannot be read by others than root"
    return None


def damage(venv: str) -> "str | None":
    """Why a virtual environment of ours has to be made anew, as far as this can be told from outside."""
    if os.path.exists(os.path.join(venv, "scratch")):
        return "a run was interrupted"
    python = os.path.join(venv, "bin", "python")
    try:
        with open(os.path.join(venv, "pyvenv.cfg"), encoding="utf-8") as lines:
            told = {name.strip(): value.strip() for name, equals, value in (line.partition("=") for line in lines) if equals}
    except OSError:
        return "it was not finished"
    made_by = ".".join(told.get("version", "").split(".")[:2])
    if made_by != HERE:
        return f"it was made by Python {made_by}, and {sys.executable} is Python {HERE} now"
    if not os.access(python, os.X_OK):
        return "its Python is gone"
    if os.path.realpath(python) != os.path.realpath(sys.executable):
        return f"its Python is {os.path.realpath(python)}, not {sys.executable}"
    return unsafe(venv)


def differs(wanted: "dict[str, dict[str, str]]") -> "list[str]":
    """Paths that are not root's, not of the wanted mode or content, or not there. ``folders``: modes, ``files``: texts."""
    found = [path for path, mode in wanted["folders"].items() if not is_roots(path, stat.S_IFDIR | int(mode, 8))]
    for path, text in wanted["files"].items():
        if not is_roots(path, stat.S_IFREG | 0o644):
            found.append(path)
            continue
        with open(path, encoding="utf-8", errors="replace") as file:
            if file.read() != text:
                found.append(path)
    return found


def is_roots(path: str, mode: int) -> bool:
    try:
        there = os.lstat(path)
    except OSError:
        return False
    return (there.st_uid, there.st_gid, there.st_mode) == (0, 0, mode)


def main(venv: str, wanted: str) -> None:
    there = state(venv)
    libc, libc_version = platform.libc_ver()
    facts = {
        "uid": os.geteuid(),
        "state": there,
        "damage": damage(venv) if there == "ours" else None,
        "without_pip": without_pip(),
        "package": package(),
        "python": list(sys.version_info[:3]),
        "implementation": platform.python_implementation(),
        "free_threaded": bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
        "machine": machine(),
        "libc": f"{libc} {libc_version}".strip(),
        "differs": differs(json.loads(wanted)),
    }
    print(json.dumps(facts))


if __name__ == "__main__":
    main(*sys.argv[1:])
