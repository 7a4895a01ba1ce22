# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the reader of attributes makes of what tokens answer; and that nobody else reads any."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pkcs11
import pytest
from ansible_collections.keyfleet.hsm.plugins.module_utils._cryptoki.attributes import read, read_value
from ansible_collections.keyfleet.hsm.plugins.module_utils._cryptoki.objects import describe

UTILS = Path(__file__).resolve().parents[5] / "plugins" / "module_utils"
READER = UTILS / "_cryptoki" / "attributes.py"
OBJECTS = READER.with_name("direct.py")  # objects like python-pkcs11's, which the reader reads
ABSENT, REFUSED, EITHER = pkcs11.AttributeTypeInvalid, pkcs11.AttributeSensitive, pkcs11.FunctionFailed
UNREADABLE, DEVICE = ValueError, pkcs11.DeviceError


class Object:
    """An object as python-pkcs11 gives it: a value, or what is raised, for each attribute. ``bulk``: what a bulk read raises."""

    handle = 7

    def __init__(self, bulk: Any = None, **told: Any) -> None:
        self.told, self.bulk = {pkcs11.Attribute[name]: value for name, value in told.items()}, bulk

    def __getitem__(self, attribute: Any) -> Any:
        value = self.told.get(attribute, ABSENT)
        if isinstance(value, list):  # one answer after the other
            value = value.pop(0)
        if isinstance(value, type) and issubclass(value, Exception):
            raise value
        return value

    def get_attributes(self, wanted: list[Any]) -> dict[int, Any]:
        values = {int(name): self.told.get(name, ABSENT) for name in wanted}
        given = {name: value for name, value in values.items() if value not in (ABSENT, REFUSED)}
        if self.bulk or not given:  # python-pkcs11 raises where nothing at all is given
            raise self.bulk or ABSENT
        if UNREADABLE in given.values():
            raise UNREADABLE
        return given


@pytest.mark.parametrize(
    ("item", "found"),
    [
        (Object(LABEL="a", ID=b"i"), {"LABEL": "a", "ID": b"i"}),
        (Object(LABEL="a"), {"LABEL": "a"}),
        (Object(LABEL="a", ID=REFUSED), {"LABEL": "a"}),
        (Object(LABEL="a", ID=UNREADABLE), {"LABEL": "a"}),
        (Object(), {}),
        (Object(LABEL=REFUSED, ID=ABSENT), {}),
        (Object(bulk=EITHER, LABEL="a", ID=EITHER), {"LABEL": "a"}),
        (Object(bulk=DEVICE, LABEL="a", ID=b"i"), {"LABEL": "a", "ID": b"i"}),
        (Object(bulk=EITHER, LABEL="a", ID=[EITHER, b"i"]), {"LABEL": "a", "ID": b"i"}),
    ],
)
def test_what_is_not_given_is_left_out(item: Object, found: dict[str, Any]) -> None:
    assert read(item, ("LABEL", "ID")) == found


def test_one_attribute_alone() -> None:
    assert [read(Object(ID=answer), ["ID"]) for answer in (b"i", ABSENT, UNREADABLE)] == [{"ID": b"i"}, {}, {}]
    with pytest.raises(ABSENT):
        read_value(Object(), "ID")


@pytest.mark.parametrize("answer", [DEVICE, [EITHER, DEVICE]])
def test_a_fault_is_not_taken_for_absence(answer: Any) -> None:
    with pytest.raises(DEVICE):
        read(Object(bulk=EITHER, LABEL="a", ID=answer), ("LABEL", "ID"))


def test_what_an_object_is_known_by_is_asked_for_by_itself() -> None:
    class Hides(Object):
        def get_attributes(self, wanted: list[Any]) -> dict[int, Any]:
            return {name: value for name, value in super().get_attributes(wanted).items() if name != pkcs11.Attribute.ID}

    assert read(Hides(LABEL="a", ID=b"i"), ("LABEL", "ID")) == {"LABEL": "a"}
    assert read(Hides(LABEL="a", ID=b"i"), ("LABEL", "ID"), known_by=["ID"]) == {"LABEL": "a", "ID": b"i"}
    assert read(Hides(LABEL="a"), ("LABEL", "ID"), known_by=["ID"]) == {"LABEL": "a"}
    with pytest.raises(EITHER):
        read(Hides(LABEL="a", ID=EITHER), ("LABEL", "ID"), known_by=["ID"])


@pytest.mark.parametrize(
    ("kind", "operations"),
    [
        ("PUBLIC_KEY", ("encrypt", "verify", "wrap")),
        ("PRIVATE_KEY", ("decrypt", "sign", "unwrap", "derive")),
        ("SECRET_KEY", ("encrypt", "decrypt", "sign", "verify", "wrap", "unwrap", "derive")),
    ],
)
def test_operations_are_read_from_the_half_that_does_them(kind: str, operations: tuple[str, ...]) -> None:
    """tpm2-pkcs11 says SIGN of public keys and ENCRYPT of private ones."""
    every = dict.fromkeys(("ENCRYPT", "DECRYPT", "SIGN", "VERIFY", "WRAP", "UNWRAP", "DERIVE"), True)
    item: Any = Object(CLASS=pkcs11.ObjectClass[kind], KEY_TYPE=pkcs11.KeyType.RSA, **every)
    described = describe(item)
    assert described is not None and described.operations == operations


def _reads(tree: ast.AST) -> Iterator[int]:
    """Lines of ``.get_attributes``, of ``raw[…]``, and of what is subscribed with a member of Attribute, unless it is written."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr == "get_attributes":
            yield node.lineno
        if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load):
            members = [part for part in ast.walk(node.slice) if ast.unparse(part) in ("attribute", "Attribute", "pkcs11.Attribute")]
            alone = isinstance(node.value, ast.Name) and node.value.id == "raw" and not isinstance(node.slice, (ast.Slice, ast.Constant))
            table = isinstance(node.value, ast.Attribute) and node.value.attr == "attribute_types"  # python-pkcs11's, not an object's
            if (members or alone) and not table:
                yield node.lineno


def test_nobody_else_reads_attributes() -> None:
    assert list(_reads(ast.parse(READER.read_text())))
    paths = [path for layer in ("_cryptoki", "_engine") for path in (UTILS / layer).rglob("*.py") if path not in (READER, OBJECTS)]
    found = [f"{path.relative_to(UTILS)}:{line}" for path in paths for line in _reads(ast.parse(path.read_text()))]
    assert not found, f"use _cryptoki.attributes: {found}"
