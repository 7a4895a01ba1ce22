# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""hsm_info: what a library, its slots and one token report and can do. Nothing on the token is changed.

The library works in a child with a limit of time, and each finding is a line that is there as soon as it is found: what was found before a
crash or a hang is not lost.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, replace
from typing import Any

from .._cryptoki.listing import show_objects
from .._cryptoki.probing import probe
from .._cryptoki.provider import Provider, Token, open_provider
from .._cryptoki.session import Session, open_session
from .._cryptoki.slots import read_mechanism, read_mechanisms, read_slots
from .._cryptoki.trying import try_capabilities
from .._model.errors import Cryptoki, Defect, KeyfleetError, PinError
from .._model.findings import cut, findings, line
from .._model.info_request import InfoRequest
from .._model.plan import Context, Outcome
from .._model.records import TokenRecord, identity_in
from .._model.tokens.identity import Store
from .._model.tokens.secret import Secret
from .._model.tokens.selectors import TokenSelector
from .._registry import instances as table
from .._registry.database import Database, open_database, registry_exists
from .files.private_files import read_pin
from .tokens.child import run_in_child
from .tokens.refused_pins import Tried, check_not_refused, note_any_login, with_refusals

_LOCK_SHARE = 0.5  # of the time: waiting for another run may take this much, and then says so
_MOST = {"slots": 200, "mechanisms": 1000, "objects": 200}

Line = dict[str, Any]


def look(request: InfoRequest, context: Context) -> Outcome:
    """hsm_info. What could not be done fails the module, with all that was found until then. Raises :class:`KeyfleetError`."""
    login = request.login
    pin = login.pin or (read_pin(login.pin_file, "pin_file") if login.pin_file else None)
    lines, error = run_in_child(lambda: _Look(request, pin, context.run).lines(), request.timeout, request.library)
    if lines and lines[-1]["section"] == "defect":
        raise Defect(*lines[-1]["value"])
    if error is not None:
        lines.append(_problem(error))
    found = findings(lines)
    outcome = Outcome(changed=False, values={**found, "login": bool(found["login"])})
    if problems := found["problems"]:
        more = f" {len(problems) - 1} more in problems." if len(problems) > 1 else ""
        outcome.failure, outcome.failure_code = f"{problems[0]['error']}{more}", problems[0]["code"]
        outcome.failure_details = problems[0]["details"]
    return outcome


def _described(error: KeyfleetError) -> dict[str, Any]:
    return {"code": error.code, "error": error.message}


def _problem(error: KeyfleetError) -> Line:
    return line("problems", {**_described(error), "details": error.details})


class _Look:
    """In the child. ``run`` is the mark of this run in the registry, which is opened only with a PIN, for those that were refused."""

    def __init__(self, request: InfoRequest, pin: Secret | None, run: str) -> None:
        self.request = request
        self.pin = pin
        self.run = run

    def lines(self) -> Iterator[Line]:
        """Never raises: what ends the look is its last line."""
        try:
            wait = self.request.timeout * _LOCK_SHARE
            with open_provider((self.request.library,), self.request.starting, wait) as provider:
                yield from self._library(provider)
                yield line("step", "slots")
                yield from cut("slots", read_slots(provider), _MOST["slots"])
                if self.request.selector is not None:
                    yield line("step", "token")
                    yield from self._token(provider, self.request.selector)
        except KeyfleetError as error:
            yield _problem(error)
        except Exception as error:  # pylint: disable=broad-exception-caught
            yield line("defect", Defect.of(error).told)

    def _library(self, provider: Provider) -> Iterator[Line]:
        try:
            yield line("library", {"path": provider.library, **provider.info()})
        except Cryptoki as error:
            yield _problem(error)

    def _token(self, provider: Provider, selector: TokenSelector) -> Iterator[Line]:
        token = provider.find(selector)
        if token is None:
            raise provider.no_token(selector)
        yield line("token", {"slot_id": token.slot_id, "label": token.label, "serial": token.serial})
        yield line("step", "mechanisms")
        try:
            yield from cut("mechanisms", (read_mechanism(token, one) for one in read_mechanisms(token)), _MOST["mechanisms"])
        except Cryptoki as error:
            yield _problem(error)
        if not token.initialized and self.pin is None:
            return  # nothing is in it
        yield line("step", "session")
        provider.require(selector)  # says what to do about one that is not initialised
        with self._login(provider, token) as session:
            yield line("login", self.pin is not None)
            yield from self._inside(session)

    @contextmanager
    def _login(self, provider: Provider, token: Token) -> Iterator[Session]:
        """A session with or without a login. Read-only: no token object can be made."""
        login = self.request.login
        tried = Tried(login.pin_file)
        with self._memory() as database:
            rows = [] if database is None else self._rows(database, token)
            for row in rows:
                check_not_refused(row, tried, allow_low_pin_count=login.allow_low_pin_count)
            try:
                with open_session(
                    provider,
                    token,
                    pin=self.pin,
                    read_write=False,
                    allow_low_pin_count=login.allow_low_pin_count,
                    timeout=self.request.timeout * _LOCK_SHARE,
                ) as session:
                    _note(database, rows, token, tried, None)
                    yield session
            except PinError as error:
                _note(database, rows, token, tried, error)
                raise

    def _memory(self) -> AbstractContextManager[Database | None]:
        """A copy of the registry, for a login. There may be none, and none is made."""
        path = self.request.registry
        if self.pin is None or not registry_exists(path):
            return nullcontext()
        return open_database(path, run=self.run, check_mode=True)

    def _rows(self, database: Database, token: Token) -> list[TokenRecord]:
        """Where the registry has this token, by whatever library and model: one try too few costs less than one too many."""
        here = replace(token.identity, store=Store.of(os.path.realpath(self.request.library), self.request.starting))
        rows = []
        for record in table.all_instances(database):
            store = Store.of(os.path.realpath(record.library), record.starting)
            rows += [row for row in record.tokens if here.is_same(replace(identity_in(record, row), store=store), one_maker=True)]
        strange = TokenRecord(TokenSelector("slot", token.slot_id), label=token.label, slot=token.slot_id)
        return [with_refusals(database, row, token) for row in rows or [strange]]

    def _inside(self, session: Session) -> Iterator[Line]:
        yield line("step", "objects")
        try:
            wanted = self.request.labels
            for entry in show_objects(session, _MOST["objects"], wanted, generations=self.request.generations):
                yield line("objects", entry)
        except Cryptoki as error:
            yield _problem(error)
        makes_keys = self.pin is not None or "LOGIN_REQUIRED" not in session.token.flags
        if makes_keys:
            yield line("step", "probe")
            yield line("probe", _probed(session))
        yield line("step", "capabilities")
        for trial in try_capabilities(session, keys=makes_keys):
            yield line("capabilities", asdict(trial))


def _note(database: Database | None, rows: Sequence[TokenRecord], token: Token, tried: Tried, outcome: PinError | None) -> None:
    if database is not None:
        for row in rows:
            note_any_login(database, row, token, tried, outcome)


def _probed(session: Session) -> dict[str, Any]:
    try:
        held = probe(session)
    except Cryptoki as error:
        return {"works": False, "did": None, "refused": error.details.get("refused", {}), **_described(error)}
    return {"works": True, "did": held.rung, "refused": dict(held.refused), "code": None, "error": None}
