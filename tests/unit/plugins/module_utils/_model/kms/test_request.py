# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options of kms_config, checked without a library and without a file."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.kms.config import FLAT
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.kms.names import BUILT_IN, name_problems, printed_names
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.kms.request import (
    MODELS,
    KmsConfigRequest,
    parse_instances,
    parse_settings,
)
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.tokens.instance_spec import InstanceSpec, TokenSpec
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.tokens.secret import Secret
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.tokens.selectors import TokenSelector


def declared(name: str = "a", **options: Any) -> dict[str, Any]:
    tokens = [{"label": "t", "pin": Secret("1234")}]
    return {"name": name, "model": "softhsm2", "library": "/l.so", "tokens": tokens, **options}


def token(**options: Any) -> dict[str, Any]:
    return declared(tokens=[{"label": "t", **options}])


def test_everything_that_the_server_knows_is_taken() -> None:
    settings: dict[str, Any] = {**{name: {"a": 1} for name in BUILT_IN.tables}, **dict.fromkeys(BUILT_IN.values, "x")}
    assert parse_settings(settings) == (settings, [])
    assert name_problems(settings, BUILT_IN, ()) == []
    for model in (*MODELS, "SoftHSM2"):
        assert parse_instances([declared(model=model)])[1] == []


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        *(({name: "x"}, ("beside those of instances", "declare that HSM in instances")) for name in FLAT),
        ({"hsm_instances": []}, ("settings.hsm_instances", "the option instances")),
        ({"http": 9998}, ("settings.http: is a table", "give a mapping")),
        ({"info": {"a": 1}}, ("settings.info: is a single value",)),
        ({"http": {"port": None}}, ("settings.http.port: has no value", "leave the key out")),
    ],
)
def test_settings_that_are_refused(settings: dict[str, Any], words: tuple[str, ...]) -> None:
    (problem,) = parse_settings(settings)[1]
    assert all(word in problem for word in words), problem


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("hsm_instance", ("settings.hsm_instance:", "ignore it silently", "declared in the option instances")),
        ("HSM_Slots", ("declared in the option instances",)),
        ("htpp", ("settings.htpp", "did you mean http?")),
        ("TLS", ("did you mean tls?",)),
        ("zzzz", ("Known are the tables audit, auth_verifier", "default_username", "settings_unchecked")),
    ],
)
def test_names_that_no_server_knows(name: str, words: tuple[str, ...]) -> None:
    (problem,) = name_problems([name, "http", *FLAT, "hsm_instances"], BUILT_IN, ())
    assert all(word in problem for word in words), problem
    assert name_problems([name], BUILT_IN, [name]) == []


# As the server prints it: what is optional is a comment, and so are the HSMs. It leaves some values out altogether.
PRINTED = """# The default username
default_username = "admin"

# ms_dke_service_url = "<url>"
# For example: hostname = 1
# hsm_model    = "softhsm2"
## [[hsm_instances]]
## hsm_slot     = [0]
# Prose with [brackets] in it.
[db]
database_type = "sqlite"
# database_url = "<url>"
[http]
port = 9998
[ui_config.ui_oidc_auth]
[of_tomorrow]
[notifications.smtp]
"""


def test_the_names_that_an_installed_server_prints() -> None:
    known = printed_names(PRINTED, "/kms")
    assert known is not None and known.is_old and not BUILT_IN.is_old
    assert known.tables == {"db", "http", "ui_config", "of_tomorrow"}
    assert {"default_username", "ms_dke_service_url", "vendor_identification"} <= known.values
    assert not {"database_url", "port", "hsm_slot", "hsm_model", "hostname"} & known.values
    (problem,) = name_problems(["audit", "of_tomorrow", "ms_dke_service_url"], known, ())
    assert problem.startswith("settings.audit: the installed server (/kms) does not know it") and "upgrade the server first" in problem
    assert printed_names("usage: kms [-c FILE]", "/kms") is None


def test_a_problem_never_shows_a_value() -> None:
    canary = "canary-value"
    settings = {
        "hsm_password": [canary],
        "http": canary,
        "info": {"a": canary},
        "unknown": canary,
        "tls": {"a": canary},
    }
    problems = parse_settings({**settings, "db": {"x": {canary}}})[1] + name_problems(settings, BUILT_IN, ())
    assert len(problems) == 5 and canary not in json.dumps(problems)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (declared(model="luna"), ("instances[0] (a).model", "'luna'", "softhsm2, utimaco", "model other")),
        (declared(tokens=[]), ("instances[0] (a).tokens: is empty", "declare a token or remove the instance")),
        (declared(tokens=None), ("tokens: is empty",)),
        (token(), ("instances[0] (a).tokens[0].pin: is missing", "drop the slot", "pin_file, or login: false")),
        (token(pin_file="/p", user_type="so"), ("tokens[0].user_type", "give user_type: user")),
        (token(login="pinpad"), ("tokens[0].login: pinpad cannot be served", "nobody is there")),
        (token(pin=Secret("")), ("tokens[0].pin: is empty",)),
        (token(initialize=True, so_pin=Secret("1")), ("tokens[0].initialize: a new token needs a user PIN",)),
        (declared(name="-"), ("is no instance name",)),
        (declared(model=None), ("is no model name",)),
    ],
)
def test_instances_that_are_refused(options: dict[str, Any], words: tuple[str, ...]) -> None:
    (problem,) = parse_instances([options])[1]
    assert all(word in problem for word in words), problem


def test_a_token_without_login_needs_no_pin() -> None:
    assert parse_instances([token(login=False)])[1] == []


def test_all_problems_of_all_instances_at_once() -> None:
    problems = parse_instances([declared("a", model="luna", tokens=[]), declared("a", environment={"1": "x"})])[1]
    assert [problem.split(":")[0] for problem in problems] == [
        "instances[0] (a).model",
        "instances[0] (a).tokens",
        "instances[1] (a).environment",
        "instances[1] (a).name",
    ]


def parse(*instances: dict[str, Any], **options: Any) -> KmsConfigRequest:
    defaults = {"registry": "/r.db", "settings": {}, "config_path": "/kms.toml", "allow_renumber": False}
    defaults |= {"state": "present", "allow_low_pin_count": False, "proven": [], "packaged_unit": True, "environment": {}}
    defaults |= {"server_path": "", "settings_unchecked": []}
    return KmsConfigRequest.parse({**defaults, "instances": list(instances), **options})


def test_a_whole_request() -> None:
    found = parse(declared("a"), declared("b", tokens=[]), settings={"info": False, "http": {"port": 1}}, allow_renumber=True)
    assert (found.registry, found.config_path, found.allow_renumber) == ("/r.db", "/kms.toml", True)
    assert found.settings == {"info": False, "http": {"port": 1}}
    spec = InstanceSpec("a", "softhsm2", library="/l.so", tokens=(TokenSpec(0, TokenSelector("label", "t"), pin=Secret("1234")),))
    assert (found.instances[0].where, found.instances[0].spec) == ("instances[0] (a)", spec)
    assert [problem.partition(":")[0] for problem in found.problems] == ["instances[1] (b).tokens"]


def test_entries_of_instances_that_shall_go() -> None:
    found = parse(declared("a"), {"name": "b", "state": "absent"}, {"name": "c", "state": "absent", "force": True, "allow_renumber": True})
    assert [one.spec.name for one in found.instances] == ["a"]
    assert (found.absent, found.allow_renumber, found.problems) == ({"b": False, "c": True}, True, ())
    (problem,) = parse({"name": "-", "state": "absent"}).problems
    assert problem.startswith("instances[0] (-).name: '-' is no instance name")


def test_every_problem_is_told_at_once_and_what_is_sound_is_kept() -> None:
    """So that the PIN files of the sound instances are looked at for the same error."""
    found = parse(
        declared("a", model="luna"),
        declared("b"),
        declared("a"),
        settings={"hsm_model": "x", "tls": 5},
    )
    assert [problem.partition(":")[0] for problem in found.problems] == [
        "settings.hsm_model",
        "settings.tls",
        "instances[0] (a).model",
        "instances[2] (a).name",
    ]
    assert [one.where for one in found.instances] == ["instances[0] (a)", "instances[1] (b)", "instances[2] (a)"]


def test_no_secret_is_in_the_repr() -> None:
    found = parse(declared(tokens=[{"label": "t", "pin": Secret("canary")}]), settings={"http": {"api_token_id": "canary"}})
    assert "canary" not in repr(found)
