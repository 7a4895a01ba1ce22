# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.


"""The options of hsm_status as one value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .durations import time_problems
from .errors import InputError
from .expectation import Expectation
from .gateway_status import GatewayRequest
from .quoting import quoted
from .records import InstanceRecord, TokenRecord
from .site.undeclared import Declared
from .tokens.connection_request import Login


@dataclass(frozen=True)
class ProbeOrder:
    """How tokens are probed. ``kind`` is login or roundtrip; ``timeout`` is in seconds, for each token; ``expect`` are the credentials that
    they are to have. ``holdings``: versions and certificates are read in the same session."""

    kind: str = "roundtrip"
    timeout: float = 30
    login: Login = field(default_factory=Login)
    expect: tuple[Expectation, ...] = ()
    holdings: bool = False

    def expected_of(self, record: InstanceRecord, token: TokenRecord) -> list[tuple[int, Expectation]]:
        """What this token is to have, with the place in ``expect``."""
        return [(number, one) for number, one in enumerate(self.expect) if one.is_of(record, token)]


@dataclass(frozen=True)
class StatusRequest:
    """``registry`` is a path on the target. ``instances`` are names, None for all that are registered. ``require`` is all, any or none.
    ``declared`` is what the registry is compared with, ``gateway`` who is asked what it says of the tokens; None for nothing."""

    registry: str
    instances: tuple[str, ...] | None
    order: ProbeOrder
    require: str = "none"
    declared: Declared | None = None
    refuses_undeclared: bool = False
    gateway: GatewayRequest | None = None

    @classmethod
    def parse(cls, params: Mapping[str, Any]) -> StatusRequest:
        """The request that ``params``, the module's options, make. Raises :class:`InputError` with every problem.

        hsm_status_info has no ``require`` and no ``undeclared``: it never fails because of what it finds.
        """
        names, timeout, holdings = params["instances"], params["timeout"], params["holdings"]
        problems, expect = time_problems(timeout), []
        for number, entry in enumerate(params["expect"]):
            one, wrong = Expectation.parse(entry, f"expect[{number}]")
            expect.append(one)
            problems += wrong
            if names is not None and one.instance is not None and one.instance not in names:
                problems.append(f"expect[{number}].instance: {quoted(one.instance)} is not one of instances, which are probed")
        gateway, wrong = GatewayRequest.parse(params)
        problems += wrong
        if problems:
            raise InputError(problems)
        return cls(
            params["registry"],
            None if names is None else tuple(names),
            ProbeOrder(params["probe"], timeout, Login(allow_low_pin_count=params["allow_low_pin_count"]), tuple(expect), holdings),
            params.get("require", "none"),
            None if params["declared"] is None else Declared.parse(params["declared"]),
            params.get("undeclared") == "refuse",
            gateway,
        )
