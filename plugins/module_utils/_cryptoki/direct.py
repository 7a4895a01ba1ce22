# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.
"""Objects of a token that are not asked about before they are handed out, and are read in one call.

python-pkcs11 reads nine attributes of each object that it finds or makes, in two calls, and every later read takes two more: lengths,
then values. Here the buffers are large enough beforehand. Whatever a token answers oddly is left to python-pkcs11's own way.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from importlib import import_module
from typing import Any

from .binding import pkcs11
from .function_list import (
    DESTROY_OBJECT,
    FIND_OBJECTS,
    FIND_OBJECTS_FINAL,
    FIND_OBJECTS_INIT,
    GET_ATTRIBUTE_VALUE,
    OK,
    SET_ATTRIBUTE_VALUE,
    Attribute,
    SessionFunctions,
    Ulong,
    check,
)

UNDECODABLE = (ValueError, NotImplementedError, struct.error)
_EMPTY = 0xA5  # what stands in buffers before a call: neither a truth value, nor a number that means anything
_BATCH = 512  # handles per C_FindObjects
_UNAVAILABLE = (1 << 8 * ctypes.sizeof(Ulong)) - 1  # CK_UNAVAILABLE_INFORMATION
# Return values beside which all values that there are have been given (PKCS#11 3.1, section 5.7.5): OK, and that some are not there.
_GIVEN = frozenset({0x00, 0x11, 0x12})
# Bytes for attributes of any length. A longer value is not given, or looks absent: it is read by itself then, see doubtful.
_ROOM = {
    "LABEL": 1024,
    "ID": 1024,
    "MODULUS": 4096,
    "PUBLIC_EXPONENT": 4096,
    "EC_PARAMS": 1024,
    "EC_POINT": 1024,
    # These two never are: three bytes by the standard, and more mechanisms than there are.
    "CHECK_VALUE": 64,
    "ALLOWED_MECHANISMS": 8192,
}
_NUMBERS = frozenset({"CLASS", "KEY_TYPE", "VALUE_LEN", "MODULUS_BITS", "PARAMETER_SET"})
# What a key of a type has, by the name of CKK_ and the class.
_OF_TYPE = {
    ("RSA", "PUBLIC_KEY"): ("MODULUS", "PUBLIC_EXPONENT"),
    ("RSA", "PRIVATE_KEY"): ("MODULUS",),
    ("EC", "PUBLIC_KEY"): ("EC_PARAMS", "EC_POINT"),
    ("EC", "PRIVATE_KEY"): ("EC_PARAMS",),
    ("EC_EDWARDS", "PUBLIC_KEY"): ("EC_PARAMS", "EC_POINT"),
    ("EC_EDWARDS", "PRIVATE_KEY"): ("EC_PARAMS",),
}


class Way:
    """How the objects of one session are reached: its functions, python-pkcs11's session, and what packs and unpacks attributes."""

    def __init__(self, functions: SessionFunctions, raw: Any, mapper: Any) -> None:
        self.functions, self.raw, self.mapper = functions, raw, mapper
        self._templates: dict[tuple[str, ...], _Template | None] = {}
        self.believed = True  # as long as one call gave all that several give
        self.confirmed: set[tuple[Any, ...]] = set()  # what was not given to one call, and to several neither

    def template(self, names: tuple[str, ...]) -> _Template | None:
        """None where one of the names has a value of unknown length."""
        if names not in self._templates:
            self._templates[names] = _Template(names, self.mapper) if all(_room(self.mapper, name) for name in names) else None
        return self._templates[names]

    def object(self, handle: int) -> Any:
        """python-pkcs11's object for this handle, of no class as long as it was not read: see :func:`described`."""
        return _wrapped(_class(None, ()), _Handle(self, handle))

    def packed(self, attributes: Mapping[Any, Any]) -> Any:
        """A template for a call. ctypes keeps the values for as long as there is the template."""
        template = (Attribute * len(attributes))()
        for place, (attribute, value) in zip(template, attributes.items(), strict=True):
            content = self.mapper.pack_attribute(attribute, value)
            place.type, place.value, place.length = int(attribute), content, len(content)
        return template

    def handles(self, wanted: Mapping[Any, Any] | None, doing: str) -> list[int]:
        """The handles of all objects that have these attributes, without a look at others. Raises :class:`Cryptoki`."""
        template = self.packed(wanted or {})
        check(self.functions(FIND_OBJECTS_INIT, template if wanted else None, len(template)), doing)
        batch, count, found = (Ulong * _BATCH)(), Ulong(), []
        try:
            while True:
                check(self.functions(FIND_OBJECTS, batch, _BATCH, ctypes.byref(count)), doing)
                if count.value == 0:
                    break
                found += list(batch[: count.value])
        except BaseException:
            self.functions(FIND_OBJECTS_FINAL)
            raise
        check(self.functions(FIND_OBJECTS_FINAL), doing)
        return found


class _Handle:
    """In place of python-pkcs11's own, which it makes only together with two calls: they are made when something else is wanted."""

    __slots__ = ("_real", "handle", "way")

    def __init__(self, way: Way, handle: int) -> None:
        self.way, self.handle, self._real = way, handle, None

    @property
    def session(self) -> Any:
        return self.way.raw

    @property
    def real(self) -> Any:
        """python-pkcs11's own object. Raises its errors."""
        if self._real is None:
            self._real = _wrapped(import_module("pkcs11._pkcs11").Object, _Copied(self.way.raw, self.handle)).copy(())
        return self._real

    def __getitem__(self, attribute: Any) -> Any:
        return self.real[attribute]


class _Copied:
    """What python-pkcs11 takes for the copy of an object, and makes an object of: the handle that there is."""

    def __init__(self, session: Any, handle: int) -> None:
        self.session, self._handle = session, handle

    def copy(self, _template: Any) -> int:
        return self._handle


def _wrapped(kind: Any, wrapper: Any) -> Any:
    """An object of python-pkcs11's around another wrapper than its own."""
    raw = kind.__new__(kind)
    raw.wrapper = wrapper
    return raw


@cache
def _class(kind: Any, operations: tuple[str, ...]) -> Any:
    """A class with the methods that python-pkcs11 gives an object of this class (CKA_CLASS) and with these operations."""
    inner = import_module("pkcs11._pkcs11")

    class Direct(inner.Object):  # type: ignore[misc,name-defined,unused-ignore]
        def get_attributes(self, wanted: Any) -> Any:
            return self.wrapper.real.get_attributes(wanted)

        def copy(self, template: Any) -> Any:
            return self.wrapper.real.copy(template)

    base = inner._CLASS_MAP.get(kind)
    mixins = [getattr(inner, f"{operation.capitalize()}Mixin") for operation in operations]
    return type("Object" if base is None else base.__name__, (*(() if base is None else (base, *mixins)), Direct), {})


def is_direct(raw: Any) -> bool:
    return isinstance(getattr(raw, "wrapper", None), _Handle)


def destroy(raw: Any, doing: str) -> None:
    """C_DestroyObject, and nothing before it. Raises :class:`Cryptoki`, or python-pkcs11's errors."""
    if is_direct(raw):
        check(raw.wrapper.way.functions(DESTROY_OBJECT, raw.wrapper.handle), doing)
    else:
        raw.destroy()


def write(raw: Any, name: str, value: Any, doing: str) -> None:
    """C_SetAttributeValue of one attribute (its name without ``CKA_``), and nothing before it. Raises as :func:`destroy`."""
    attribute = pkcs11.Attribute[name]
    if is_direct(raw):
        way = raw.wrapper.way
        check(way.functions(SET_ATTRIBUTE_VALUE, raw.wrapper.handle, way.packed({attribute: value}), 1), doing)
    else:
        raw[attribute] = value


def described(raw: Any, kind: Any, operations: tuple[str, ...]) -> None:
    """Give an object that was read the methods of its class and its operations, as python-pkcs11 would have done."""
    raw.__class__ = _class(kind, operations)


def read_at_once(raw: Any, names: tuple[str, ...]) -> tuple[dict[str, Any], frozenset[str]] | None:
    """What one call gives, by name, and names of what may be there all the same. None where the call or the answer is not as it has to
    be. What one call has not given is asked for in python-pkcs11's way, once for each sort of object."""
    way = raw.wrapper.way
    template = way.template(names) if way.believed else None
    found = None if template is None else template.read(way.functions, raw.wrapper.handle)
    if found is None:
        return None
    missing = frozenset(name for name in names if name not in found)
    doubtful = _doubtful(found) & missing
    sort = (found.get("CLASS"), found.get("KEY_TYPE"), missing)
    if missing > doubtful and sort not in way.confirmed:
        try:
            way.believed = not _gives(raw, missing - doubtful)
        except pkcs11.PKCS11Error:
            return None  # a fault that lasts shows where the object is read in the other way
        if not way.believed:
            return None
        way.confirmed.add(sort)
    return found, doubtful


def _gives(raw: Any, names: frozenset[str]) -> bool:
    """Whether python-pkcs11 gets any of these. NSS says that a number is not there where there is room for more than a number."""
    try:
        return bool(raw.get_attributes([pkcs11.Attribute[name] for name in sorted(names)]))
    except (pkcs11.AttributeTypeInvalid, pkcs11.AttributeSensitive):
        return False
    except UNDECODABLE:
        return True


def _room(mapper: Any, name: str) -> int:
    """Bytes for a value: what a number or a truth value takes, and more than the longest of the others. 0 where there is no longest."""
    if name in _ROOM:
        return _ROOM[name]
    if name in _NUMBERS:
        return ctypes.sizeof(Ulong)
    flag = import_module("pkcs11.attributes").handle_bool
    return 1 if mapper.attribute_types.get(pkcs11.Attribute[name]) == flag else 0


class _Template:
    """Names, buffers that fit their values, and the one call. The buffers are used again and again, and emptied each time."""

    def __init__(self, names: tuple[str, ...], mapper: Any) -> None:
        self.names = names
        self._attributes = [pkcs11.Attribute[name] for name in names]
        self._unpack = [mapper.attribute_types[attribute][1] for attribute in self._attributes]
        self._rooms = [_room(mapper, name) for name in names]
        word = ctypes.sizeof(Ulong)
        whole = [-(-room // word) * word for room in self._rooms]  # libraries may write a number as such
        self._starts = [sum(whole[:place]) for place in range(len(names))]
        self._buffer = ctypes.create_string_buffer(sum(whole))
        self._template = (Attribute * len(names))()
        start = ctypes.addressof(self._buffer)
        for place, attribute, offset, room in zip(self._template, self._attributes, self._starts, self._rooms, strict=True):
            place.type, place.value, place.length = int(attribute), start + offset, room
        self._before = bytes(self._template)
        self._fields = struct.Struct(f"@{3 * len(names)}L")

    def read(self, functions: SessionFunctions, handle: int) -> dict[str, Any] | None:
        """The values that there are, by name. None for what no call leaves behind that went well."""
        ctypes.memset(self._buffer, _EMPTY, len(self._buffer))
        ctypes.memmove(self._template, self._before, len(self._before))
        rv = functions(GET_ATTRIBUTE_VALUE, handle, self._template, len(self.names))
        lengths = self._fields.unpack(bytes(self._template))[2::3]
        if rv not in _GIVEN or (rv == OK) is (_UNAVAILABLE in lengths):
            return None
        content, found = self._buffer.raw, {}
        for name, length, room, start, unpack in zip(self.names, lengths, self._rooms, self._starts, self._unpack, strict=True):
            if length == _UNAVAILABLE:
                continue
            value = content[start : start + length]
            # One that was not filled in is as it was before.
            if length > room or (length == room and (name in _ROOM or value == bytes([_EMPTY]) * length)):
                return None
            with suppress(*UNDECODABLE):
                found[name] = unpack(value)
        return found


def _doubtful(found: Mapping[str, Any]) -> frozenset[str]:
    """What an object like this has: where it was not given, its value may be longer than the buffer."""
    names = [str(getattr(found.get(name), "name", "")).lstrip("_") for name in ("KEY_TYPE", "CLASS")]
    return frozenset({"LABEL", "ID", *_OF_TYPE.get((names[0], names[1]), ())})
