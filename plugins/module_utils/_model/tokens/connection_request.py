# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""Which token a task means, and the PIN that it gives: the options of the doc fragments ``connection``, ``in_group`` and ``provider``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .secret import Secret, option_problems
from .selectors import TokenSelector
from .starting import Starting

_SELECTORS = ("token_label", "token_serial", "slot")


@dataclass(frozen=True)
class Login:
    """How a task logs in. Without ``pin`` and ``pin_file`` the registered token's own file has the PIN.

    ``allow_low_pin_count``: whether the last tries before the PIN is locked may be used.
    """

    pin: Secret | None = None
    pin_file: str | None = None
    allow_low_pin_count: bool = False

    @property
    def option(self) -> str | None:
        """The option that gives a PIN, or None."""
        if self.pin:
            return "pin"
        return "pin_file" if self.pin_file else None


@dataclass(frozen=True)
class ConnectionRequest:
    """Exactly one of ``instance`` and ``group`` (names in the registry) and ``library`` (a path on the target).

    ``selector`` is there with a library, may be with an instance, and never is with a group. ``starting`` is a library's.
    """

    instance: str | None = None
    group: str | None = None
    library: str | None = None
    selector: TokenSelector | None = None
    starting: Starting = field(default_factory=Starting)
    login: Login = Login()

    @classmethod
    def parse(cls, params: Mapping[str, Any], *, needs_token: bool = True) -> tuple[ConnectionRequest, list[str]]:
        """The request, and what is wrong with it. An option that the module does not have may be missing in ``params``.

        ``needs_token``: whether a library goes with one of its tokens.
        """
        problems: list[str] = []
        instance, group, library = params.get("instance"), params.get("group"), params.get("library")
        selected = [name for name in _SELECTORS if params.get(name) is not None]
        selector, misread = TokenSelector.parse(params, "library" if library else "instance", prefix="token_")
        if sum(map(bool, (instance, group, library))) != 1:
            ways = "instance or group" if "group" in params else "instance"
            direct = ", or library with one of token_label, token_serial, slot" if "library" in params else ""
            problems.append(f"instance: give either {ways}{direct}")
        elif group and selected:
            problems.append(f"{selected[0]}: a group's connections say which tokens serve it: leave it out, or give instance")
        elif (library and needs_token) or selected:
            problems += misread
        for name in ("environment", "init_args", "os_locking"):
            if (instance or group) and params.get(name):
                problems.append(f"{name}: belongs to library; an instance has its own, which hsm_instance keeps")
        starting, starting_problems = Starting.parse(params)
        problems += starting_problems
        if params.get("pin") and params.get("pin_file"):
            problems.append("pin: give pin or pin_file, not both")
        if params.get("pin"):
            problems += option_problems(params["pin"], "pin")
        login = Login(params.get("pin"), params.get("pin_file"), bool(params.get("allow_low_pin_count")))
        return cls(instance, group, library, selector, starting, login), problems
