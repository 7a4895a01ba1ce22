# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""Values of options in error texts, as long as they look like what belongs there."""

from __future__ import annotations

from collections.abc import Sequence

_LONGEST = 120
_LONGEST_PATH = 4095  # PATH_MAX less its NUL
_SHOWN = 10


def text_problem(text: str) -> str | None:
    """Why ``text`` is none that a file, a token or a database can take, or None."""
    if "\0" in text:
        return "contains a NUL character"
    # JSON can say half of a character, and what is no UTF-8 on a command line becomes that.
    return "is not valid UTF-8" if any("\ud800" <= char <= "\udfff" for char in text) else None


def is_path(text: str) -> bool:
    """Whether ``text`` can be an absolute path. What is none is not shown: it may be a PIN or a key in the wrong place."""
    return text.startswith("/") and text.isprintable() and len(text) <= _LONGEST_PATH and "-----" not in text


def _is_shown(text: str) -> bool:
    return len(text) <= _LONGEST and "\n" not in text and "-----" not in text


def quoted(value: object) -> str:
    """The value in quotes; of a long one, or one of several lines, only the length: it may be a key in the wrong place."""
    if isinstance(value, (list, dict)):
        return "a list" if isinstance(value, list) else "a mapping"
    if isinstance(value, str) and not _is_shown(value):
        return f"a text of {len(value)} characters"
    return repr(value)


def bracketed(name: object) -> str:
    """The name of a list's entry behind its number: a blank and the name in brackets, or nothing where it may be something else."""
    return f" ({name})" if isinstance(name, str) and name and name.isprintable() and _is_shown(name) else ""


def one_line(text: str) -> str:
    """``text`` without raw control characters and line breaks."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)


def listed(labels: Sequence[str]) -> str:
    """For a warning: the first of them by name."""
    more = f" and {len(labels) - _SHOWN} more" if len(labels) > _SHOWN else ""
    return ", ".join(f"'{one_line(label)}'" for label in labels[:_SHOWN]) + more
