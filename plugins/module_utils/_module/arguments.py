# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""Check arguments against an argument spec before Ansible does.

Ansible stops at the first option of a kind, does not say in which entry of a list it stands, and prints what it refuses. This finds
all problems, names entry and label, and shows no value but a word where one of several words belongs.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ansible.module_utils.common import validation

from .._model.quoting import bracketed, is_path, text_problem

_CONVERT: Mapping[str, Callable[[Any], Any]] = {
    "bool": validation.check_type_bool,
    "dict": validation.check_type_dict,
    "float": validation.check_type_float,
    "int": validation.check_type_int,
    "list": validation.check_type_list,
    "path": validation.check_type_path,
    "raw": lambda value: value,
    "str": validation.check_type_str,
}
_WANTED = {
    "bool": "a boolean",
    "dict": "a mapping",
    "float": "a number",
    "int": "a whole number",
    "list": "a list",
    "path": "an absolute path on the target",
    "str": "a text",
}
_INTEGER = re.compile(r"\s*[+-]?[0-9]{1,40}(?:\.0*)?\s*\Z")
_LARGEST = 2**63 - 1  # what a registry, a token's attribute and the clock of a process can hold
_OPTION = re.compile(r"[A-Za-z_][A-Za-z_-]{0,40}\Z")
_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_.+-]{0,30}\Z")
_NAMES = ("label", "name", "instance")  # options that say which entry of a list it is
# Texts that a number may stand for: a slot is one, and a duration without its unit has an error of its own. A PIN gives a warning,
# since many stand in vaults without quotes.
PINS = frozenset({"pin", "so_pin", "new_pin"})
_NUMBERS_TOO = PINS | {"slot", "max_age", "lead", "renew_before"}


class Check:
    """``problems`` are in the order of the arguments.

    ``faulty`` are the outermost places that have one: ``name`` of an option, ``name[n]`` of an entry. ``sound`` are the arguments
    without what is refused, save paths: a required option and an entry of the outermost list have a stand-in, so that what is wrong
    with the others can be found.
    """

    def __init__(self, params: Mapping[str, Any], spec: Mapping[str, Any], required: Iterable[str] = ()) -> None:
        self.problems: list[str] = []
        self.faulty: set[str] = set()
        self._outermost = ""
        needed = [*_needed(spec), *required]
        self.sound = {**{name: _stand_in(spec[name], name) for name in needed}, **self._options(params, spec, "", needed)}

    def _refuse(self, place: str, problem: str) -> None:
        self.problems.append(f"{place}: {problem}")
        self.faulty.add(self._outermost)

    def _options(self, given: Mapping[str, Any], spec: Mapping[str, Any], place: str, needed: Iterable[str]) -> dict[str, Any]:
        above, sound = self._outermost, {}
        for name, value in given.items():
            self._outermost = above or str(name)
            if name not in spec:
                self._refuse(f"{place}{named(name)}", _unknown(name, spec))
            elif value is not None:
                accepted = self._value(value, spec[name], f"{place}{name}", spec)
                if accepted is not None:
                    sound[name] = accepted
        for name in needed:
            if given.get(name) is None:
                self._outermost = above or name
                self._refuse(f"{place}{name}", "is missing")
        self._outermost = above
        return sound

    def _value(self, value: Any, option: Mapping[str, Any], place: str, spec: Mapping[str, Any]) -> Any:
        """The value in its type, or None where it is refused. ``option`` is one of ``spec``."""
        kind, inner = option.get("type", "str"), option.get("options")
        shape = "list" if isinstance(value, list) else "dict" if isinstance(value, Mapping) else None
        if kind == "str" and not option.get("choices") and (problem := _number_for_text(value, place, spec)):
            self._refuse(place, problem)
            return None
        try:
            if (shape and kind not in (shape, "raw")) or (kind == "int" and not _INTEGER.match(str(value))):
                raise TypeError
            converted = _CONVERT[kind](value)
            if kind == "raw" and True in option.get("choices", ()):
                converted = _as_boolean(value)
        except (TypeError, ValueError):
            self._refuse(place, f"is not {_WANTED[kind]}" + (f" but {_WANTED[shape]}" if shape else ""))
            return None
        if kind == "list":
            return self._entries(converted, option, place, spec)
        if inner:
            return self._options(converted, inner, f"{place}.", _needed(inner))
        return self._plain(converted, kind, option, place, spec)

    def _entries(self, entries: list[Any], option: Mapping[str, Any], place: str, spec: Mapping[str, Any]) -> list[Any]:
        inner, of_each = option.get("options"), {**option, "type": option.get("elements", "raw")}
        above, sound = self._outermost, []
        for index, entry in enumerate(entries):
            outer = place == above
            if outer and inner:
                self._outermost = f"{place}[{index}]"
            here = f"{place}[{index}]{_label(entry, inner)}"
            accepted = None
            if entry is None:
                self._refuse(here, "is empty")
            else:
                accepted = self._value(entry, of_each, here, spec)
            if inner and self._outermost in self.faulty:
                accepted = {name: _stand_in(inner[name], f"{place}[{index}]") for name in _needed(inner)}
            if accepted is not None:
                sound.append(accepted)
            self._outermost = above
        return sound

    def _plain(self, value: Any, kind: str, option: Mapping[str, Any], place: str, spec: Mapping[str, Any]) -> Any:
        if kind == "path":
            if not is_path(value):
                # It stays, as what was given: nothing else is wrong because of it.
                self.problems.append(f"{place}: is not {_WANTED['path']}")
            return value
        if problem := _text_problem(value):
            self._refuse(place, problem)
        elif kind == "int" and abs(value) > _LARGEST:
            self._refuse(place, "is larger than 63 bits")
        elif isinstance(value, float) and not math.isfinite(value):
            self._refuse(place, "is not a finite number")
        elif option.get("choices") and value not in option["choices"]:
            found = f", not '{value}'" if _WORD.match(str(value)) and not _beside_secrets(spec) else ""
            self._refuse(place, f"must be one of {', '.join(map(str, option['choices']))}{found}")
        else:
            return value
        return None


def _as_boolean(value: Any) -> Any:
    """A value of an option that takes a boolean or a word."""
    try:
        return validation.check_type_bool(value)
    except TypeError:
        return value


def _number_for_text(value: Any, place: str, spec: Mapping[str, Any]) -> str | None:
    """YAML reads 0x10 as 16, 010 as 8, 1.10 as 1.1 and on as true: the text that was meant cannot be had back."""
    name = place.rpartition(".")[2].partition("[")[0]
    of_a_file = name in ("owner", "group") and "owner" in spec  # a number there is that of a user or group
    if not isinstance(value, (bool, int, float)) or (not isinstance(value, bool) and (name in _NUMBERS_TOO or of_a_file)):
        return None
    found = f"the truth value {str(value).lower()}" if isinstance(value, bool) else f"the number {value}"
    if _beside_secrets(spec):
        found = "a truth value" if isinstance(value, bool) else "a number"
    return (
        f"is {found}, and a text belongs there. YAML reads 0x10 as 16, 010 as 8, 1.10 as 1.1 and on as true: put the text in quotes, or "
        "give a variable's value through the filter string"
    )


def _needed(spec: Mapping[str, Any]) -> list[str]:
    return [name for name, option in spec.items() if option.get("required")]


def _stand_in(option: Mapping[str, Any], text: str) -> Any:
    return {"list": [], "dict": {}}.get(option.get("type", "str"), text)


def _text_problem(value: Any) -> str | None:
    """The first problem of all texts in a value, also of the names in a mapping."""
    if isinstance(value, Mapping):
        return _first(map(_text_problem, (*value, *value.values())))
    if isinstance(value, list):
        return _first(map(_text_problem, value))
    return text_problem(value) if isinstance(value, str) else None


def _first(problems: Iterable[str | None]) -> str | None:
    return next(filter(None, problems), None)


def named(name: Any) -> str:
    """An option's name as it was given; a PIN may stand where a name belongs."""
    return name if isinstance(name, str) and _OPTION.match(name) else "(not an option's name)"


def _unknown(name: Any, spec: Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(named(name), spec, n=1)
    return f"unknown option; did you mean {near[0]}?" if near else f"unknown option; known are {', '.join(spec)}"


def _label(entry: Any, spec: Mapping[str, Any] | None) -> str:
    """The name of an entry as errors give it."""
    if not isinstance(entry, Mapping) or spec is None:
        return ""
    return bracketed(next((entry[name] for name in _NAMES if name in spec and entry.get(name)), None))


def _beside_secrets(spec: Mapping[str, Any]) -> bool:
    """Whether a PIN may have slipped into one of these options, since one of them is a secret's place."""
    return any(option.get("no_log") is True for option in spec.values())
