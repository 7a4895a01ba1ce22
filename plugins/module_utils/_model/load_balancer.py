# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""What is wrong with the gateways of a load balancer, and with the variables of its role: each as one text."""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .config_words import has_control

# What HAProxy's configuration takes as one word.
_NAME = re.compile(r"[A-Za-z0-9_.:-]+")
_ADDRESS = re.compile(r"[A-Za-z0-9_.:%-]+")
_COUNTS = (
    *("health_interval", "health_timeout", "health_fall", "health_rise"),
    *("timeout_connect", "timeout_session", "timeout_close", "keepalive"),
)
NEEDED = {
    *_COUNTS,
    *("group", "check_tokens", "bind", "port", "health", "health_ca_file", "health_insecure"),
    *("ports", "share"),
    *("stats", "stats_bind", "stats_port", "stats_user", "stats_password"),
    *("packages", "manage_package", "config_path", "foreign", "replace_config"),
}


def _number(value: Any) -> int | None:
    """A whole number of at least 1, also as text, as ``-e`` gives it. None for anything else."""
    text = str(value)
    return int(text) if not isinstance(value, bool) and re.fullmatch(r"[1-9][0-9]{0,8}", text, re.ASCII) else None


def _port(value: Any) -> int | None:
    number = _number(value)
    return number if number is not None and number < 65536 else None


def _same_port(one: Any, other: Any) -> bool:
    return _port(one) is not None and _port(one) == _port(other)


def _loopback(address: str) -> bool:
    """Whether only this host can connect to it."""
    try:
        return address == "localhost" or ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def _everywhere(address: str) -> bool:
    """Whether it stands for all addresses of the host."""
    try:
        return address == "*" or ipaddress.ip_address(address).is_unspecified
    except ValueError:
        return False


def _gateway(gateway: Mapping[str, Any]) -> Iterator[str]:
    """The problems of one gateway by itself."""
    if not _NAME.fullmatch(str(gateway["name"])):
        yield "invalid name: use letters, digits, points, colons, _ and -"
    for field in ("address", "certificate_name"):
        if not _ADDRESS.fullmatch(str(gateway[field])):
            yield f"invalid {field} {gateway[field]!r}: give the name of a host or an IP address"
    for field in ("port", "health_port"):
        if _port(gateway[field]) is None:
            yield f"invalid {field} {gateway[field]}: give a number from 1 to 65535"
    ports = gateway["ports"]
    if not isinstance(ports, Mapping) or any(_port(port) is None for port in ports.values()):
        yield "invalid ports: give a mapping, from names to numbers from 1 to 65535"
    if _number(gateway["priority"]) is None:
        yield f"invalid priority {gateway['priority']}: give a whole number of at least 1"
    if not isinstance(gateway["token_serial"], str):
        yield "token_serial is a number, and YAML drops zeros in front of one: put it in quotes, as the token has it"


def _gateways(gateways: Sequence[Mapping[str, Any]], given: Mapping[str, Any], hosts: Sequence[str], host: str) -> Iterator[str]:
    if not gateways:
        yield (
            f"load_balancer_gateways: there are none, and the inventory has no hosts in the group {given['group']}: list the gateways, or "
            "name their group with load_balancer_group"
        )
    for gateway in gateways:
        yield from (f"load_balancer_gateways: {gateway['name']}: {problem}" for problem in _gateway(gateway))
        foreign = given["check_tokens"] and len(gateways) > 1 and gateway["name"] not in hosts
        if foreign and given["share"] == "keys":
            yield (
                f"load_balancer_gateways: {gateway['name']}: not a host of the inventory, so its keys cannot be compared: set "
                "load_balancer_check_tokens to false, or leave it out"
            )
        elif foreign and gateway["token_serial"] == "":
            yield (
                f"load_balancer_gateways: {gateway['name']}: not a host of the inventory, so its token cannot be looked at: give its "
                "token_serial, or set load_balancer_check_tokens to false"
            )
        here = _everywhere(str(given["bind"])) or given["bind"] == gateway["address"]
        if gateway["name"] == host and here:
            yield from _taken(gateway, given)
    for name, times in Counter(str(gateway["name"]) for gateway in gateways).items():
        if times > 1:
            yield f"load_balancer_gateways: {name}: {times} gateways have this name: give each its own"


def _taken(gateway: Mapping[str, Any], given: Mapping[str, Any]) -> Iterator[str]:
    """Ports of the load balancer that the gateway on its host has."""
    own = [gateway["port"], *(gateway["ports"].values() if isinstance(gateway["ports"], Mapping) else ())]
    more = given["ports"] if isinstance(given["ports"], Mapping) else {}
    for name, port in [("load_balancer_port", given["port"]), *((f"load_balancer_ports: {name}", port) for name, port in more.items())]:
        if any(_same_port(port, one) for one in own):
            yield f"{name}: {port} is the port of the gateway on this host: give another one, or another address with load_balancer_bind"


def _ports(given: Mapping[str, Any]) -> Iterator[str]:
    """The problems of ``load_balancer_ports``."""
    if not isinstance(given["ports"], Mapping):
        yield "load_balancer_ports: give a mapping, from names to ports"
        return
    taken = [("load_balancer_port", given["port"])]
    if given["stats"]:
        taken.append(("load_balancer_stats_port", given["stats_port"]))
    for name, port in given["ports"].items():
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", str(name)):
            yield f"load_balancer_ports: invalid name {name!r}: use letters, digits, _ and -"
        if _port(port) is None:
            yield f"load_balancer_ports: {name}: invalid port {port}: give a number from 1 to 65535"
        for other, number in taken:
            if _same_port(port, number):
                yield f"load_balancer_ports: {name}: {port} is the port of {other}, too: give each its own"
        taken.append((f"load_balancer_ports: {name}", port))


def _is_path(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"/\S+", value) is not None and not has_control(value)


def _variables(given: Mapping[str, Any]) -> Iterator[str]:
    for name in _COUNTS:
        if _number(given[name]) is None:
            yield f"load_balancer_{name}: invalid value {given[name]}: give a whole number of at least 1"
    for name in ("port", "stats_port"):
        if _port(given[name]) is None:
            yield f"load_balancer_{name}: invalid port {given[name]}: give a number from 1 to 65535"
    if _same_port(given["port"], given["stats_port"]):
        yield f"load_balancer_port, load_balancer_stats_port: both are {given['port']}: give two different ports"
    for name in ("bind", "stats_bind"):
        if given[name] != "*" and not _ADDRESS.fullmatch(str(given[name])):
            yield f"load_balancer_{name}: invalid address {given[name]!r}: give one address of this host, 0.0.0.0 or ::"
    if given["health"] == "https" and bool(given["health_ca_file"]) == bool(given["health_insecure"]):
        yield (
            "load_balancer_health: https needs either load_balancer_health_ca_file, to check the certificates, or "
            "load_balancer_health_insecure: true, not to check them"
        )
    if given["health_ca_file"] and not _is_path(given["health_ca_file"]):
        yield f"load_balancer_health_ca_file: invalid path {given['health_ca_file']!r}: give an absolute path without blanks"
    if given["stats"] and not given["stats_password"] and not _loopback(str(given["stats_bind"])):
        yield (
            f"load_balancer_stats_bind: others can reach {given['stats_bind']}, so the page needs load_balancer_stats_password: give one, "
            "or bind it to 127.0.0.1"
        )
    if not re.fullmatch(r"[^:\s]+", str(given["stats_user"])) or has_control(str(given["stats_user"])):
        yield f"load_balancer_stats_user: invalid name {given['stats_user']!r}: give one without colons and blanks"
    if not _is_path(given["config_path"]) or given["config_path"].endswith("/"):
        yield f"load_balancer_config_path: invalid path {given['config_path']!r}: give an absolute path without blanks"
    if given["manage_package"] and not given["packages"]:
        yield "load_balancer_packages: is empty: name the packages, or set load_balancer_manage_package to false"
    if given["foreign"] and not given["replace_config"]:
        yield (
            f"load_balancer_config_path: {given['config_path']} is neither from this role nor as the package brought it, and would be "
            "lost: set load_balancer_replace_config to true if that is meant; a copy then stays beside it"
        )


def problems(gateways: Sequence[Mapping[str, Any]], variables: Mapping[str, Any], hosts: Sequence[str], host: str) -> list[str]:
    """All of them. ``variables`` has what ``NEEDED`` names."""
    return [*_gateways(gateways, variables, hosts, host), *_variables(variables), *_ports(variables)]
