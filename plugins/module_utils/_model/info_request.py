# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""The options of hsm_info as one value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .durations import time_problems
from .errors import InputError
from .tokens.connection_request import ConnectionRequest, Login
from .tokens.selectors import TokenSelector
from .tokens.starting import Starting


@dataclass(frozen=True)
class InfoRequest:
    """``library`` and ``registry`` are paths on the target. Without ``selector`` the tokens are listed. ``timeout`` is in seconds.
    ``labels`` are those of objects that are wanted, with ``generations`` of all generations of these keys; none means all."""

    library: str
    starting: Starting
    selector: TokenSelector | None
    login: Login
    registry: str
    timeout: int
    labels: frozenset[str] = frozenset()
    generations: bool = False

    @classmethod
    def parse(cls, params: Mapping[str, Any]) -> InfoRequest:
        """The request that ``params``, the module's options, make. Raises :class:`InputError` with every problem."""
        connection, problems = ConnectionRequest.parse(params, needs_token=False)
        option = connection.login.option
        if option and connection.selector is None and not problems:
            problems.append(f"{option}: a PIN is tried on one token only: name it with token_label, token_serial or slot")
        labels = params["labels"]
        if labels is not None and connection.selector is None and not problems:
            problems.append("labels: objects are those of one token: name it with token_label, token_serial or slot")
        if labels == []:
            problems.append("labels: empty list: leave it out for all objects")
        elif not all(labels or ["any"]):
            problems.append("labels: empty label: remove it")
        if params["generations"] and not labels:
            problems.append("generations: of which keys? Name them with labels")
        problems += time_problems(params["timeout"])
        if problems:
            raise InputError(problems)
        return cls(
            connection.library or "",
            connection.starting,
            connection.selector,
            connection.login,
            params["registry"],
            params["timeout"],
            frozenset(labels or ()),
            params["generations"],
        )
