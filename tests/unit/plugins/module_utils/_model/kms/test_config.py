# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The rules of the KMS server's configuration, and what a diff of it shows."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
import tomli_w
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.errors import Refused
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.kms.config import (
    NO_LOGIN,
    Served,
    admin_warnings,
    document,
    given_passwords,
    library_problems,
    pin_problem,
    registry_moves,
    served_slots,
    slot_moves,
    slot_prefixes,
    slot_problems,
)
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.kms.masking import CHANGED, SECRET, masked_pair
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.tokens.identity import TokenIdentity
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.tokens.instance_spec import InstanceSpec, TokenSpec
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.tokens.secret import Secret
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.tokens.selectors import TokenSelector
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.toml_values import same
from hypothesis import given
from hypothesis import strategies as st

PATH = "/etc/cosmian/kms.toml"


def served(name: str, *slots: int | None, model: str = "softhsm2", library: str = "/l.so", **options: Any) -> Served:
    tokens = tuple(TokenSpec(index, TokenSelector("slot", index)) for index in range(len(slots)))
    spec = InstanceSpec(name, model, tokens=tokens, **options)
    seen = tuple(None if slot is None else TokenIdentity(slot=slot) for slot in slots)
    return Served(f"instances[0] ({name})", spec, library, library, seen, tuple("pin" for _slot in slots))


def only(problems: list[str]) -> str:
    assert len(problems) == 1, problems
    return problems[0]


@pytest.mark.parametrize(("pin", "word"), [(NO_LOGIN, "login: false"), ("secret://x", "look for it elsewhere")])
def test_a_pin_that_means_something_else_to_the_server(pin: str, word: str) -> None:
    problem = pin_problem(Secret(pin))
    assert problem is not None
    assert word in problem
    assert pin_problem(Secret(f"{pin[1:]}")) is None


def test_an_instance_does_not_show_its_pins() -> None:
    assert "'pin'" not in repr(served("one", 3))


def test_a_pin_that_no_file_can_hold() -> None:
    problem = pin_problem(Secret("12\ud80034"))
    assert problem == "the PIN: is text that UTF-8 cannot hold: give Unicode text"


def test_one_library_for_a_model() -> None:
    problem = only(library_problems([served("a", 1), served("b", 2, library="/m.so")]))
    assert "is /m.so, and instances[0] (a) has /l.so" in problem
    assert "model other" in problem
    assert library_problems([served("a", 1), served("b", 2), served("c", 1, model="other", library="/m.so")]) == []


@pytest.mark.parametrize(
    ("first", "second", "refused"),
    [
        ({"C": "1"}, {"C": "1"}, False),
        ({"C": "1"}, {"C": "2"}, True),
        ({"C": "1"}, {}, True),
        ({}, {"C": "1"}, True),
    ],
)
def test_one_environment_for_a_library(first: dict[str, str], second: dict[str, str], refused: bool) -> None:
    problems = library_problems([served("a", 1, environment=first), served("b", 2, environment=second)])
    assert bool(problems) == refused
    assert all("C is" in problem and "one environment" in problem for problem in problems)


def test_libraries_share_a_variable_only_with_the_same_value() -> None:
    def pair(value: dict[str, str]) -> list[Served]:
        other = served("b", 1, model="other", library="/m.so", environment=value)
        return [served("a", 1, environment={"C": "1"}), other]

    assert library_problems(pair({})) == library_problems(pair({"D": "2"})) == library_problems(pair({"C": "1"})) == []
    assert "C is '2'" in only(library_problems(pair({"C": "2"})))


def test_a_slot_is_named_once() -> None:
    assert "is in slot 7, which instances[0] (a).tokens[0]" in only(slot_problems([served("a", 7, 8, 7)]))
    assert "is in slot 7, which" in only(slot_problems([served("a", 7), served("b", 7)]))
    assert "is in slot 7" in only(slot_problems([served("a", 7), served("b", 7, model="other")]))
    assert slot_problems([served("a", 7), served("b", 7, model="other", library="/m.so")]) == []
    assert slot_problems([served("a", None, None)]) == []
    assert "63 bits" in only(slot_problems([served("a", 2**63)]))


def test_admins_that_a_person_should_know_of() -> None:
    assert "nobody" in only(admin_warnings([served("a", 1)], {}))
    assert "everyone" in only(admin_warnings([served("a", 1, admins=("x", "*"))], {}))
    assert admin_warnings([served("a", 1, admins=("admin",))], {}) == []


@pytest.mark.parametrize(
    ("settings", "somebody"),
    [
        ({}, False),
        ({"default_username": "ops"}, True),
        # With an API token everybody is the default user.
        ({"http": {"api_token_id": "x"}}, False),
        ({"idp_auth": {"jwt_auth_provider": ["x"]}}, True),
        ({"auth_verifier": {"auth_verifier_url": "https://x"}}, True),
        ({"tls": {"clients_ca_cert_file": "/ca"}}, True),
        ({"tls": {"clients_ca_cert_file": "/ca"}, "force_default_username": True}, False),
        ({"tls": {"clients_ca_cert_file": ""}}, False),
    ],
)
def test_an_admin_that_nobody_can_be(settings: dict[str, Any], somebody: bool) -> None:
    warnings = admin_warnings([served("a", 1, admins=("ops",))], settings)
    assert warnings == [] if somebody else "nobody can be ops" in only(warnings)


def test_the_document() -> None:
    found = document({"info": False}, [served("a", 3, 5, admins=("x",))])
    entry = {"hsm_model": "softhsm2", "hsm_admin": ["x"], "hsm_slot": [3, 5], "hsm_password": ["pin", "pin"]}
    assert found == {"info": False, "hsm_instances": [entry]}
    text = tomli_w.dumps(found)
    assert text.startswith("info = false\n\n[[hsm_instances]]\nhsm_model")
    assert document({"info": False}, []) == {"info": False}


def moves(before: list[Served], after: list[Served]) -> list[str]:
    return slot_moves(slot_prefixes(document({}, before), PATH), served_slots(after))


def test_a_prefix_that_moves_is_named_old_and_new() -> None:
    a, b, c = served("a", 1, 2), served("b", 3), served("c", 9, model="utimaco")
    assert moves([a, b, c], [a, b, c]) == moves([a, b], [a]) == moves([a], [a, b]) == moves([c, a], [a, c]) == []
    assert only(moves([a, b], [b])) == "slot 3 of model softhsm2 would move from hsm::softhsm2_1 to hsm::softhsm2"
    assert moves([a, b], [b, a]) == [
        "slots 1, 2 of model softhsm2 would move from hsm::softhsm2 to hsm::softhsm2_1",
        "slot 3 of model softhsm2 would move from hsm::softhsm2_1 to hsm::softhsm2",
    ]
    assert "slot 2" in only(moves([a, b], [served("a", 1), served("b", 2, 3)]))


def test_flat_keys_have_a_prefix_of_their_own() -> None:
    old = {"hsm_model": "SoftHSM2", "hsm_slot": [3], "hsm_password": ["x"]}
    found = slot_moves(slot_prefixes(old, PATH), served_slots([served("a", 3)]))
    assert only(found) == "slot 3 of model softhsm2 would move from hsm to hsm::softhsm2"
    # Without a model the server does not start: they served nothing.
    assert slot_prefixes({"hsm_slot": [3]}, PATH) == []


def test_the_passwords_of_a_file_as_the_server_pairs_them() -> None:
    entry = {"hsm_model": "SoftHSM2", "hsm_slot": [1, 2, 3], "hsm_password": ["a", "b"]}
    again = {"hsm_model": "softhsm2", "hsm_slot": [1], "hsm_password": ["c"]}
    flat = {"hsm_model": "utimaco", "hsm_slot": [1], "hsm_password": ["d"]}
    assert given_passwords({"hsm_instances": [entry, again], **flat}, PATH) == {
        ("softhsm2", 1): ("hsm::softhsm2_1", "c"),
        ("softhsm2", 2): ("hsm::softhsm2", "b"),
        ("utimaco", 1): ("hsm", "d"),
    }
    with pytest.raises(Refused, match="hsm_password is no list of texts"):
        given_passwords({"hsm_instances": [{**again, "hsm_password": "canary"}]}, PATH)


def test_an_entry_without_slots_took_no_number() -> None:
    old = {"hsm_instances": [{"hsm_model": "other"}, {"hsm_model": "OTHER", "hsm_slot": [1]}]}
    assert slot_prefixes(old, PATH) == [("other", 1, "hsm::other")]


@pytest.mark.parametrize(
    "broken",
    [
        {"hsm_instances": {"a": 1}},
        {"hsm_instances": ["a"]},
        {"hsm_instances": [{"hsm_slot": [1]}]},
        {"hsm_instances": [{"hsm_model": "other", "hsm_slot": 1}]},
        {"hsm_instances": [{"hsm_model": "other", "hsm_slot": [True]}]},
        {"hsm_slot": "1"},
    ],
)
def test_a_file_whose_addresses_cannot_be_told_is_not_replaced(broken: dict[str, Any]) -> None:
    with pytest.raises(Refused, match="it cannot be told which UIDs it serves") as caught:
        slot_prefixes(broken, PATH)
    assert caught.value.code == "config_invalid"


def test_moves_by_the_registry() -> None:
    known: dict[str, str | None] = {"a": "hsm::softhsm2", "b": "hsm::softhsm2_1"}
    assert registry_moves(known, known) == registry_moves(known, {"a": "hsm::softhsm2"}) == []
    assert registry_moves(known, {**known, "c": "hsm::softhsm2_2"}) == []
    assert "'b' would move from hsm::softhsm2_1 to hsm::softhsm2" in only(registry_moves(known, {"b": "hsm::softhsm2"}))
    stolen = only(registry_moves(known, {"a": "hsm::softhsm2", "c": "hsm::softhsm2_1"}))
    assert stolen.startswith("hsm::softhsm2_1 would move from instance 'b'")
    assert stolen.endswith("to instance 'c'")


CANARIES = {
    "http": {"api_token_id": "canary1", "port": 9998},
    "tls": {"tls_p12_password": "canary2", "tls_key_file": "/k"},
    "db": {"database_url": "postgresql://kms:canary3/@host/db?password=canary4&x=1"},
    "vault": {"secret_id": ["canary5", {"a": "canary6"}]},
    "proxy": {"proxy_custom_auth_header": "canary7", "url": "http://canary8@proxy"},
    "google_cse_config": {"migration": "-----BEGIN PRIVATE KEY-----\ncanary9"},
    "info": "host=h password='canary10 a' user=x",
    "hsm_password": ["canary11"],
    "hsm_instances": [{"hsm_model": "other", "hsm_slot": [1, 2], "hsm_password": ["canary12", NO_LOGIN]}],
}


def test_no_secret_is_in_a_diff() -> None:
    for before in (None, {}, CANARIES):
        assert "canary" not in json.dumps(masked_pair(before, CANARIES))
    _before, after = masked_pair(None, CANARIES)
    assert after["http"] == {"api_token_id": SECRET, "port": 9998}
    assert after["db"]["database_url"] == f"postgresql://{SECRET}@host/db?password={SECRET}&x=1"
    assert after["tls"]["tls_key_file"] == "/k"
    assert after["hsm_instances"][0]["hsm_password"] == [SECRET, NO_LOGIN]


def paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where a canary stands."""
    if isinstance(value, dict):
        return [found for key, item in value.items() for found in paths(item, (*path, key))]
    if isinstance(value, list):
        return [found for index, item in enumerate(value) for found in paths(item, (*path, index))]
    return [path] if isinstance(value, str) and "canary" in value else []


@pytest.mark.parametrize("path", paths(CANARIES), ids=str)
def test_a_changed_secret_shows_as_changed_and_no_other_does(path: tuple[Any, ...]) -> None:
    changed = copy.deepcopy(CANARIES)
    place: Any = changed
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = place[path[-1]].replace("canary", "canary-new")
    before, after = masked_pair(CANARIES, changed)
    text = json.dumps(after)
    assert CHANGED in text
    assert "canary" not in text
    assert CHANGED not in json.dumps(before)
    assert len(paths(json.loads(text.replace(CHANGED, "canary")))) == 1


def test_a_pin_is_compared_with_that_of_its_slot() -> None:
    one = {"hsm_model": "other", "hsm_slot": [1], "hsm_password": ["x"]}
    two = {"hsm_model": "other", "hsm_slot": [2], "hsm_password": ["y"]}
    _before, after = masked_pair({"hsm_instances": [one, two]}, {"hsm_instances": [two, one]})
    assert [entry["hsm_password"] for entry in after["hsm_instances"]] == [[SECRET], [SECRET]]
    _before, after = masked_pair({"hsm_instances": [one]}, {"hsm_instances": [{**one, "hsm_password": ["y"]}]})
    assert after["hsm_instances"][0]["hsm_password"] == [CHANGED]


VALUE = st.one_of(st.booleans(), st.integers(0, 3), st.sampled_from(["a", "b", "x://a@h", "x://b@h", "password=a", NO_LOGIN]))
TABLE = st.dictionaries(st.sampled_from(["port", "api_token_id", "url"]), VALUE | st.lists(VALUE, max_size=2), max_size=3)
PAIRS = st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["p", "q", NO_LOGIN])), unique_by=lambda pair: pair[0], max_size=3)


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    entries = [
        {"hsm_model": model, "hsm_slot": [slot for slot, _pin in pairs], "hsm_password": [pin for _slot, pin in pairs]}
        for model, pairs in draw(st.lists(st.tuples(st.sampled_from(["m", "n"]), PAIRS), unique_by=lambda e: e[0], max_size=2))
    ]
    return {**draw(st.dictionaries(st.sampled_from(["http", "db"]), TABLE)), "hsm_instances": entries}


@given(documents(), documents())
def test_the_diff_is_empty_only_when_nothing_changes(before: dict[str, Any], after: dict[str, Any]) -> None:
    assert same(*masked_pair(before, after)) == same(before, after)


def test_toml_tells_types_apart() -> None:
    assert not same(1, True)
    assert not same(1, 1.0)
    assert not same({"a": [1]}, {"a": ["1"]})
    assert same({"a": 1, "b": [2.5]}, {"b": [2.5], "a": 1})
    assert same(float("nan"), float("nan"))


def test_secrets_without_a_scheme_and_under_odd_names_are_masked() -> None:
    settings = {
        "db": {"database_url": "u:hunter2@tcp(h)/d", "dsn": "host=h user=u pass=hunter2"},
        "x": {"db_pass": "hunter2", "salt": "hunter2"},
    }
    _before, after = masked_pair(None, settings)
    assert "hunter2" not in str(after)
    kept = {"a": {"key_encryption_key": "hsm::softhsm2::0::kek", "admin": "ops@example.com", "url": "https://kms.example.com:9998/"}}
    assert masked_pair(None, kept)[1] == kept
