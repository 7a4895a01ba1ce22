# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""The options of kms_config as one value, checked before any library is loaded.

The server takes much silently: it merges flat ``hsm_*`` keys with the array, ignores misspelt tables, and drops slots
without a password. So all of that is refused here, before anything is written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..declared import is_absent
from ..quoting import bracketed, quoted
from ..tokens.instance_names import name_problem
from ..tokens.instance_spec import parse_instance, read_login
from ..tokens.secret import PINPAD
from ..toml_values import plain
from ..uids import model_problem
from .config import FLAT, FLAT_PREFIX, INSTANCES, Declared
from .names import BUILT_IN

MODELS = ("softhsm2", "utimaco", "proteccio", "crypt2pay", "smartcardhsm", "other")


@dataclass(frozen=True)
class KmsConfigRequest:
    """``registry`` and ``config_path`` are paths on the target. ``settings`` are the server's own, in plain types.

    ``proven`` are the words that an earlier task of the same run returned for the PINs that it proved.

    ``packaged_unit``: the server runs in the unit of its package, with ``environment`` beside what the instances say.

    ``server_path``: the server's program, which is asked for the names that it knows, where it is there. ``settings_unchecked`` are names
    that are let through.

    ``instances`` are the sound ones. ``absent`` are the names of those that shall go, and whether with ``force``. ``problems`` are those of
    all options. They are not raised here, since what is wrong with the PIN files of the sound instances is told in the same error.
    """

    registry: str
    config_path: str
    settings: Mapping[str, Any] = field(repr=False)
    instances: tuple[Declared, ...]
    absent: Mapping[str, bool]
    allow_renumber: bool
    problems: tuple[str, ...]
    state: str = "present"
    allow_low_pin_count: bool = False
    proven: frozenset[str] = frozenset()
    packaged_unit: bool = True
    environment: Mapping[str, str] = field(default_factory=dict)
    server_path: str = ""
    settings_unchecked: tuple[str, ...] = ()

    @classmethod
    def parse(cls, params: Mapping[str, Any]) -> KmsConfigRequest:
        """The request that ``params``, the module's options, make."""
        settings, of_settings = parse_settings(params["settings"])
        instances, of_instances = parse_instances(params["instances"])
        problems = (*of_settings, *of_instances)
        entries = params["instances"]
        absent = {entry["name"]: bool(entry.get("force")) for entry in entries if is_absent(entry)}
        renumber = params["allow_renumber"] or any(entry.get("allow_renumber") for entry in entries)
        return cls(
            params["registry"],
            params["config_path"],
            settings,
            tuple(instances),
            absent,
            renumber,
            problems,
            params["state"],
            params["allow_low_pin_count"],
            frozenset(params["proven"]),
            params["packaged_unit"],
            params["environment"],
            params["server_path"],
            tuple(params["settings_unchecked"]),
        )


def parse_settings(settings: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The settings in plain types, and what in them the server would refuse or merge. Whether it knows a name is asked in :mod:`.names`."""
    clean, problems = plain(settings, "settings")
    for name, value in clean.items():
        place = f"settings.{name}"
        if name in FLAT:
            problems.append(
                f"{place}: the server would take the flat hsm_* keys for one more HSM, beside those of "
                "instances and under the prefix "
                f"'{FLAT_PREFIX}': leave it out and declare that HSM in instances"
            )
        elif name == INSTANCES:
            problems.append(f"{place}: is written from the option instances: declare the HSMs there and leave it out here")
        elif name in BUILT_IN.tables and not isinstance(value, dict):
            problems.append(f"{place}: is a table of the server: give a mapping of its keys")
        elif name in BUILT_IN.values and isinstance(value, dict):
            problems.append(f"{place}: is a single value of the server, not a table: give the value")
    return clean, problems


def parse_instances(entries: Sequence[Mapping[str, Any]]) -> tuple[list[Declared], list[str]]:
    """The sound instances in declared order, and every problem of all of them. One with ``state: absent`` has a name and is not served."""
    found: list[Declared] = []
    problems: list[str] = []
    names: dict[str, int] = {}
    for index, options in enumerate(entries):
        where = f"instances[{index}]{bracketed(options['name'])}"
        spec = None
        if not is_absent(options):
            spec, faults = parse_instance(options, f"{where}.")
            problems += faults
            problems += _server_problems(options, where)
        elif problem := name_problem(options["name"]):
            problems.append(f"{where}.name: {problem}")
        if options["name"] in names:
            problems.append(f"{where}.name: instances[{names[options['name']]}] has the same name: give each instance its own")
        names.setdefault(options["name"], index)
        if spec is not None:
            found.append(Declared(where, spec))
    return found, problems


def _server_problems(options: Mapping[str, Any], where: str) -> list[str]:
    """What hsm_instance takes and this server cannot serve."""
    problems: list[str] = []
    model = options.get("model") or ""
    if model_problem(model) is None and model.lower() not in MODELS:
        problems.append(
            f"{where}.model: the server does not know {quoted(model)}. It knows {', '.join(MODELS)}; an HSM of "
            "another kind is served as "
            "model other, with its library"
        )
    tokens = options.get("tokens") or []
    if not tokens:
        problems.append(f"{where}.tokens: is empty, and the server would skip the instance: declare a token or remove the instance")
    for index, token in enumerate(tokens):
        place = f"{where}.tokens[{index}]"
        login = read_login(token.get("login"))
        if login == PINPAD:
            problems.append(f"{place}.login: {PINPAD} cannot be served: nobody is there to type the PIN when the server logs in")
        if login in (False, PINPAD):
            continue
        if token.get("user_type") == "so":
            problems.append(f"{place}.user_type: the server logs in as user and cannot use a security officer's: give user_type: user")
        elif not any(token.get(name) is not None for name in ("pin", "pin_file", "new_pin")) and not token.get("initialize"):
            problems.append(
                f"{place}.pin: is missing, and the server would silently drop the slot: give pin or pin_file, "
                "or login: false for a "
                "token that needs none"
            )
    return problems
