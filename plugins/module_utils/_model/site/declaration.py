# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""The declaration of a host as a whole: instances, groups and keys that name each other. What is in one entry is its module's to judge.

Values are not shown: one in a wrong place may be a PIN.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from ..declared import is_absent
from ..durations import parse_duration
from ..groups.spec import group_name_problem
from ..quoting import listed
from ..tokens.instance_names import name_problem
from ..tokens.instance_spec import read_login
from ..tokens.secret import PINPAD

Entry = Mapping[str, Any]
# Fields of the entries, by the place where they stand: hsm_instances, hsm_instances.tokens and so on.
Fields = Mapping[str, Collection[str]]
CHOICES = {
    "hsm_group_require": ("covered", "reported"),
    "hsm_sync_repair": ("wrap", "layout"),
    "site_undeclared": ("report", "refuse", "remove"),
}
_LISTS = ("hsm_sync_refresh", "site_own_variables")
_SELECTORS = ("label", "serial", "slot")


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))


def _entries(value: Any) -> list[tuple[int, Entry]]:
    """The mappings of a list, with their numbers. What is no list has none."""
    return [(number, entry) for number, entry in enumerate(value) if isinstance(entry, Mapping)] if _is_list(value) else []


@dataclass(frozen=True)
class Declaration:
    """The variables of a host as they were given. ``fields`` are those that site hands over."""

    variables: Mapping[str, Any]
    fields: Fields

    def problems(self) -> Iterator[str]:
        yield from self._options()
        if not _is_list(self.variables["hsm_instances"]) or not self.variables["hsm_instances"]:
            yield "hsm_instances: missing, empty or not a list. Declare the HSMs of this host, for example in group_vars/kms.yml."
        for name in ("hsm_groups", "hsm_keys", "hsm_certificates"):
            if not _is_list(self.variables[name]):
                yield f"{name}: not a list."
        for name in ("hsm_instances", "hsm_groups", "hsm_keys", "hsm_certificates"):
            yield from self._shape(name, self.variables[name])
        yield from self._names("hsm_instances", name_problem)
        yield from self._names("hsm_groups", group_name_problem)
        for number, entry in self.of("hsm_instances"):
            yield from self._instance(f"hsm_instances[{number}]", entry)
        for number, entry in self.of("hsm_groups"):
            yield from self._group(f"hsm_groups[{number}]", entry)
        for number, entry in self.of("hsm_keys"):
            yield from self._keys(f"hsm_keys[{number}]", entry)

    def of(self, name: str) -> list[tuple[int, Entry]]:
        return _entries(self.variables[name])

    def named(self, name: str) -> dict[str, Entry]:
        return {str(entry.get("name")): entry for _number, entry in self.of(name)}

    def _options(self) -> Iterator[str]:
        for name, choices in CHOICES.items():
            value = self.variables[name]
            several = name == "hsm_sync_repair" and _is_list(value)
            if any(one not in (*choices, None, "") for one in (value if several else [value])):
                yield f"{name}: unknown value, use {' or '.join(choices)}."
        for name in _LISTS:
            if not _is_list(self.variables[name]):
                yield f"{name}: not a list."
        if folder := self.variables["hsm_sync_export"]:
            if not isinstance(folder, str) or not folder.startswith("/"):
                yield "hsm_sync_export: not an absolute path. Give a folder on the hosts."
            for number, entry in self.of("hsm_instances"):
                if not is_absent(entry) and len(_entries(entry.get("tokens"))) > 1:
                    yield (
                        f"hsm_sync_export: hsm_instances[{number}] has several tokens, and each needs a file of its own. Declare each "
                        "token as an instance, or export them with hsm_sync and token_label."
                    )

    def _shape(self, place: str, value: Any, kind: str | None = None) -> Iterator[str]:
        """What is not a mapping, and fields that nothing would read, also in lists of mappings below."""
        kind = kind or place
        for number, entry in enumerate(value) if _is_list(value) else ():
            where = f"{place}[{number}]"
            if not isinstance(entry, Mapping):
                yield f"{where}: not a mapping."
                continue
            for field in entry:
                below = f"{kind}.{field}"
                if field not in self.fields[kind]:
                    yield f"{where}: unknown field {_shown(field, self.fields[kind])}"
                elif below in self.fields:
                    yield from self._shape(f"{where}.{field}", entry[field], below)

    def _names(self, variable: str, problem_of: Any) -> Iterator[str]:
        seen: set[Any] = set()
        for number, entry in self.of(variable):
            name = entry.get("name")
            where = f"{variable}[{number}].name"
            if not isinstance(name, str) or problem_of(name):
                yield f"{where}: missing or not a name. Use letters, digits, '.', '_' and '-'."
            elif name in seen:
                yield f"{where}: '{name}' is declared already. Give each its own name."
            else:
                seen.add(name)

    def _instance(self, where: str, entry: Entry) -> Iterator[str]:
        if is_absent(entry):
            return
        if not isinstance(entry.get("model"), str):
            yield f"{where}.model: missing or not a text. Give the model, for example softhsm2."
        if not _is_list(entry.get("tokens")):
            yield f"{where}.tokens: missing or not a list. Give the tokens, each with a label or a serial."
        for number, token in _entries(entry.get("tokens")):
            if read_login(token.get("login")) not in (False, PINPAD) and not token.get("pin_file"):
                place = f"{where}.tokens[{number}].pin_file"
                yield f"{place}: missing. Later tasks and services read the PIN from there. Give it, or login: false."

    def _group(self, where: str, entry: Entry) -> Iterator[str]:
        """A connection is to an HSM that is declared. One that is only registered would be forgotten by whoever reads the inventory."""
        if is_absent(entry):
            return
        if not _is_list(entry.get("connections")) or not entry["connections"]:
            yield f"{where}.connections: missing or not a list. Give at least one, or state: absent."
        for number, connection in _entries(entry.get("connections")):
            place = f"{where}.connections[{number}]"
            yield from self._declared(f"{place}.instance", connection.get("instance"), "hsm_instances")
            instance = self.named("hsm_instances").get(str(connection.get("instance")), {})
            labels = [token.get("label") for _number, token in _entries(instance.get("tokens"))]
            label = connection.get("token_label")
            if label is not None and labels and None not in labels and label not in labels:
                yield f"{place}.token_label: not one of the declared tokens of that instance."

    def scope(self, where: str, entry: Entry) -> Iterator[str]:
        """What is wrong with the instance or the group of an entry."""
        if ("instance" in entry) == ("group" in entry):
            yield f"{where}: needs instance or group, and not both."
        elif "instance" in entry:
            yield from self._declared(f"{where}.instance", entry["instance"], "hsm_instances")
        else:
            yield from self._declared(f"{where}.group", entry["group"], "hsm_groups")

    def members(self, group: Any) -> list[tuple[int, Entry]]:
        """The connections of a declared group."""
        return _entries(self.named("hsm_groups").get(str(group), {}).get("connections"))

    def _keys(self, where: str, entry: Entry) -> Iterator[str]:
        yield from self.scope(where, entry)
        if not _is_list(entry.get("keys")):
            yield f"{where}.keys: missing or not a list. Give a list of what hsm_key takes."

    def _declared(self, where: str, name: Any, variable: str) -> Iterator[str]:
        found = self.named(variable).get(str(name)) if name is not None else None
        if found is None:
            yield f"{where}: not in {variable}. Give the name of one that is declared for this host."
        elif is_absent(found):
            yield f"{where}: has state: absent in {variable}. Take it out here, too."

    def notes(self) -> Iterator[str]:
        """What a person should know before the keys are made: those of a group that no other member can ever get."""
        for number, entry in self.of("hsm_keys"):
            members = self.members(entry.get("group"))
            fixed = [
                str(key.get("label"))
                for _number, key in _entries(entry.get("keys"))
                if key.get("state", "present") == "present" and (key.get("extractable") is not True or key.get("wrap_with_trusted") is True)
            ]
            if len(members) > 1 and fixed:
                yield (
                    f"hsm_keys[{number}]: group '{entry['group']}' has {len(members)} members, and these keys cannot be copied "
                    f"from one to another: {listed(fixed)}. Only a key that is made with extractable: true can. It cannot be changed later."
                )

    def declared(self) -> dict[str, Any]:
        """What shall be registered, by name: instances with the selectors of their tokens, and groups. No PIN is in it."""
        return {
            "instances": [
                {"name": name, "tokens": _selectors(entry)} if "tokens" in entry else {"name": name}
                for name, entry in self.named("hsm_instances").items()
            ],
            "groups": [str(entry.get("name")) for _number, entry in self.of("hsm_groups")],
        }

    def keys(self) -> list[dict[str, Any]]:
        """Where the keys of each entry belong, their label, perhaps a range, state, greatest age and lead in seconds. Nothing of what is
        imported is in it."""
        return [
            {
                **{name: entry.get(name) for name in ("instance", "group")},
                "label": str(key.get("label")),
                "id": None if key.get("id") is None else str(key["id"]),
                "state": str(key.get("state", "present")),
                "max_age": _seconds(key.get("max_age")),
                "lead": _seconds(key.get("lead")),
            }
            for _number, entry in self.of("hsm_keys")
            for _place, key in _entries(entry.get("keys"))
        ]


def _seconds(duration: Any) -> int | None:
    """None where there is none, and for one that hsm_key will refuse."""
    try:
        return None if duration is None else parse_duration(str(duration))
    except ValueError:
        return None


def _selectors(entry: Entry) -> list[dict[str, str]]:
    return [{kind: str(token[kind]) for kind in _SELECTORS if kind in token} for _number, token in _entries(entry["tokens"])]


def _shown(field: Any, fields: Collection[str]) -> str:
    """A field that is not known, unless its name may be a value in a wrong place."""
    shown = isinstance(field, str) and re.fullmatch("[a-z_]+", field) is not None
    near = get_close_matches(field, sorted(fields), n=1) if shown else []
    return f"{field if shown else '?'}" + (f", did you mean {near[0]}?" if near else f". Fields are {', '.join(fields)}.")
