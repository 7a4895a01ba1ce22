# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""A session on one token: flags first, one login at the most, certain clean-up."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any, TypeVar

from .._model import underway
from .._model.errors import Cryptoki, PinError, TokenError
from .._model.faults import is_login_fault
from .._model.keys.objects import KeyObject
from .._model.tokens.pin_state import NOT_SET, check_login_allowed, pin_state
from .._model.tokens.secret import Pin, PinPad, Secret, length_fits
from .binding import mechanism as by_name
from .binding import mechanism_name, pkcs11
from .direct import Way
from .errors import calling, rv_name
from .function_list import SessionFunctions, is_shared
from .locks import HostLock
from .mapping import attribute_mapper
from .provider import Provider, Token, read_token
from .second_look import writing
from .uninterrupted import uninterrupted

Result = TypeVar("Result")

_REFUSED = {
    "CKR_PIN_INCORRECT": "pin_incorrect",
    "CKR_PIN_INVALID": "pin_incorrect",
    "CKR_PIN_LEN_RANGE": "pin_incorrect",
    "CKR_PIN_LOCKED": "pin_locked",
    "CKR_PIN_EXPIRED": "pin_expired",
    "CKR_USER_PIN_NOT_INITIALIZED": "pin_not_initialized",
}
# What a device with a PIN pad answers when nobody types, or somebody cancels; vendors have values of their own for it (0x8…).
_NOT_TYPED = ("CKR_FUNCTION_CANCELED", "CKR_FUNCTION_REJECTED", "CKR_VENDOR_DEFINED")


def _check_length(provider: Provider, token: Token, pin: Secret, whose: str) -> None:
    """A PIN of a length that the token never takes is not tried. Raises :class:`PinError`."""
    least, most = lengths = provider.pin_lengths(token)
    if not length_fits(pin, lengths):
        raise PinError(
            f"{token}: the {whose} was not tried: its length cannot be right, as the token takes PINs of {least} to {most} bytes. "
            "Look at the option or the file that it comes from.",
            code="pin_not_accepted",
        )


class Session:
    """An open session. ``raw`` is python-pkcs11's; only this package touches it, and ``way``, which reaches objects in fewer
    calls; None for a library whose functions only python-pkcs11 can call."""

    def __init__(
        self, provider: Provider, token: Token, raw: Any, mapper: Any, user_pin: Pin | None = None, *, allow_low: bool = False
    ) -> None:
        self.provider = provider
        self.token = token
        self.raw = raw
        shared = is_shared(provider.library)
        self.way = Way(SessionFunctions(provider.library, int(raw.handle)), raw, mapper) if shared else None
        self._user_pin = user_pin  # what the user logged in with; None for the security officer and without a login
        self._allow_low = allow_low
        self._refused: PinError | Cryptoki | None = None  # by a key that wants the PIN at each use
        self._mechanisms: frozenset[str] | None = None

    def mechanisms(self) -> frozenset[str]:
        """Names of the token's mechanisms without ``CKM_``; asked for once."""
        if self._mechanisms is None:
            with calling(f"reading the mechanisms of {self.token}"):
                found = self.token.slot.get_mechanisms()
            self._mechanisms = frozenset(mechanism_name(number) for number in found)
        return self._mechanisms

    def key_sizes(self, mechanism: str) -> tuple[int, int]:
        """Least and greatest key size of a mechanism, in the unit that PKCS#11 gives for it (bits for RSA and EC)."""
        with calling(f"reading mechanism {mechanism} of {self.token}"):
            info = self.token.slot.get_mechanism_info(by_name(mechanism))
        return int(info.min_key_length), int(info.max_key_length)

    @property
    def has_own_login(self) -> bool:
        """Whether :meth:`with_own_login` has a PIN to give."""
        return isinstance(self._user_pin, Secret)

    def using(self, item: KeyObject | None, use: Callable[..., Result], doing: str) -> Result:
        """One use of the private key ``item``, which gets a login of its own where it wants one: then ``use`` is called with ``pin``."""
        if item is None or not item.always_authenticate:
            return use()
        return self.with_own_login(lambda pin: use(pin=pin), doing)

    def with_own_login(self, use: Callable[[str], Result], doing: str) -> Result:
        """One use of a key that wants the PIN each time (CKA_ALWAYS_AUTHENTICATE): ``use`` makes the context-specific login right after
        it began the operation (PKCS#11 3.1, section 5.6.8), with the PIN that it is given.

        One try, after the flags were read, as any login, and none any more once this session's PIN was refused. Raises
        :class:`PinError`, and python-pkcs11's errors.
        """
        if self._refused is not None:
            raise self._refused
        if self._user_pin is None:
            raise PinError(f"{self.token}: {doing} takes the user PIN at each use, and this session has none.", code="pin_missing")
        if not isinstance(self._user_pin, Secret):
            raise PinError(
                f"{self.token}: {doing} takes the user PIN at each use, and python-pkcs11 cannot ask the device's PIN pad for it.",
                code="pin_missing",
            )
        with self.provider.gate.rewriting(), uninterrupted():
            check_login_allowed(read_token(self.token.slot).flags, str(self.token), allow_low=self._allow_low)
            try:
                return use(self._user_pin.reveal())
            except pkcs11.PKCS11Error as error:
                if rv_name(error) in _REFUSED:
                    self._refused = _login_error(error, self.token, so=False)
                    raise self._refused from None
                raise

    def init_pin(self, pin: Secret, about_to: Callable[[], None]) -> None:
        """Set the user PIN as the security officer (C_InitPIN). ``about_to`` is called right before, when nothing else can fail.

        Raises :class:`PinError` where the token refuses it; :class:`Cryptoki`, and where nobody can tell whether it has the new PIN its
        details hold ``changed_hsm``.
        """
        first = pin_state(read_token(self.token.slot).flags) == NOT_SET

        def done() -> bool | None:
            return pin_state(read_token(self.token.slot).flags) != NOT_SET if first else None

        with self.provider.gate.rewriting():
            about_to()
            with writing(f"setting the user PIN of {self.token}", "C_InitPIN", done):
                try:
                    self.raw.init_pin(pin.reveal())
                except pkcs11.PKCS11Error as error:
                    if refusal := _not_accepted(rv_name(error), self.token):
                        raise refusal from None
                    raise

    def set_pin(self, old: Secret, new: Secret, about_to: Callable[[], None], *, allow_low_pin_count: bool = False) -> None:
        """Change the user PIN (C_SetPIN) in a session without a login. One try of ``old``; raises as a login does, and else as
        :meth:`init_pin`. Only a login could tell which PIN is in force after an error, and nothing here tries a second one."""
        with self.provider.gate.rewriting():
            check_login_allowed(read_token(self.token.slot).flags, str(self.token), allow_low=allow_low_pin_count)
            _check_length(self.provider, self.token, old, "old user PIN")
            about_to()
            with writing("changing the PIN", "C_SetPIN", lambda: None):
                try:
                    self.raw.set_pin(old.reveal(), new.reveal())
                except pkcs11.PKCS11Error as error:
                    refusal = _not_accepted(rv_name(error), self.token)
                    raise refusal or _login_error(error, self.token, so=False, doing="changing the PIN") from None


def _not_accepted(rv: str, token: Token) -> PinError | None:
    """The error for a new PIN that the token's rules do not allow; the PIN in force is as it was."""
    if rv not in ("CKR_PIN_LEN_RANGE", "CKR_PIN_INVALID", "CKR_PIN_TOO_WEAK"):
        return None
    text = f"{token}: the new user PIN was not accepted ({rv}); the old one, if there is one, is still in force. Choose another."
    return PinError(text, code="pin_not_accepted", details={"rv": rv, "serial": token.serial})


def _login_error(error: BaseException, token: Token, so: bool, doing: str = "the login") -> PinError | Cryptoki:
    whose = "SO PIN" if so else "user PIN"
    rv = rv_name(error)
    if rv not in _REFUSED:
        return Cryptoki(f"{token}: {doing} failed: {rv}", rv=rv, device=is_login_fault(rv))
    try:
        state = pin_state(read_token(token.slot).flags, so=so)
    except Cryptoki:
        state = "unknown"
    reasons = {
        "pin_incorrect": f"the {whose} was refused ({rv}). It was tried once and is not tried again in this run",
        "pin_locked": f"the {whose} is locked ({rv})",
        "pin_expired": f"the {whose} has expired ({rv}): give new_pin to change it",
        "pin_not_initialized": f"the user PIN has not been set yet ({rv}): give initialize: true with so_pin and pin to set it",
    }
    reason = reasons[_REFUSED[rv]]
    after = f". The token's PIN state is now: {state}" if _REFUSED[rv] == "pin_incorrect" else ""
    return PinError(f"{token}: {reason}{after}.", code=_REFUSED[rv], details={"rv": rv, "pin_state": state, "serial": token.serial})


def _pad_error(error: BaseException, token: Token) -> PinError | Cryptoki:
    """Of a login whose PIN a person types. Another member of a group is no way out of a PIN that was not typed."""
    rv = rv_name(error)
    if rv.startswith(_NOT_TYPED):
        return PinError(
            f"{token}: no PIN was typed at its PIN pad ({rv}): the device gave up, or somebody cancelled. Run again with somebody there.",
            code="pin_not_typed",
            details={"rv": rv, "serial": token.serial},
        )
    return _login_error(error, token, so=False)


def _check_pad(token: Token) -> None:
    """Raise :class:`PinError` where the device has no way to ask a person for the PIN."""
    if "PROTECTED_AUTHENTICATION_PATH" not in token.flags:
        raise PinError(
            f"{token} is declared with login: pinpad, and it reports no PIN pad (CKF_PROTECTED_AUTHENTICATION_PATH). No login was tried. "
            "Look whether the reader is connected and set up in the vendor's software, or give login: true with pin_file.",
            code="no_pin_pad",
        )


def _look_again(provider: Provider, token: Token) -> Token:
    """The token's state now that the lock is held. Another program's login may have disturbed the first look: retry once."""
    with provider.gate.looking():
        try:
            fresh = read_token(token.slot)
        except Cryptoki:
            provider.reinitialize()
            fresh = read_token(token.slot)
    if token.identity.is_replaced_by(replace(fresh, shared=token.shared).identity):
        raise TokenError(f"{token}: its slot now holds {fresh}. Nothing was done; run again.", code="token_changed")
    return fresh


@contextmanager
def open_session(
    provider: Provider,
    token: Token,
    *,
    pin: Pin | None,
    so: bool = False,
    read_write: bool = True,
    allow_low_pin_count: bool = False,
    timeout: float = 0,
    held: Sequence[str] = (),
) -> Iterator[Session]:
    """A session on ``token``, logged in when ``pin`` is given (as the security officer with ``so``). With ``TYPED`` the device asks a
    person for the user's.

    Takes the token's lock for as long as the session lives, waiting ``timeout`` seconds (0: as long as it takes). Reads
    the flags before the login and makes one attempt, whatever happens. ``held`` is what the lock of a token goes by that the caller
    has open, and that this one must not be. Raises :class:`PinError`, :class:`Cryptoki`, :class:`TokenError`.
    """
    parts = token.identity.lock_parts(token.model)
    if parts == tuple(held):
        raise TokenError(f"{token} is open already, through another library or instance: it is one token.", code="same_token")
    with HostLock(str(token), "token", *parts) as lock:
        if lock.acquire(timeout=timeout):
            provider.reinitialize()  # what another run did while we waited must be seen
        fresh = _look_again(provider, token)
        if pin is not None:
            if isinstance(pin, PinPad):
                _check_pad(fresh)
            check_login_allowed(fresh.flags, str(token), so=so, allow_low=allow_low_pin_count)
            if isinstance(pin, Secret):
                _check_length(provider, token, pin, "SO PIN" if so else "user PIN")
        elif so:
            raise PinError(f"{token}: a login as security officer needs so_pin or so_pin_file.", code="pin_missing")
        with provider.gate.looking(), calling(f"opening a session on {token}"):
            raw_token = token.slot.get_token()
        login = underway.Call(f"opening a session on {token}", "C_OpenSession" if pin is None else "C_Login")
        secret = pin.reveal() if isinstance(pin, Secret) else pkcs11.PROTECTED_AUTH
        credentials = {} if pin is None else {"so_pin" if so else "user_pin": secret}
        mapper = attribute_mapper()
        try:
            with provider.gate.rewriting(), uninterrupted(), underway.calling(login):
                raw = raw_token.open(rw=read_write, attribute_mapper=mapper, **credentials)
        except pkcs11.PKCS11Error as error:
            # python-pkcs11 leaks the session of a failed login; only C_Finalize closes it.
            failure = None
            if pin is not None:
                failure = _pad_error(error, token) if isinstance(pin, PinPad) else _login_error(error, token, so)
            with suppress(Cryptoki):
                provider.reinitialize()
            if failure is not None:
                raise failure from None
            with calling(f"opening a session on {token}"):
                raise
        try:
            yield Session(provider, token, raw, mapper, None if so else pin, allow_low=allow_low_pin_count)
        finally:
            try:
                with underway.calling(underway.Call(f"closing the session on {token}", "C_CloseSession")):
                    raw.close()
            except pkcs11.PKCS11Error:
                with suppress(Cryptoki):  # what was done before counts, and not how the session ends
                    provider.reinitialize()
