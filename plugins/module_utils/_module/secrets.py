# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""Keep PINs out of everything a module gives back or logs, without masking harmless output that only looks like one.

Ansible masks a no_log value wherever its text occurs in an answer: with the PIN 1234, the slot 912345 becomes stars, and a
number or a path is damaged for every task that registered it. And where it shows a text in another spelling, as Python's repr
does in the log, it does not find it. So the PINs are taken out of the parameters as :class:`Secret` before any code sees them,
arguments are masked by option instead of by text, and Ansible's list of texts is emptied.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from .._model.quoting import is_path
from .._model.tokens.secret import Secret

_USER_IN_URL = re.compile(r"://[^/?#]*@")
MASK = "VALUE_SPECIFIED_IN_NO_LOG_PARAMETER"  # what Ansible itself puts in the place of a no_log value


def texts(value: Any) -> Iterator[str]:
    """Every text and number in a value of an option, as text."""
    if isinstance(value, Mapping):
        for item in value.values():
            yield from texts(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from texts(item)
    elif not isinstance(value, bool) and value is not None:
        yield str(value)


def masked(params: Mapping[str, Any], spec: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of arguments to show. A value is masked where its option has no_log, where there is no such option, where a value of
    another shape belongs, and where it can be no path.

    Options of entries that have their default are left out: with a thousand entries, they would be most of the answer.
    """
    return {name: _masked(value, spec.get(name)) for name, value in params.items()}


def _masked(value: Any, option: Mapping[str, Any] | None) -> Any:
    if value is None:
        return None
    # A mapping with no_log is masked as a whole.
    if option is None or option.get("no_log") is True:
        return MASK
    kind, inner = option.get("type", "str"), option.get("options")
    if isinstance(value, list) and kind == "list":
        return [_entry(entry, inner) for entry in value]
    if isinstance(value, Mapping) and kind == "dict":
        return masked(value, inner) if inner else _without_keys(value)
    if inner or kind == "dict" or isinstance(value, (list, Mapping)) or (kind == "path" and not is_path(str(value))):
        return MASK
    return _without_keys(value)


def _entry(entry: Any, spec: Mapping[str, Any] | None) -> Any:
    """One of a list's."""
    if spec is None:
        return MASK if isinstance(entry, (list, Mapping)) else _without_keys(entry)
    if not isinstance(entry, Mapping):
        return MASK
    given = {name: value for name, value in entry.items() if value is not None and value != spec.get(name, {}).get("default")}
    return masked(given, spec)


def _without_keys(value: Any) -> Any:
    """A copy without the private keys in PEM and the passwords in URLs that stand where none belongs."""
    if isinstance(value, Mapping):
        return {name: _without_keys(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_without_keys(item) for item in value]
    return MASK if isinstance(value, str) and ("PRIVATE KEY-----" in value or _USER_IN_URL.search(value)) else value


def take_secrets(params: Mapping[str, Any], spec: Mapping[str, Any], found: set[str]) -> dict[str, Any]:
    """A copy of ``params`` with each no_log text as a Secret. Adds the texts to ``found``.

    A mapping with no_log stays one: only some of its texts are secret, and which of them is the engine's to know.
    """
    taken = dict(params)
    for name, option in spec.items():
        value = params.get(name)
        if value is None:
            continue
        if option.get("no_log") is True:
            found.update(texts(value))
            taken[name] = Secret(value) if isinstance(value, str) else value
        elif option.get("options") and isinstance(value, list):
            taken[name] = [take_secrets(entry, option["options"], found) for entry in value]
        elif option.get("options"):
            taken[name] = take_secrets(value, option["options"], found)
    return taken


def for_the_log(arguments: Mapping[str, Any]) -> dict[str, str]:
    """Masked arguments as texts of one line each; those that were not given are left out."""
    return {name: _line(value) for name, value in arguments.items() if value is not None}


def _line(value: Any) -> str:
    return value if isinstance(value, str) and value.isprintable() else repr(value)
