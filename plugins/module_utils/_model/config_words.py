# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""Values on their way into the configuration files of other programs: quoted as each wants it, and never more than one value."""

from __future__ import annotations

import re
from collections.abc import Callable

# C0, DEL, C1, the line and paragraph separators that some programs end a line at, and halves of surrogate pairs.
_CONTROL = re.compile("[\0-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_SAFE = re.compile(r"[][A-Za-z0-9_./:@%+,=*-]+\Z")


def has_control(text: str) -> bool:
    """Whether a character in it could end a line or a value, or cannot be written."""
    return _CONTROL.search(text) is not None


def _systemd(text: str) -> str:
    """A quoted word, systemd.syntax(7). A % would begin a specifier, systemd.unit(5)."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%") + '"'


def _systemd_line(text: str) -> str:
    """Words that are not quoted, such as a device and what is allowed with it."""
    if "\\" in text or '"' in text or "'" in text or text != text.strip():
        raise ValueError("has a quote or a backslash in it, or a blank at an end")
    return text.replace("%", "%%")


def _environment_file(text: str) -> str:
    """As systemd reads an EnvironmentFile=, systemd.exec(5)."""
    if re.fullmatch(r"[A-Za-z0-9_./:@+,=-]+", text):
        return text
    return '"' + re.sub(r'(["\\`$])', r"\\\1", text) + '"'


def _softhsm2(text: str) -> str:
    """softhsm2.conf(5) knows no quotes: # begins a comment, and blanks at an end are taken off."""
    if not text or text != text.strip() or re.search(r"[#{}\[\]]", text):
        raise ValueError("is empty, has one of # { } [ ] in it, or a blank at an end")
    return text


def _haproxy(text: str) -> str:
    """One word of haproxy.cfg, section 2.2 of its manual: within double quotes, a backslash stands before ", \\ and $."""
    if not text:
        raise ValueError("is empty")
    if _SAFE.match(text):
        return text
    return '"' + re.sub(r'(["\\$])', r"\\\1", text) + '"'


def _shell(text: str) -> str:
    """A word of a shell script, sh(1)."""
    return "'" + text.replace("'", "'\\''") + "'"


def _plain(text: str) -> str:
    """A word that no program would want quoted, such as a path."""
    if not re.fullmatch(r"[A-Za-z0-9_./:@+,=-]+", text):
        raise ValueError("is empty, or has another character in it than letters, digits and _ . / : @ + , = -")
    return text


def _double_quoted(text: str) -> str:
    """A text between double quotes where nothing in it has a meaning: nginx's and HCL's."""
    if re.search(r'["\\$]|%\{', text):
        raise ValueError("has a double quote, a backslash, $ or %{ in it")
    return f'"{text}"'


_FORMATS: dict[str, Callable[[str], str]] = {
    "systemd": _systemd,
    "systemd_line": _systemd_line,
    "environment_file": _environment_file,
    "softhsm2": _softhsm2,
    "haproxy": _haproxy,
    "shell": _shell,
    "plain": _plain,
    "double_quoted": _double_quoted,
}
FORMATS = tuple(_FORMATS)


def config_word(value: object, form: str) -> str:
    """A text, number or truth as ``form``, one of :data:`FORMATS`, takes it in one place of a file.

    Raises ValueError with what is wrong, and without the value, which may be a secret.
    """
    if not isinstance(value, (str, int, float)):
        raise ValueError(f"is {a_kind(value)}, and a text, a number or a truth belongs there")
    text = str(value)
    if has_control(text):
        raise ValueError("has a line break or another control character in it")
    return _FORMATS[form](text)


def a_kind(value: object) -> str:
    """What YAML calls a value, with its article."""
    kinds = ((bool, "a truth"), (str, "a text"), ((int, float), "a number"), (dict, "a mapping"), ((list, tuple), "a list"))
    if value is None:
        return "empty"
    return next((name for kind, name in kinds if isinstance(value, kind)), f"a {type(value).__name__}")
