# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""Services whose private keys are in an HSM: what each is given, and what is wrong with its declaration. No PIN is read."""

from __future__ import annotations

import base64
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .config_words import has_control
from .der import SEQUENCE, UTF8_STRING, der_value
from .keys.generations import split_label
from .pkcs11_uri import pkcs11_uri

# The unit of each kind, where it has a usual one.
SERVICES = {"openssl": "", "nginx": "nginx", "haproxy": "", "sshd": "ssh", "openbao": "openbao", "vault": "vault"}
# Whose processes use the key, beside root's.
USERS = {"nginx": ["www-data"], "openbao": ["openbao"], "vault": ["vault"]}
# Kinds that have OpenSSL open the key, and those that have a seal.
BY_OPENSSL = ("openssl", "nginx")
# The variable from which a seal takes its PIN.
SEAL_PINS = {"openbao": "BAO_HSM_PIN", "vault": "VAULT_HSM_PIN"}
FOLDER = "/etc/keyfleet-consumers"
RUN = "/run/keyfleet-consumers"
UNITS = "/etc/systemd/system"
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,31}\Z")
_VISIBLE_STRING = 0x1A  # a tag of DER
_UNIT = re.compile(r"[A-Za-z0-9:_.@-]+\Z")
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*\Z")
_PATH = re.compile(r"/[A-Za-z0-9_./@:+,=-]+\Z")
_PATH_WANTED = "give an absolute path of letters, digits and _ . / @ : + , = -"
_ADDRESS = re.compile(r"[A-Za-z0-9_.-]+:[1-9][0-9]{0,4}\Z|\[[0-9a-fA-F:.]+\]:[1-9][0-9]{0,4}\Z")
_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*\Z")
# Seen with 2.6 of Debian 12 (haproxy -vv: -ENGINE), and with 3.0 of Debian 13 and pkcs11-provider 1.0 (free(): invalid pointer).
_NO_HAPROXY = (
    "kind: the distributions' HAProxy cannot open a key in an HSM: Debian 12 builds it without USE_ENGINE, and that of Debian 13 aborts "
    "when OpenSSL's provider opens the key: put nginx in front"
)
# Kinds into whose own configuration the role writes a part, which the host has once, and what to do in place of a second one.
_ALONE = {
    "nginx": "keep one, and give the others kind openssl and a part of yours with the variables that their workers need",
    "sshd": "keep one",
}
# Of a key: the one that its label names, or the one whose certificate is given.
GENERATIONS = ("named", "current")
# What belongs to this file: a PIN in a stanza would be in a file and in a diff.
_SEAL_OWN = ("lib", "token_label", "key_label", "pin")


@dataclass
class ConsumerPlan:
    """``consumers`` are what templates read, ``proofs`` the PINs to prove. ``problems`` are all that are wrong."""

    consumers: list[dict[str, Any]] = field(default_factory=list)
    # Each PIN is proven once, whoever uses it.
    proofs: list[dict[str, Any]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def consumer_plan(
    declared: Sequence[Mapping[str, Any]],
    hsms: Sequence[str],
    client_library: str,
    way: str,
    run: str,
    current: Mapping[str, Mapping[str, str]] | None = None,
) -> ConsumerPlan:
    """The plan for ``declared`` consumers.

    ``hsms`` are the names in client_hsms, ``client_library`` is p11-kit's, ``way`` is how OpenSSL opens keys here, ``engine`` or
    ``provider``, and ``run`` the folder of the connections' sockets. ``current`` are labels of the generations that keys follow, by the
    names of the consumer and the key, as far as they are known.
    """
    plan = ConsumerPlan()
    for position, one in enumerate(declared):
        name = str(one.get("name") or f"entry {position + 1}")
        problems = [*_problems(one, hsms)]
        plan.problems += [f"client_consumers: {name}: {problem}" for problem in problems]
        if not problems:
            plan.consumers.append(_consumer(one, client_library, way, run, (current or {}).get(name, {})))
    for what in ("name", "service"):
        counts = Counter(consumer[what] for consumer in plan.consumers)
        plan.problems += [
            f"client_consumers: {value}: {times} entries have this {what}: give each its own"
            for value, times in counts.items()
            if times > 1
        ]
    for kind, way_out in _ALONE.items():
        services = {consumer["service"]: consumer["name"] for consumer in plan.consumers if consumer["kind"] == kind}
        if len(services) > 1:
            plan.problems.append(
                f"client_consumers: {', '.join(services.values())}: {len(services)} services of kind {kind} would share one configuration: "
                f"{way_out}"
            )
    plan.proofs = _proofs(plan.consumers)
    return plan


def _proofs(consumers: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    found: dict[tuple[str, ...], dict[str, Any]] = {}
    for one in consumers:
        where = (one["library"], *map(str, sorted(one["environment"].items())), one["token"], one["pin_file"])
        proof = found.setdefault(
            where,
            {
                **{option: one[option] for option in ("library", "environment", "token", "pin_file")},
                "names": [],
                "alone": [],
                "labels": [],
                "follows": [],
            },
        )
        proof["names"].append(one["name"])
        proof["labels"] += [key["label"] for key in one["keys"] if not key["follows"]]
        proof["follows"] += [key["follows"] for key in one["keys"] if key["follows"]]
        if one["kind"] == "sshd":
            proof["alone"].append(one["name"])
    return list(found.values())


def _problems(one: Mapping[str, Any], hsms: Sequence[str]) -> Iterator[str]:
    kind = one.get("kind")
    if not _NAME.match(str(one.get("name") or "")):
        yield "invalid name: use at most 32 small letters, digits and -"
    if kind not in SERVICES:
        yield f"invalid kind {kind!r}: use one of {', '.join(SERVICES)}"
        return
    if kind == "haproxy":
        yield _NO_HAPROXY
        return
    yield from _place(one, hsms)
    for option, wanted in (("token", "the label of the token"), ("pin_file", "an absolute path on the target")):
        value = one.get(option)
        if not isinstance(value, str) or not value or has_control(value):
            yield f"{option}: is missing or not text: give {wanted}"
        elif option == "pin_file" and not _PATH.match(value):
            yield f"pin_file: invalid path {value!r}: {_PATH_WANTED}"
    service = one.get("service") or SERVICES[kind]
    if not _UNIT.match(str(service)):
        yield "service: is missing or not the name of a unit: name the systemd unit that uses the key, without .service"
    for option in ("users", "groups"):
        if not isinstance(one.get(option) or [], (list, tuple)) or any(
            not re.fullmatch(r"[a-z_][a-z0-9_-]*", str(name)) for name in one.get(option) or []
        ):
            yield f"{option}: give a list of names"
    yield from _checks(one)
    yield from _keys(one, kind)
    options = one.get("seal_options") or {}
    if options and (kind not in SEAL_PINS or not isinstance(options, Mapping)):
        yield "seal_options: give a mapping, and only for openbao and vault"
    elif taken := [name for name in options if name in _SEAL_OWN or not re.fullmatch(r"[a-z][a-z0-9_]*", str(name))]:
        yield f"seal_options: {', '.join(map(str, taken))}: cannot be given here"
    elif any(
        not isinstance(value, (str, int)) or re.search(r'["\\$%]', str(value)) or has_control(str(value)) for value in options.values()
    ):
        yield 'seal_options: a value is not text without " \\ $ and %'


def _place(one: Mapping[str, Any], hsms: Sequence[str]) -> Iterator[str]:
    """Where the token is: behind a gateway, or on this host."""
    hsm, library = one.get("hsm"), one.get("library")
    if bool(hsm) == bool(library):
        yield "give either hsm, the name of an entry of client_hsms, or library, for an HSM of this host"
    elif hsm and hsm not in hsms:
        yield f"hsm: {hsm!r} is not in client_hsms" + (f": it has {', '.join(hsms)}" if hsms else ", which is empty: declare it there")
    elif library and not _PATH.match(str(library)):
        yield f"library: invalid path {library!r}: {_PATH_WANTED}"
    elif library and str(library).endswith("/p11-kit-proxy.so") and one.get("kind") == "sshd":
        # ssh-add hands the PIN to each token that the library shows.
        yield (
            "library: p11-kit-proxy.so shows the tokens of all HSMs, and ssh-add would try the PIN on each of them: give hsm, or the HSM's "
            "own library"
        )
    environment = one.get("environment") or {}
    if not isinstance(environment, Mapping) or any(not _VARIABLE.match(str(name)) for name in environment):
        yield "environment: give a mapping, from names of variables in capitals to texts"
    elif any(re.search(r"""["'\\$%`]""", str(value)) or has_control(str(value)) for value in environment.values()):
        yield "environment: a value has a quote, a backslash, $, % or a control character in it: give one without"
    elif hsm and environment:
        yield "environment: is for library: leave it out"


def _checks(one: Mapping[str, Any]) -> Iterator[str]:
    if one.get("check") and (one.get("kind") not in BY_OPENSSL or not _ADDRESS.match(str(one["check"]))):
        yield "check: give an address and a port, such as 127.0.0.1:443, and only for openssl and nginx"
    if one.get("check_name") and not re.fullmatch(r"[A-Za-z0-9.-]+", str(one["check_name"])):
        yield f"check_name: invalid host name {one['check_name']!r}"
    if not re.fullmatch(r"[1-9][0-9]{0,3}", str(one.get("check_interval") or 5), re.ASCII):
        yield "check_interval: give 1 to 9999 seconds"


def _keys(one: Mapping[str, Any], kind: str) -> Iterator[str]:
    keys = one.get("keys")
    if not isinstance(keys, (list, tuple)) or not keys or not all(isinstance(key, Mapping) for key in keys):
        yield "keys: give a list with the label of each key"
        return
    if kind not in BY_OPENSSL and len(keys) != 1:
        yield f"keys: give one key: {kind} has no use for {len(keys)}"
    for key in keys:
        label = key.get("label")
        if not isinstance(label, str) or not label or has_control(label) or re.search(r'["\\$%]', label):
            yield 'keys: a label is missing, or is not text without " \\ $ and %: give the CKA_LABEL of the private key'
            continue
        if not _FILE.match(str(key.get("name") or "tls")):
            yield f"keys: {label}: invalid name: use letters, digits, _ and -"
        if kind == "nginx" and not key.get("certificate"):
            yield f"keys: {label}: certificate: is missing: give a PEM file on the controller, with the chain"
        if key.get("certificate") and kind not in BY_OPENSSL:
            yield f"keys: {label}: certificate: {kind} has no use for it: leave it out"
        yield from _generation(key, kind, label)
    names = Counter(str(key.get("name") or "tls") for key in keys)
    yield from (f"keys: {times} have the name {name}: give each its own" for name, times in names.items() if times > 1)


def _generation(key: Mapping[str, Any], kind: str, label: str) -> Iterator[str]:
    wanted = key.get("generation") or "named"
    if wanted not in GENERATIONS:
        yield f"keys: {label}: generation: invalid {wanted!r}: use {' or '.join(GENERATIONS)}. A label names a generation, as in web@2"
    elif wanted == "current" and kind not in BY_OPENSSL:
        yield f"keys: {label}: generation: current follows a certificate, and {kind} has none: give the label of one, as in web@2"
    elif wanted == "current" and not key.get("certificate"):
        yield f"keys: {label}: generation: current follows the certificate: give certificate, or the label of the generation, as in web@2"
    elif wanted == "current" and split_label(label)[1] is not None:
        yield f"keys: {label}: generation: current is any: give the label {split_label(label)[0]}"


def _consumer(one: Mapping[str, Any], client_library: str, way: str, run: str, current: Mapping[str, str]) -> dict[str, Any]:
    name, kind, hsm = one["name"], one["kind"], one.get("hsm") or ""
    library = client_library if hsm else one["library"]
    environment = (
        {"P11_KIT_SERVER_ADDRESS": f"unix:path={run}/{hsm}.sock"}
        if hsm
        else {key: str(value) for key, value in (one.get("environment") or {}).items()}
    )
    folder = f"{FOLDER}/{name}"
    service = one.get("service") or SERVICES[kind]
    agent = f"keyfleet-agent-{name}" if kind == "sshd" else ""
    keys = [_key(key, one["token"], folder, current) for key in one["keys"]]
    check = one.get("check") or ("127.0.0.1:443" if kind == "nginx" else "")
    return {
        "name": name,
        "kind": kind,
        "hsm": hsm,
        "library": library,
        "environment": environment,
        "token": one["token"],
        "pin_file": one["pin_file"],
        "pin_copy": f"{RUN}/{name}/pin",
        "folder": folder,
        "run": f"{RUN}/{name}",
        "service": service,
        # Restarted where the key is held by a process of ours, beside the service.
        "held_by": agent or service,
        "unit": f"{UNITS}/{agent}.service" if agent else f"{UNITS}/{service}.service.d/keyfleet-consumer.conf",
        "drop_in": f"{UNITS}/{service}.service.d/keyfleet-consumer.conf",
        "socket": f"/run/{agent}/agent.sock" if agent else "",
        "seal_pin": SEAL_PINS.get(kind, ""),
        "users": list(one.get("users") or USERS.get(kind, [])),
        "groups": list(one.get("groups") or (["keyfleet-client"] if hsm else [])),
        "way": way if kind in BY_OPENSSL else "",
        "watched": kind == "sshd" or bool(check),
        "check": check,
        "check_name": one.get("check_name") or "",
        "check_interval": int(one.get("check_interval") or 5),
        "keep_host_keys": one.get("keep_host_keys") is not False,
        "seal_options": {key: str(value) for key, value in sorted((one.get("seal_options") or {}).items())},
        "keys": keys,
        "keys_line": " ".join(f"{key['name']}={key['uri']}" for key in keys),
    }


def _key(key: Mapping[str, Any], token: str, folder: str, current: Mapping[str, str]) -> dict[str, Any]:
    name = key.get("name") or "tls"
    follows = key["label"] if key.get("generation") == "current" else ""
    label = current.get(name, key["label"]) if follows else key["label"]
    uri = pkcs11_uri(token=token, label=label, kind="private")
    return {
        "name": name,
        "label": label,
        # The key whose current generation this is.
        "follows": follows,
        "certificate": key.get("certificate") or "",
        "uri": uri,
        "pem": uri_pem(uri),
        "certificate_file": f"{folder}/{name}.pem",
        "key_file": f"{folder}/{name}.pem.key",
    }


def uri_pem(uri: str) -> str:
    """A PEM file that stands for the key at ``uri``: OpenSSL's provider for PKCS#11 reads it wherever a program reads a key.

    A sequence of two strings, what the file is and the URI, as the provider's own tool uri2pem.py writes it.
    """
    der = der_value(SEQUENCE, der_value(_VISIBLE_STRING, b"PKCS#11 Provider URI v1.0") + der_value(UTF8_STRING, uri.encode()))
    text = base64.b64encode(der).decode()
    lines = [text[at : at + 64] for at in range(0, len(text), 64)]
    return "\n".join(["-----BEGIN PKCS#11 PROVIDER URI-----", *lines, "-----END PKCS#11 PROVIDER URI-----", ""])
