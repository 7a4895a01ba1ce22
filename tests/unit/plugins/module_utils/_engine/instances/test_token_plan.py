# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a declared token needs, by what was seen of it: plain values in, a plan out."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest
from ansible_collections.keyfleet.hsm.plugins.module_utils._cryptoki.provider import Token
from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.instances.pins import Pins
from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.instances.plan import Access, Found, TokenPlan, plan_token
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.errors import Cryptoki, PinError, TokenError
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.records import TokenRecord
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.tokens.instance_spec import TokenSpec
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.tokens.secret import Secret
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.tokens.selectors import TokenSelector

LABEL = TokenSelector("label", "payments")
PIN, OTHER, SO_PIN = Secret("pin-7391"), Secret("998877"), Secret("87654321")
DECLARED = TokenSpec(0, LABEL, initialize=True, so_pin=SO_PIN, pin=PIN)
CHANGE = TokenSpec(0, LABEL, pin_file="/etc/pin", new_pin=OTHER)
FREE = Token(1, "", "", "m", frozenset(), None)
SET = frozenset({"TOKEN_INITIALIZED", "USER_PIN_INITIALIZED"})
BARE = frozenset({"TOKEN_INITIALIZED"})
KNOWN = TokenRecord(LABEL, "payments", "c0ffee", 7, id=1)


def token(flags: frozenset[str] = SET) -> Found:
    return Found(Token(7, "payments", "c0ffee", "m", flags, None), pin_lengths=(4, 255))


NONE = Found(place=FREE, pin_lengths=(4, 255))
OLD_AND_NEW = Pins(OTHER, old_pin=PIN, source="/etc/pin", write_file=True)


@pytest.mark.parametrize(
    ("spec", "pins", "found", "known", "expected"),
    [
        (DECLARED, Pins(PIN, SO_PIN), NONE, None, "create"),
        (DECLARED, Pins(PIN, SO_PIN), token(), KNOWN, None),
        (DECLARED, Pins(PIN, SO_PIN), token(BARE), KNOWN, "set_pin_as_so"),
        (replace(DECLARED, initialize=False), Pins(PIN, SO_PIN), token(BARE), KNOWN, None),
        (CHANGE, OLD_AND_NEW, token(), KNOWN, "change_pin"),
        (CHANGE, Pins(OTHER, source="/etc/pin"), token(), KNOWN, None),
        (CHANGE, Pins(OTHER, write_file=True, interrupted=True), token(), KNOWN, None),
        (CHANGE, Pins(OTHER, SO_PIN, write_file=True, by_so=True), token(), KNOWN, "set_pin_as_so"),
        (CHANGE, replace(OLD_AND_NEW, so_pin=SO_PIN), token(SET | {"USER_PIN_LOCKED"}), KNOWN, "set_pin_as_so"),
        (CHANGE, replace(OLD_AND_NEW, so_pin=SO_PIN), token(SET), KNOWN, "change_pin"),
    ],
)
def test_what_a_token_needs(spec: TokenSpec, pins: Pins, found: Found, known: TokenRecord | None, expected: str | None) -> None:
    plan = plan_token(spec, pins, found, Access(), known)
    assert plan.look.error is None, plan.look.error
    assert [name for name in ("create", "set_pin_as_so", "change_pin") if getattr(plan, name)] == ([expected] if expected else [])
    assert plan.writes_token is (expected is not None)
    assert len(plan.steps) == int(expected is not None) + int(pins.write_file)


@pytest.mark.parametrize(
    ("spec", "pins", "found", "known", "access", "code"),
    [
        (DECLARED, Pins(PIN, SO_PIN), NONE, KNOWN, Access(), "no_token"),
        (DECLARED, Pins(PIN, SO_PIN), NONE, replace(KNOWN, serial=""), Access(), "no_token"),
        (DECLARED, Pins(PIN, SO_PIN), NONE, KNOWN, Access(allow_renumber=True), None),
        (DECLARED, Pins(PIN, SO_PIN), replace(NONE, place=TokenError("none", code="no_free_slot")), None, Access(), "no_free_slot"),
        (DECLARED, Pins(PIN, SO_PIN), Found(error=Cryptoki("x", rv="CKR_DEVICE_ERROR", device=True)), None, Access(), "CKR_DEVICE_ERROR"),
        (DECLARED, PinError("x", code="pin_file_unsafe"), NONE, None, Access(), "pin_file_unsafe"),
        (DECLARED, PinError("x", code="pin_file_unsafe"), token(), None, Access(), "pin_file_unsafe"),
        (DECLARED, Pins(Secret("12"), SO_PIN), NONE, None, Access(), "pin_not_accepted"),
        (DECLARED, Pins(PIN, Secret("12")), NONE, None, Access(), "pin_not_accepted"),
        (CHANGE, replace(OLD_AND_NEW, pin=Secret("12")), token(), KNOWN, Access(), "pin_not_accepted"),
        (CHANGE, OLD_AND_NEW, token(SET | {"USER_PIN_COUNT_LOW"}), KNOWN, Access(), "pin_count_low"),
        (CHANGE, OLD_AND_NEW, token(SET | {"USER_PIN_COUNT_LOW"}), KNOWN, Access(allow_low_pin_count=True), None),
        (CHANGE, OLD_AND_NEW, token(SET | {"USER_PIN_LOCKED"}), KNOWN, Access(allow_low_pin_count=True), "pin_locked"),
    ],
)
def test_what_is_refused(spec: TokenSpec, pins: Any, found: Found, known: TokenRecord | None, access: Access, code: str | None) -> None:
    plan = plan_token(spec, pins, found, access, known)
    assert (plan.look.error.code if plan.look.error else None) == code
    assert plan.look.status.code == code
    if code is not None:
        assert not plan.writes_token and plan.steps == []


def test_nobody_changes_a_plan() -> None:
    plan = TokenPlan(DECLARED)
    for value, name in ((plan, "create"), (plan.pins, "pin"), (plan.look, "error")):
        with pytest.raises(FrozenInstanceError):
            setattr(value, name, None)
