# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The argument specs of all modules, and arguments made of them."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

MODULES = sorted(path.stem for path in (Path(__file__).parents[2] / "plugins" / "modules").glob("*.py"))
Spec = Mapping[str, Mapping[str, Any]]


class _Asked(Exception):
    """Carries what a module gives to AnsibleModule."""

    def __init__(self, argument_spec: Spec, **_more: Any) -> None:
        super().__init__()
        self.spec = argument_spec


def spec_of(name: str) -> Spec:
    module = importlib.import_module(f"ansible_collections.keyfleet.hsm.plugins.modules.{name}")

    def ask(**asked: Any) -> None:
        raise _Asked(**asked)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "GuardedModule", ask)
        try:
            module.main()
        except _Asked as asked:
            return asked.spec
    raise AssertionError(f"{name} makes no GuardedModule")


def places(spec: Spec, chosen: Callable[[Mapping[str, Any]], bool], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Where options are that ``chosen`` takes, as the names from the outermost on."""
    for name, option in spec.items():
        if chosen(option):
            yield *above, name
        yield from places(option.get("options") or {}, chosen, (*above, name))


def is_secret(option: Mapping[str, Any]) -> bool:
    return option.get("no_log") is True


def arguments(spec: Spec, given: Mapping[tuple[str, ...], Any], above: tuple[str, ...] = ()) -> dict[str, Any]:
    """Arguments with what is required and what is ``given``, by place. A list of entries has one."""
    made: dict[str, Any] = {}
    for name, option in spec.items():
        place = (*above, name)
        if place in given:
            made[name] = given[place]
        elif option.get("options") and (option.get("required") or any(inner[: len(place)] == place for inner in given)):
            entry = arguments(option["options"], given, place)
            made[name] = [entry] if option["type"] == "list" else entry
        elif option.get("required"):
            made[name] = option.get("choices", ["/nowhere" if option["type"] == "path" else "some"])[0]
    return made
