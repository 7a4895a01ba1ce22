# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The guides as who follows them from page to page has them: files, snippets and commands, in the order of docs/index.md."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

DOCS = Path(__file__).parents[2] / "docs"
LAST = "status_and_sync.md"  # the pages after it are about Git, the registry and whole hosts, and begin anew
_PROGRAMS = ("mv", "openssl", "python")  # of commands that make the files which snippets read


@dataclass(frozen=True)
class Block:
    """One block of a page. ``file`` is the name in its first line, None where it begins with something else."""

    page: str
    kind: str
    text: str

    @property
    def file(self) -> str | None:
        found = re.match(r"# (\S+\.\w+)\n", self.text)
        return found[1] if found else None

    @property
    def tasks(self) -> list[dict[str, Any]]:
        """A snippet's tasks. The commands of a block are one, too."""
        if self.kind == "console":
            commands = re.findall(r"^\$ (.*)$", self.text, re.MULTILINE)
            return _commands([command for command in commands if command.split()[0] in _PROGRAMS])
        found = yaml.safe_load(self.text) if self.kind == "yaml" and self.file is None else None
        return [task for task in found if "name" in task and "hosts" not in task] if isinstance(found, list) else []


def _commands(commands: list[str]) -> list[dict[str, Any]]:
    text = " && ".join(commands)
    return [{"name": commands[0], "ansible.builtin.shell": {"cmd": text, "chdir": "{{ playbook_dir }}"}}] if commands else []


def pages() -> list[str]:
    """Names of the guides that one ordinary user follows."""
    found = re.findall(r"^[0-9]+\. \[.*?\]\((\w+\.md)\)", (DOCS / "index.md").read_text(), re.MULTILINE)
    return found[: found.index(LAST) + 1]


def blocks(page: str) -> Iterator[Block]:
    for indent, kind, text in re.findall(r"^( *)```(\w+)\n(.*?)^\1```$", (DOCS / page).read_text(), re.MULTILINE | re.DOTALL):
        yield Block(page, kind, re.sub(rf"^{indent}", "", text, flags=re.MULTILINE))


def followed(folder: Path) -> list[dict[str, Any]]:
    """Put the files of all guides into ``folder``, and return the plays of one who runs everything in its order."""
    found = [block for page in pages() for block in blocks(page)]
    plays: dict[str, list[dict[str, Any]]] = {}
    for block in found:
        if block.file is not None:
            path = folder / block.file
            path.parent.mkdir(exist_ok=True)
            path.write_text(block.text)
            content = yaml.safe_load(block.text) if block.kind == "yaml" else None
            if isinstance(content, list) and "hosts" in content[0]:
                plays[block.file] = content
    first, (guide,) = plays["first.yml"], plays["guide.yml"]
    return [*first, {**guide, "tasks": [task for block in found for task in block.tasks]}]
