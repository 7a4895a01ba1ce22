# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The filter load_balancer_problems: each fault by its words, and several at once as the sum of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.keyfleet.hsm.plugins.filter.load_balancer_problems import load_balancer_problems
from hypothesis import given
from hypothesis import strategies as st

ROLE = Path(__file__).resolve().parents[4] / "roles/load_balancer"
HOSTS = ["gw1", "gw2", "lb1"]
GATEWAY: dict[str, Any] = {
    "address": "192.0.2.1",
    "port": 4442,
    "health_port": 4441,
    "priority": 1,
    "ports": {},
    "certificate_name": "gw.example",
    "token_serial": "",
}
GATEWAYS = [{**GATEWAY, "name": "gw1"}, {**GATEWAY, "name": "gw2", "priority": 2}]
VARIABLES: dict[str, Any] = {
    "group": "gateways",
    "check_tokens": True,
    "bind": "::",
    "port": 4442,
    "ports": {},
    "share": "token",
    "health": "http",
    "health_ca_file": "",
    "health_insecure": False,
    "health_interval": 5,
    "health_timeout": 5,
    "health_fall": 2,
    "health_rise": "2",
    "timeout_connect": 5,
    "timeout_session": 86400,
    "timeout_close": 30,
    "keepalive": 60,
    "stats": True,
    "stats_bind": "127.0.0.1",
    "stats_port": "8404",
    "stats_user": "statistics",
    "stats_password": False,
    "packages": ["haproxy"],
    "manage_package": True,
    "config_path": "/etc/haproxy/haproxy.cfg",
    "foreign": False,
    "replace_config": False,
}


def problems(gateways: Sequence[dict[str, Any]] = tuple(GATEWAYS), host: str = "lb1", **changed: Any) -> list[str]:
    return load_balancer_problems(gateways, {**VARIABLES, **changed}, HOSTS, host)


# What is changed, and what is said of it. No two change the same.
COUNT = "give a whole number of at least 1"
PORT = "give a number from 1 to 65535"
FAULTS: list[tuple[dict[str, Any], str]] = [
    ({"port": "http"}, f"load_balancer_port: invalid port http: {PORT}"),
    ({"health_interval": 0}, f"load_balancer_health_interval: invalid value 0: {COUNT}"),
    ({"health_timeout": "5s"}, f"load_balancer_health_timeout: invalid value 5s: {COUNT}"),
    ({"health_fall": True}, f"load_balancer_health_fall: invalid value True: {COUNT}"),
    ({"health_rise": ""}, f"load_balancer_health_rise: invalid value : {COUNT}"),
    ({"timeout_connect": -1}, f"load_balancer_timeout_connect: invalid value -1: {COUNT}"),
    ({"timeout_session": 1.5}, f"load_balancer_timeout_session: invalid value 1.5: {COUNT}"),
    ({"timeout_close": None}, f"load_balancer_timeout_close: invalid value None: {COUNT}"),
    ({"keepalive": "60\n"}, f"load_balancer_keepalive: invalid value 60\n: {COUNT}"),
    ({"stats_port": 65536}, f"load_balancer_stats_port: invalid port 65536: {PORT}"),
    ({"ports": {"many": "x"}}, f"load_balancer_ports: many: invalid port x: {PORT}"),
    ({"bind": "a b"}, "load_balancer_bind: invalid address 'a b': give one address of this host, 0.0.0.0 or ::"),
    (
        {"health": "https"},
        "load_balancer_health: https needs either load_balancer_health_ca_file, to check the certificates, or "
        "load_balancer_health_insecure: true, not to check them",
    ),
    (
        {"stats_bind": "192.0.2.9"},
        "load_balancer_stats_bind: others can reach 192.0.2.9, so the page needs load_balancer_stats_password: give one, or bind it to "
        "127.0.0.1",
    ),
    ({"stats_user": "a:b"}, "load_balancer_stats_user: invalid name 'a:b': give one without colons and blanks"),
    ({"config_path": "haproxy.cfg"}, "load_balancer_config_path: invalid path 'haproxy.cfg': give an absolute path without blanks"),
    ({"packages": []}, "load_balancer_packages: is empty: name the packages, or set load_balancer_manage_package to false"),
]
GATEWAY_FAULTS: list[tuple[dict[str, Any], str]] = [
    ({"address": "c d"}, "invalid address 'c d': give the name of a host or an IP address"),
    ({"certificate_name": "a\n"}, "invalid certificate_name 'a\\n': give the name of a host or an IP address"),
    ({"port": 0}, f"invalid port 0: {PORT}"),
    ({"health_port": 70000}, f"invalid health_port 70000: {PORT}"),
    ({"priority": 0}, f"invalid priority 0: {COUNT}"),
    ({"ports": {"many": 0}}, "invalid ports: give a mapping, from names to numbers from 1 to 65535"),
    ({"token_serial": 211215271}, "token_serial is a number, and YAML drops zeros in front of one: put it in quotes, as the token has it"),
]


def test_nothing_is_wrong_with_the_defaults_and_one_password_opens_the_page() -> None:
    assert problems() == []
    assert problems(stats_bind="*", stats_password=True) == problems(stats_bind="*", stats=False) == []
    assert problems(stats_bind="::1") == problems(stats_bind="localhost") == problems(stats_bind="127.8.0.1") == []
    assert problems(health="https", health_insecure=True) == problems(health="https", health_ca_file="/etc/ca.pem") == []


@given(st.sets(st.sampled_from(range(len(FAULTS)))), st.sets(st.sampled_from(range(len(GATEWAY_FAULTS)))))
def test_all_problems_come_at_once_and_each_once(variables: set[int], fields: set[int]) -> None:
    changed: dict[str, Any] = {}
    gateway: dict[str, Any] = {**GATEWAYS[1]}
    for index in variables:
        changed |= FAULTS[index][0]
    for index in fields:
        gateway |= GATEWAY_FAULTS[index][0]
    expected = [FAULTS[index][1] for index in variables]
    expected += [f"load_balancer_gateways: gw2: {GATEWAY_FAULTS[index][1]}" for index in fields]
    assert sorted(problems([GATEWAYS[0], gateway], **changed)) == sorted(expected)


@pytest.mark.parametrize(
    ("gateways", "host", "changed", "words"),
    [
        ([], "lb1", {}, ["load_balancer_gateways: there are none, and the inventory has no hosts in the group gateways"]),
        ([{**GATEWAY, "name": "a b"}], "lb1", {}, ["load_balancer_gateways: a b: invalid name: use letters, digits"]),
        ([*GATEWAYS, GATEWAYS[0]], "lb1", {}, ["load_balancer_gateways: gw1: 2 gateways have this name: give each its own"]),
        ([GATEWAYS[0], {**GATEWAY, "name": "else"}], "lb1", {}, ["load_balancer_gateways: else: not a host of the inventory"]),
        ([GATEWAYS[0], {**GATEWAY, "name": "else"}], "lb1", {"check_tokens": False}, []),
        ([GATEWAYS[0], {**GATEWAY, "name": "else", "token_serial": "0123"}], "lb1", {}, []),
        ([{**GATEWAY, "name": "else"}], "lb1", {}, []),
        # A gateway on the load balancer itself, whose port it would take away.
        (GATEWAYS, "gw1", {}, ["load_balancer_port: 4442 is the port of the gateway on this host"]),
        (GATEWAYS, "gw1", {"bind": "192.0.2.1"}, ["load_balancer_port: 4442 is the port of the gateway on this host"]),
        (GATEWAYS, "gw1", {"bind": "192.0.2.7"}, []),
        (
            [{**GATEWAYS[0], "ports": {"many": 4443}}],
            "gw1",
            {"port": 1, "ports": {"many": 4443}},
            ["load_balancer_ports: many: 4443 is the port of"],
        ),
        (GATEWAYS, "lb1", {"ports": [4443]}, ["load_balancer_ports: give a mapping, from names to ports"]),
        (GATEWAYS, "lb1", {"ports": {"a b": 4443}}, ["load_balancer_ports: invalid name 'a b': use letters"]),
        (GATEWAYS, "lb1", {"ports": {"a": 4443, "b": "4443"}}, ["load_balancer_ports: b: 4443 is the port of load_balancer_ports: a, too"]),
        (
            GATEWAYS,
            "lb1",
            {"ports": {"a": 4442, "b": 8404}},
            ["load_balancer_ports: a: 4442 is the", "load_balancer_ports: b: 8404 is the"],
        ),
        (GATEWAYS, "lb1", {"ports": {"b": 8404}, "stats": False}, []),
        (
            [GATEWAYS[0], {**GATEWAY, "name": "else", "token_serial": "0123"}],
            "lb1",
            {"share": "keys"},
            ["load_balancer_gateways: else: not a host"],
        ),
        (GATEWAYS, "gw1", {"port": "5442"}, []),
        (GATEWAYS, "lb1", {"stats_port": "4442"}, ["load_balancer_port, load_balancer_stats_port: both are 4442: give two"]),
        (GATEWAYS, "lb1", {"health": "https", "health_ca_file": "/a", "health_insecure": True}, ["load_balancer_health: https needs"]),
        (GATEWAYS, "lb1", {"health_ca_file": "ca.pem"}, ["load_balancer_health_ca_file: invalid path 'ca.pem'"]),
        (GATEWAYS, "lb1", {"stats_bind": "x y"}, ["load_balancer_stats_bind: invalid address", "load_balancer_stats_bind: others"]),
        (GATEWAYS, "lb1", {"packages": [], "manage_package": False}, []),
        (GATEWAYS, "lb1", {"foreign": True}, ["load_balancer_config_path: /etc/haproxy/haproxy.cfg is neither from this role nor as"]),
        (GATEWAYS, "lb1", {"foreign": True, "replace_config": True}, []),
    ],
)
def test_what_is_said_of_variables_together(gateways: list[dict[str, Any]], host: str, changed: dict[str, Any], words: list[str]) -> None:
    found = problems(gateways, host, **changed)
    assert len(found) == len(words), found
    assert all(problem.startswith(start) for problem, start in zip(found, words, strict=True)), found


@given(st.sampled_from(sorted(VARIABLES)), st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.text()))
def test_whatever_a_variable_is_the_answer_is_a_list_of_texts(name: str, value: Any) -> None:
    assert all(problem.startswith("load_balancer_") for problem in problems(**{name: value}))


def test_what_is_no_input() -> None:
    with pytest.raises(AnsibleFilterError, match="the input is not a list of mappings"):
        load_balancer_problems(["gw1"], VARIABLES, HOSTS, "lb1")
    with pytest.raises(AnsibleFilterError, match="variables: missing bind, port"):
        load_balancer_problems(GATEWAYS, {name: value for name, value in VARIABLES.items() if name not in ("bind", "port")}, HOSTS, "lb1")


def test_the_role_gives_all_that_it_needs_and_nothing_else() -> None:
    text = (ROLE / "tasks/preflight.yml").read_text()
    given_there = dict(re.findall(r"'(\w+)': load_balancer_(\w+)", text.partition("load_balancer_problems(")[2]))
    assert given_there == {name: name for name in VARIABLES}
