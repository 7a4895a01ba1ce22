# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""Bring one declared token to life: find it, create it, set or change its PIN, keep its PIN file, and test it.

Observe first (:func:`observe`, no write), act later (:meth:`TokenWork.apply`). What a crash leaves half done is found by
the next observe: a token without a user PIN gets one, a PIN file is written again.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, field, replace

from .._cryptoki.provider import Provider, Token
from .._cryptoki.session import open_session
from .._model.errors import Cryptoki, KeyfleetError, PinError
from .._model.instance_spec import TokenSpec
from .._model.pin_state import LOCKED, NOT_SET, check_login_allowed, pin_state
from .._model.secret import Secret
from .._model.selectors import TokenSelector
from .._model.token_status import TokenStatus, fault_fields
from .plan import CHANGE, CREATE, Step
from .private_files import holds_pin, read_pin, write_pin
from .probe import find_token, pin_missing, probe_token


@dataclass(frozen=True)
class Access:
    """How this run may reach the tokens."""

    allow_low_pin_count: bool = False
    timeout: float = 0


@dataclass
class TokenWork:
    """What a declared token needs. ``error`` is set when it cannot be had; ``status`` is the last probe."""

    spec: TokenSpec
    token: Token | None = None
    create: bool = False
    set_pin_as_so: bool = False
    change_pin: bool = False
    write_file: bool = False
    old_pin: Secret | None = None
    pin: Secret | None = None
    so_pin: Secret | None = None
    status: TokenStatus = field(default_factory=TokenStatus)
    error: KeyfleetError | None = None
    stale_pending: bool = False

    @property
    def steps(self) -> list[Step]:
        """Plan steps, the same before and after they were carried out. A new token's serial and slot are the token's to choose."""
        name, steps = str(self.spec.selector), []
        if self.create:
            steps.append(Step(CREATE, f"token {name}", None, {"initialized": True, "user_pin": "set"}))
        elif self.set_pin_as_so:
            before = "locked or unknown" if self.spec.new_pin else "not set"
            steps.append(Step(CHANGE, f"token {name}", {"user_pin": before}, {"user_pin": "set by the security officer"}))
        elif self.change_pin:
            steps.append(Step(CHANGE, f"token {name}", {"user_pin": "as it was"}, {"user_pin": "changed to new_pin"}))
        if self.write_file:
            after = {"mode": "0600", "content": f"the user PIN of token {name}"}
            steps.append(Step(CREATE, f"file {self.spec.pin_file}", None, after))
        return steps

    def fail(self, error: KeyfleetError) -> None:
        self.error = error
        self.status = replace(self.status, **fault_fields(error))

    def apply(self, provider: Provider, access: Access) -> None:
        """Carry the steps out, in an order that a crash can interrupt anywhere. Raises :class:`KeyfleetError`."""
        if self.create:
            self.token = provider.create_token(str(self.spec.selector.value), self._need_so_pin())
        if self.create or self.set_pin_as_so:
            self._set_pin_as_so(provider, access)
        elif self.change_pin:
            self._change_pin(provider, access)
        if self.write_file and self.pin is not None and self.spec.pin_file:
            write_pin(self.spec.pin_file, self.pin, "pin_file")
            _drop(_pending(self.spec.pin_file))
        touched = self.create or self.set_pin_as_so or self.change_pin
        if touched and (error := self.test(provider, access)):
            raise error

    def drop_stale(self) -> None:
        """After an interrupted change whose new PIN the token refused: the next run goes on from the old one."""
        if self.stale_pending and self.spec.pin_file:
            _drop(_pending(self.spec.pin_file))

    def _need_so_pin(self) -> Secret:
        if self.so_pin is None:
            raise PinError(f"{self.spec.where}: needs so_pin or so_pin_file.", code="pin_missing")
        return self.so_pin

    def _set_pin_as_so(self, provider: Provider, access: Access) -> None:
        token = self.token
        if token is None or self.pin is None:
            raise pin_missing(self.spec.where)
        # Another run may have set it between our look and the lock; then its PIN is tested, not replaced.
        if self.create and pin_state(provider.require(TokenSelector("serial", token.serial)).flags) != NOT_SET:
            return
        with open_session(
            provider,
            token,
            pin=self._need_so_pin(),
            so=True,
            allow_low_pin_count=access.allow_low_pin_count,
            timeout=access.timeout,
        ) as session:
            session.init_pin(self.pin)

    def _change_pin(self, provider: Provider, access: Access) -> None:
        token, spec = self.token, self.spec
        if token is None or self.pin is None or self.old_pin is None or spec.pin_file is None:
            raise pin_missing(spec.where)
        # The new PIN is on the disk before the token has it: a crash in between loses neither.
        write_pin(_pending(spec.pin_file), self.pin, "pin_file")
        # Without a login: C_SetPIN proves the old PIN itself, in one try, and works for an expired PIN as well
        # (PKCS#11 3.1, section 5.6.7).
        with open_session(provider, token, pin=None, timeout=access.timeout) as session:
            session.set_pin(self.old_pin, self.pin, allow_low_pin_count=access.allow_low_pin_count)

    def test(self, provider: Provider, access: Access) -> KeyfleetError | None:
        """Probe the token with the PIN that is in force; one attempt. Returns what went wrong, which is the work's error then."""
        if self.token is None:
            return None
        self.token = provider.require(TokenSelector("slot", self.token.slot_id))
        spec = self.spec
        so = spec.user_type == "so"
        in_force = self.so_pin if so and self.pin is None else self.pin
        self.status = probe_token(
            provider,
            self.token,
            pin=in_force,
            login=spec.login,
            so=so,
            allow_low_pin_count=access.allow_low_pin_count,
            timeout=access.timeout,
        )
        if self.status.error is not None:
            status = self.status
            details = {"device_fault": status.device_fault, "pin_state": status.pin_state, "serial": status.serial}
            self.error = KeyfleetError(self.status.error, code=status.code or "not_accessible", details=details)
        return self.error


def _pending(pin_file: str) -> str:
    """Where a new PIN waits while the token is given it."""
    return f"{pin_file}.new"


def _drop(path: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(path)


def _resolve_pins(work: TokenWork) -> None:
    """Which PINs this token's work uses, read before the provider is touched. Raises :class:`PinError`."""
    spec = work.spec
    work.so_pin = spec.so_pin or (read_pin(spec.so_pin_file, f"{spec.where}.so_pin_file") if spec.so_pin_file else None)
    if not spec.login:
        return
    if spec.new_pin is not None and spec.pin_file:
        work.pin = spec.new_pin
        if holds_pin(spec.pin_file, spec.new_pin):
            return
        if holds_pin(_pending(spec.pin_file), spec.new_pin):
            # A change was interrupted. The token most likely has the new PIN; if not, the next run takes the old one.
            work.write_file = True
            return
        work.write_file = True
        work.old_pin = spec.pin or (read_pin(spec.pin_file, "pin_file") if os.path.exists(spec.pin_file) else None)
        work.change_pin = work.old_pin is not None
        work.set_pin_as_so = work.old_pin is None and work.so_pin is not None
        if work.old_pin is None and work.so_pin is None:
            raise PinError(
                f"{spec.where}.new_pin: the PIN that is in force is not known: give pin, or so_pin to set it as security officer.",
                code="pin_missing",
            )
        return
    if spec.pin is not None:
        work.pin = spec.pin
        work.write_file = spec.pin_file is not None and not holds_pin(spec.pin_file, spec.pin)
    elif spec.pin_file is not None:
        work.pin = read_pin(spec.pin_file, f"{spec.where}.pin_file")
    elif not (spec.user_type == "so" and work.so_pin is not None):
        raise pin_missing(spec.where)


def prepare(spec: TokenSpec) -> TokenWork:
    """Work for one token with its PINs read; a PIN's trouble is kept as the work's error."""
    work = TokenWork(spec)
    try:
        _resolve_pins(work)
    except PinError as error:
        work.fail(error)
    return work


def observe(provider: Provider, work: TokenWork, access: Access) -> None:
    """Find the token and decide what it needs; test it when it needs nothing first. Writes nothing, tries a PIN at most once."""
    spec = work.spec
    found: Token | KeyfleetError | None
    if spec.initialize:
        try:
            found = provider.find(spec.selector)
        except KeyfleetError as error:
            found = error
    else:
        found = find_token(provider, spec.selector)
    if isinstance(found, KeyfleetError):
        work.fail(found)
        return
    if found is None:
        try:
            provider.free_slot()
        except (KeyfleetError, Cryptoki) as error:
            work.fail(error)
            return
        if work.error is None:
            work.create, work.change_pin, work.set_pin_as_so = True, False, False
        return
    work.token = found
    work.status = replace(work.status, slot_id=found.slot_id, label=found.label, serial=found.serial, pin_state=pin_state(found.flags))
    if work.error is not None:
        return
    state = pin_state(found.flags)
    first_pin = spec.user_type == "user" and state == NOT_SET and (spec.initialize or spec.new_pin)
    unlock = spec.new_pin and state == LOCKED and work.write_file
    if spec.login and work.so_pin is not None and (first_pin or unlock):
        work.set_pin_as_so, work.change_pin = True, False
    if work.set_pin_as_so:
        try:
            check_login_allowed(found.flags, str(found), so=True, allow_low=access.allow_low_pin_count)
        except PinError as error:
            work.fail(error)
        return
    if work.change_pin:
        try:
            check_login_allowed(found.flags, str(found), allow_low=access.allow_low_pin_count)
        except PinError as error:
            work.fail(error)
        return
    refused = work.test(provider, access)
    if refused is not None and refused.code == "pin_incorrect" and spec.new_pin and spec.pin_file:
        work.stale_pending = True
