# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""All problems of arguments at once, with entry and label, and without a value that may be a secret."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.keys.types import KEY_TYPES
from ansible_collections.keyfleet.hsm.plugins.module_utils._module import key_options, options
from ansible_collections.keyfleet.hsm.plugins.module_utils._module.arguments import Check
from ansible_collections.keyfleet.hsm.plugins.module_utils._module.guarded import _numbers
from argument_specs import MODULES, arguments, places, spec_of

SPEC = options.merge(options.REGISTRY, options.CONNECTION, options.PROVIDER, key_options.KEYS)
TOKENS = options.merge(options.INSTANCE)
TYPES = ", ".join(KEY_TYPES)
CURVES = "P-256, P-384, P-521, secp256k1, brainpoolP256r1, brainpoolP384r1, brainpoolP512r1"


def problems(*keys: Any, **more: Any) -> list[str]:
    return Check({"keys": list(keys), **more}, SPEC).problems


@pytest.mark.parametrize("module", MODULES)
def test_what_is_required_is_enough(module: str) -> None:
    given = arguments(spec_of(module), {})
    check = Check(given, spec_of(module))
    assert check.problems == [] and check.faulty == set() and check.sound == given


def test_sound_arguments_have_their_types() -> None:
    given = {"label": "a", "size": "256", "enforce": "yes", "operations": "sign,verify", "source": "src=/a format=pem"}
    found = Check({"keys": [given, {"label": "7", "size": 2.0}], "pin_file": "~/p"}, SPEC).sound
    assert found["keys"] == [
        {"label": "a", "size": 256, "enforce": True, "operations": ["sign", "verify"], "source": {"src": "/a", "format": "pem"}},
        {"label": "7", "size": 2},
    ]
    assert found["pin_file"].startswith("/")


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        (None, "keys[1]: is empty"),
        (5, "keys[1]: is not a mapping"),
        ([{"label": "a"}], "keys[1]: is not a mapping but a list"),
        ({"type": "AES"}, "keys[1].label: is missing"),
        ({"label": None}, "keys[1].label: is missing"),
        ({"label": ["a"]}, "keys[1].label: is not a text but a list"),
        ({"label": "b", "size": "big"}, "keys[1] (b).size: is not a whole number"),
        ({"label": "b", "size": True}, "keys[1] (b).size: is not a whole number"),
        ({"label": "b", "size": 256.5}, "keys[1] (b).size: is not a whole number"),
        ({"label": "b", "size": "1e999999999"}, "keys[1] (b).size: is not a whole number"),
        ({"label": "b", "size": float("inf")}, "keys[1] (b).size: is not a whole number"),
        ({"label": "b", "generation": 2**63}, "keys[1] (b).generation: is larger than 63 bits"),
        ({"label": "b", "type": "SLH-DSA"}, f"keys[1] (b).type: must be one of {TYPES}, not 'SLH-DSA'"),
        ({"label": "b", "enforce": "maybe"}, "keys[1] (b).enforce: is not a boolean"),
        (
            {"label": "b", "curve": "nope"},
            f"keys[1] (b).curve: must be one of {CURVES}, not 'nope'",
        ),
        (
            {"label": "b", "curve": "739184"},
            f"keys[1] (b).curve: must be one of {CURVES}",
        ),
        ({"label": "b", "source": []}, "keys[1] (b).source: is not a mapping but a list"),
        ({"label": "b", "source": {"src": "739184"}}, "keys[1] (b).source.src: is not an absolute path on the target"),
        ({"label": "b", "max_age": "a\0"}, "keys[1] (b).max_age: contains a NUL character"),
        ({"label": "b", "id": "\ud800"}, "keys[1] (b).id: is not valid UTF-8"),
        ({"label": "b", "crve": "P-256"}, "keys[1] (b).crve: unknown option; did you mean curve?"),
        ({"label": "-----BEGIN", "size": "x"}, "keys[1].size: is not a whole number"),
    ],
)
def test_one_problem(entry: Any, problem: str) -> None:
    check = Check({"keys": [{"label": "a"}, entry, {"label": "c"}]}, SPEC)
    assert check.problems == [problem]
    assert check.sound["keys"][::2] == [{"label": "a"}, {"label": "c"}] and len(check.sound["keys"]) == 3
    assert check.faulty == (set() if problem.endswith("path on the target") else {"keys[1]"})


def test_all_problems_at_once() -> None:
    found = problems({"label": "a", "size": "x", "curve": "y"}, None, {"operations": ["sign", "fly", 5]}, pin_file="739184", slto=1)
    assert found == [
        "keys[0] (a).size: is not a whole number",
        f"keys[0] (a).curve: must be one of {CURVES}, not 'y'",
        "keys[1]: is empty",
        "keys[2].operations[1]: must be one of encrypt, decrypt, sign, verify, wrap, unwrap, derive, encapsulate, decapsulate, not 'fly'",
        "keys[2].operations[2]: must be one of encrypt, decrypt, sign, verify, wrap, unwrap, derive, encapsulate, decapsulate",
        "keys[2].label: is missing",
        "pin_file: is not an absolute path on the target",
        "slto: unknown option; did you mean slot?",
    ]


def test_an_entry_of_an_entry_names_both() -> None:
    instances = [{"name": "a", "tokens": [{"label": "t"}, {"label": "u", "pni": "x", "user_type": "hunter"}]}]
    check = Check({"instances": instances}, options.KMS)
    assert check.problems == [
        "instances[0] (a).tokens[1] (u).pni: unknown option; did you mean pin?",
        # No value beside a PIN's place.
        "instances[0] (a).tokens[1] (u).user_type: must be one of user, so",
    ]
    assert check.faulty == {"instances[0]"} and check.sound["instances"] == [{"name": "instances[0]"}]


def test_what_depends_on_another_option_is_missing_too() -> None:
    assert Check({"name": "a"}, TOKENS, ("model", "tokens")).problems == ["model: is missing", "tokens: is missing"]


def test_texts_within_a_mapping() -> None:
    assert problems({"label": "a"}, environment={"A": ["\ud800"]}) == ["environment: is not valid UTF-8"]
    assert problems({"label": "a"}, environment={"A\0": 1}) == ["environment: contains a NUL character"]


# Texts that a number may stand for.
NUMBERS_TOO = {"slot", "max_age", "lead", "renew_before", "pin", "so_pin", "new_pin"}


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize(("value", "words"), [(16, "number 16"), (1.1, "number 1.1"), (0, "number 0"), (True, "value true")])
def test_a_number_is_not_taken_for_a_text(module: str, value: Any, words: str) -> None:
    """0x10 is 16 in YAML, 1.10 is 1.1, and on is true: no key is made, or destroyed, by such a name."""
    spec = spec_of(module)
    too = NUMBERS_TOO | ({"owner", "group"} if module == "gateway_certificate" else set())
    texts = places(spec, lambda option: option.get("type", "str") == "str" and not option.get("choices"))
    names = [place for place in texts if place[-1] not in too]
    assert names or module == "hsm_status"
    for place in names:
        found = Check(arguments(spec, {place: value}), spec).problems
        assert len(found) == 1 and "a text belongs there" in found[0] and "in quotes" in found[0], found
        assert place[-1] in found[0].partition(": ")[0]
        beside = spec
        for name in place[:-1]:
            beside = beside[name]["options"]
        assert (words in found[0]) is not any(option.get("no_log") is True for option in beside.values())
        assert Check(arguments(spec, {place: str(value)}), spec).problems == []
    lists = [(name,) for name, option in spec.items() if option.get("elements") == "str" and not option.get("choices")]
    for (name,) in lists:
        found = Check(arguments(spec, {(name,): ["a", value]}), spec).problems
        assert len(found) == 1 and found[0].startswith(f"{name}[1]: is ")


def test_what_a_number_may_stand_for() -> None:
    assert problems({"label": "a", "max_age": 30}, slot=3, pin=123456) == []


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize("value", [True, False])
def test_a_boolean_stands_for_no_text(module: str, value: bool) -> None:
    """A PIN of yes is true in YAML, and would be sent to the token as True."""
    spec = spec_of(module)
    for place in places(spec, lambda option: option.get("type", "str") == "str" and not option.get("choices")):
        (found,) = Check(arguments(spec, {place: value}), spec).problems
        assert place[-1] in found.partition(": ")[0] and "truth value" in found and "in quotes" in found


def test_only_of_a_pin_a_number_is_warned_of() -> None:
    """Any other secret that is a number is refused, in its own words."""
    spec = spec_of("hsm_key")
    given = {"pin": 1234, "keys": [{"label": "a", "source": {"content": 12, "passphrase": 34}}, {"label": "b"}]}
    assert list(_numbers(given, spec)) == ["pin"]
    assert [line.partition(": ")[0] for line in Check(given, spec).problems] == [
        "keys[0] (a).source.content",
        "keys[0] (a).source.passphrase",
    ]
