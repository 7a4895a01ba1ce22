# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""Before a PIN is written it is proven: each token is opened once, with exactly what the server will get.

The server logs in anew on every request as long as a PIN is wrong, which locks a token within seconds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from ..._cryptoki.certificates import read_certificates
from ..._cryptoki.objects import read_inventory
from ..._cryptoki.provider import Provider, Token, open_provider
from ..._cryptoki.session import Session, open_session
from ..._model.errors import KeyfleetError, PinError, TokenError
from ..._model.keys.misfits import misfits
from ..._model.keys.objects import group_keys
from ..._model.kms.config import Served, prefix_by_name
from ..._model.kms.request import KmsConfigRequest
from ..._model.kms.served_keys import WrappingKey, unusable_keys, wrapping_key_problem
from ..._model.plan import Context
from ..._model.quoting import listed
from ..._model.records import InstanceRecord, TokenRecord, identity_in
from ..._model.tokens.identity import TokenIdentity
from ..._model.tokens.instance_spec import TokenSpec
from ..._model.tokens.pin_state import check_login_allowed
from ..._model.tokens.secret import Secret
from ..._registry import instances as table
from ..._registry.database import Database, open_database
from ..tokens.child import error_fields, error_of, run_in_child
from ..tokens.refused_pins import Tried, check_not_refused, note_any_login, with_refusals
from .tokens import SECONDS, Fault, Password, fail

WAIT = 100.0  # seconds for a token that another run keeps busy, where the instance does not say


@dataclass(frozen=True)
class Door:
    """A token that is to be opened, and what the file will say of its PIN."""

    instance: Served
    token: TokenSpec
    seen: TokenIdentity
    password: Password
    kek: WrappingKey | None = None  # where it is in this token
    old_server: bool = False

    @property
    def where(self) -> str:
        return f"{self.instance.where}.{self.token.where}"

    @property
    def proof(self) -> str | None:
        """What tells this token with this PIN from another one, in the same run; None where that cannot be told."""
        mark = self.password.tried.mark() if self.password.tried is not None else "no login"
        return mark and f"{self.instance.library} slot {self.seen.slot} serial {self.seen.serial}: {mark}"


@dataclass(frozen=True)
class Proof:
    """``proven``: a text for each token that was opened, now or then. ``complete``: whether nothing is to come. ``sharing``: what in the
    tokens that were opened now has the CKA_ID of a key."""

    proven: list[str]
    complete: bool
    sharing: list[dict[str, Any]]


def prove(
    request: KmsConfigRequest,
    instances: Sequence[Served],
    pins: Mapping[str, tuple[Password, ...]],
    kek: WrappingKey | None,
    context: Context,
    *,
    old_server: bool,
) -> Proof:
    """Open every token that ``request.proven`` does not name, and look at the keys that the server will find in it. ``kek`` is the key
    that wraps those of its database; ``old_server`` is as in :func:`unusable_keys`.

    A token, a PIN or a key that is to come, in check mode, is left out. Raises :class:`KeyfleetError` with all that is wrong.
    """
    addresses = prefix_by_name(instances)
    doors = [
        Door(instance, token, seen, password, kek if kek and kek.place == (addresses[instance.spec.name], seen.slot) else None, old_server)
        for instance in instances
        for token, seen, password in zip(instance.spec.tokens, instance.seen, pins[instance.spec.name], strict=True)
        if seen is not None and password.known
    ]
    faults: list[Fault] = []
    refused: list[TokenIdentity] = []
    missing: list[Door] = []
    sharing: list[dict[str, Any]] = []
    for library in dict.fromkeys(door.instance.library for door in doors):
        closed = [door for door in doors if door.instance.library == library and door.proof not in request.proven]
        for door, answer in zip(closed, _ask(library, closed, request, context, refused), strict=True):
            if isinstance(answer, KeyfleetError):
                if context.check_mode and door.token.initialize and answer.code == "pin_not_initialized":
                    context.warn(f"{door.where}: {answer.message} In check mode the PIN is taken as one to come.")
                    missing.append(door)
                    continue
                if answer.code == "pin_incorrect":
                    refused.append(door.seen)
                faults.append(Fault(f"{door.where}: {answer.message} The file was not written.", answer.code, answer.details))
                continue
            if answer["warning"]:
                context.warn(f"{door.where}: {answer['warning']}")
            sharing += [{"instance": door.instance.spec.name, **entry} for entry in answer["sharing"]]
            if answer["kek"] and answer["kek_missing"] and context.check_mode:
                context.warn(f"{answer['kek']}. In check mode it is taken as one to come.")
                missing.append(door)
            elif answer["kek"]:
                faults.append(Fault(f"{answer['kek']}.", "kek_unusable"))
    if faults:
        fail(faults)
    for instance in instances:
        _warn_of_sharing(instance, sharing, context)
    return Proof([door.proof for door in doors if door.proof is not None and door not in missing], not missing, sharing)


def _warn_of_sharing(instance: Served, sharing: Sequence[Mapping[str, Any]], context: Context) -> None:
    labels = list(dict.fromkeys(entry["label"] or entry["id"] for entry in sharing if entry["instance"] == instance.spec.name))
    if labels:
        context.warn(
            f"{instance.where}: the server may not be able to use {listed(labels)}, because a public half or a certificate has the same "
            "CKA_ID. Declare layout: eviden and run hsm_sync with repair: layout (docs/kms.md)."
        )


def _ask(
    library: str, doors: Sequence[Door], request: KmsConfigRequest, context: Context, refused: Sequence[TokenIdentity]
) -> list[KeyfleetError | dict[str, Any]]:
    if not doors:
        return []
    seconds = SECONDS + max(door.instance.spec.connection_timeout for door in doors)
    answers, broken = run_in_child(lambda: _open_all(library, doors, request, context, refused), seconds, f"library {library}")
    found = [error_of(answer) if "type" in answer else answer for answer in answers]
    # The token that was being opened is to blame for it; those behind it were not tried.
    rest = len(doors) - len(found)
    if broken is not None and rest:
        found += [broken, *[KeyfleetError(f"not tried: {broken.message}", code="not_probed")] * (rest - 1)]
    return found


def _open_all(
    library: str, doors: Sequence[Door], request: KmsConfigRequest, context: Context, refused: Sequence[TokenIdentity]
) -> Iterator[dict[str, Any]]:
    """In the child: an answer for each door, an error's fields where it did not open."""
    done = 0
    spec = doors[0].instance.spec
    try:
        with open_provider((library,), spec.starting, spec.connection_timeout or WAIT) as provider, looked_up(request, context) as database:
            for door in doors:
                try:
                    answer = _open(provider, database, door, request, refused)
                except KeyfleetError as error:
                    answer = error_fields(error)
                done += 1
                yield answer
    except KeyfleetError as error:
        yield from [error_fields(error)] * (len(doors) - done)


def looked_up(request: KmsConfigRequest, context: Context) -> AbstractContextManager[Database]:
    """The registry as a copy in memory, empty where there is none: a look leaves no trace, and a refused PIN does."""
    return open_database(request.registry, run=context.run, check_mode=True, create=True)


def _open(
    provider: Provider, database: Database, door: Door, request: KmsConfigRequest, refused: Sequence[TokenIdentity]
) -> dict[str, Any]:
    """One attempt, after the flags were read. Raises :class:`KeyfleetError`."""
    token, tried, low = provider.require(door.token.selector), door.password.tried, request.allow_low_pin_count
    if (token.slot_id, token.serial) != (door.seen.slot, door.seen.serial):
        raise TokenError(f"{token} is not the token that was there a moment ago. Run again.", code="token_changed")
    row = registered(table.all_instances(database), door.instance, door.token, token)
    if tried is not None:
        check_may_try(database, row, token, tried, allow_low_pin_count=low)
        if any(token.identity.is_same(other, one_maker=True) for other in refused):
            raise PinError(f"{token}: its PIN was refused earlier in this run and is not tried again.", code="pin_not_tried")
    pin = Secret(door.password.text) if tried is not None else None
    wait = door.instance.spec.connection_timeout or WAIT
    try:
        with open_session(provider, token, pin=pin, read_write=False, allow_low_pin_count=low, timeout=wait) as session:
            note_any_login(database, row, token, tried, None)
            return _look_at_keys(session, door)
    except PinError as error:
        note_any_login(database, row, token, tried, error)
        raise


def _look_at_keys(session: Session, door: Door) -> dict[str, Any]:
    """What the server could not do with them. Raises :class:`KeyfleetError` only where the key that wraps has to be among them."""
    kek = door.kek
    try:
        inventory = read_inventory(session)
        certificates = read_certificates(session).names
    except KeyfleetError as error:
        if kek is not None:
            raise
        return {"warning": f"its keys could not be looked at: {error.message}", "kek": None, "sharing": []}
    shared = [misfit.shown() for misfit in misfits(group_keys(inventory.objects), certificates) if misfit.shares_id]
    unusable = unusable_keys(inventory.objects, old_server=door.old_server)
    warning = unusable and f"the server cannot use these keys, it knows AES and RSA: {unusable}."
    problem, there = wrapping_key_problem(kek, inventory.objects, inventory.certified) if kek is not None else (None, True)
    entries = [{name: shown[name] for name in ("label", "id", "object")} for shown in shared]
    return {"warning": warning, "kek": problem, "kek_missing": not there, "sharing": entries}


def registered(known: Sequence[InstanceRecord], served: Served, spec: TokenSpec, token: Token) -> TokenRecord:
    """The registry's row of a declared token, by whatever instance; an empty one for a token that is not registered.

    Raises :class:`TokenError` where the registered token is another one.
    """
    rows = [row for record in known if record.name == served.spec.name for row in record.tokens if row.selector == spec.selector]
    rows += [row for record in known for row in record.tokens if identity_in(record, row).is_same(token.identity, one_maker=True)]
    row = rows[0] if rows else TokenRecord(spec.selector)
    if was := row.replaced_by(token.identity):
        raise TokenError(
            f"{token} answers to {spec.selector}, but the registered token has {was}: it was replaced or initialised anew. No login was "
            "tried. Run hsm_instance to look at it and to register it.",
            code="token_changed",
        )
    return row


def check_may_try(database: Database, row: TokenRecord, token: Token, tried: Tried, *, allow_low_pin_count: bool) -> None:
    """Raise :class:`PinError` for a PIN that the token refused before. What the token says of it comes first: it knows more."""
    before = with_refusals(database, row, token)
    if tried.mark() in before.refusals:
        check_login_allowed(token.flags, str(token), allow_low=allow_low_pin_count)
        check_not_refused(before, tried, allow_low_pin_count=allow_low_pin_count)
