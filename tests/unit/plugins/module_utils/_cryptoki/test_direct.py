# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What one call for all attributes is believed of, and what is asked for once more in python-pkcs11's own way."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable
from typing import Any

import pkcs11
import pytest
from ansible_collections.keyfleet.hsm.plugins.module_utils._cryptoki import attributes, direct
from ansible_collections.keyfleet.hsm.plugins.module_utils._cryptoki.direct import Way, read_at_once
from ansible_collections.keyfleet.hsm.plugins.module_utils._cryptoki.function_list import (
    DESTROY_OBJECT,
    GET_ATTRIBUTE_VALUE,
    SET_ATTRIBUTE_VALUE,
    Attribute,
)
from ansible_collections.keyfleet.hsm.plugins.module_utils._cryptoki.mapping import attribute_mapper
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.errors import Cryptoki

NAMES = ("CLASS", "KEY_TYPE", "LABEL", "ID", "ENCRYPT", "VALUE_LEN", "MODULUS", "EC_PARAMS", "EC_POINT")
NONE, OK, SENSITIVE, TYPE_INVALID, BUFFER_TOO_SMALL, DEVICE_ERROR = 2**64 - 1, 0, 0x11, 0x12, 0x150, 0x30


def number(value: int) -> bytes:
    return struct.pack("L", value)


SECRET = {
    "CLASS": number(pkcs11.ObjectClass.SECRET_KEY),
    "KEY_TYPE": number(pkcs11.KeyType.AES),
    "LABEL": b"dek",
    "ID": b"\x07",
    "ENCRYPT": b"\x01",
    "VALUE_LEN": number(32),
}
READ = {
    "CLASS": pkcs11.ObjectClass.SECRET_KEY,
    "KEY_TYPE": pkcs11.KeyType.AES,
    "LABEL": "dek",
    "ID": b"\x07",
    "ENCRYPT": True,
    "VALUE_LEN": 32,
}
Answer = Callable[[Any], int]


def token(told: dict[str, bytes], rv: int | None = None, *, leaves: tuple[str, ...] = ()) -> Callable[..., int]:
    """C_GetAttributeValue as the standard wants it, of an object with these attributes. ``rv``: what it returns all the same.
    ``leaves``: attributes that it does not look at."""

    def call(index: int, handle: int, template: Any, count: int) -> int:
        assert (index, handle, count) == (GET_ATTRIBUTE_VALUE, 7, len(template))
        right = OK
        for place in template:
            name = pkcs11.Attribute(place.type).name
            if name in leaves:
                continue
            value = told.get(name)
            if value is None or len(value) > place.length:
                right = TYPE_INVALID if value is None else right or BUFFER_TOO_SMALL
                place.length = NONE
                continue
            ctypes.memmove(ctypes.c_void_p.from_address(ctypes.addressof(place) + Attribute.value.offset).value or 0, value, len(value))
            place.length = len(value)
        return right if rv is None else rv

    return call


@pytest.fixture(autouse=True)
def gives(monkeypatch: pytest.MonkeyPatch) -> list[frozenset[str]]:
    """What python-pkcs11 was asked for: it has none of it."""
    asked: list[frozenset[str]] = []
    monkeypatch.setattr(direct, "_gives", lambda _raw, names: asked.append(names))
    return asked


def raw(functions: Any) -> Any:
    return Way(functions, None, attribute_mapper()).object(7)


def test_what_is_there_is_read_and_what_is_not_is_left_out() -> None:
    assert read_at_once(raw(token(SECRET)), NAMES) == (READ, frozenset())
    assert read_at_once(raw(token(SECRET, SENSITIVE)), NAMES) == (READ, frozenset())


@pytest.mark.parametrize(
    "functions",
    [
        token(SECRET, DEVICE_ERROR),
        token(SECRET, BUFFER_TOO_SMALL),
        token(SECRET, OK),  # and yet attributes are not there
        token(SECRET, leaves=("ENCRYPT",)),
        token(SECRET, leaves=("LABEL",)),
        token(SECRET, leaves=("VALUE_LEN", "MODULUS")),
        token({**SECRET, "MODULUS": b"m", "EC_PARAMS": b"p", "EC_POINT": b"q"}, TYPE_INVALID),  # and yet all are there
    ],
)
def test_an_odd_answer_is_not_believed(functions: Any) -> None:
    assert read_at_once(raw(functions), NAMES) is None


def test_a_value_that_does_not_fit_is_not_taken_for_one_that_is_not_there() -> None:
    """The return value says that others are not there, as SoftHSM does."""
    found, doubtful = read_at_once(raw(token({**SECRET, "LABEL": b"l" * 5000})), NAMES) or ({}, frozenset())
    assert "LABEL" not in found and doubtful == {"LABEL"}
    pair = {**SECRET, "CLASS": number(pkcs11.ObjectClass.PUBLIC_KEY), "KEY_TYPE": number(pkcs11.KeyType.RSA)}
    found, doubtful = read_at_once(raw(token({**pair, "MODULUS": b"m" * 5000})), (*NAMES[:7], "PUBLIC_EXPONENT")) or ({}, frozenset())
    assert found["KEY_TYPE"] == pkcs11.KeyType.RSA and doubtful == {"MODULUS", "PUBLIC_EXPONENT"}


def test_what_is_doubtful_is_asked_for_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(attributes, "read_value", lambda _raw, name: asked.append(name) or "l" * 5000)
    item = raw(token({**SECRET, "LABEL": b"l" * 5000}))
    assert attributes.read(item, NAMES) == {**READ, "LABEL": "l" * 5000} and asked == ["LABEL"]


def test_what_is_not_given_is_confirmed_once_for_each_sort_of_object(gives: list[frozenset[str]]) -> None:
    way = Way(token(SECRET), None, attribute_mapper())  # type: ignore[arg-type]
    for _object in range(3):
        assert read_at_once(way.object(7), NAMES) == (READ, frozenset())
    assert gives == [frozenset({"MODULUS", "EC_PARAMS", "EC_POINT"})]
    way.functions = token({name: value for name, value in SECRET.items() if name != "ENCRYPT"})  # type: ignore[assignment]
    assert read_at_once(way.object(7), NAMES) is not None and len(gives) == 2


def test_a_token_that_gives_more_in_two_calls_is_not_asked_in_one_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """NSS says that a number is not there where the room for it is larger than a number."""
    way = Way(token({**SECRET, "MODULUS": b"m"}), None, attribute_mapper())  # type: ignore[arg-type]
    monkeypatch.setattr(direct, "_gives", lambda _raw, names: "EC_POINT" in names)
    assert read_at_once(way.object(7), NAMES) is None and not way.believed
    way.functions = None  # type: ignore[assignment]
    assert read_at_once(way.object(7), NAMES) is None


def test_a_fault_of_that_second_look_is_left_to_the_other_way(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(_raw: Any, _names: frozenset[str]) -> bool:
        raise pkcs11.DeviceError

    way = Way(token(SECRET), None, attribute_mapper())  # type: ignore[arg-type]
    monkeypatch.setattr(direct, "_gives", failing)
    assert read_at_once(way.object(7), NAMES) is None and way.believed


def test_a_value_of_any_length_has_no_buffer_that_stays() -> None:
    """CKA_VALUE may be a key's own."""
    assert read_at_once(raw(token(SECRET)), ("VALUE",)) is None
    assert read_at_once(raw(token(SECRET)), ("LABEL", "START_DATE")) is None


def test_nothing_of_one_object_is_left_for_the_next() -> None:
    way = Way(token(SECRET), None, attribute_mapper())
    assert read_at_once(way.object(7), NAMES) is not None
    way.functions = token({"LABEL": b""})  # type: ignore[assignment]
    assert read_at_once(way.object(7), NAMES) == ({"LABEL": ""}, frozenset({"ID"}))


def test_an_object_has_the_methods_of_its_operations() -> None:
    item = raw(token(SECRET))
    direct.described(item, pkcs11.ObjectClass.SECRET_KEY, ("encrypt",))
    assert isinstance(item, pkcs11.SecretKey) and hasattr(item, "encrypt") and not hasattr(item, "decrypt")
    assert item.handle == 7


def test_an_object_is_written_and_destroyed_in_one_call() -> None:
    asked: list[tuple[Any, ...]] = []

    def call(index: int, handle: int, template: Any = (), count: int = 0) -> int:
        asked.append((index, handle, count, *((place.type, place.value) for place in template)))
        return OK

    item = raw(call)
    direct.write(item, "ENCRYPT", False, "setting it")
    direct.destroy(item, "destroying it")
    assert asked == [(SET_ATTRIBUTE_VALUE, 7, 1, (int(pkcs11.Attribute.ENCRYPT), b"")), (DESTROY_OBJECT, 7, 0)]


def test_a_write_that_is_refused_names_the_cause() -> None:
    item = raw(lambda *_arguments: DEVICE_ERROR)
    for write in (lambda: direct.write(item, "LABEL", "new", "naming it"), lambda: direct.destroy(item, "naming it")):
        with pytest.raises(Cryptoki, match="naming it failed: CKR_DEVICE_ERROR") as caught:
            write()
        assert caught.value.device
