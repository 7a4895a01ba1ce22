# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""What the open gateway offers: which instances, on which ports, to whom, and how many clients at once. No PIN is read."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from .config_words import config_word, has_control
from .tokens.instance_names import name_problem
from .tokens.vendors import default_libraries

HEALTH_PORTS = (4440, 4441)
# HAProxy's timers end at 2**31 milliseconds, and a queue whose timeout is 0 would have that of connecting.
LONGEST = 24 * 86400
# RFC 7512, section 2.3: what a path attribute may hold as it is.
_URI_SAFE = ":[]@!$'()*+,=&"
_FINGERPRINT = re.compile(r"sha256:([0-9a-fA-F]{64})\Z")
_DNS_NAME = re.compile(r"[A-Za-z0-9._-]+\Z")
# A client of SoftHSM2 at a time, since its login rewrites the token in place under the eyes of the others.
_ONE_CLIENT = 1


@dataclass
class FrontPlan:
    """``instances`` are what templates read. ``problems`` are all that are wrong, in the names of the role's variables."""

    instances: list[dict[str, Any]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def front_plan(declared: Sequence[Mapping[str, Any]], variables: Mapping[str, Any], architecture: str) -> FrontPlan:
    """The plan for ``declared`` instances. ``variables`` are the role's by their names without ``gateway_``."""
    plan = FrontPlan()
    named = {str(one.get("name", "")): one for one in declared}
    wanted = str(variables["instance"] or "")
    if not declared:
        plan.problems.append("hsm_instances: is empty. Declare the HSM that the gateway is for.")
    elif wanted and wanted not in named:
        plan.problems.append(f"gateway_instance: '{wanted}' is not in hsm_instances. It has {', '.join(sorted(named))}.")
    served = {name: one for name, one in named.items() if wanted in ("", name)}
    ports = _ports(list(served), named, variables, plan.problems)
    for name, one in served.items():
        problems = [*_unserved(name, one)]
        plan.problems += problems
        if not problems and name in ports:
            plan.instances.append(_instance(name, one, ports[name], architecture, plan.problems))
    plan.problems += _clients(variables)
    return plan


def _ports(served: Sequence[str], named: Mapping[str, Any], variables: Mapping[str, Any], problems: list[str]) -> dict[str, int]:
    """The port of each instance: gateway_listen_port for the first, gateway_ports for the others."""
    given = variables["ports"]
    if not isinstance(given, Mapping):
        problems.append("gateway_ports: give a mapping, from names of instances to ports.")
        return {}
    problems += [f"gateway_ports: '{name}' is not in hsm_instances. Take it out." for name in given if str(name) not in named]
    found: dict[str, int] = {}
    taken: dict[int, str] = {}
    for index, name in enumerate(served):
        value = given.get(name, variables["listen_port"] if index == 0 else None)
        variable = f"gateway_ports: {name}" if name in given else "gateway_listen_port"
        port = int(value) if re.fullmatch(r"[1-9][0-9]{0,4}", str(value), re.ASCII) else 0
        if value is None:
            problems.append(
                f"gateway_ports: '{name}' has no port. Each instance has a port of its own: give it one here, or name with "
                "gateway_instance the only one that the gateway is for."
            )
        elif not 0 < port < 65536 or port in HEALTH_PORTS:
            problems.append(f"{variable}: {value} cannot be used. Give 1 to 65535, and neither 4440 nor 4441, the health ports.")
        elif port in taken:
            problems.append(f"{variable}: {port} is the port of '{taken[port]}'. Give each instance its own.")
        else:
            taken[port] = name
            found[name] = port
    return found


def _unserved(name: str, one: Mapping[str, Any]) -> Iterator[str]:
    """Why an instance cannot be offered."""
    if problem := name_problem(name):
        yield f"hsm_instances: {problem}."
    if one.get("init_args"):
        yield f"hsm_instances: '{name}' has init_args, which p11-kit cannot hand to a library. Offer another with gateway_instance."
    tokens = one.get("tokens") or []
    if not tokens:
        yield f"hsm_instances: '{name}' has no tokens. Declare which of its tokens clients may see."
    for token in tokens:
        if not isinstance(token, Mapping) or not (token.get("label") or token.get("serial")):
            yield (
                f"hsm_instances: '{name}' has a token that is chosen by its slot, and p11-kit offers tokens by label or serial number. "
                "Choose it by one of these."
            )


def is_softhsm(one: Mapping[str, Any]) -> bool:
    """Whether the instance is a SoftHSM2, by model or by library."""
    return str(one.get("model", "")).lower() == "softhsm2" or str(one.get("library") or "").endswith("libsofthsm2.so")


def _instance(name: str, one: Mapping[str, Any], port: int, architecture: str, problems: list[str]) -> dict[str, Any]:
    library, environment = one.get("library"), one.get("environment") or {}
    libraries = [str(library)] if library else list(default_libraries(str(one.get("model", "")), architecture))
    if not libraries:
        problems.append(f"hsm_instances: no library is known for the model of '{name}'. Give the path of the vendor's as its library.")
    if library and (not str(library).startswith("/") or has_control(str(library))):
        problems.append(f"hsm_instances: the library of '{name}' is not an absolute path.")
    sessions = _number(one, "max_sessions", _ONE_CLIENT if is_softhsm(one) else 1024, 1, name, problems)
    if is_softhsm(one) and sessions != _ONE_CLIENT:
        problems.append(
            f"hsm_instances: '{name}' is a SoftHSM2 with max_sessions: {sessions}. A login to SoftHSM2 rewrites the token in place, and "
            "others who look at it then get CKR_GENERAL_ERROR or no token. Set max_sessions: 1, and clients take turns; connection_timeout "
            "says how long one waits."
        )
    return {
        "name": name,
        "port": port,
        "libraries": libraries,
        "environment": {str(key): value for key, value in environment.items()},
        "tokens": [_uri(token) for token in one["tokens"]],
        "softhsm": is_softhsm(one),
        "max_sessions": sessions,
        "queue_seconds": min(_number(one, "connection_timeout", 0, 0, name, problems) or LONGEST, LONGEST),
    }


def _number(one: Mapping[str, Any], option: str, default: int, least: int, name: str, problems: list[str]) -> int:
    value = one.get(option)
    if value is None:
        return default
    if isinstance(value, bool) or not re.fullmatch(r"[0-9]{1,9}", str(value), re.ASCII) or int(value) < least:
        problems.append(f"hsm_instances: '{name}' has an invalid {option}: give a whole number of at least {least}.")
        return default
    return int(value)


def _uri(token: Mapping[str, Any]) -> str:
    """RFC 7512: the token alone, and no PIN."""
    kind, value = ("token", token["label"]) if token.get("label") else ("serial", token["serial"])
    return f"pkcs11:{kind}={quote(str(value), safe=_URI_SAFE)}"


def fingerprints(clients: Sequence[Any]) -> list[str]:
    """Of the certificates that are allowed as they are, in capitals, as HAProxy writes them."""
    return [found[1].upper() for one in clients if (found := _FINGERPRINT.match(str(one)))]


def common_names(clients: Sequence[Any]) -> list[str]:
    return [str(one) for one in clients if not _FINGERPRINT.match(str(one))]


def dns_names(clients: Sequence[Any]) -> list[str]:
    """Those of the names that an alternative name can be, in small letters, as the role's dns_names.lua gives them."""
    return [name.lower() for name in common_names(clients) if _DNS_NAME.match(name)]


def _clients(variables: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with who may connect."""
    clients, ca = variables["clients"], variables["client_ca_source"]
    if not isinstance(clients, (list, tuple)):
        yield "gateway_clients: give a list of names and fingerprints."
        clients = []
    for one in clients:
        try:
            config_word(one if isinstance(one, str) else "", "haproxy")
        except ValueError as error:
            yield f"gateway_clients: an entry {error}. Give names, or fingerprints as sha256:<64 digits>."
        if str(one).lower().startswith("sha256:") and not _FINGERPRINT.match(str(one)):
            yield f"gateway_clients: {one!r} is not a fingerprint. Give sha256: and 64 hexadecimal digits."
    if not ca:
        yield (
            "gateway_client_ca_source: is missing. Clients show a certificate: give the file of the CA that issues theirs, on the "
            "controller, or system for the CAs that this host trusts."
        )
    elif ca == "system" and not clients:
        yield "gateway_clients: is empty, and the CAs of the system issue certificates to anybody. List the clients that may connect."
    elif ca != "system" and not str(ca).startswith("/"):
        yield f"gateway_client_ca_source: {ca} is not an absolute path. Begin it with a /, for example with playbook_dir."
