# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""What the server's file says of each token: the slot, looked up live, and the PIN, read here. No login is made here."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

from ..._cryptoki.provider import find_library, open_provider
from ..._model.errors import InputError, KeyfleetError, PinError, ProviderError
from ..._model.kms.config import NO_LOGIN, Declared, Served, library_problems, pin_problem, slot_problems
from ..._model.plan import Context
from ..._model.tokens.identity import Store, TokenIdentity
from ..._model.tokens.instance_spec import TokenSpec
from ..files.private_files import pin_of, read_pin, usable_pin_of
from ..tokens.child import run_in_child
from ..tokens.refused_pins import Tried

SECONDS = 120  # for a library to answer; more is a hang


@dataclass(frozen=True)
class Password:
    """What the file says of a token's PIN. ``tried``: by what a refusal is remembered; None where no login is made, for a token
    without one and for a PIN that is to come."""

    text: str = field(repr=False)
    tried: Tried | None = None

    @property
    def known(self) -> bool:
        """Whether the token can be opened with it now."""
        return self.text == NO_LOGIN or self.tried is not None


@dataclass(frozen=True)
class Fault:
    """Why a token cannot be used. ``code`` and ``details`` are those of the error."""

    message: str
    code: str
    details: Mapping[str, Any] = field(default_factory=dict)


def passwords(declared: Sequence[Declared], context: Context) -> tuple[dict[str, tuple[Password, ...]], list[KeyfleetError]]:
    """The PINs of each instance by name, in the order of its tokens, and all that is wrong with them."""
    found: dict[str, tuple[Password, ...]] = {}
    errors: list[KeyfleetError] = []
    for one in declared:
        texts = []
        for token in one.spec.tokens:
            try:
                texts.append(_password(token, f"{one.where}.{token.where}", context))
            except KeyfleetError as error:
                errors.append(error)
        found[one.spec.name] = tuple(texts)
    return found, errors


def _password(token: TokenSpec, where: str, context: Context) -> Password:
    if not token.login:
        return Password(NO_LOGIN)
    if not (token.new_pin or token.pin or token.pin_file):
        return Password("")  # told already, by parse_instances
    source = token.pin_file
    try:
        pin = token.new_pin or token.pin or read_pin(token.pin_file or "", f"{where}.pin_file")
        if token.pin and token.pin_file and not token.new_pin:
            in_file = pin_of(token.pin_file, f"{where}.pin_file")
            source = None if in_file is None else source
            if in_file not in (None, token.pin):
                raise PinError(
                    f"{where}.pin: differs from what {token.pin_file} holds, and no login is made here to tell which is right: run "
                    "hsm_instance first, or leave pin out.",
                    code="pin_differs",
                )
        if token.new_pin and not context.check_mode and read_pin(token.pin_file or "", f"{where}.pin_file") != token.new_pin:
            raise PinError(
                f"{where}.new_pin: {token.pin_file} does not hold it, so the token does not have it yet: run hsm_instance first.",
                code="pin_not_changed",
            )
    except PinError as error:
        if not context.check_mode or error.code != "pin_file_missing":
            raise
        context.warn(f"{error.message} In check mode the PIN is taken as one to come.")
        return Password("")
    if problem := pin_problem(pin):
        raise PinError(f"{where}: {problem}.", code="pin_invalid")
    to_come = token.new_pin is not None and usable_pin_of(token.pin_file or "", f"{where}.pin_file") != token.new_pin
    return Password(pin.reveal(), None if to_come else Tried(source))


def find_libraries(declared: Sequence[Declared], pins: Mapping[str, tuple[Password, ...]]) -> tuple[list[Served], dict[str, ProviderError]]:
    """Every declared instance with library and PINs, and the libraries that are missing. Raises :class:`InputError`."""
    instances, missing = [], {}
    for one in declared:
        try:
            named = find_library(one.spec.libraries)
            library = os.path.realpath(named)
        except ProviderError as error:
            named = library = one.spec.libraries[0]
            missing[library] = ProviderError(f"{one.where}.{error.message}", code=error.code, details=error.details)
        texts = tuple(password.text for password in pins[one.spec.name])
        instances.append(Served(one.where, one.spec, library, named, passwords=texts))
    if problems := library_problems(instances):
        raise InputError(problems)
    return instances, missing


def serve(declared: Sequence[Declared], pins: Mapping[str, tuple[Password, ...]], context: Context) -> list[Served]:
    """Every declared instance with library, slots and PINs. Raises :class:`KeyfleetError` with all that is wrong."""
    instances, missing = find_libraries(declared, pins)
    errors: list[Fault] = []
    seen: dict[str, tuple[TokenIdentity | None, ...]] = {}
    for library in dict.fromkeys(instance.library for instance in instances):
        group = [instance for instance in instances if instance.library == library]
        answers = _ask(library, group, missing.get(library), context)
        for instance in group:
            answer = answers[instance.spec.name]
            errors += [fault for fault in answer if isinstance(fault, Fault)]
            seen[instance.spec.name] = tuple(token for token in answer if not isinstance(token, Fault))
    if errors:
        fail(errors)
    served = [replace(instance, seen=seen[instance.spec.name]) for instance in instances]
    if problems := slot_problems(served):
        raise InputError(problems)
    return served


def fail(errors: Sequence[Fault]) -> NoReturn:
    """Raise :class:`KeyfleetError` with all of them."""
    texts = list(dict.fromkeys(fault.message for fault in errors))
    codes = {fault.code for fault in errors}
    if len(texts) == 1:
        raise KeyfleetError(texts[0], code=errors[0].code, details=dict(errors[0].details))
    raise KeyfleetError(
        "\n".join([f"{len(texts)} tokens cannot be used, nothing was written:", *(f"- {text}" for text in texts)]),
        code=codes.pop() if len(codes) == 1 else "several",
        details={"errors": [{"code": fault.code, "error": fault.message} for fault in errors]},
    )


def _ask(
    library: str, group: Sequence[Served], missing: ProviderError | None, context: Context
) -> dict[str, list[TokenIdentity | Fault | None]]:
    """The tokens of one library's instances, by name, from one child: a vendor's variables and crashes stay there."""
    tokens = [(instance, token) for instance in group for token in instance.spec.tokens]
    answers: list[Any]
    if missing is not None:
        answers = [_as_dict(missing)] * len(tokens)
    else:
        wait = max(instance.spec.connection_timeout for instance in group)
        answers, error = run_in_child(lambda: _look(library, group, context.check_mode, wait), SECONDS + wait, f"library {library}")
        if error is not None:
            answers += [_as_dict(error)] * (len(tokens) - len(answers))
    found: dict[str, list[TokenIdentity | Fault | None]] = {instance.spec.name: [] for instance in group}
    told: set[str] = set()
    for (instance, token), answer in zip(tokens, answers, strict=True):
        place = f"{instance.where}.{token.where}"
        if "slot" not in answer and not _to_come(token, answer["code"], context):
            text = answer["message"] if answer["library"] else f"{place}: {answer['message']}"
            found[instance.spec.name].append(Fault(text, answer["code"]))
            continue
        seen = answer.get("slot") and TokenIdentity(Store.of(library, instance.spec.starting), **answer["slot"])
        found[instance.spec.name].append(seen)
        if seen is None:
            text = answer.get("message") or f"{place} is not there yet."
            if text not in told:
                context.warn(f"{text} In check mode its slot stands as a placeholder in the diff.")
            told.add(text)
    return found


def _to_come(token: TokenSpec, code: str, context: Context) -> bool:
    """Whether what failed may well be there once the run before this one was real: the library, or the token in it."""
    return context.check_mode and (code == "library_missing" or (code == "library_init_failed" and token.initialize))


def _as_dict(error: KeyfleetError) -> dict[str, Any]:
    return {"message": error.message, "code": error.code, "library": True}


def _look(library: str, group: Sequence[Served], check_mode: bool, wait: float) -> list[dict[str, Any]]:
    """In the child: the slot of every token, or what is wrong with it."""
    tokens = [token for instance in group for token in instance.spec.tokens]
    answers: list[dict[str, Any]] = []
    try:
        with open_provider((library,), group[0].spec.starting, wait) as provider:
            for token in tokens:
                try:
                    if check_mode and token.initialize and provider.find(token.selector) is None:
                        answers.append({"slot": None})
                    else:
                        seen = provider.require(token.selector).identity
                        shown = {name: getattr(seen, name) for name in ("serial", "label", "slot", "shared")}
                        answers.append({"slot": shown})
                except KeyfleetError as error:
                    way_out = " Run hsm_instance first, which creates it." if token.initialize else ""
                    text = f"{error.message}{way_out if error.code == 'no_token' else ''}"
                    answers.append({**_as_dict(error), "message": text, "library": False})
    except KeyfleetError as error:
        return [_as_dict(error)] * len(tokens)
    return answers
