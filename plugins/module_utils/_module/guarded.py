# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""Log arguments, give them back and refuse them without showing what is secret in them.

Ansible logs ``str(params)``, in which repr's escapes hide a text with a backslash, a tab, a newline or both quotes from its masking,
and it does so while the module is made. So nothing is logged until then, and then we log what was masked by option. ``log`` is the
one public way to the log in every ansible-core: whatever its constructor calls in another version, it ends there.

Ansible masks what stands in a ``no_log`` option. A PIN in a wrong place, under a misspelt name or in a list that should
be a mapping, it prints with the refused arguments; and a list of the wrong shape keeps it from masking anything at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from .._model.tokens.secret import mask
from .secrets import MASK, for_the_log, masked, texts

_SHORTEST = 4  # a shorter text is no PIN, and to cut it out would leave no message to read


class GuardedModule(AnsibleModule):  # type: ignore[misc]
    """An AnsibleModule whose arguments are masked by option wherever they are shown, and not shown at all until they are accepted.

    ``invocation`` are the masked arguments.
    """

    _accepted = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._accepted = True
        self.invocation = masked(self.params, self.argument_spec)
        lines = for_the_log(self.invocation)
        self.log(f"Invoked with {' '.join(f'{name}={line}' for name, line in lines.items())}", log_args=lines)
        for place in self._numbers:
            self.warn(f"{place}: is a number in YAML, which reads 0123 as 83 and drops leading zeros: put the PIN in quotes.")

    def _load_params(self) -> None:
        super()._load_params()
        # Before the arguments are converted: afterwards nobody can tell a number from its text.
        self._numbers = list(_numbers(self.params, self.argument_spec))
        # As Python would write the JSON of them, without defaults.
        self.given_bytes = len(repr(self.jsonify(self.params)))

    def log(self, msg: Any, log_args: Any = None) -> None:
        if self._accepted:
            super().log(msg, log_args)

    def exit_json(self, **kwargs: Any) -> None:
        if self._accepted:
            kwargs["invocation"] = {"module_args": self.invocation}
        super().exit_json(**kwargs)

    def fail_json(self, msg: Any, **kwargs: Any) -> None:
        if self._accepted:
            kwargs["invocation"] = {"module_args": self.invocation}
        else:
            hidden = {name: value for name, value in self.params.items() if not self._shown(name, value)}
            unsafe = {text for text in _misplaced(hidden, self.argument_spec) if len(text) >= _SHORTEST}
            msg = mask(str(msg), unsafe - set(_words(self.argument_spec)))
            shown = {name: MASK if name in hidden else value for name, value in self.params.items()}
            kwargs["invocation"] = {"module_args": shown}
        super().fail_json(msg, **kwargs)

    def _shown(self, name: str, value: Any) -> bool:
        option = self.argument_spec.get(name)
        if option is None or option.get("no_log"):
            return False
        return not isinstance(value, (dict, list)) or (bool(option.get("options")) and not _holds_secrets(option))


def _holds_secrets(option: Mapping[str, Any]) -> bool:
    """Whether an option or one below it is a secret's place, so that a misplaced PIN may stand near it."""
    return bool(option.get("no_log")) or any(_holds_secrets(inner) for inner in (option.get("options") or {}).values())


def _unsafe(params: Any, spec: Mapping[str, Any]) -> Iterator[str]:
    """Texts that may be secrets: what is no mapping where one belongs, and all that stands beside the place of a secret."""
    if not isinstance(params, Mapping) or _beside_secrets(spec):
        yield from texts(params)
    else:
        yield from _misplaced(params, spec)


def _misplaced(params: Mapping[str, Any], spec: Mapping[str, Any]) -> Iterator[str]:
    """Texts of secret options, under names that are none, and where another shape belongs. A plain value in its own place is what
    a refusal has to show."""
    for name, value in params.items():
        option = spec.get(name)
        if option is None or option.get("no_log"):
            yield from texts(value)
        elif option.get("options"):
            for entry in value if isinstance(value, list) else [value]:
                yield from _unsafe(entry, option["options"])
        elif isinstance(value, (dict, list)) or "PRIVATE KEY-----" in str(value):
            yield from texts(value)


def _beside_secrets(spec: Mapping[str, Any]) -> bool:
    """Whether a PIN may have slipped into one of these options: one of them, or of a list's entries below, is a secret's place.

    A group of options under a name of its own, such as a key's ``source``, is not mistaken for its neighbours.
    """
    return any(option.get("no_log") is True or (option.get("type") == "list" and _holds_secrets(option)) for option in spec.values())


def _numbers(params: Any, spec: Mapping[str, Any], place: str = "") -> Iterator[str]:
    """Places of PINs that were given as numbers."""
    if not isinstance(params, Mapping):
        return
    for name, option in spec.items():
        value = params.get(name)
        if option.get("no_log") is True and isinstance(value, (int, float)) and not isinstance(value, bool):
            yield f"{place}{name}"
        elif option.get("options") and isinstance(value, list):
            for index, entry in enumerate(value):
                yield from _numbers(entry, option["options"], f"{place}{name}[{index}].")
        elif option.get("options"):
            yield from _numbers(value, option["options"], f"{place}{name}.")


def _words(spec: Mapping[str, Any]) -> Iterator[str]:
    """Names and choices of the options: the words that a refusal itself is made of."""
    for name, option in spec.items():
        yield name
        yield from map(str, option.get("choices") or ())
        yield from _words(option.get("options") or {})
