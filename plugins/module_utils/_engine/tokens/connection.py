# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""Which token a task means, and how it is reached: through a registered instance, or by library and selector alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from ..._cryptoki.provider import open_provider
from ..._cryptoki.session import Session, open_session
from ..._model.addresses import prefix_of
from ..._model.errors import InputError, PinError, TokenError
from ..._model.records import InstanceRecord, TokenRecord
from ..._model.tokens.secret import Secret
from ..._model.tokens.selectors import TokenSelector
from ..._registry import instances as table
from ..._registry.database import Database
from ..files.private_files import read_pin
from .choice import _listed, chosen_tokens, connection_problems, find_instance
from .probe import pin_missing
from .refused_pins import check_not_refused, note_login


@dataclass(frozen=True)
class Target:
    """One token and the way to it. Without a registry ``token`` and ``prefix`` are None."""

    libraries: tuple[str, ...]
    selector: TokenSelector
    environment: Mapping[str, str] = field(default_factory=dict)
    pin: Secret | None = None
    timeout: float = 0
    prefix: str | None = None
    token: TokenRecord | None = None
    pin_path: str | None = None

    @property
    def token_id(self) -> int | None:
        """The token's row in the registry."""
        return self.token.id if self.token is not None else None


def direct_target(params: Mapping[str, Any]) -> Target:
    """The target of a task that names a library. Reads ``pin_file``; raises PinError."""
    selector, _problems = TokenSelector.parse(params, "library", prefix="token_")
    if selector is None:
        raise InputError(connection_problems(params))
    pin = params.get("pin") or (read_pin(params["pin_file"], "pin_file") if params.get("pin_file") else None)
    if pin is None:
        raise pin_missing(str(selector))
    return Target(libraries=(params["library"],), selector=selector, environment=params.get("environment") or {}, pin=pin, timeout=0)


def instance_pin(token: TokenRecord, params: Mapping[str, Any]) -> Secret | None:
    """The PIN for a registered token: the task's own, else the token's file. None where it needs no login. Raises PinError."""
    if not token.login:
        return None
    pin: Secret | None = params.get("pin")
    if pin is not None:
        return pin
    path = pin_path(token, params)
    if not path:
        raise pin_missing(f"token '{token.named()}'")
    check_not_refused(token, path, allow_low_pin_count=bool(params.get("allow_low_pin_count")))
    return read_pin(path, "pin_file")


def pin_path(token: TokenRecord, params: Mapping[str, Any]) -> str | None:
    """The file that the PIN comes from; None where the task gives the PIN itself."""
    if params.get("pin") is not None or not token.login:
        return None
    path: str | None = params.get("pin_file") or token.pin_file
    return path


def instance_target(database: Database, params: Mapping[str, Any]) -> Target:
    """The one token of a registered instance that the task means. Raises :class:`TokenError`, PinError."""
    known = table.all_instances(database)
    record = find_instance(known, params["instance"], database.path)
    tokens = chosen_tokens(record, params)
    if not tokens:
        raise TokenError(f"instance '{record.name}' has no tokens: declare them with hsm_instance.", code="token_not_declared")
    if len(tokens) > 1:
        raise TokenError(
            f"token_label: instance '{record.name}' has several tokens ({_listed(record)}): say which with token_label.",
            code="several_tokens",
        )
    return target_of(known, record, tokens[0], params)


def target_of(known: Sequence[InstanceRecord], record: InstanceRecord, token: TokenRecord, params: Mapping[str, Any]) -> Target:
    """The way to a registered token, with its PIN read. Raises PinError."""
    return Target(
        libraries=(record.library,),
        environment=record.environment,
        selector=token.selector,
        pin=instance_pin(token, params),
        pin_path=pin_path(token, params),
        timeout=record.connection_timeout,
        prefix=prefix_of(known)[record.name],
        token=token,
    )


@contextmanager
def open_target(target: Target, database: Database | None, *, read_write: bool, allow_low_pin_count: bool = False) -> Iterator[Session]:
    """A session on the target's token. Refuses a token that is not the one that was registered, though it has its label.

    ``database`` remembers a refused PIN file.
    """
    with open_provider(target.libraries, target.environment, target.timeout) as provider:
        token = provider.require(target.selector)
        if target.pin is None and "LOGIN_REQUIRED" in token.flags:
            raise TokenError(
                f"{token} shows its private keys only after a login, and it is registered with login: false. Without a login keys "
                "that are there would look absent. Register it with login: true and a PIN.",
                code="login_needed",
            )
        known = target.token
        if known is not None and known.serial and token.serial != known.serial:
            raise TokenError(
                f"{token} answers to {target.selector}, but the registered token has serial {known.serial}: it was replaced or "
                "initialised anew. Run hsm_instance to look at it and to register it.",
                code="token_changed",
            )
        try:
            with open_session(
                provider,
                token,
                pin=target.pin,
                read_write=read_write,
                allow_low_pin_count=allow_low_pin_count,
                timeout=target.timeout,
            ) as session:
                note_login(database, target.token, target.pin_path, None)
                yield session
        except PinError as error:
            note_login(database, target.token, target.pin_path, error)
            raise
