# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""Variables of roles before they are used: of the type that belongs there, and fit for the file that they are written to.

Ansible checks a role's variables against its argument specs by converting them, and hands on what was given: ``x`` where a list
belongs passes, and is a list of letters then.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from .config_words import a_kind, config_word, has_control
from .tokens.environment import VARIABLE_NAME

_UNIT = re.compile(r"[A-Za-z0-9:_.@-]+\Z")
_DEVICE = re.compile(r"(/dev/[^ ]+|(char|block)-[^ ]+)( [rwm]+)?\Z")
_ACCOUNT = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*[$]?\Z")
_SETTING = re.compile(r"[a-z_]+([.][a-z_]+)+\Z")
_CONTROL = "has a line break or another control character in it. Take it out."


def _text(value: Any) -> Iterator[str]:
    if not isinstance(value, str):
        yield f"is {a_kind(value)}, and a text belongs there. Put it in quotes."
    elif has_control(value):
        yield _CONTROL


def _path(value: Any) -> Iterator[str]:
    yield from _text(value)
    if isinstance(value, str) and not value.startswith("/") and not has_control(value):
        yield f"{value} is not an absolute path. Begin it with a /."


def _softhsm_path(value: Any) -> Iterator[str]:
    problems = [*_text(value)]
    yield from problems
    if not problems:
        try:
            config_word(value, "softhsm2")
        except ValueError:
            value = ""
        if not value.startswith("/"):
            yield "give an absolute path, without #, brackets, line breaks and blanks at its end."


def _optional(value: Any) -> Iterator[str]:
    """A text that may be empty, such as the path of a file on the controller."""
    if value is not None:
        yield from _text(value)


def _unit(value: Any) -> Iterator[str]:
    if not isinstance(value, str) or not _UNIT.match(value) or value.endswith(".service"):
        yield f"{value!r} is not the name of a unit. Give it without .service."


def _list(value: Any) -> Iterator[str]:
    if not isinstance(value, (list, tuple)):
        yield f"is {a_kind(value)}, and a list belongs there. Put it in brackets."
        return
    odd = sorted({a_kind(one) for one in value if not isinstance(one, str)})
    if odd:
        yield f"an entry is {' or '.join(odd)}, and a text belongs there. Put it in quotes."
    if any(isinstance(one, str) and has_control(one) for one in value):
        yield f"a value {_CONTROL}"


def _of_each(value: Any, good: Callable[[str], object], hint: str) -> Iterator[str]:
    problems = [*_list(value)]
    yield from problems
    odd = [one for one in value if not good(one)] if not problems else []
    if odd:
        yield f"{', '.join(odd)}: {hint}"


def _paths(value: Any) -> Iterator[str]:
    yield from _of_each(value, lambda one: one.startswith("/"), "give absolute paths.")


def _devices(value: Any) -> Iterator[str]:
    hint = "give a path under /dev or a class such as char-usb_device, and then what is allowed, for example /dev/cs2.0 rw."
    yield from _of_each(value, lambda one: _DEVICE.match(one) and not re.search(r"[\\\"']", one), hint)


def _accounts(value: Any) -> Iterator[str]:
    yield from _of_each(value, _ACCOUNT.match, "no name of a group or user.")


def _account(value: Any) -> Iterator[str]:
    yield from _accounts([value])


def _mapping(value: Any, good_name: re.Pattern[str], hint: str, form: str) -> Iterator[str]:
    if not isinstance(value, Mapping):
        yield f"is {a_kind(value)}, and a mapping belongs there."
        return
    odd = [str(name) for name in value if not isinstance(name, str) or not good_name.match(name)]
    if odd:
        # As text with its escapes: a name is what is wrong here.
        yield f"{', '.join(repr(name)[1:-1] for name in odd)}: {hint}"
    for name, one in value.items():
        try:
            config_word(one, form)
        except ValueError as error:
            yield f"{repr(str(name))[1:-1]}: the value {error}. Give one line of text, a number or a truth."


def _environment(value: Any) -> Iterator[str]:
    yield from _mapping(value, VARIABLE_NAME, "no name of a variable. Use letters, digits and _.", "systemd")


def _settings(value: Any) -> Iterator[str]:
    yield from _mapping(value, _SETTING, "no name of a setting. See softhsm2.conf(5).", "softhsm2")


_KINDS: dict[str, Callable[[Any], Iterator[str]]] = {
    "text": _text,
    "optional": _optional,
    "path": _path,
    "paths": _paths,
    "softhsm_path": _softhsm_path,
    "unit": _unit,
    "list": _list,
    "devices": _devices,
    "account": _account,
    "accounts": _accounts,
    "environment": _environment,
    "softhsm_settings": _settings,
}
KINDS = tuple(_KINDS)


def variable_problems(variables: Mapping[str, Any], kinds: Mapping[str, str]) -> list[str]:
    """Every problem of ``variables``, each as one text that begins with the variable's name. ``kinds`` has one of :data:`KINDS` for all."""
    return [f"{name}: {problem}" for name, value in variables.items() for problem in _KINDS[kinds[name]](value)]
