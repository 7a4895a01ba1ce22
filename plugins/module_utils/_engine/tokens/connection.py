# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""Which token a task means, and how it is reached: through a registered instance, or by library and selector alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from ..._cryptoki.provider import open_provider
from ..._cryptoki.session import Session, open_session
from ..._model.addresses import prefix_of
from ..._model.errors import InputError, PinError, TokenError
from ..._model.keys.layout import PKCS11
from ..._model.records import InstanceRecord, TokenRecord
from ..._model.tokens.connection_request import ConnectionRequest, Login
from ..._model.tokens.pin_state import pin_missing
from ..._model.tokens.secret import TYPED, Pin, Secret
from ..._model.tokens.selectors import TokenSelector
from ..._model.tokens.starting import Starting
from ..._registry import instances as table
from ..._registry.database import Database
from ..files.private_files import read_pin
from .choice import chosen_token, find_instance
from .refused_pins import Tried, check_not_refused, note_login


@dataclass(frozen=True)
class Target:
    """One token and the way to it. Without a registry ``token`` and ``prefix`` are None."""

    libraries: tuple[str, ...]
    selector: TokenSelector
    starting: Starting = field(default_factory=Starting)
    pin: Pin | None = None
    timeout: float = 0
    prefix: str | None = None
    token: TokenRecord | None = None
    pin_path: str | None = None
    allow_low_pin_count: bool = False
    layout: str = PKCS11

    @property
    def tried(self) -> Tried | None:
        """The PIN that a login tries; None without a login, and for one that a person types: nothing of it can be remembered."""
        return Tried(self.pin_path) if isinstance(self.pin, Secret) else None

    @property
    def token_id(self) -> int | None:
        """The token's row in the registry."""
        return self.token.id if self.token is not None else None


def target_of_request(database: Database | None, request: ConnectionRequest) -> Target:
    """The one token that a task means: of a registered instance, or without a ``database`` of a library, whose ``pin_file`` is read.

    Raises :class:`TokenError`, PinError.
    """
    if database is not None:
        return _instance_target(database, request)
    login, selector = request.login, request.selector
    if request.library is None or selector is None:
        raise TypeError("a request without a registry names a library and a token")
    pin = login.pin or (read_pin(login.pin_file, "pin_file") if login.pin_file else None)
    if pin is None:
        raise pin_missing(str(selector))
    return Target((request.library,), selector, request.starting, pin, allow_low_pin_count=login.allow_low_pin_count)


def instance_pin(token: TokenRecord, login: Login) -> Pin | None:
    """The PIN for a registered token: the task's own, else the token's file. None where it needs no login.

    Raises PinError, and InputError for a PIN that is given where a person types it.
    """
    if not token.login:
        return None
    if token.pinpad:
        if login.option is not None:
            where = f"token '{token.named()}' is registered with login: pinpad, and a person types its PIN at the device"
            raise InputError([f"{login.option}: {where}: leave it out"])
        return TYPED
    path = pin_path(token, login)
    if not path and login.pin is None:
        raise pin_missing(f"token '{token.named()}'")
    check_not_refused(token, Tried(path, token.user_type == "so"), allow_low_pin_count=login.allow_low_pin_count)
    return login.pin or read_pin(path or "", "pin_file")


def pin_path(token: TokenRecord, login: Login) -> str | None:
    """The file that the PIN comes from; None where the task gives the PIN itself."""
    if login.pin is not None or not token.login or token.pinpad:
        return None
    return login.pin_file or token.pin_file


def _instance_target(database: Database, request: ConnectionRequest) -> Target:
    known = table.all_instances(database)
    record = find_instance(known, request.instance or "", database.path)
    return target_of(known, record, chosen_token(record, request.selector), request.login)


def target_of(known: Sequence[InstanceRecord], record: InstanceRecord, token: TokenRecord, login: Login) -> Target:
    """The way to a registered token, with its PIN read. Raises PinError."""
    return Target(
        libraries=(record.library,),
        starting=record.starting,
        selector=token.selector,
        pin=instance_pin(token, login),
        pin_path=pin_path(token, login),
        allow_low_pin_count=login.allow_low_pin_count,
        timeout=record.connection_timeout,
        prefix=prefix_of(known)[record.name],
        token=token,
        layout=record.layout,
    )


@contextmanager
def open_target(target: Target, database: Database | None, *, read_write: bool, held: Sequence[str] = ()) -> Iterator[Session]:
    """A session on the target's token. Refuses a token that is not the one that was registered, though it has its label.

    ``database`` remembers a refused PIN; ``held`` as in :func:`open_session`.
    """
    with open_provider(target.libraries, target.starting, target.timeout) as provider:
        token = provider.require(target.selector)
        if target.pin is None and "LOGIN_REQUIRED" in token.flags:
            raise TokenError(
                f"{token} shows its private keys only after a login, and it is registered with login: false. Without a login keys "
                "that are there would look absent. Register it with login: true and a PIN.",
                code="login_needed",
            )
        known = target.token
        if known is not None and (was := known.replaced_by(token.identity)):
            raise TokenError(
                f"{token} answers to {target.selector}, but the registered token has {was}: it was replaced or "
                "initialised anew. Run hsm_instance to look at it and to register it.",
                code="token_changed",
            )
        try:
            with open_session(
                provider,
                token,
                pin=target.pin,
                read_write=read_write,
                allow_low_pin_count=target.allow_low_pin_count,
                timeout=target.timeout,
                held=held,
            ) as session:
                note_login(database, target.token, target.tried, None)
                yield session
        except PinError as error:
            note_login(database, target.token, target.tried, error)
            raise
