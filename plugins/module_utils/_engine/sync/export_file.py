# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""The file that hsm_sync exports to: what is in it, what differs, and writing it anew."""

from __future__ import annotations

import errno
import json
import os
import re
import stat
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..._model.errors import KeyfleetError, Refused
from ..._model.export_document import FAMILY
from ..._model.plan import CHANGE, CREATE, KEEP, Step
from ..files.writing import write_private
from ..files.yaml_text import read_yaml, to_nice_yaml

MODE = 0o644
_MAX_BYTES = 64 * 1024 * 1024
_HEAD_BYTES = 1024
_FAMILY = re.escape(FAMILY.encode("ascii"))
# At the top of the document only: a file that holds an export among other things is more than one. Another program may have
# laid it out anew.
_MARK_YAML = re.compile(rb"""^["']?format["']?\s*:\s*["']?""" + _FAMILY, re.MULTILINE)
_MARK_JSON = re.compile(rb'\A\s*\{\s*"format"\s*:\s*"' + _FAMILY)
# As it is written, keys are sorted: the mark stands behind the fingerprints, with or without a conflict of Git in them.
_MARK_SORTED = re.compile(rb"fingerprints:.*\n(?:(?:[ <=>|].*)?\n)*?format: " + _FAMILY)
_SHOWN = 50  # entries in a diff


@dataclass(frozen=True)
class ExportPlan:
    """What becomes of the file. ``step`` shows only the entries that differ, and is the same in check mode."""

    path: str
    content: bytes
    mode: int
    step: Step

    def write(self) -> None:
        """The file as planned, whole; nothing where it is that already. Raises :class:`KeyfleetError`."""
        if not self.step.changes:
            return
        try:
            write_private(self.path, self.content, self.mode)
        except OSError as error:
            raise KeyfleetError(
                f"export: {self.path} cannot be written: {error.strerror}. Run as a user who may (become: true), or give another path.",
                code="export_unwritable",
            ) from None


def plan_export(path: str, document: Mapping[str, Any]) -> ExportPlan:
    """The plan for the file. ``path`` has no :func:`.export_problems`.

    Raises :class:`Refused` where the file may not be written, :class:`KeyfleetError` where it cannot be read.
    """
    content, subject = _text(path, document).encode("utf-8"), f"export {path}"
    found = _read(path)
    if found is None or found[0] != content:
        _check_folder(os.path.dirname(path))
    if found is None:
        before, after = _difference({}, _entries(document))
        return ExportPlan(path, content, MODE, Step(CREATE, subject, None, after))
    raw, mode = found
    if raw == content:
        return ExportPlan(path, content, mode, Step(KEEP, subject, {}, {}))
    if raw.strip() and not _is_export(path, raw):
        raise _refused(f"{path} holds something other than an export, and is not overwritten. Give another path, or remove the file first.")
    before, after = _difference(_entries(_document(path, raw)), _entries(document))
    if before == after:  # comments, quotes, the order of lines, the layout of another release
        before, after = {"layout": "edited"}, {"layout": "as exported"}
    return ExportPlan(path, content, mode, Step(CHANGE, subject, before, after))


def _check_folder(folder: str) -> None:
    """Before anything is recorded, whether a file can be put there. Raises :class:`Refused`."""
    if os.statvfs(folder).f_flag & os.ST_RDONLY:
        raise _refused(f"{folder} is on a file system that can only be read. Give another path.")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise _refused(f"no file can be made in {folder}. Run as a user who may (become: true), or give another path.")


def _is_json(path: str) -> bool:
    return path.endswith(".json")


def _text(path: str, document: Mapping[str, Any]) -> str:
    return f"{json.dumps(document, indent=2)}\n" if _is_json(path) else to_nice_yaml(document)


def _is_export(path: str, raw: bytes) -> bool:
    if _is_json(path):
        return _MARK_JSON.search(raw[:_HEAD_BYTES]) is not None
    return (_MARK_YAML.search(raw[:_HEAD_BYTES]) or _MARK_SORTED.match(raw)) is not None


def _document(path: str, raw: bytes) -> Any:
    """What the file says, None where that cannot be told."""
    try:
        return json.loads(raw) if _is_json(path) else read_yaml(raw)
    except (ValueError, RecursionError):
        return None


def _refused(text: str) -> Refused:
    return Refused(f"export: {text} Nothing was changed.", code="export_unwritable")


def _unreadable(text: str) -> KeyfleetError:
    return KeyfleetError(f"export: {text} Nothing was changed.", code="export_unreadable")


def _open_no_link(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOFOLLOW)


def _read(path: str) -> tuple[bytes, int] | None:
    """The file's contents and mode; None only where there is none.

    A link is not followed: who can commit to a working tree can put one there, and it would have a file written, as root as a
    rule, wherever it points. Folders above it may be links. Raises :class:`KeyfleetError`.
    """
    folder = os.path.dirname(path)
    if not os.path.isdir(folder):
        raise _refused(f"the folder {folder} does not exist: make it first, or give another path.")
    try:
        with open(path, "rb", opener=_open_no_link) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise _unreadable(f"{path} is not a regular file: give another path.")
            raw = file.read(_MAX_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise _refused(f"{path} is a symbolic link, and is not followed: give the path that it points to, or remove it.") from None
        if error.errno == errno.EISDIR:
            raise _unreadable(f"{path} is a folder: give the path of a file.") from None
        raise _unreadable(f"{path} cannot be read: {error.strerror}. Run as its owner (become: true), or give another path.") from None
    if len(raw) > _MAX_BYTES:
        raise _unreadable(f"{path} is larger than an export can be: give another path, or remove the file first.")
    return raw, stat.S_IMODE(status.st_mode) & 0o777


def _difference(before: Mapping[str, str], after: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """The entries of either side that the other lacks or has otherwise, the first of them in full."""
    names = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    sides: list[dict[str, str]] = []
    for side in (before, after):
        shown = {name: side[name] for name in names[:_SHOWN] if name in side}
        if left := sum(name in side for name in names[_SHOWN:]):
            shown["..."] = f"and {left} more"
        sides.append(shown)
    return sides[0], sides[1]


def _entries(document: Any) -> dict[str, str]:
    """Each entry of an export as one line, under its section and its name: ``keys: dek-1``."""
    found: dict[str, list[str]] = defaultdict(list)
    for section, content in (document if isinstance(document, Mapping) else {"content": "not readable"}).items():
        if isinstance(content, Mapping):
            for name, value in content.items():
                found[f"{section}: {name}"].append(_line(value))
        elif isinstance(content, list):
            for entry in content:
                name, rest = _named(entry)
                found[f"{section}: {name}"].append(_line(rest))
        else:
            found[section].append(_line(content))
    return {name: " | ".join(sorted(lines)) for name, lines in found.items()}


def _named(entry: Any) -> tuple[str, Any]:
    """What the entry of a list is called, and what else it holds."""
    if not isinstance(entry, Mapping):
        return "", entry
    field = next((field for field in ("uid", "label") if field in entry), None)
    return str(entry.get(field, "")), {name: value for name, value in entry.items() if name != field}


def _line(value: Any) -> str:
    """A value for people to compare, the same of YAML read as text and of plain values."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {_line(item)}" for name, item in sorted(value.items()))
    if isinstance(value, list):
        return f"[{', '.join(map(_line, value))}]"
    return value if isinstance(value, str) else json.dumps(value)
