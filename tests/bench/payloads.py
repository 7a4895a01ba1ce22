# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What one task sends to a host, for each module, and by which imports.

Exact on any machine. Ansible sends every file that a module imports, also inside a function; each is compressed alone, has a place in
the archive's list, and is written in base64.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from imports import PLUGINS, ROOT, imported
from payload import sent

from .report import table

PING = "ansible.builtin.ping"
MODULES = sorted(path.stem for path in (PLUGINS / "modules").glob("*.py") if path.stem != "__init__")
_FOLDER = f"{ROOT.replace('.', '/')}/"
_LEAST = 1024  # bytes of an import that is worth a line
_IN_LISTS = 76  # bytes of an entry in the archive, beside its name, which stands there twice (APPNOTE.TXT 4.3.7 and 4.3.12)

Files = Mapping[str, int]


def _weight(name: str, compressed: int) -> float:
    """Bytes of the payload that are this file's."""
    return (compressed + _IN_LISTS + 2 * len(name)) * 4 / 3


def _kib(files: Files) -> str:
    return f"{sum(_weight(*file) for file in files.items()) / 1024:.0f}"


def sizes(payloads: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """A line for each module: what is sent, whose it is, and what of it is the module's own file, which is documentation."""
    rows = [["module", "KiB", "files", "the collection's", "KiB of these", "KiB of the module's file"]]
    for name, payload in payloads.items():
        ours = {file: size for file, size in payload["files"].items() if file.startswith(_FOLDER)}
        own = {file: size for file, size in ours.items() if file == f"{_FOLDER}modules/{name.rpartition('.')[2]}.py"}
        row = [name, f"{payload['bytes'] / 1024:.0f}", str(len(payload["files"])), str(len(ours)), _kib(ours), _kib(own)]
        rows.append(row)
    return rows


def _imports(files: Files) -> dict[str, set[str]]:
    """The files of a payload that each of the collection's imports."""
    names = {file.removesuffix(".py").replace("/", "."): file for file in files}
    found = {}
    for file in files:
        path = PLUGINS / file.removeprefix(_FOLDER)
        if file.startswith(_FOLDER) and path.name != "__init__.py":
            wanted = {name for _line, name in imported(path, path.read_text())}
            found[file] = {names[name] for one in wanted for name in (one, one.rpartition(".")[0]) if name in names} - {file}
    return found


def _reached(start: str, imports: Mapping[str, set[str]], cut: tuple[str, str]) -> set[str]:
    seen, waiting = {start}, [start]
    while waiting:
        file = waiting.pop()
        for other in imports.get(file, ()):
            if (file, other) != cut and other not in seen:
                seen.add(other)
                waiting.append(other)
    return seen


def heaviest(module: str, files: Files) -> list[list[str]]:
    """Imports without which the payload would be smaller, the heaviest first. Two files that import a third one have no line for it."""
    start, imports = f"{_FOLDER}modules/{module}.py", _imports(files)
    everything = _reached(start, imports, ("", ""))
    found = []
    for file in everything:
        for other in imports.get(file, ()):
            lost = everything - _reached(start, imports, (file, other))
            weight = sum(_weight(name, files[name]) for name in lost)
            if weight >= _LEAST:
                short = [name.removeprefix(_FOLDER).removeprefix("module_utils/") for name in (file, other)]
                found.append((weight, [f"{weight / 1024:.1f}", str(len(lost)), *short]))
    found.sort(key=lambda line: (-line[0], line[1]))
    return [["KiB less", "files less", "without the import in", "of"], *(row for _weight, row in found)]


def report(modules: Sequence[str]) -> str:
    """Each of these modules with its imports; without any, all modules in one table."""
    payloads = sent(PING, *(f"keyfleet.hsm.{name}" for name in modules or MODULES))
    tables = [table(sizes(payloads))]
    always = payloads[PING]["files"]
    for name in modules:
        files = payloads[f"keyfleet.hsm.{name}"]["files"]
        tables.append(table(heaviest(name, {file: size for file, size in files.items() if file not in always})))
    return "\n\n".join("\n".join(lines) for lines in tables)
