# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""Keep PINs out of everything a module gives back, without masking harmless output that only looks like one.

Ansible masks a no_log value wherever its text occurs in an answer: with the PIN 1234, the slot 912345 becomes stars, and a
number or a path is damaged for every task that registered it. So the PINs are taken out of the parameters as
:class:`Secret` before any code sees them, the invocation is masked by option instead of by text, and Ansible's list of
texts is emptied.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .._model.tokens.secret import Secret

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


def hide_private_keys(value: Any) -> Any:
    """A copy of arguments without the private keys in PEM that stand where none belongs, in a path or a public key."""
    if isinstance(value, Mapping):
        return {name: hide_private_keys(item) for name, item in value.items()}
    if isinstance(value, list):
        return [hide_private_keys(item) for item in value]
    return MASK if isinstance(value, str) and "PRIVATE KEY-----" in value else value


def _given(entry: Any, spec: Mapping[str, Any]) -> Any:
    if not isinstance(entry, dict):
        return entry
    return {name: value for name, value in entry.items() if value is not None and value != spec.get(name, {}).get("default")}


def take_secrets(params: Mapping[str, Any], spec: Mapping[str, Any], found: set[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Two copies of ``params``: one with each no_log text as a Secret, one with each masked.

    A mapping with no_log is masked as a whole and stays a mapping. Adds the texts to ``found``.
    """
    wrapped, masked = dict(params), dict(params)
    for name, option in spec.items():
        value = params.get(name)
        if value is None:
            continue
        if option.get("no_log") is True:
            # Of a mapping only its text forms are secret, and which of them is the engine's to know.
            found.update(texts(value))
            wrapped[name], masked[name] = Secret(value) if isinstance(value, str) else value, MASK
        elif option.get("options") and isinstance(value, list):
            pairs = [take_secrets(entry, option["options"], found) if isinstance(entry, dict) else (entry, entry) for entry in value]
            wrapped[name] = [pair[0] for pair in pairs]
            # Options that have their default are left out: with a thousand entries, they would be most of the answer.
            masked[name] = [_given(pair[1], option["options"]) for pair in pairs]
        elif option.get("options") and isinstance(value, dict):
            wrapped[name], masked[name] = take_secrets(value, option["options"], found)
    return wrapped, masked
