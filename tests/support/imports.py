# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the collection's files import, read without importing them: as Ansible does when it packs a module."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

PLUGINS = Path(__file__).resolve().parents[2] / "plugins"
ROOT = "ansible_collections.keyfleet.hsm.plugins"


def imported(path: Path, source: str) -> Iterator[tuple[int, str]]:
    """Every import of a file, also those inside functions, as absolute names, with the line."""
    package = [*ROOT.split("."), *path.relative_to(PLUGINS).parts[:-1]]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            stem = ".".join(filter(None, [base, node.module or ""]))
            for alias in node.names:
                yield node.lineno, f"{stem}.{alias.name}"


def file_of(name: str) -> Path | None:
    """The collection's file that this name is of: a module, or something in it. None for what is not the collection's, and for a folder."""
    for stem in (name, name.rpartition(".")[0]):
        path = PLUGINS / f"{stem.removeprefix(f'{ROOT}.').replace('.', '/')}.py"
        if stem.startswith(f"{ROOT}.") and path.exists():
            return path
    return None


@cache
def imports_of(path: Path) -> frozenset[Path]:
    """The collection's files that a file imports."""
    return frozenset(found for _line, name in imported(path, path.read_text()) if (found := file_of(name)) is not None)


def needed_by(path: Path) -> set[Path]:
    """The collection's files that Ansible sends with a module, without the empty ones of folders."""
    seen, waiting = {path}, [path]
    while waiting:
        for other in imports_of(waiting.pop()) - seen:
            seen.add(other)
            waiting.append(other)
    return seen
