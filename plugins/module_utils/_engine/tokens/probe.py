# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""One probe for everyone who asks whether a token works: hsm_instance, hsm_status, and the health service."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..._cryptoki.probing import probe as round_trip
from ..._cryptoki.provider import Provider, Token
from ..._cryptoki.session import Session, open_session
from ..._model.errors import Cryptoki, KeyfleetError, TokenError
from ..._model.tokens.pin_state import pin_missing, pin_state
from ..._model.tokens.secret import Pin
from ..._model.tokens.selectors import TokenSelector
from ..._model.tokens.status import TokenStatus, fault_fields


def probe_token(
    provider: Provider,
    token: Token,
    *,
    pin: Pin | None,
    login: bool = True,
    so: bool = False,
    kind: str = "roundtrip",
    allow_low_pin_count: bool = False,
    timeout: float = 0,
    inside: Callable[[Session], None] | None = None,
) -> TokenStatus:
    """Open the token, log in, and (``kind`` roundtrip) have it do something once. Never raises: what went wrong is in the answer.

    ``inside`` is called last, in the same session; a :class:`KeyfleetError` that it raises is the token's.
    """
    seen: dict[str, Any] = {"slot_id": token.slot_id, "label": token.label, "serial": token.serial}
    state = pin_state(token.flags, so=so)
    try:
        if login and pin is None:
            raise pin_missing(token)
        with open_session(
            provider,
            token,
            pin=pin if login else None,
            so=so and login,
            read_write=so,
            allow_low_pin_count=allow_low_pin_count,
            timeout=timeout,
        ) as session:
            # The security officer has no keys to use, and a public session none to make.
            if kind == "roundtrip" and login and not so:
                held = round_trip(session)
                seen |= {"probe": held.rung, "probe_refused": held.refused}
            if inside is not None:
                inside(session)
    except KeyfleetError as error:
        found = {"pin_state": error.details.get("pin_state", state)}
        refused = {"probe_refused": error.details["refused"]} if "refused" in error.details else {}
        return TokenStatus(**{**seen, **found, **refused, **fault_fields(error)})
    # A good login clears the flags that a wrong one set.
    return TokenStatus(**seen, accessible=True, pin_state=state if state == "to_be_changed" or not login else "ok")


def find_token(provider: Provider, selector: TokenSelector) -> Token | KeyfleetError:
    """The token, or why there is none, as a value: one token's trouble must not hide the others'."""
    try:
        return provider.require(selector)
    except (TokenError, Cryptoki) as error:
        return error
