# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""YAML text on the target, where PyYAML need not be: plain values only, and the same bytes for the same document.

The text is ASCII. So it does not depend on which characters a version of Python calls printable, and in a review no letter
can pass for another and none turn the line around.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

# Labels and fingerprints cannot be folded.
_HEAD = ("---", "# yamllint disable rule:line-length")

# Unquoted only what no version of YAML reads as anything but this text: a letter first (numbers, dates and indicators begin
# otherwise), then nothing that ends a scalar or opens a comment.
_PLAIN = re.compile(r"[A-Za-z](?:[A-Za-z0-9_./@+,;'() -]|:(?![ ]|\Z))*(?<! )\Z")
_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*\Z")
# Booleans and null of YAML 1.1 and 1.2.
_TAKEN = frozenset({"y", "yes", "n", "no", "on", "off", "true", "false", "null"})

_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_LONGEST_FLOW = 100
_LONGEST_KEY = 1000  # a key that stands before a colon may have 1024 characters (YAML 1.2.2, section 7.4.2)


def to_yaml(document: Mapping[str, Any]) -> str:
    """The text of a document of mappings with str keys, sequences, str, int, bool and None, in their order.

    Raises TypeError for a value of another type.
    """
    return "\n".join([*_HEAD, *_lines(document)]) + "\n"


def _lines(value: Any) -> list[str]:
    inline = _inline(value)
    if inline is not None:
        return [inline]
    return _mapping(value) if isinstance(value, Mapping) else _sequence(value)


def _inline(value: Any) -> str | None:
    """The value on one line; None for one that takes a block. Raises TypeError."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return _scalar(value)
    if isinstance(value, Mapping):
        return None if value else "{}"
    if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray)):
        return _flow(value)
    raise TypeError(f"a {type(value).__name__} has no place in a document")


def _flow(items: Sequence[Any]) -> str | None:
    if not all(isinstance(item, str) and _WORD.match(item) and item.lower() not in _TAKEN for item in items):
        return None
    text = f"[{', '.join(items)}]"
    return text if len(text) <= _LONGEST_FLOW else None


def _mapping(value: Mapping[str, Any]) -> list[str]:
    lines: list[str] = []
    for key, item in value.items():
        if not isinstance(key, str):
            raise TypeError(f"a {type(key).__name__} is no key of a mapping in a document")
        name, inline = _scalar(key), _inline(item)
        if len(name) > _LONGEST_KEY:
            lines += [f"? {name}", *_behind(": ", item)]
        elif inline is not None:
            lines.append(f"{name}: {inline}")
        else:
            lines += [f"{name}:", *(f"  {line}" for line in _lines(item))]
    return lines


def _sequence(value: Sequence[Any]) -> list[str]:
    return [line for item in value for line in _behind("- ", item)]


def _behind(mark: str, item: Any) -> list[str]:
    first, *rest = _lines(item)
    return [f"{mark}{first}", *(f"  {line}" for line in rest)]


def _scalar(text: str) -> str:
    if _PLAIN.match(text) and text.lower() not in _TAKEN:
        return text
    return f'"{"".join(_escaped(char) for char in text)}"'


def _escaped(char: str) -> str:
    number = ord(char)
    if char in _ESCAPES:
        return _ESCAPES[char]
    if 0x20 <= number < 0x7F:
        return char
    if number <= 0xFF:
        return f"\\x{number:02X}"
    return f"\\u{number:04X}" if number <= 0xFFFF else f"\\U{number:08X}"
