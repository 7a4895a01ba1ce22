# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.kms.config import Served
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.kms.request import MODELS
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.kms.unit import LIBRARY_VARIABLES, folders_of, unit_environment
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
