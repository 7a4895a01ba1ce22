# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""What a declared token needs, worked out from what was seen of it. Nothing here asks the HSM or writes."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field, replace

from ..._cryptoki.provider import Token
from ..._model.errors import KeyfleetError, PinError, TokenError
from ..._model.plan import CHANGE, CREATE, Step
from ..._model.records import TokenRecord
from ..._model.tokens.instance_spec import TokenSpec
from ..._model.tokens.pin_state import LOCKED, NOT_SET, check_login_allowed, pin_state
from ..._model.tokens.secret import Secret, length_fits
from ..._model.tokens.status import TokenStatus, fault_fields
from ..tokens.refused_pins import Tried, check_not_refused
from .pins import Pins


@dataclass(frozen=True)
class Access:
    """How this run may reach the tokens. ``timeout`` is in seconds."""

    allow_low_pin_count: bool = False
    allow_renumber: bool = False
    timeout: float = 0


@dataclass(frozen=True)
class Look:
    """A declared token as it was last seen. ``error``: why it cannot be had."""

    token: Token | None = None
    status: TokenStatus = field(default_factory=TokenStatus)
    error: KeyfleetError | None = None

    def failed(self, error: KeyfleetError) -> Look:
        return replace(self, error=error, status=replace(self.status, **fault_fields(error)))


@dataclass(frozen=True)
class Found:
    """The first look. Without ``token`` and ``error`` there is none, and ``place`` is the slot for a new one or why there is none.

    ``pin_lengths`` are the least and the greatest in bytes, of the token or of that slot.
    """

    token: Token | None = None
    error: KeyfleetError | None = None
    place: Token | KeyfleetError | None = None
    pin_lengths: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class TokenPlan:
    """What a declared token needs. With ``look.error`` that is nothing which could be done.

    ``says_unset``: it said at a login that it has no user PIN, which outweighs its flags.
    """

    spec: TokenSpec
    pins: Pins = field(default_factory=Pins)
    look: Look = field(default_factory=Look)
    create: bool = False
    says_unset: bool = False
    set_pin_as_so: bool = False
    change_pin: bool = False

    def unreached(self, pins: Pins | PinError, look: Look) -> TokenPlan:
        """The plan for a token that cannot be reached and is registered all the same: a PIN that nothing disproves is kept in its file."""
        if isinstance(pins, PinError) or pins.differs or self.spec.new_pin is not None:
            return TokenPlan(self.spec, look=look)
        return TokenPlan(self.spec, pins, look)

    @property
    def writes_token(self) -> bool:
        return self.create or self.set_pin_as_so or self.change_pin

    @property
    def tried(self) -> Tried | None:
        """The PIN that has to be right; None where none is proven, or a person types it and nothing of it can be remembered."""
        spec, pins = self.spec, self.pins
        if self.create or not spec.login or spec.pinpad:
            return None
        so = self.set_pin_as_so or (spec.user_type == "so" and pins.pin is None)
        return Tried(pins.so_source if so else pins.source, so or spec.user_type == "so")

    @property
    def steps(self) -> list[Step]:
        """The same before and after they were carried out. A new token's serial and slot are the token's to choose."""
        name, steps = str(self.spec.selector), []
        if self.create:
            steps.append(Step(CREATE, f"token {name}", None, {"initialized": True, "user_pin": "set"}))
        elif self.set_pin_as_so:
            before = "locked or unknown" if self.spec.new_pin else "not set"
            steps.append(Step(CHANGE, f"token {name}", {"user_pin": before}, {"user_pin": "set by the security officer"}))
        elif self.change_pin:
            steps.append(Step(CHANGE, f"token {name}", {"user_pin": "as it was"}, {"user_pin": "changed to new_pin"}))
        if self.pins.write_file:
            after = {"mode": "0600", "content": f"the user PIN of token {name}"}
            there = {"content": "another PIN, which the token refused"} if self.pins.differs else None
            steps.append(Step(CHANGE if there else CREATE, f"file {self.spec.pin_file}", there, after))
        return steps


def plan_token(
    spec: TokenSpec, pins: Pins | PinError, found: Found, access: Access, known: TokenRecord | None, *, says_unset: bool = False
) -> TokenPlan:
    """The plan for one token. ``known`` is the registry's row for it; ``says_unset`` as in :class:`TokenPlan`."""
    if found.error is not None:
        return TokenPlan(spec, look=Look().failed(found.error))
    look = Look()
    if found.token is not None:
        token = found.token
        state = NOT_SET if says_unset else pin_state(token.flags)
        seen = TokenStatus(slot_id=token.slot_id, label=token.label, serial=token.serial, pin_state=state)
        look = Look(token, seen)
    try:
        if found.token is None:
            _check_may_be_created(spec, found, access, known)
        if isinstance(pins, PinError):
            raise pins
        _check_file_may_go(spec, pins, known)
        if found.token is None:
            for option, pin in (("so_pin", pins.so_pin), ("pin", pins.pin)):
                _check_length(spec, found, option, pin)
            return TokenPlan(spec, pins, look, create=True)
        return _plan_found(TokenPlan(spec, pins, look, says_unset=says_unset), found, found.token, access, known)
    except KeyfleetError as error:
        return TokenPlan(spec, look=look.failed(error))


def _check_may_be_created(spec: TokenSpec, found: Found, access: Access, known: TokenRecord | None) -> None:
    if known is not None and known.slot is not None and not access.allow_renumber:
        raise TokenError(
            f"{spec.where}: the registered token, serial {known.serial or 'unknown'}, is not there, and another one is not created in its "
            "place. Bring it back, or say allow_renumber: true if it is gone for good.",
            code="no_token",
            details={"serial": known.serial},
        )
    if isinstance(found.place, KeyfleetError):
        raise found.place


def _check_file_may_go(spec: TokenSpec, pins: Pins, known: TokenRecord | None) -> None:
    """A PIN file with another PIN goes when this token has refused what it holds. Otherwise that may be the PIN of another token."""
    if not pins.differs or (known is not None and Tried(spec.pin_file).mark() in known.refusals):
        return
    registered = known is not None and known.pin_file == spec.pin_file
    which = "which this token is registered with" if registered else "which is not overwritten, since it may be that of another token"
    ways = "Leave pin out" if registered else "Leave pin out, or give another pin_file"
    raise PinError(
        f"{spec.where}.pin: differs from the PIN in {spec.pin_file}, {which}, and is not tried. {ways}. If the token has another PIN "
        f"since, run: rm {shlex.quote(spec.pin_file or '')}, and the file is written anew.",
        code="pin_differs",
    )


def _plan_found(plan: TokenPlan, found: Found, token: Token, access: Access, known: TokenRecord | None) -> TokenPlan:
    spec, pins = plan.spec, plan.pins
    state = NOT_SET if plan.says_unset else pin_state(token.flags)
    first_pin = spec.user_type == "user" and state == NOT_SET and (spec.initialize or spec.new_pin)
    unlock = spec.new_pin and state == LOCKED and pins.write_file
    if pins.by_so or (spec.login and pins.so_pin is not None and (first_pin or unlock)):
        plan = replace(plan, set_pin_as_so=True)
    else:
        plan = replace(plan, change_pin=pins.old_pin is not None)
    if plan.writes_token:
        check_login_allowed(token.flags, str(token), so=plan.set_pin_as_so, allow_low=access.allow_low_pin_count)
        _check_length(spec, found, "new_pin" if spec.new_pin else "pin", pins.pin)
    if known is not None and plan.tried is not None and plan.tried.mark() in known.refusals:
        # What the token says of it comes first: it knows more, and also of other programs.
        check_login_allowed(token.flags, str(token), so=plan.tried.so, allow_low=access.allow_low_pin_count)
        check_not_refused(known, plan.tried, allow_low_pin_count=access.allow_low_pin_count)
    return plan


def _check_length(spec: TokenSpec, found: Found, option: str, pin: Secret | None) -> None:
    """A PIN that is to be set has a length that the token takes. Known before anything is created."""
    least, most = found.pin_lengths
    if pin is not None and not length_fits(pin, found.pin_lengths):
        raise PinError(
            f"{spec.where}.{option}: its length does not suit the token, which takes PINs of {least} to {most} bytes.",
            code="pin_not_accepted",
        )
