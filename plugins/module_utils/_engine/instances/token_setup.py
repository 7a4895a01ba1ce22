# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""Bring one declared token to life: find it, create it, set or change its PIN, keep its PIN file, and test it.

Observe first (:func:`observe`: no write, no login), then test what is there (:func:`test_existing`), act last (:func:`apply`). What a
crash leaves half done is found by the next observe: a token without a user PIN gets one, a PIN file is written again.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass

from ..._cryptoki.provider import Provider, Token
from ..._cryptoki.second_look import CHANGED
from ..._cryptoki.session import open_session
from ..._model.errors import KeyfleetError, PinError
from ..._model.tokens.instance_spec import TokenSpec
from ..._model.tokens.pin_state import NOT_SET, pin_missing, pin_state
from ..._model.tokens.secret import TYPED, Secret
from ..._model.tokens.selectors import TokenSelector
from ..files.private_files import usable_pin_of
from ..files.writing import write_pin
from ..tokens.probe import probe_token
from .pins import Pins, pending_file, read_pins
from .plan import Access, Found, Look, TokenPlan


@dataclass(frozen=True)
class TokenDone:
    """What became of one plan. ``steps``: what was done, in words, also where ``failure`` came after it."""

    look: Look
    steps: tuple[str, ...] = ()
    failure: KeyfleetError | None = None

    @property
    def changed(self) -> bool:
        """Whether something is, or may be, other than before."""
        return bool(self.steps) or (self.failure is not None and bool(self.failure.details.get(CHANGED)))


def prepare(spec: TokenSpec) -> Pins | PinError:
    """The PINs of one token, or why there are none: one token's trouble must not hide the others'."""
    try:
        return read_pins(spec)
    except PinError as error:
        return error


def observe(provider: Provider, spec: TokenSpec) -> Found:
    """Look for the token. Writes nothing and tries no PIN."""
    try:
        token = provider.find(spec.selector) if spec.initialize else provider.require(spec.selector)
    except KeyfleetError as error:
        return Found(error=error)
    if token is not None:
        return Found(token, pin_lengths=provider.pin_lengths(token))
    try:
        place = provider.free_slot()
    except KeyfleetError as error:
        return Found(place=error)
    return Found(place=place, pin_lengths=provider.pin_lengths(place))


def test_existing(provider: Provider, plan: TokenPlan, access: Access) -> Look | None:
    """Test a token that needs nothing first. One attempt. None where it is not tested now."""
    if plan.look.error is not None or plan.look.token is None or plan.writes_token:
        return None
    return _test(provider, plan, plan.look.token, access)


def drop_stale(plan: TokenPlan, look: Look) -> None:
    """After an interrupted change whose new PIN the token refused: the next run goes on from the old one."""
    refused = look.error is not None and look.error.code == "pin_incorrect"
    if plan.pins.interrupted and refused and plan.spec.pin_file:
        _drop(pending_file(plan.spec.pin_file))


def apply(provider: Provider, plan: TokenPlan, look: Look, access: Access) -> TokenDone:
    """Carry a plan out, in an order that a crash can interrupt anywhere. ``look`` is the last one at the token.

    Alone on the provider: a library that another run has initialised before would go on judging PINs by the old record.
    What another run has done since our look is not done again.
    """
    steps = list[str]()
    try:
        token = look.token
        if plan.writes_token:
            with provider.alone():
                token = _write_token(provider, plan, token, access, steps)
        steps += _write_file(plan)
        if plan.writes_token and token is not None:
            look = _test(provider, plan, token, access)
    except KeyfleetError as error:
        return TokenDone(look, tuple(steps), error)
    return TokenDone(look, tuple(steps), look.error)


def keep_pin(plan: TokenPlan, look: Look) -> TokenDone:
    """What is left to do for a token that cannot be reached."""
    try:
        return TokenDone(look, tuple(_write_file(plan)))
    except KeyfleetError as error:
        return TokenDone(look, failure=error)


def _write_file(plan: TokenPlan) -> list[str]:
    spec, pins = plan.spec, plan.pins
    if not (pins.write_file and pins.pin is not None and spec.pin_file):
        return []
    write_pin(spec.pin_file, pins.pin, f"{spec.where}.pin_file")
    _drop(pending_file(spec.pin_file))
    return [f"{spec.pin_file} was written"]


def _write_token(provider: Provider, plan: TokenPlan, token: Token | None, access: Access, steps: list[str]) -> Token:
    """Create the token, set or change its PIN. Adds to ``steps`` what was done. Raises :class:`KeyfleetError`."""
    name = plan.spec.selector
    if plan.create:
        token = provider.find(name)
        if token is None:
            token = provider.create_token(str(name.value), _so_pin(plan))
            steps.append(f"token {name} was created")
    if token is None:
        raise TypeError("a plan without a token creates one")
    if not steps and _has_its_pin(provider, plan, token):
        return token
    _give_pin(provider, plan, token, access)
    steps.append(f"the user PIN of token {name} was {'changed' if plan.change_pin else 'set'}")
    return token


def _has_its_pin(provider: Provider, plan: TokenPlan, token: Token) -> bool:
    """Whether another run has given the token its PIN since our look. Not asked of a token that we made: a flag may say so from its first
    moment."""
    state = pin_state(provider.require(TokenSelector("slot", token.slot_id)).flags)
    set_already = plan.spec.new_pin is None and state != NOT_SET and not plan.change_pin and not plan.says_unset
    return set_already or _holds_new_pin(plan)


def _holds_new_pin(plan: TokenPlan) -> bool:
    spec, pin = plan.spec, plan.pins.pin
    return spec.new_pin is not None and spec.pin_file is not None and usable_pin_of(spec.pin_file, "pin_file") == pin


def _so_pin(plan: TokenPlan) -> Secret:
    if plan.pins.so_pin is None:
        raise PinError(f"{plan.spec.where}: needs so_pin or so_pin_file.", code="pin_missing")
    return plan.pins.so_pin


def _give_pin(provider: Provider, plan: TokenPlan, token: Token, access: Access) -> None:
    """Give the token its new user PIN: as the security officer, or for the old one.

    For the old one without a login: C_SetPIN proves it itself, in one try, and works for an expired PIN as well (PKCS#11 3.1, section
    5.6.7). A ``new_pin`` is on the disk before the token has it, so that a crash in between loses neither, and is there only when the
    token was asked for it.
    """
    spec, pins, low = plan.spec, plan.pins, access.allow_low_pin_count
    pin = pins.pin
    if pin is None:
        raise pin_missing(spec.where)
    pending = pending_file(spec.pin_file) if spec.new_pin and spec.pin_file else None

    def keep() -> None:
        if pending is not None:
            write_pin(pending, pin, f"{spec.where}.pin_file")

    old, so_pin = (pins.old_pin, None) if plan.change_pin else (None, _so_pin(plan))
    with open_session(provider, token, pin=so_pin, so=so_pin is not None, allow_low_pin_count=low, timeout=access.timeout) as session:
        try:
            if old is None:
                session.init_pin(pin, keep)
            else:
                session.set_pin(old, pin, keep, allow_low_pin_count=low)
        except PinError:
            if pending is not None:
                _drop(pending)  # the token said no, so it certainly has the old PIN
            raise


def _test(provider: Provider, plan: TokenPlan, token: Token, access: Access) -> Look:
    """Probe the token with the PIN that is in force; one attempt. Raises :class:`KeyfleetError` where it is not found again."""
    token = provider.require(TokenSelector("slot", token.slot_id))
    spec, pins = plan.spec, plan.pins
    so = spec.user_type == "so"
    status = probe_token(
        provider,
        token,
        pin=TYPED if spec.pinpad else pins.so_pin if so and pins.pin is None else pins.pin,
        login=spec.login,
        so=so,
        allow_low_pin_count=access.allow_low_pin_count,
        timeout=access.timeout,
    )
    if status.error is None:
        return Look(token, status)
    details = {"device_fault": status.device_fault, "pin_state": status.pin_state, "serial": status.serial}
    return Look(token, status, KeyfleetError(status.error, code=status.code or "not_accessible", details=details))


def _drop(path: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(path)
