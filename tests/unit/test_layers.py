# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Imports go down only: modules -> _module -> _engine -> _cryptoki | _registry -> _model."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from imports import PLUGINS, ROOT, imported

# What each layer may import from the project, itself apart.
MAY: dict[str, set[str]] = {
    "modules": {"_engine", "_model", "_module"},
    "callback": set(),
    "filter": {"_model", "_module"},  # of which it reads what options there are
    "doc_fragments": set(),
    "_module": {"_model"},
    "_engine": {"_cryptoki", "_registry", "_model"},
    "_cryptoki": {"_model"},
    "_registry": {"_model"},
    "_model": set(),
}
# Which rooms of the engine a room may import, itself apart. "" is what lies beside the rooms.
ROOMS: dict[str, set[str]] = {
    "": {"files", "status", "tokens"},
    "certificates": {"files", "tokens", "virtual_keys", "x509"},  # whose key a certificate stands beside is the scope's to say
    "files": {"tokens"},
    "gateway": {"files", "tokens", "x509"},
    "instances": {"files", "tokens"},
    "keys": {"files", "tokens", "virtual_keys"},
    "kms": {"files", "tokens"},
    "members": {"files", "keys", "tokens", "virtual_keys"},  # a copy is verified with the same eyes as a key: keys.look
    "status": {"certificates", "files", "tokens", "x509"},  # a credential is found as a certificate and its key are
    "sync": {"files", "members", "tokens", "virtual_keys"},
    "tokens": {"files"},
    "virtual_keys": {"files", "tokens"},
    "x509": {"files", "tokens"},
}
# Files and folders that ask no HSM, and those that are worked out from plain values: they import _model and each other.
NO_HSM = ("_engine/host_look.py", "_engine/hsm_group.py", "_engine/hsm_registry.py", "_engine/tokens/choice.py", "_engine/gateway/")
PLAIN = (
    "_engine/keys/planning/",
    "_engine/members/copy_rules/",
    "_engine/sync/plan/",
    "_engine/virtual_keys/comparison/",
    "_engine/virtual_keys/identity/",
    "_engine/virtual_keys/contents/",
    "_engine/virtual_keys/exposed/",
)
# Layers that alone may import a library.
ALONE = {
    "pkcs11": {"_cryptoki"},
    "asn1crypto": {"_cryptoki", "_engine"},
    "cryptography": {"_engine"},
    "sqlite3": {"_registry"},
    "yaml": {"_engine"},
    "ansible": {"_module", "modules", "filter", "callback"},
}


def layer_of(path: Path) -> str:
    parts = path.relative_to(PLUGINS).parts
    return parts[1] if parts[0] == "module_utils" else parts[0]


def room_of(parts: Sequence[str]) -> str:
    """The room of the engine, of a path or a name below ``_engine``."""
    return parts[0] if parts and parts[0] in ROOMS else ""


def house_rules(path: Path, rest: list[str]) -> Iterator[str]:
    """What ``path`` may not do by the rules of the engine's rooms. ``rest`` is the imported name below ``module_utils``."""
    inside = path.relative_to(PLUGINS).as_posix().removeprefix("module_utils/")
    if inside.startswith("_engine/") and rest[0] == "_engine":
        mine, target = room_of(inside.split("/")[1:]), room_of(rest[1:])
        if target != mine and target not in ROOMS[mine]:
            yield f"room '{mine}' may not import room '{target}'"
    if inside.startswith(NO_HSM) and rest[0] == "_cryptoki":
        yield "asks no HSM"
    plain = inside.replace(".py", "/").startswith(PLAIN)
    if plain and rest[0] != "_model" and not "/".join([*rest, ""]).startswith(PLAIN):
        yield "is worked out from plain values: it may import _model and its like only"


def violations(path: Path, source: str) -> list[str]:
    layer = layer_of(path)
    found = []
    for line, name in imported(path, source):
        top = name.split(".")[0]
        where = f"{path.name}:{line} imports {name}"
        if name.startswith(ROOT):
            rest = name.removeprefix(ROOT + ".").split(".")
            target = rest[1] if rest[0] == "module_utils" and len(rest) > 1 else rest[0]
            if target != layer and target not in MAY[layer]:
                found.append(f"{where}: {layer} may not import {target}")
            elif rest[0] == "module_utils":
                found += [f"{where}: {rule}" for rule in house_rules(path, rest[1:])]
        elif top in ALONE and layer not in ALONE[top]:
            found.append(f"{where}: only {', '.join(sorted(ALONE[top]))} may import {top}")
    return found


FILES = sorted(path for path in PLUGINS.rglob("*.py") if path.name != "__init__.py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PLUGINS)))
def test_imports_go_down_only(path: Path) -> None:
    assert violations(path, path.read_text()) == []


@pytest.mark.parametrize(
    ("layer", "source"),
    [
        ("_model", "from .._registry import database"),
        ("_model", "def f():\n    import sqlite3"),
        ("_cryptoki", "from .._registry.database import now"),
        ("_registry", "from .._cryptoki import provider"),
        ("_registry", "import pkcs11"),
        ("_engine", "from .._module.run import run"),
        ("_engine", "from pkcs11 import Attribute"),
        ("_engine", "from ansible.module_utils.basic import AnsibleModule"),
        ("_module", f"from {ROOT}.module_utils._cryptoki import provider"),
    ],
)
def test_the_check_can_fail(layer: str, source: str) -> None:
    assert violations(PLUGINS / "module_utils" / layer / "invented.py", source)


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("keys/invented.py", "from ..sync import plan"),
        ("tokens/invented.py", "from ..keys.planning.plan import KeyPlan"),
        ("hsm_invented.py", "from .keys.apply import Applier"),
        ("hsm_group.py", "from .._cryptoki.session import Session"),
        ("tokens/choice.py", "from ..._cryptoki import provider"),
        ("gateway/invented.py", "from ..._cryptoki import provider"),
        ("keys/planning/invented.py", "from ...virtual_keys.scope import token_scope"),
        ("keys/planning/invented.py", "from ..results import Results"),
        ("keys/planning/invented.py", "from ...._cryptoki.session import Session"),
        ("virtual_keys/identity.py", "from .scope import token_scope"),
        ("virtual_keys/identity.py", "from ..._registry import virtual_keys"),
        ("sync/plan.py", "from ..members.comparison import Members"),
        ("members/copy_rules.py", "from ..tokens.serving import reach"),
    ],
)
def test_the_check_of_the_rooms_can_fail(file: str, source: str) -> None:
    assert violations(PLUGINS / "module_utils" / "_engine" / file, source)


def test_every_room_has_its_rule() -> None:
    engine = PLUGINS / "module_utils" / "_engine"
    assert {path.name for path in engine.iterdir() if (path / "__init__.py").exists()} == ROOMS.keys() - {""}


def test_modules_are_thin() -> None:
    """A main() of under 20 lines; the rest of a module is documentation."""
    for path in (PLUGINS / "modules").glob("*.py"):
        functions = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)]
        assert [function.name for function in functions] == ["main"], path.name
        assert (functions[0].end_lineno or 0) - functions[0].lineno < 20, path.name


def test_a_module_that_goes_on_in_another_python_has_not_imported_its_engine_before() -> None:
    """To compile it takes longer than all else that a Python does which only finds the one with the libraries."""
    for path in (PLUGINS / "modules").glob("*.py"):
        source = path.read_text()
        early = [node.module for node in ast.parse(source).body if isinstance(node, ast.ImportFrom) and "._engine." in (node.module or "")]
        assert bool(early) is ("needs=()" in source), path.name


def test_no_parameter_is_read_by_name_below_the_edge() -> None:
    """A module's parameters become one frozen request, in ``_model``: below it nobody sees them."""
    for path in FILES:
        if layer_of(path) in ("_engine", "_cryptoki", "_registry"):
            names = {getattr(node, "id", getattr(node, "arg", None)) for node in ast.walk(ast.parse(path.read_text()))}
            assert "params" not in names, path


def test_no_file_is_two_subjects() -> None:
    for path in FILES:
        if layer_of(path) not in ("modules", "doc_fragments"):
            assert len(path.read_text().splitlines()) <= 400, path


@pytest.mark.parametrize("path", sorted((PLUGINS / "filter").glob("*.py")), ids=lambda path: path.stem)
def test_a_filter_is_loaded_without_what_it_uses(path: Path) -> None:
    """To find one filter Ansible loads all of a collection, in the process of each task, and compiles what they import."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            assert not any(name.startswith(ROOT) for _line, name in imported(path, ast.unparse(node))), ast.unparse(node)
