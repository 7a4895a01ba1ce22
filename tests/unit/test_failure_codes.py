# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""docs/failure_codes.md has every code that the plugins raise, and no other."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
PAGE = (CHECKOUT / "docs/failure_codes.md").read_text()
TREES = {path: ast.parse(path.read_text()) for path in sorted((CHECKOUT / "plugins/module_utils").rglob("*.py"))}
NODES = [node for tree in TREES.values() for node in ast.walk(tree)]
# Where code is made of something else than a word: a table of words, and a word that is put together.
TABLES = {"_REFUSED"}
BUILT = {"no_{what}": {"no_instance", "no_group"}}
# Of a copy that came to be, which no answer shows.
DONE = {"copied", "finished", "present"}


def words(node: ast.expr | None) -> Iterator[str]:
    """What an expression may give as a code. A code that is passed on comes from elsewhere."""
    match node:
        case ast.Constant(value=str() as word):
            yield word
        case ast.IfExp(body=one, orelse=other):
            yield from (*words(one), *words(other))
        case ast.BoolOp(values=values):
            for value in values:
                yield from words(value)
        case ast.JoinedStr():
            yield from BUILT.get(ast.unparse(node)[2:-1], ())
        case ast.Subscript(value=ast.Name(id=name)) if name in TABLES:
            yield from (word for table in assigned(name) for value in table.values for word in words(value))
        case ast.Name(id=name) if name.isupper():
            yield from constant(name)


def assigned(name: str) -> Iterator[ast.Dict]:
    for node in NODES:
        match node:
            case ast.Assign(targets=[ast.Name(id=target)], value=ast.Dict() as table) if target == name:
                yield table


def constant(name: str) -> Iterator[str]:
    """The text of a module's constant, which may be one of several in a line."""
    for node in NODES:
        match node:
            case ast.Assign(targets=[ast.Tuple(elts=names)], value=ast.Tuple(elts=values)):
                for target, value in zip(names, values, strict=True):
                    if isinstance(target, ast.Name) and target.id == name:
                        yield from words(value)


def takers() -> Iterator[tuple[str, int]]:
    """Functions, and classes by their fields, that are given a code by its place."""
    for node in NODES:
        match node:
            case ast.FunctionDef(name=name, args=ast.arguments(args=arguments)):
                names = [argument.arg for argument in arguments if argument.arg != "self"]
            case ast.ClassDef(name=name, body=body):
                names = [field.target.id for field in body if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)]
            case _:
                continue
        if "code" in names:
            yield name, names.index("code")


def raised() -> set[str]:
    found: set[str] = set()
    places = dict(takers())
    for node in NODES:
        match node:
            case ast.keyword(arg="code" | "failure_code", value=value):
                found |= set(words(value))
            case ast.Dict(keys=keys, values=values):
                found |= {word for key, value in zip(keys, values, strict=True) if set(words(key)) == {"code"} for word in words(value)}
            case ast.Assign(targets=[ast.Name(id="code")], value=value) | ast.AnnAssign(target=ast.Name(id="failure_code"), value=value):
                found |= set(words(value))
            case ast.Assign(targets=[ast.Attribute(attr="failure_code")], value=value):
                found |= set(words(value))
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name), args=arguments) if name in places:
                found |= set(words(arguments[places[name]])) if len(arguments) > places[name] else set()
            # Why a key is not copied: a code with its reason.
            case ast.FunctionDef(returns=returns) if returns is not None and ast.unparse(returns) == "tuple[str, str] | None":
                found |= {word for tuple_ in ast.walk(node) if isinstance(tuple_, ast.Tuple) for word in words(tuple_.elts[0])}
    return found - DONE


def test_the_page_has_every_code_once_and_no_other() -> None:
    first_cells = re.findall(r"^\| (`.*?`) \|", PAGE, re.MULTILINE)
    told = Counter(word for cell in first_cells for word in re.findall(r"`(\w+)`", cell))
    assert max(told.values()) == 1
    assert set(told) == raised()


def test_every_place_that_makes_a_code_is_understood() -> None:
    """Else it is given on, and that by the name of code: anything else has to be said above."""
    for path, tree in TREES.items():
        for node in ast.walk(tree):
            match node:
                case ast.keyword(arg="code", value=value) if not set(words(value)):
                    text = ast.unparse(value)
                    assert re.search(r"code\b|^codes\.pop\(\)$|^refusal\[0\]$|^rv$", text), f"{path.name}: code={text}"
