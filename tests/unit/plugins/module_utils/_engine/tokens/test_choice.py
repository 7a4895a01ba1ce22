# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which instance, group and token are meant, and which registrations are of one token."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.tokens.choice import (
    chosen_token,
    chosen_tokens,
    find_instance,
    find_named,
)
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.errors import TokenError
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.records import (
    GroupRecord,
    InstanceRecord,
    TokenRecord,
    is_same_token,
)
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.tokens.selectors import TokenSelector

PAYMENTS = TokenRecord(TokenSelector("label", "payments"), "payments", "0a", 7, id=1)
SECOND = TokenRecord(TokenSelector("slot", 3), "second", "0b", 8, id=2)
OFFICERS = TokenRecord(TokenSelector("label", "so"), "so", "0c", 9, user_type="so", id=3)


def instance(name: str = "primary", *tokens: TokenRecord, model: str = "softhsm2", library: str = "/lib/a.so") -> InstanceRecord:
    return InstanceRecord(name, model, library, tokens=tokens)


def test_found_by_name() -> None:
    known = [instance("a"), instance("b")]
    assert find_instance(known, "b", "/registry.db") is known[1]
    with pytest.raises(TokenError) as caught:
        find_instance(known, "c", "/registry.db")
    text = "there is no instance 'c' in /registry.db; registered: 'a', 'b'. Register it with hsm_instance first."
    assert caught.value.message == f"instance: {text}"
    assert (caught.value.code, caught.value.details) == ("no_instance", {"registered": ["a", "b"]})
    with pytest.raises(TokenError) as caught:
        find_named([GroupRecord("g")], "c", "/registry.db", "group", "groups")
    text = "there is no group 'c' in /registry.db; registered: 'g'. Register it with hsm_group first."
    assert caught.value.message == f"group: {text}" and (caught.value.code, caught.value.details) == ("no_group", {"groups": ["g"]})
    with pytest.raises(TokenError, match="registered: none"):
        find_instance([], "c", "/registry.db")


@pytest.mark.parametrize(
    ("selector", "tokens"),
    [
        (None, [PAYMENTS, SECOND]),
        (TokenSelector("label", "second"), [SECOND]),
        (TokenSelector("serial", "0a"), [PAYMENTS]),
        (TokenSelector("slot", 8), [SECOND]),
        (TokenSelector("slot", 3), [SECOND]),  # as it was declared
    ],
)
def test_chosen_tokens(selector: TokenSelector | None, tokens: list[TokenRecord]) -> None:
    assert chosen_tokens(instance("primary", PAYMENTS, SECOND), selector) == tokens
    assert selector is None or chosen_token(instance("primary", PAYMENTS, SECOND), selector) == tokens[0]


@pytest.mark.parametrize(
    ("tokens", "selector", "code", "text"),
    [
        ([], None, "token_not_declared", "has no tokens: declare them"),
        ([], TokenSelector("slot", 1), "token_not_declared", "slot: instance 'primary' has no token with slot 1; it has no tokens."),
        ([PAYMENTS], TokenSelector("label", "x"), "token_not_declared", "token_label: instance 'primary' has no token with"),
        ([PAYMENTS, OFFICERS], None, "login_needed", "token 'so' of instance 'primary' is registered with user_type: so"),
        ([PAYMENTS, SECOND], None, "several_tokens", "has several tokens ('payments', 'second'): say which with token_label."),
    ],
)
def test_no_choice(tokens: list[TokenRecord], selector: TokenSelector | None, code: str, text: str) -> None:
    with pytest.raises(TokenError) as caught:
        chosen_token(instance("primary", *tokens), selector)
    assert caught.value.code == code and text in caught.value.message


def token(serial: str | None, number: int | None) -> TokenRecord:
    return TokenRecord(TokenSelector("label", "t"), serial=serial, id=number)


@pytest.mark.parametrize(
    ("one", "two", "more", "same"),
    [
        (("0a", 1), ("0b", 1), {}, (True, True)),  # one row of the registry
        (("0a", 1), ("0a", 2), {}, (True, True)),
        (("0a", None), ("0a", None), {}, (True, True)),
        (("0a", 1), ("0b", 2), {}, (False, False)),
        ((None, 1), (None, 2), {}, (False, False)),
        (("", None), ("", None), {}, (False, False)),
        (("0a", 1), ("0a", 2), {"library": "/lib/b.so"}, (True, True)),  # one maker
        (("0a", 1), ("0a", 2), {"model": "luna"}, (True, True)),  # one library
        (("0a", 1), ("0a", 2), {"model": "luna", "library": "/lib/b.so"}, (False, False)),
    ],
)
def test_the_same_token(
    one: tuple[str | None, int | None], two: tuple[str | None, int | None], more: dict[str, Any], same: tuple[bool, bool]
) -> None:
    for any_model, expected in zip((True, False), same, strict=True):
        assert is_same_token(instance(), token(*one), instance("other", **more), token(*two), any_model=any_model) is expected


def test_the_model_other_may_be_any_makers() -> None:
    one, two = instance(model="other"), instance("b", model="other", library="/lib/b.so")
    assert is_same_token(one, token("0a", 1), two, token("0a", 2), any_model=True)
    assert not is_same_token(one, token("0a", 1), two, token("0a", 2), any_model=False)
