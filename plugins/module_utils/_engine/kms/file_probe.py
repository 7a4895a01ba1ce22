# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""What the tokens answer to the PINs that are in the server's file, for a comparison with what the server says of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from ..._cryptoki.provider import Provider, open_provider
from ..._model.errors import KeyfleetError, PinError, Refused
from ..._model.kms.config import NO_LOGIN, Served, given_passwords
from ..._model.kms.request import KmsConfigRequest
from ..._model.plan import Context, Outcome
from ..._model.tokens.instance_spec import TokenSpec
from ..._model.tokens.secret import Secret
from ..._model.tokens.status import TokenStatus, fault_fields
from ..._registry import instances as table
from ..._registry.database import Database
from ..tokens.child import run_in_child
from ..tokens.probe import find_token, probe_token
from ..tokens.refused_pins import note_any_login
from .existing import read_existing
from .proof import WAIT, check_may_try, looked_up, registered
from .tokens import SECONDS, Password, find_libraries

Given = Mapping[tuple[str, int], tuple[str, str]]


def probe_file(request: KmsConfigRequest, pins: Mapping[str, tuple[Password, ...]], context: Context) -> Outcome:
    """kms_config with ``state: probed``: one entry of ``probed`` for each prefix that the file gives, with the answers of its slots.

    Only a PIN that is declared for the token is tried. Raises :class:`KeyfleetError` where the file cannot be read.
    """
    existing = read_existing(request.config_path)
    if existing is None:
        raise Refused(
            f"config_path: there is no file {request.config_path}, so there is nothing to probe. Write it first.", code="config_unreadable"
        )
    given = given_passwords(existing.document, request.config_path)
    instances, missing = find_libraries(request.instances, pins)
    found: dict[tuple[str, int], dict[str, Any]] = {}
    lost: list[str] = []
    for library in dict.fromkeys(instance.library for instance in instances):
        group = [instance for instance in instances if instance.library == library]
        tokens = [(instance, token) for instance in group for token in instance.spec.tokens]
        answers: list[Any] = []
        broken: KeyfleetError | None = missing.get(library)
        if broken is None:
            seconds = SECONDS + max(instance.spec.connection_timeout for instance in group)
            probing = partial(_Probing(request, context, pins, given).all, group)
            answers, broken = run_in_child(probing, seconds, f"library {library}")
        for (instance, token), answer in zip(tokens, answers, strict=False):
            if answer["slot_id"] is None:
                lost.append(f"{instance.where}.{token.where}: {answer['error']}")
            else:
                found[instance.spec.model, answer["slot_id"]] = answer
        if broken is not None:
            lost += [f"{instance.where}.{token.where}: {broken.message}" for instance, token in tokens[len(answers) :]]
    return Outcome(changed=False, values={"config_path": request.config_path, "probed": _by_prefix(given, found, lost)})


def _by_prefix(given: Given, found: Mapping[tuple[str, int], dict[str, Any]], lost: Sequence[str]) -> list[dict[str, Any]]:
    """Every slot of the file. One in which no declared token was found is not accessible, whatever is in it."""
    why = f"no declared token was found in this slot. {' '.join(lost)}".rstrip()
    entries: dict[str, dict[str, Any]] = {}
    for (model, slot), (prefix, password) in sorted(given.items(), key=lambda item: (item[1][0], item[0])):
        nothing = {**TokenStatus(slot_id=slot, error=why, code="no_token").as_slot(), "login": password != NO_LOGIN}
        entries.setdefault(prefix, {"prefix": prefix, "model": model, "slots": []})["slots"].append(found.get((model, slot), nothing))
    return list(entries.values())


class _Probing:
    """The work of one child: the tokens of one library. ``given`` is what the file says."""

    def __init__(self, request: KmsConfigRequest, context: Context, pins: Mapping[str, tuple[Password, ...]], given: Given) -> None:
        self.request = request
        self.context = context
        self.pins = pins
        self.given = given

    def all(self, group: Sequence[Served]) -> Iterator[dict[str, Any]]:
        done, spec = 0, group[0].spec
        doors = [
            (instance, token, password)
            for instance in group
            for token, password in zip(instance.spec.tokens, self.pins[instance.spec.name], strict=True)
        ]
        try:
            opened = open_provider((group[0].library,), spec.starting, spec.connection_timeout or WAIT)
            with opened as provider, looked_up(self.request, self.context) as database:
                for instance, token, password in doors:
                    yield {**self._one(provider, database, instance, token, password).as_slot(), "login": password.text != NO_LOGIN}
                    done += 1
        except KeyfleetError as error:
            yield from [TokenStatus(**fault_fields(error)).as_slot()] * (len(doors) - done)

    def _one(self, provider: Provider, database: Database, served: Served, spec: TokenSpec, password: Password) -> TokenStatus:
        token = find_token(provider, spec.selector)
        if isinstance(token, KeyfleetError):
            return TokenStatus(**fault_fields(token))
        tried, low = password.tried, self.request.allow_low_pin_count
        try:
            row = registered(table.all_instances(database), served, spec, token)
            in_file = self.given.get((served.spec.model, token.slot_id))
            if in_file is None or in_file[1] != password.text or not password.known:
                raise PinError(
                    f"{token}: {self.request.config_path} has another PIN for it than is declared. It was not tried.", code="pin_differs"
                )
            if tried is not None:
                check_may_try(database, row, token, tried, allow_low_pin_count=low)
        except KeyfleetError as error:
            return TokenStatus(token.slot_id, token.label, token.serial, **fault_fields(error))
        pin = Secret(password.text) if tried is not None else None
        wait = served.spec.connection_timeout or WAIT
        status = probe_token(provider, token, pin=pin, login=tried is not None, allow_low_pin_count=low, timeout=wait)
        if status.accessible or status.code == "pin_incorrect":
            outcome = None if status.accessible else PinError(status.error or "", code="pin_incorrect")
            note_any_login(database, row, token, tried, outcome)
        return status
