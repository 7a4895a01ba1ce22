# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the open gateway offers, and what it refuses, from plain values."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.keyfleet.hsm.plugins.filter.gateway_plan import gateway_plan

LUNA: dict[str, Any] = {
    "name": "luna",
    "model": "luna",
    "environment": {"ChrystokiConfigurationPath": "/etc/luna"},
    "tokens": [{"label": "card payments/1", "pin": "canary-271828"}],
}
SOFT: dict[str, Any] = {"name": "soft", "model": "softhsm2", "tokens": [{"serial": "f1f6"}, {"label": "b"}]}
VARIABLES: dict[str, Any] = {"instance": "", "ports": {}, "listen_port": 4442, "clients": [], "client_ca_source": "/srv/ca.pem"}
DIGEST = "ab" * 32


def plan(*instances: dict[str, Any], **changed: Any) -> dict[str, Any]:
    found = gateway_plan(list(instances), {**VARIABLES, **changed})
    assert "canary" not in str(found)
    return found


def test_instances_with_their_ports_tokens_and_limits() -> None:
    found = plan(LUNA, {**SOFT, "connection_timeout": "3"}, ports={"soft": 4443}, clients=["App 1", "App1", f"sha256:{DIGEST}"])
    assert found["problems"] == []
    luna, soft = found["instances"]
    assert luna == {
        "name": "luna",
        "port": 4442,
        "libraries": ["/usr/safenet/lunaclient/lib/libCryptoki2_64.so"],
        "environment": {"ChrystokiConfigurationPath": "/etc/luna"},
        "tokens": ["pkcs11:token=card%20payments%2F1"],
        "softhsm": False,
        "max_sessions": 1024,
        "queue_seconds": 24 * 86400,  # 0 waits without limit, and HAProxy would take 0 for the timeout of connecting
    }
    assert (soft["port"], soft["tokens"], soft["max_sessions"], soft["queue_seconds"]) == (
        4443,
        ["pkcs11:serial=f1f6", "pkcs11:token=b"],
        1,
        3,
    )
    assert (found["common_names"], found["dns_names"], found["fingerprints"]) == (["App 1", "App1"], ["app1"], [DIGEST.upper()])


def test_the_instance_that_is_named_is_the_only_one() -> None:
    found = plan(LUNA, SOFT, instance="soft")
    assert [(one["name"], one["port"]) for one in found["instances"]] == [("soft", 4442)]
    assert found["problems"] == []


@pytest.mark.parametrize(
    ("instances", "changed", "words"),
    [
        ([], {}, "hsm_instances: is empty"),
        ([LUNA], {"instance": "moon"}, "gateway_instance: 'moon' is not in hsm_instances"),
        ([LUNA, SOFT], {}, "gateway_ports: 'soft' has no port"),
        ([LUNA, SOFT], {"ports": {"soft": 4442}}, "gateway_ports: soft: 4442 is the port of 'luna'"),
        ([LUNA], {"listen_port": 4441}, "gateway_listen_port: 4441 cannot be used"),
        ([LUNA], {"listen_port": "x"}, "gateway_listen_port: x cannot be used"),
        ([LUNA], {"ports": {"luna": 65536}}, "gateway_ports: luna: 65536 cannot be used"),
        ([LUNA], {"ports": {"moon": 4443}}, "gateway_ports: 'moon' is not in hsm_instances"),
        ([LUNA], {"ports": [4443]}, "gateway_ports: give a mapping"),
        ([{**LUNA, "tokens": [{"slot": 3}]}], {}, "chosen by its slot"),
        ([{**LUNA, "tokens": []}], {}, "has no tokens"),
        ([{**LUNA, "name": "a b"}], {}, "is no instance name"),
        ([{**LUNA, "init_args": "x"}], {}, "has init_args"),
        ([{**LUNA, "model": "unheard"}], {}, "no library is known for the model of 'luna'"),
        ([{**LUNA, "library": "lib.so"}], {}, "the library of 'luna' is not an absolute path"),
        ([{**LUNA, "max_sessions": 0}], {}, "'luna' has an invalid max_sessions"),
        ([{**LUNA, "connection_timeout": -1}], {}, "'luna' has an invalid connection_timeout"),
        ([{**SOFT, "max_sessions": 8}], {}, "Set max_sessions: 1"),
        ([{**SOFT, "model": "other", "library": "/opt/libsofthsm2.so", "max_sessions": 8}], {}, "Set max_sessions: 1"),
        ([LUNA], {"client_ca_source": ""}, "gateway_client_ca_source: is missing"),
        ([LUNA], {"client_ca_source": "ca.pem"}, "gateway_client_ca_source: ca.pem is not an absolute path"),
        ([LUNA], {"client_ca_source": "system"}, "gateway_clients: is empty, and the CAs of the system"),
        ([LUNA], {"clients": ["a\nb"]}, "gateway_clients: an entry has a line break"),
        ([LUNA], {"clients": [7]}, "gateway_clients: an entry is empty"),
        ([LUNA], {"clients": ["sha256:12"]}, "is not a fingerprint"),
        ([LUNA], {"clients": "app1"}, "gateway_clients: give a list"),
    ],
)
def test_what_is_refused(instances: list[dict[str, Any]], changed: dict[str, Any], words: str) -> None:
    (problem,) = plan(*instances, **changed)["problems"]
    assert words in problem


def test_all_problems_are_told_at_once() -> None:
    assert len(plan({**SOFT, "max_sessions": 8}, LUNA, client_ca_source="")["problems"]) == 3


def test_a_wrong_call() -> None:
    with pytest.raises(AnsibleFilterError, match="not a list of mappings"):
        gateway_plan({}, VARIABLES)
    with pytest.raises(AnsibleFilterError, match="missing clients"):
        gateway_plan([], {name: value for name, value in VARIABLES.items() if name != "clients"})
