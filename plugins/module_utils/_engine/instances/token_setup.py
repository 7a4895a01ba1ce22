# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""Bring one declared token to life: find it, create it, set or change its PIN, keep its PIN file, and test it.

Observe first (:func:`observe`: no write, no login), then test what is there (:func:`test_existing`), act last
(:meth:`TokenWork.apply`). What a crash leaves half done is found by
the next observe: a token without a user PIN gets one, a PIN file is written again.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, field, replace

from ..._cryptoki.provider import Provider, Token
from ..._cryptoki.session import open_session
from ..._model.errors import KeyfleetError, PinError, TokenError
from ..._model.plan import CHANGE, CREATE, Step
from ..._model.records import TokenRecord
from ..._model.tokens.instance_spec import TokenSpec
from ..._model.tokens.pin_state import LOCKED, NOT_SET, check_login_allowed, pin_state
from ..._model.tokens.secret import Secret
from ..._model.tokens.selectors import TokenSelector
from ..._model.tokens.status import TokenStatus, fault_fields
from ..files.private_files import holds_pin, pin_of, read_pin, write_pin
from ..tokens.probe import pin_missing, probe_token
from ..tokens.refused_pins import check_not_refused


@dataclass(frozen=True)
class Access:
    """How this run may reach the tokens."""

    allow_low_pin_count: bool = False
    allow_renumber: bool = False
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
    tested: bool = False
    interrupted: bool = False
    stale_pending: bool = False
    done: list[str] = field(default_factory=list)

    @property
    def pin_path(self) -> str | None:
        """The file that the PIN of a login comes from; None where the task gives the PIN."""
        return self.spec.pin_file if self.spec.login and not self.spec.pin and not self.spec.new_pin else None

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
        """Carry the steps out, in an order that a crash can interrupt anywhere. Raises :class:`KeyfleetError`.

        Alone on the provider: a library that another run has initialised before would go on judging PINs by the old record.
        What another run has done since our look is not done again. ``done`` says how far it came.
        """
        touched = self.create or self.set_pin_as_so or self.change_pin
        if touched:
            with provider.alone():
                self._apply_alone(provider, access)
        if self.write_file and self.pin is not None and self.spec.pin_file:
            write_pin(self.spec.pin_file, self.pin, f"{self.spec.where}.pin_file")
            _drop(_pending(self.spec.pin_file))
            self.done.append(f"{self.spec.pin_file} was written")
        if touched and (error := self.test(provider, access)):
            raise error

    def _apply_alone(self, provider: Provider, access: Access) -> None:
        name = self.spec.selector
        if self.create:
            before = provider.find(name)
            self.token = before or provider.create_token(str(name.value), self._need_so_pin())
            if before is None:
                self.done.append(f"token {name} was created")
        state = NOT_SET if self.token is None else pin_state(provider.require(TokenSelector("serial", self.token.serial)).flags)
        if self.create or self.set_pin_as_so:
            if self.spec.new_pin is None and state != NOT_SET:
                return
            if self._already_new():
                return
            self._set_pin_as_so(provider, access)
            self.done.append(f"the user PIN of token {name} was set")
        elif self.change_pin and not self._already_new():
            self._change_pin(provider, access)
            self.done.append(f"the user PIN of token {name} was changed")

    def _already_new(self) -> bool:
        spec = self.spec
        return bool(spec.new_pin and spec.pin_file) and holds_pin(spec.pin_file or "", self.pin or Secret(""), "pin_file")

    def drop_stale(self) -> None:
        """After an interrupted change whose new PIN the token refused: the next run goes on from the old one."""
        if self.stale_pending and self.spec.pin_file:
            _drop(_pending(self.spec.pin_file))

    def _need_so_pin(self) -> Secret:
        if self.so_pin is None:
            raise PinError(f"{self.spec.where}: needs so_pin or so_pin_file.", code="pin_missing")
        return self.so_pin

    def _set_pin_as_so(self, provider: Provider, access: Access) -> None:
        if self.token is None or self.pin is None:
            raise pin_missing(self.spec.where)
        low = access.allow_low_pin_count
        with open_session(
            provider, self.token, pin=self._need_so_pin(), so=True, allow_low_pin_count=low, timeout=access.timeout
        ) as session:
            session.init_pin(self.pin)

    def _change_pin(self, provider: Provider, access: Access) -> None:
        token, spec = self.token, self.spec
        if token is None or self.pin is None or self.old_pin is None or spec.pin_file is None:
            raise pin_missing(spec.where)
        pending = _pending(spec.pin_file)
        # Without a login: C_SetPIN proves the old PIN itself, in one try, and works for an expired PIN as well
        # (PKCS#11 3.1, section 5.6.7).
        with open_session(provider, token, pin=None, timeout=access.timeout) as session:
            # The new PIN is on the disk before the token has it: a crash in between loses neither.
            write_pin(pending, self.pin, f"{spec.where}.pin_file")
            try:
                session.set_pin(self.old_pin, self.pin, allow_low_pin_count=access.allow_low_pin_count)
            except PinError:
                _drop(pending)  # the token said no, so it certainly has the old PIN
                raise

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
    spec, option = work.spec, f"{work.spec.where}.pin_file"
    work.so_pin = spec.so_pin or (read_pin(spec.so_pin_file, f"{spec.where}.so_pin_file") if spec.so_pin_file else None)
    if not spec.login:
        return
    if spec.new_pin is not None and spec.pin_file:
        _resolve_new_pin(work, spec.pin_file, spec.new_pin)
    elif spec.pin is not None:
        work.pin = spec.pin
        work.write_file = spec.pin_file is not None and not holds_pin(spec.pin_file, spec.pin, option)
    elif spec.pin_file is not None:
        work.pin = read_pin(spec.pin_file, option)
    elif not (spec.user_type == "so" and work.so_pin is not None):
        raise pin_missing(spec.where)


def _resolve_new_pin(work: TokenWork, pin_file: str, new_pin: Secret) -> None:
    """Whether the PIN in force is the new one already. A file that cannot be read does not say so, and ends the work."""
    spec, option = work.spec, f"{work.spec.where}.pin_file"
    work.pin = new_pin
    in_file, waiting = pin_of(pin_file, option), pin_of(_pending(pin_file), option)
    if in_file == new_pin:
        return
    work.write_file = True
    if waiting == new_pin:
        # A change was interrupted. The token most likely has the new PIN; if not, the next run takes the old one.
        work.interrupted = True
        return
    if waiting is not None:
        raise PinError(
            f"{spec.where}.new_pin: an earlier change to another PIN was interrupted, and {_pending(pin_file)} may hold the PIN in force. "
            "Run once with that PIN as new_pin to finish it, or remove the file if the token never took it.",
            code="pin_change_unfinished",
        )
    work.old_pin = spec.pin or in_file
    work.change_pin = work.old_pin is not None
    work.set_pin_as_so = work.old_pin is None and work.so_pin is not None
    if work.old_pin is None and work.so_pin is None:
        raise PinError(
            f"{spec.where}.new_pin: the PIN that is in force is not known: give pin, or so_pin to set it as security officer.",
            code="pin_missing",
        )


def prepare(spec: TokenSpec) -> TokenWork:
    """Work for one token with its PINs read; a PIN's trouble is kept as the work's error."""
    work = TokenWork(spec)
    try:
        _resolve_pins(work)
    except PinError as error:
        work.fail(error)
    return work


def observe(provider: Provider, work: TokenWork, access: Access, known: TokenRecord | None) -> None:
    """Find the token and decide what it needs. Writes nothing and tries no PIN. ``known`` is the registry's row for it."""
    spec = work.spec
    try:
        found = provider.find(spec.selector) if spec.initialize else provider.require(spec.selector)
    except KeyfleetError as error:
        work.fail(error)
        return
    try:
        if found is None:
            _observe_missing(provider, work, access, known)
        else:
            _observe_found(provider, work, access, found, known)
    except KeyfleetError as error:
        work.fail(error)


def _observe_missing(provider: Provider, work: TokenWork, access: Access, known: TokenRecord | None) -> None:
    if known is not None and known.serial and not access.allow_renumber:
        raise TokenError(
            f"{work.spec.where}: the registered token, serial {known.serial}, is not there, and another one is not created in its "
            "place. Bring it back, or say allow_renumber: true if it is gone for good.",
            code="no_token",
            details={"serial": known.serial},
        )
    free = provider.free_slot()
    if work.error is None:
        for option, pin in (("so_pin", work.so_pin), ("pin", work.pin)):
            _check_length(provider, free, work, option, pin)
        work.create, work.change_pin, work.set_pin_as_so = True, False, False


def _observe_found(provider: Provider, work: TokenWork, access: Access, found: Token, known: TokenRecord | None) -> None:
    spec, state = work.spec, pin_state(found.flags)
    work.token = found
    work.status = replace(work.status, slot_id=found.slot_id, label=found.label, serial=found.serial, pin_state=state)
    if work.error is not None:
        return
    first_pin = spec.user_type == "user" and state == NOT_SET and (spec.initialize or spec.new_pin)
    unlock = spec.new_pin and state == LOCKED and work.write_file
    if spec.login and work.so_pin is not None and (first_pin or unlock):
        work.set_pin_as_so, work.change_pin = True, False
    if work.set_pin_as_so or work.change_pin:
        check_login_allowed(found.flags, str(found), so=work.set_pin_as_so, allow_low=access.allow_low_pin_count)
        _check_length(provider, found, work, "new_pin" if spec.new_pin else "pin", work.pin)
    elif known is not None and work.pin_path:
        check_not_refused(known, work.pin_path, allow_low_pin_count=access.allow_low_pin_count)


def _check_length(provider: Provider, token: Token, work: TokenWork, option: str, pin: Secret | None) -> None:
    """A PIN that is to be set has a length that the token takes. Known before anything is created."""
    least, most = provider.pin_lengths(token)
    if pin is not None and most and not least <= len(pin.reveal().encode("utf-8")) <= most:
        raise PinError(
            f"{work.spec.where}.{option}: its length does not suit the token, which takes PINs of {least} to {most} bytes.",
            code="pin_not_accepted",
        )


def test_existing(provider: Provider, work: TokenWork, access: Access) -> None:
    """Test the tokens that need nothing first. One attempt."""
    if work.error is not None or work.token is None or work.set_pin_as_so or work.change_pin:
        return
    work.tested = True
    refused = work.test(provider, access)
    work.stale_pending = work.interrupted and refused is not None and refused.code == "pin_incorrect"
