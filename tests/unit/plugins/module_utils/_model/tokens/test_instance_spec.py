# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options of hsm_instance, checked without a library and without a registry."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.errors import InputError
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.tokens.instance_spec import (
    InstanceRequest,
    InstanceSpec,
    TokenSpec,
    parse_tokens,
)
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.tokens.secret import Secret
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.tokens.selectors import TokenSelector
from ansible_collections.keyfleet.hsm.plugins.module_utils._module.options import INSTANCE, INSTANCE_STATE, PIN_SAFETY, TOKEN

PIN = Secret("canary")


def parse(*tokens: dict[str, Any], **options: Any) -> InstanceRequest:
    """With the defaults that Ansible fills in; by default one token ``a`` with a PIN."""
    filled = [{**{name: option.get("default") for name, option in TOKEN.items()}, **token} for token in tokens]
    spec = {**INSTANCE, **INSTANCE_STATE, **PIN_SAFETY}
    defaults = {name: option.get("default") for name, option in spec.items()}
    given = {"registry": "/r.db", "name": "primary", "model": "softhsm2", "library": "/l.so"}
    return InstanceRequest.parse({**defaults, **given, "tokens": filled or [{"label": "a", "pin": PIN}], **options})


def problems(*tokens: dict[str, Any], **options: Any) -> list[str]:
    with pytest.raises(InputError) as caught:
        parse(*tokens, **options)
    assert "canary" not in str(caught.value)
    return caught.value.problems


def test_a_whole_request() -> None:
    found = parse(
        {"label": "a", "initialize": True, "so_pin": PIN, "pin_file": "/pins/a"},
        {"slot": "0x10", "login": False, "user_type": "so"},
        model="SoftHSM2",
        admins=["ops"],
        environment={"B": 2, "A": "1"},
        max_sessions=8,
        expect_prefix="hsm::softhsm2",
        allow_low_pin_count=True,
    )
    tokens = (
        TokenSpec(0, TokenSelector("label", "a"), initialize=True, so_pin=PIN, pin_file="/pins/a"),
        TokenSpec(1, TokenSelector("slot", 16), login=False, user_type="so"),
    )
    spec = InstanceSpec("primary", "softhsm2", "", "/l.so", ("ops",), 8, 0, {"A": "1", "B": "2"}, tokens)
    assert found == InstanceRequest("/r.db", "primary", True, False, "hsm::softhsm2", False, True, True, spec)
    assert [str(token.where) for token in tokens] == ["tokens[0] (label 'a')", "tokens[1] (slot 16)"]


def test_a_library_that_the_model_knows() -> None:
    found = parse(library=None).spec
    assert found is not None and found.library is None and len(found.libraries) > 1
    assert "library: is missing, and model 'luna9' has no default" in problems(library=None, model="luna9")[0]


def test_an_instance_without_tokens() -> None:
    found = parse(tokens=[]).spec
    assert found is not None and found.tokens == ()


def test_absent_looks_at_the_name_alone() -> None:
    found = parse(state="absent", model=None, tokens=None, library="relative", force=True)
    assert (found.spec, found.name, found.force) == (None, "primary", True)
    assert problems(state="absent", name="a b")[0].startswith("name: 'a b' is no instance name")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"name": "not a name"}, "name: 'not a name' is no instance name"),
        ({"model": "12"}, "model: '12'"),
        ({"model": None}, "model: ''"),
        ({"max_sessions": 0}, "max_sessions: 0 is too small: give 1 or more"),
        ({"connection_timeout": -1}, "connection_timeout: -1 is too small: give 0 or more"),
        ({"environment": {"1": "x"}}, "environment: '1' is no variable name"),
        ({"environment": {"A": "canary\0"}}, "environment: the value of A contains a NUL byte"),
        ({"admins": ["ops", "ops"]}, "admins: 'ops' is given twice"),
        ({"admins": [" "]}, "admins: holds an empty entry"),
    ],
)
def test_bad_options(options: dict[str, Any], expected: str) -> None:
    (problem,) = problems(**options)
    assert problem.startswith(expected)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"label": "a", "slot": 3}, ": give exactly one of label, serial, slot; found label and slot"),
        ({"label": None}, ": give exactly one of label, serial, slot; found none"),
        ({"label": None, "slot": "0xzz"}, ".slot: '0xzz' is no slot number"),
        ({"label": None, "slot": str(2**64)}, ".slot: '18446744073709551616' is larger than a slot number"),
        ({"label": "x" * 33}, ".label: 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx' is longer than the 32 bytes"),
        ({"label": None, "serial": " "}, ".serial: is empty"),
        ({"pin": Secret("")}, ".pin: is empty"),
        ({"so_pin": Secret("")}, ".so_pin: is empty"),
        ({"so_pin": PIN, "so_pin_file": "/so"}, ".so_pin: give so_pin or so_pin_file, not both"),
        ({"pin": PIN, "initialize": True}, ".initialize: creating a token needs so_pin or so_pin_file"),
        ({"so_pin": PIN, "initialize": True}, ".initialize: a new token needs a user PIN"),
        ({"so_pin": PIN, "pin": PIN, "initialize": True, "user_type": "so"}, ".initialize: sets a user PIN"),
        ({"label": None, "slot": "1", "so_pin": PIN, "pin": PIN, "initialize": True}, ".initialize: a token is created by its label"),
        ({"login": False, "pin": PIN}, ".login: is false, so pin, pin_file and new_pin have no use"),
        ({"login": "maybe"}, ".login: give true, false or pinpad"),
        ({"login": "pinpad", "pin": PIN}, ".pin: cannot be used with login: pinpad"),
        ({"login": "pinpad", "pin_file": "/p"}, ".pin_file: cannot be used with login: pinpad"),
        ({"login": "pinpad", "so_pin": PIN}, ".so_pin: cannot be used with login: pinpad"),
        ({"login": "pinpad", "user_type": "so"}, ".user_type: so cannot be used with login: pinpad"),
        ({"new_pin": PIN}, ".new_pin: needs pin_file"),
        ({"new_pin": PIN, "pin_file": "/p", "user_type": "so"}, ".new_pin: changes the user PIN"),
    ],
)
def test_bad_tokens(options: dict[str, Any], expected: str) -> None:
    (problem,) = problems({"label": "fine", "pin": PIN}, {"label": "a", **options})
    assert problem.startswith(f"tokens[1]{expected}")


@pytest.mark.parametrize(
    ("given", "login", "pinpad"),
    [(None, True, False), (True, True, False), (False, False, False), ("yes", True, False), (0, False, False), ("pinpad", True, True)],
)
def test_ways_to_log_in(given: object, login: bool, pinpad: bool) -> None:
    ((token,), found) = parse_tokens([{"label": "a", "login": given}])
    assert (token.login, token.pinpad, found) == (login, pinpad, [])


def test_a_token_is_named_once() -> None:
    (problem,) = problems({"slot": "16", "pin": PIN}, {"label": "a"}, {"slot": "0x10"})
    assert problem == "tokens[2]: tokens[0] names the same token (slot 16)"


def test_every_problem_is_told_at_once() -> None:
    found = problems(
        {"label": "a", "slot": 3},
        {"slot": "0xzz"},
        {"label": "x" * 33, "initialize": True},
        name="not a name",
        model="12",
        max_sessions=0,
        connection_timeout=-1,
    )
    assert [problem.partition(": ")[0] for problem in found] == [
        "name",
        "model",
        "max_sessions",
        "connection_timeout",
        "tokens[0]",
        "tokens[1].slot",
        "tokens[2].label",
        "tokens[2].initialize",
        "tokens[2].initialize",
    ]
