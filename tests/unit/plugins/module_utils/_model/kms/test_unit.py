# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.kms.config import Served
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.kms.request import MODELS
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.kms.unit import (
    BACKEND,
    LIBRARY_VARIABLES,
    folders_of,
    is_hidden,
    machine_problems,
    paths_of,
    reference_problems,
    references,
    root_may_write,
    unit_environment,
)
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.tokens.instance_spec import InstanceSpec


def served(model: str, named: str, **environment: str) -> Served:
    return Served("instances[0]", InstanceSpec("a", model, environment=environment), "/real/l.so.3", named)


def test_every_model_of_the_server_has_its_variable() -> None:
    assert set(LIBRARY_VARIABLES) == set(MODELS)


def test_libraries_by_their_declared_path_and_what_vendors_read() -> None:
    instances = [served("softhsm2", "/l/soft.so", SOFTHSM2_CONF="/c"), served("utimaco", "/l/cs.so", CS_PKCS11_R3_CFG="/d")]
    assert unit_environment(instances) == {
        "CS_PKCS11_R3_CFG": "/d",
        "SOFTHSM2_CONF": "/c",
        "SOFTHSM2_PKCS11_LIB": "/l/soft.so",
        "UTIMACO_PKCS11_LIB": "/l/cs.so",
    }
    assert unit_environment([]) == {}


@pytest.mark.parametrize(
    ("settings", "folders"),
    [
        ({}, []),
        ({"db": {"sqlite_path": "/srv/kms"}, "logging": {"rolling_log_dir": "/var/log/kms"}}, ["/srv/kms", "/var/log/kms"]),
        ({"workspace": {"root_data_path": "/data", "tmp_path": "/scratch"}}, ["/data", "/scratch"]),
        ({"db": {"sqlite_path": "/var/lib/cosmian/kms"}, "logging": {"rolling_log_dir": "/var/log/cosmian"}}, []),
        ({"db": {"sqlite_path": "/var/lib/cosmian-2"}}, ["/var/lib/cosmian-2"]),
        ({"db": {"sqlite_path": "relative"}, "workspace": {"tmp_path": 5}}, []),
    ],
)
def test_folders_that_the_unit_has_to_allow(settings: dict[str, Any], folders: list[str]) -> None:
    assert folders_of(settings) == folders


@pytest.mark.parametrize(
    ("path", "hidden"),
    [("/root/tls.pem", True), ("/home/ops/tls.pem", True), ("/run/user/0/x", True), ("/homes/x", False), ("/etc/tls.pem", False)],
)
def test_what_protect_home_hides(path: str, hidden: bool) -> None:
    assert is_hidden(path) is hidden


def test_every_path_that_the_server_opens() -> None:
    settings = {
        "tls": {"tls_cert_file": "/a", "tls_p12_password": "/no"},
        "db": {"sqlite_path": "/b"},
        "http": 9998,
        "workspace": {"tmp_path": "c"},
    }
    one = Served("instances[0]", InstanceSpec("a", "utimaco", library="/l.so", environment={"CFG": "/d", "LEVEL": "5"}), "/l.so", "/l.so")
    assert dict(paths_of(settings, [one])) == {
        "settings.tls.tls_cert_file": "/a",
        "settings.db.sqlite_path": "/b",
        "instances[0].library": "/l.so",
        "instances[0].environment.CFG": "/d",
    }


def test_references_need_their_backend() -> None:
    settings = {"db": {"database_url": "secret://vault/a"}, "privileged_users": ["x", "secret://b"], "info": "see secret://"}
    assert references(settings) == ["settings.db.database_url", "settings.privileged_users[1]"]
    problems = reference_problems(settings, [], {})
    assert [problem.split(":")[0] for problem in problems] == references(settings)
    assert not any("vault" in problem for problem in problems)
    assert reference_problems(settings, [], {BACKEND: "vault"}) == []
    assert reference_problems(settings, [served("other", "/l.so", **{BACKEND: "vault"})], {}) == []


def test_models_that_the_server_has_on_one_machine_only() -> None:
    instances = [served(model, "/l.so") for model in MODELS]
    found = [problem.split()[4] for problem in machine_problems(instances, "aarch64")]
    assert found == ["utimaco", "proteccio", "crypt2pay"]
    assert machine_problems(instances, "x86_64") == []


@pytest.mark.parametrize(
    ("uid", "gid", "mode", "may"),
    [
        (0, 0, 0o600, True),
        (0, 0, 0o460, False),  # the owner's bits count for the owner, whatever the group may
        (1000, 0, 0o660, True),
        (1000, 0, 0o640, False),
        (1000, 1000, 0o660, False),
        (1000, 1000, 0o666, True),
    ],
)
def test_what_root_without_its_capability_may_write(uid: int, gid: int, mode: int, may: bool) -> None:
    assert root_may_write(uid, gid, mode) is may
