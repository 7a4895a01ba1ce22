# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""Probe the tokens of registered instances, each with a deadline of its own. The same for hsm_status and for the health service.

Instances of one library go in turn, and so do those that may share a token: a login keeps others out of the library, and a refused PIN
must be known before it is tried again. All others go side by side.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from ..._cryptoki.provider import Provider, Token, open_provider
from ..._cryptoki.session import Session
from ..._model.addresses import prefix_of
from ..._model.errors import KeyfleetError, TokenError
from ..._model.expectation import Expectation, untold
from ..._model.records import InstanceRecord, TokenRecord, identity_in
from ..._model.status_request import ProbeOrder
from ..._model.tokens.identity import Store, TokenIdentity
from ..._model.tokens.pin_state import pin_state
from ..._model.tokens.status import TokenStatus, fault_fields
from ..._model.uids import prefix_order
from ..._registry.database import open_database
from ..tokens.connection import instance_pin
from ..tokens.probe import find_token, probe_token
from ..tokens.refused_pins import Tried, note_login
from ..tokens.side_by_side import Asking, side_by_side
from .holdings import NOT_READ, certificates, versions

_LOCK_SHARE = 0.8  # of the time of a token: waiting for another run may take this much, and then says so
_OPENED: dict[str, Any] = {"opened": True}  # the first line of a child: the library answers, and was asked for its tokens

Slots = list[dict[str, Any]]
Probed = tuple[InstanceRecord, Slots]


def probe_instances(known: Sequence[InstanceRecord], chosen: Sequence[InstanceRecord], order: ProbeOrder) -> list[Probed]:
    """Those ``chosen`` of all ``known`` instances, sorted by prefix, each with the answers of its tokens in their order. Never raises.

    An answer is :meth:`TokenStatus.as_slot`, with ``credentials``: one entry for each of the order's expectations of this token, and with
    ``versions`` and ``certificates`` where the order wants holdings. A PIN that
    one instance's token refused is not tried again through another instance of the same token; to remember it is :func:`note_logins`.
    """
    prefixes = prefix_of(known)
    ordered = sorted(chosen, key=lambda item: (prefix_order(prefixes[item.name]), item.name))
    found: dict[str, Slots] = {}
    side_by_side([_in_turn(chain, order, found) for chain in in_turns(ordered)])
    return [(record, found[record.name]) for record in ordered]


def note_logins(registry: str, run: str, probed: Sequence[Probed]) -> None:
    """Remember refused PINs, for which the registry is opened only when there is something to write. ``run`` marks its events.

    Raises :class:`RegistryError`.
    """
    news = [
        (token, slot["code"])
        for record, slots in probed
        for token, slot in zip(record.tokens, slots, strict=True)
        if slot["code"] == "pin_incorrect" or (slot["accessible"] and token.refusals)
    ]
    if not news:
        return
    with open_database(registry, run=run) as database:
        for token, code in news:
            note_login(database, token, None if token.pinpad else Tried(token.pin_file, token.user_type == "so"), code)


def in_turns(records: Sequence[InstanceRecord]) -> list[list[InstanceRecord]]:
    """The records in groups that go in turn, in their order."""
    chains: list[list[InstanceRecord]] = []
    for record in records:
        mine = [chain for chain in chains if any(_go_in_turn(record, other) for other in chain)]
        joined = [one for one in records if any(one in chain for chain in mine)]
        chains = [*(chain for chain in chains if chain not in mine), [*joined, record]]
    return chains


def _go_in_turn(one: InstanceRecord, other: InstanceRecord) -> bool:
    if os.path.realpath(one.library) == os.path.realpath(other.library):
        return True
    ours, theirs = ([identity_in(record, token) for token in record.tokens] for record in (one, other))
    # A token that was never seen may be any.
    return any(not (a.serial and b.serial) or a.is_same(b, one_maker=True) for a in ours for b in theirs)


def _in_turn(chain: Sequence[InstanceRecord], order: ProbeOrder, found: dict[str, Slots]) -> Iterator[Asking]:
    """The children of these instances, whose answers go into ``found`` by name."""
    refused: list[TokenIdentity] = []
    for record in chain:
        slots = found[record.name] = []
        while len(slots) < len(record.tokens):
            work = partial(_probe_tokens, record, order, tuple(refused), len(slots))
            child = Asking(work, order.timeout, f"instance '{record.name}'")
            yield child
            slots += child.answers[1:]
            if child.error is not None:
                # The token that was being probed is to blame, and the others go on; before the first one it is the library as a whole.
                left = record.tokens[len(slots) :]
                slots += [_failed(record, token, order, child.error) for token in (left[:1] if child.answers else left)]
        for token, slot in zip(record.tokens, slots, strict=True):
            if slot["code"] == "pin_incorrect":
                seen = replace(token, label=slot["label"], serial=slot["serial"], slot=slot["slot_id"])
                refused.append(identity_in(record, seen))


def _last_seen(token: TokenRecord) -> TokenStatus:
    return TokenStatus(slot_id=token.slot, label=token.label, serial=token.serial)


def _failed(record: InstanceRecord, token: TokenRecord, order: ProbeOrder, error: KeyfleetError) -> dict[str, Any]:
    status = replace(_last_seen(token), **fault_fields(error))
    if error.code == "no_token" and token.serial is not None:
        status = replace(status, device_fault=True)  # it was there: what CKR_TOKEN_NOT_PRESENT says
    return _slot(record, token, order, status, {}, NOT_READ)


def _slot(
    record: InstanceRecord,
    token: TokenRecord,
    order: ProbeOrder,
    status: TokenStatus,
    checked: Mapping[int, Mapping[str, Any]],
    held: Mapping[str, Any],
) -> dict[str, Any]:
    """The answer of one token. What of its credentials could not be ``checked`` is not there either."""
    wanted = order.expected_of(record, token)
    credentials = [{"expect": number, **checked.get(number, untold(one, status))} for number, one in wanted]
    return {**status.as_slot(), "credentials": credentials, **(held if order.holdings else {})}


def _probe_tokens(record: InstanceRecord, order: ProbeOrder, refused: Sequence[TokenIdentity], first: int) -> Iterator[dict[str, Any]]:
    """In the child: the tokens of one instance from number ``first`` on. An error of one token, or of the library, is its answer."""
    tokens, wait = record.tokens[first:], order.timeout * _LOCK_SHARE
    opened, done = False, 0
    try:
        with open_provider((record.library,), record.starting, wait) as provider:
            found = [find_token(provider, token.selector) for token in tokens]
            opened = True
            yield _OPENED
            for known, token in zip(tokens, found, strict=True):
                if isinstance(token, KeyfleetError):
                    yield _failed(record, known, order, token)
                else:
                    yield _Probing(record, order, refused, known).of(provider, token)
                done += 1
    except KeyfleetError as error:
        if not opened:
            yield _OPENED
        yield from (_failed(record, token, order, error) for token in tokens[done:])


class _Probing:
    """In the child: the probe of one token, which the registry has as ``known``."""

    def __init__(self, record: InstanceRecord, order: ProbeOrder, refused: Sequence[TokenIdentity], known: TokenRecord) -> None:
        self.record, self.order, self.refused, self.known = record, order, refused, known
        self.checked: dict[int, dict[str, Any]] = {}
        self.held: dict[str, Any] = dict(NOT_READ)

    def of(self, provider: Provider, found: Token) -> dict[str, Any]:
        try:
            if self.order.holdings:
                self.held["versions"] = versions(provider, found)
            status = self._probe(provider, found)
        except KeyfleetError as error:
            state = pin_state(found.flags, so=self.known.user_type == "so")
            status = TokenStatus(found.slot_id, found.label, found.serial, **{**fault_fields(error), "pin_state": state})
        return _slot(self.record, self.known, self.order, status, self.checked, self.held)

    def _probe(self, provider: Provider, found: Token) -> TokenStatus:
        """Raises :class:`KeyfleetError` for a token that is not to be tried."""
        known, login = self.known, self.order.login
        if was := known.replaced_by(found.identity):
            raise TokenError(
                f"{found} is not the registered token, which has {was}: it was replaced or initialised anew. Run hsm_instance to register "
                "it.",
                code="token_changed",
            )
        # By whatever library and model it is declared: one try too few costs less than one too many.
        identity = replace(found.identity, store=Store.of(self.record.library, self.record.starting))
        if any(identity.is_same(other, one_maker=True) for other in self.refused):
            raise TokenError(f"{found}: its PIN was refused earlier in this run and is not tried again.", code="pin_not_tried")
        share = self.order.timeout * _LOCK_SHARE
        return probe_token(
            provider,
            found,
            pin=instance_pin(known, login),
            login=known.login,
            so=known.user_type == "so",
            kind=self.order.kind,
            allow_low_pin_count=login.allow_low_pin_count,
            timeout=min(self.record.connection_timeout or share, share),
            inside=self._check if known.user_type != "so" else None,
        )

    def _check(self, session: Session) -> None:
        """Credentials and holdings, in the session of the probe. Raises :class:`KeyfleetError` for what is the token's fault."""
        wanted: list[tuple[int, Expectation]] = self.order.expected_of(self.record, self.known)
        if wanted:
            from .credentials import Credentials

            credentials = Credentials(session, self.record.layout, login=self.known.login)
            for number, one in wanted:
                self.checked[number] = credentials.check(one)
        if self.order.holdings:
            self.held["certificates"] = certificates(session)
