# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""What the server's file says of each token: the slot, looked up live, and the PIN, read here. No login is made."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..._cryptoki.provider import find_library, open_provider
from ..._model.errors import InputError, KeyfleetError, PinError, ProviderError
from ..._model.kms.config import NO_LOGIN, Declared, Served, library_problems, pin_problem, slot_problems
from ..._model.plan import Context
from ..._model.tokens.instance_spec import TokenSpec
from ..files.private_files import pin_of, read_pin
from ..tokens.child import run_in_child

_SECONDS = 120  # for a library to list its slots; more is a hang


@dataclass(frozen=True)
class Fault:
    """Why a token's slot is not known. ``code`` is that of the error."""

    message: str
    code: str


def passwords(declared: Sequence[Declared], context: Context) -> tuple[dict[str, tuple[str, ...]], list[KeyfleetError]]:
    """The PINs of each instance by name, in the order of its tokens, and all that is wrong with them."""
    found: dict[str, tuple[str, ...]] = {}
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


def _password(token: TokenSpec, where: str, context: Context) -> str:
    if not token.login:
        return NO_LOGIN
    if not (token.new_pin or token.pin or token.pin_file):
        return ""  # told already, by parse_instances
    try:
        pin = token.new_pin or token.pin or read_pin(token.pin_file or "", f"{where}.pin_file")
        in_file = pin_of(token.pin_file, f"{where}.pin_file") if token.pin and token.pin_file and not token.new_pin else None
        if in_file is not None and in_file != token.pin:
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
        return ""
    if problem := pin_problem(pin):
        raise PinError(f"{where}: {problem}.", code="pin_invalid")
    return pin.reveal()


def serve(declared: Sequence[Declared], pins: Mapping[str, tuple[str, ...]], context: Context) -> list[Served]:
    """Every declared instance with library, slots and PINs. Raises :class:`KeyfleetError` with all that is wrong."""
    instances, missing = [], {}
    for one in declared:
        try:
            named = find_library(one.spec.libraries)
            library = os.path.realpath(named)
        except ProviderError as error:
            named = library = one.spec.libraries[0]
            missing[library] = ProviderError(f"{one.where}.{error.message}", code=error.code, details=error.details)
        instances.append(Served(one.where, one.spec, library, named, passwords=pins[one.spec.name]))
    if problems := library_problems(instances):
        raise InputError(problems)
    errors: list[Fault] = []
    slots: dict[str, tuple[int | None, ...]] = {}
    for library in dict.fromkeys(instance.library for instance in instances):
        group = [instance for instance in instances if instance.library == library]
        answers = _ask(library, group, missing.get(library), context)
        for instance in group:
            answer = answers[instance.spec.name]
            errors += [fault for fault in answer if isinstance(fault, Fault)]
            slots[instance.spec.name] = tuple(slot for slot in answer if not isinstance(slot, Fault))
    if errors:
        _fail(errors)
    served = [replace(instance, slots=slots[instance.spec.name]) for instance in instances]
    if problems := slot_problems(served):
        raise InputError(problems)
    return served


def _fail(errors: Sequence[Fault]) -> None:
    texts = list(dict.fromkeys(fault.message for fault in errors))
    codes = {fault.code for fault in errors}
    if len(texts) == 1:
        raise KeyfleetError(texts[0], code=errors[0].code)
    raise KeyfleetError(
        "\n".join([f"{len(texts)} tokens cannot be used, nothing was written:", *(f"- {text}" for text in texts)]),
        code=codes.pop() if len(codes) == 1 else "several",
        details={"errors": [{"code": fault.code, "error": fault.message} for fault in errors]},
    )


def _ask(library: str, group: Sequence[Served], missing: ProviderError | None, context: Context) -> dict[str, list[int | Fault | None]]:
    """The slots of one library's instances, by name, from one child: a vendor's variables and crashes stay there."""
    tokens = [(instance, token) for instance in group for token in instance.spec.tokens]
    answers: list[Any]
    if missing is not None:
        answers = [_as_dict(missing)] * len(tokens)
    else:
        wait = max(instance.spec.connection_timeout for instance in group)
        answers, error = run_in_child(lambda: _look(library, group, context.check_mode, wait), _SECONDS + wait, f"library {library}")
        if error is not None:
            answers += [_as_dict(error)] * (len(tokens) - len(answers))
    found: dict[str, list[int | Fault | None]] = {instance.spec.name: [] for instance in group}
    told: set[str] = set()
    for (instance, token), answer in zip(tokens, answers, strict=True):
        place = f"{instance.where}.{token.where}"
        if "slot" not in answer and not _to_come(token, answer["code"], context):
            text = answer["message"] if answer["library"] else f"{place}: {answer['message']}"
            found[instance.spec.name].append(Fault(text, answer["code"]))
            continue
        found[instance.spec.name].append(answer.get("slot"))
        if answer.get("slot") is None:
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
                        answers.append({"slot": provider.require(token.selector).slot_id})
                except KeyfleetError as error:
                    way_out = " Run hsm_instance first, which creates it." if token.initialize else ""
                    text = f"{error.message}{way_out if error.code == 'no_token' else ''}"
                    answers.append({**_as_dict(error), "message": text, "library": False})
    except KeyfleetError as error:
        return [_as_dict(error)] * len(tokens)
    return answers
