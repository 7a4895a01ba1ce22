# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""The configuration of the Eviden KMS server as rules: what it must not hold, what addresses it gives."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..addresses import renumberings
from ..errors import Refused
from ..tokens.identity import TokenIdentity
from ..tokens.instance_spec import InstanceSpec
from ..tokens.secret import Secret
from ..toml_values import plain
from ..uids import prefixes

INSTANCES = "hsm_instances"
FLAT = ("hsm_model", "hsm_admin", "hsm_slot", "hsm_password")
FLAT_PREFIX = "hsm"
NO_LOGIN = "<NO_LOGIN>"
REFERENCE = "secret://"
_DEFAULT_USER = "admin"
_MAX_SLOT = 2**63 - 1  # a TOML integer has a sign


@dataclass(frozen=True)
class Declared:
    """An instance as it is declared. ``where`` names its place in error texts."""

    where: str
    spec: InstanceSpec


@dataclass(frozen=True)
class Served(Declared):
    """An instance as the server will have it. ``seen`` are its tokens as they were found, None for one that is not there yet, in check
    mode only.

    ``library`` is the file itself, by which libraries are compared; ``named`` is its path as declared, which outlives an upgrade.
    """

    library: str
    named: str
    seen: tuple[TokenIdentity | None, ...] = ()
    passwords: tuple[str, ...] = field(default=(), repr=False)  # revealed PINs

    @property
    def slots(self) -> tuple[int | None, ...]:
        return tuple(None if token is None else token.slot for token in self.seen)


def pin_problem(pin: Secret) -> str | None:
    """Why the server would not log in with just this PIN, or None."""
    text = pin.reveal()
    if text == NO_LOGIN:
        return f"the PIN is {NO_LOGIN}, and the server would not log in: give another PIN, or login: false"
    if text.startswith(REFERENCE):
        return f"the PIN begins with {REFERENCE}, and the server would look for it elsewhere: give another PIN"
    problems = plain(text, "the PIN")[1]
    return problems[0] if problems else None


def library_problems(instances: Sequence[Served]) -> list[str]:
    """The server is one process: one library for a model, one environment for all. Slots are not looked at."""
    problems: list[str] = []
    for index, instance in enumerate(instances):
        for earlier in instances[:index]:
            if earlier.spec.model == instance.spec.model and earlier.library != instance.library:
                problems.append(
                    f"{instance.where}.library: is {instance.library}, and {earlier.where} has "
                    f"{earlier.library}: the server has one "
                    f"library for all instances of model {instance.spec.model}. Give both the same, or declare "
                    "one as model other"
                )
                break
        for earlier in instances[:index]:
            if fault := _environment_problem(instance, earlier) or _arguments_problem(instance, earlier):
                problems.append(fault)
                break
    return problems


def _environment_problem(instance: Served, earlier: Served) -> str | None:
    mine, theirs = instance.spec.environment, earlier.spec.environment
    shared = mine.keys() | theirs.keys() if instance.library == earlier.library else mine.keys() & theirs.keys()
    for variable in sorted(shared):
        if mine.get(variable) != theirs.get(variable):
            return (
                f"{instance.where}.environment: {variable} is {_quoted(mine.get(variable))}, and in "
                f"{earlier.where} it is "
                f"{_quoted(theirs.get(variable))}: the server is one process with one environment. Give both "
                "the same, or serve them "
                "by two servers"
            )
    return None


def _arguments_problem(instance: Served, earlier: Served) -> str | None:
    for name in ("init_args", "os_locking"):
        if instance.library == earlier.library and getattr(instance.spec, name) != getattr(earlier.spec, name):
            return (
                f"{instance.where}.{name}: differs from that of {earlier.where}, and the server initialises {instance.library} once. Give "
                "both the same, or serve them by two servers"
            )
    return None


def _quoted(value: str | None) -> str:
    return "not set" if value is None else f"'{value}'"


def slot_problems(instances: Sequence[Served]) -> list[str]:
    """Slots that two entries would share; the server lets the last one win."""
    problems: list[str] = []
    seen: dict[tuple[str, int], str] = {}
    for instance in instances:
        for token, slot in zip(instance.spec.tokens, instance.slots, strict=True):
            place = f"{instance.where}.{token.where}"
            if slot is None:
                continue
            if slot > _MAX_SLOT:
                problems.append(f"{place}: its slot {slot} is larger than the server's file can say (63 bits)")
            first = seen.setdefault((instance.library, slot), place)
            if first != place:
                problems.append(f"{place}: is in slot {slot}, which {first} names already: name each slot once")
    return problems


def only_user(settings: Mapping[str, Any]) -> str | None:
    """The one name that everybody has on the server; None where an authentication gives each their own. An API token gives none."""
    names = (("idp_auth", "jwt_auth_provider"), ("tls", "clients_ca_cert_file"), ("auth_verifier", "auth_verifier_url"))
    named = any(settings.get(table, {}).get(name) for table, name in names)
    if named and settings.get("force_default_username") is not True:
        return None
    return str(settings.get("default_username", _DEFAULT_USER))


def admin_warnings(instances: Sequence[Served], settings: Mapping[str, Any]) -> list[str]:
    """What a person should know about who may administer the keys."""
    warnings = []
    everybody = only_user(settings)
    for instance in instances:
        if not instance.spec.admins:
            warnings.append(f"{instance.where}.admins: is empty, so nobody may administer its keys on the server.")
        elif "*" in instance.spec.admins:
            warnings.append(f"{instance.where}.admins: holds '*', so everyone may administer its keys.")
        elif everybody is not None and everybody not in instance.spec.admins:
            warnings.append(
                f"{instance.where}.admins: nobody can be {' or '.join(instance.spec.admins)}, so nobody may use its keys: by these "
                f"settings the server takes everybody for '{everybody}'. Set default_username, or an authentication that gives names."
            )
    return warnings


def document(settings: Mapping[str, Any], instances: Sequence[Served]) -> dict[str, Any]:
    """The whole file as plain values. A slot that is not known yet stands in it as words, which never reach a file."""
    result = dict(settings)
    if instances:
        result[INSTANCES] = [
            {
                "hsm_model": instance.spec.model,
                "hsm_admin": list(instance.spec.admins),
                "hsm_slot": [
                    f"(the slot of the new token, {token.selector})" if slot is None else slot
                    for token, slot in zip(instance.spec.tokens, instance.slots, strict=True)
                ],
                "hsm_password": list(instance.passwords),
            }
            for instance in instances
        ]
    return result


def prefix_by_name(instances: Sequence[Served]) -> dict[str, str | None]:
    found = prefixes((instance.spec.model, bool(instance.spec.tokens)) for instance in instances)
    return {instance.spec.name: prefix for instance, prefix in zip(instances, found, strict=True)}


def registry_moves(registered: Mapping[str, str | None], declared: Mapping[str, str | None]) -> list[str]:
    """One line for each prefix of the registry that the file would give to another instance."""
    moves = renumberings(dict(registered), dict(declared))
    owners = {prefix: name for name, prefix in declared.items() if prefix is not None}
    for name, prefix in registered.items():
        new = owners.get(prefix) if prefix is not None and name not in declared else None
        if new is not None and new not in registered:
            moves.append(f"{prefix} would move from instance '{name}', which is registered and not declared, to instance '{new}'")
    return moves


def slot_prefixes(found: Mapping[str, Any], path: str) -> list[tuple[str, int, str]]:
    """``(model, slot, prefix)`` of each slot that the file ``found`` serves, flat keys included.

    Raises :class:`Refused` where it cannot be told: what cannot be read must not be replaced as if it said nothing.
    """
    entries = found.get(INSTANCES, [])
    if not isinstance(entries, list):
        raise _unclear(path, f"{INSTANCES} is no array of tables")
    parsed = [_entry(entry, f"{INSTANCES}[{index}]", path) for index, entry in enumerate(entries)]
    addresses = prefixes((model, bool(slots)) for model, slots in parsed)
    result = [
        (model, slot, prefix) for (model, slots), prefix in zip(parsed, addresses, strict=True) if prefix is not None for slot in slots
    ]
    # Flat keys without a model end the server's start: nothing was ever served by them.
    model, slots = _entry({"hsm_model": "", "hsm_slot": [], **found}, "the flat part", path)
    return result + [(model, slot, FLAT_PREFIX) for slot in slots if model]


def given_passwords(found: Mapping[str, Any], path: str) -> dict[tuple[str, int], tuple[str, str]]:
    """``(prefix, password)`` of each ``(model, slot)`` that the file ``found`` serves, as the server pairs them: a slot without a
    password drops out, and of one that is named twice the last stays. Raises :class:`Refused` where it cannot be told."""
    addresses = {(model, slot): prefix for model, slot, prefix in slot_prefixes(found, path)}
    given: dict[tuple[str, int], tuple[str, str]] = {}
    for entry in [*found.get(INSTANCES, []), found]:
        model, pins = str(entry.get("hsm_model")).lower(), entry.get("hsm_password", [])
        if not isinstance(pins, list) or any(not isinstance(pin, str) for pin in pins):
            raise _unclear(path, "hsm_password is no list of texts")
        for slot, pin in zip(entry.get("hsm_slot", []), pins, strict=False):
            if (model, slot) in addresses:
                given[model, slot] = (addresses[model, slot], pin)
    return given


def _entry(entry: Any, place: str, path: str) -> tuple[str, list[int]]:
    if not isinstance(entry, Mapping):
        raise _unclear(path, f"{place} is no table")
    model, slots = entry.get("hsm_model"), entry.get("hsm_slot", [])
    if not isinstance(model, str):
        raise _unclear(path, f"{place}.hsm_model is no text")
    if not isinstance(slots, list) or any(isinstance(slot, bool) or not isinstance(slot, int) for slot in slots):
        raise _unclear(path, f"{place}.hsm_slot is no list of slot numbers")
    return model.lower(), slots


def _unclear(path: str, fault: str) -> Refused:
    return Refused(
        f"config_path: refused, {path} is there and {fault}, so it cannot be told which UIDs it serves. Mend the file, or move it away.",
        code="config_invalid",
    )


def slot_moves(before: Iterable[tuple[str, int, str]], after: Mapping[tuple[str, int], str]) -> list[str]:
    """One line for each change of a prefix that a served slot would see. A slot that is no longer served is no move."""
    moved: dict[tuple[str, str, str], list[int]] = {}
    for model, slot, old in before:
        new = after.get((model, slot))
        if new is not None and new != old:
            moved.setdefault((model, old, new), []).append(slot)
    return [
        f"{'slot' if len(slots) == 1 else 'slots'} {', '.join(map(str, slots))} of model {model} would move from {old} to {new}"
        for (model, old, new), slots in moved.items()
    ]


def served_slots(instances: Sequence[Served]) -> dict[tuple[str, int], str]:
    """The prefix of each slot that the new file serves."""
    addresses = prefix_by_name(instances)
    return {
        (instance.spec.model, slot): addresses[instance.spec.name] or ""
        for instance in instances
        for slot in instance.slots
        if slot is not None
    }
