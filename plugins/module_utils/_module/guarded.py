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

import resource
from collections.abc import Iterator, Mapping
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from .._model.tokens.secret import mask
from .arguments import PINS, Check, named
from .message import readable
from .secrets import MASK, for_the_log, masked, texts

_SHORTEST = 4  # a shorter text is no PIN, and to cut it out would leave no message to read


class GuardedModule(AnsibleModule):  # type: ignore[misc]
    """An AnsibleModule whose arguments are masked by option wherever they are shown.

    ``problems`` are those of the arguments, which are not refused here: what is wrong with the sound ones is told in the same
    error. ``params`` are the sound ones. ``faulty`` is as in :class:`Check`.
    """

    _accepted = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.params: dict[str, Any] = {}
        self.problems: list[str] = []
        leave_no_core()
        super().__init__(*args, **kwargs)
        self._accepted = True
        for place in self._numbers:
            self.warn(f"{place}: is a number in YAML, which reads 0123 as 83 and drops leading zeros: put the PIN in quotes.")
        if not self.problems:
            lines = for_the_log(self.invocation)
            self.log(f"Invoked with {' '.join(f'{name}={line}' for name, line in lines.items())}", log_args=lines)

    @property
    def invocation(self) -> dict[str, Any]:
        """The masked arguments; where there are problems those that were given, with MASK for each option that has one."""
        if not self.problems:
            return masked(self.params, self.argument_spec)
        refused = {place.partition("[")[0] for place in self.faulty}
        shown = masked(self.params, self.argument_spec)
        return {named(name): MASK if name in refused else shown.get(name) for name in self._given}

    def _set_internal_properties(self, *args: Any, **kwargs: Any) -> None:
        super()._set_internal_properties(*args, **kwargs)
        # Before the arguments are converted: afterwards nobody can tell a number from its text.
        self._given = self.params
        self._numbers = list(_numbers(self.params, self.argument_spec))
        # As Python would write the JSON of them, without defaults.
        self.given_bytes = len(repr(self.jsonify(self.params)))
        check = Check(self.params, self.argument_spec, self._required())
        self.problems, self.faulty, self.params = check.problems, check.faulty, check.sound
        # Done. Ansible would take a stand-in, or a default in the place of what is refused, for what was given.
        self.required_if: list[Any] = []

    def _required(self) -> Iterator[str]:
        for name, wanted, needed in self.required_if or ():
            if self.params.get(name, self.argument_spec[name].get("default")) == wanted:
                yield from needed

    def log(self, msg: Any, log_args: Any = None) -> None:
        if self._accepted:
            super().log(msg, log_args)

    def exit_json(self, **kwargs: Any) -> None:
        super().exit_json(**{**kwargs, "invocation": {"module_args": self.invocation}})

    def fail_json(self, msg: Any, **kwargs: Any) -> None:
        if not self._accepted:
            # By Ansible, in its own words, in which any argument may be.
            unsafe = {text for text in texts(self.params) if len(text) >= _SHORTEST}
            msg = mask(str(msg), unsafe - set(_words(self.argument_spec)))
        failure = {"code": "unexpected", "details": {}, **kwargs.get("failure", {})}
        # Once is enough: where there are problems, they are all of it.
        field = "problems" if "problems" in failure["details"] else "message"
        msg, whole = readable(str(msg), field)
        if whole:
            kwargs["failure"] = {**failure, "details": {field: whole, **failure["details"]}}
        super().fail_json(msg, **{**kwargs, "invocation": {"module_args": self.invocation}})


def leave_no_core() -> None:
    """A core file of this process, or of one that it starts, would hold PINs and keys.

    One byte at most: 0 would not keep the kernel from handing the core to a program (core(5), "Piping core dumps to a program"), and 1
    does; a file of one byte is not written either.
    """
    _soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    most = 1 if hard == resource.RLIM_INFINITY or hard > 1 else hard
    resource.setrlimit(resource.RLIMIT_CORE, (most, most))


def _numbers(params: Any, spec: Mapping[str, Any], place: str = "") -> Iterator[str]:
    """Places of PINs that were given as numbers. Any other secret that is a number is refused, and so is a boolean."""
    if not isinstance(params, Mapping):
        return
    for name, option in spec.items():
        value = params.get(name)
        if name in PINS and isinstance(value, (int, float)) and not isinstance(value, bool):
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
