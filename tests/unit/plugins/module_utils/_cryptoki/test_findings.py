# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is shown of flags and of objects whose token hides attributes; and keys that were to live in the session."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pkcs11
import pytest
from ansible_collections.keyfleet.hsm.plugins.module_utils._cryptoki.listing import show_object, show_objects
from ansible_collections.keyfleet.hsm.plugins.module_utils._cryptoki.slots import flag_names
from ansible_collections.keyfleet.hsm.plugins.module_utils._cryptoki.trying import for_this_session
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.errors import TokenError
from pkcs11 import _pkcs11

# An object that does not report what it may do has the methods of all operations.
METHODS = [getattr(_pkcs11, f"{name}Mixin") for name in ("Encrypt", "Decrypt", "Sign", "Verify", "Wrap", "Unwrap", "Derive")]


class Object(*METHODS):
    """An object as python-pkcs11 gives it, with these attributes and no others."""

    handle = 7

    def __init__(self, **reported: Any) -> None:
        self.reported = {int(pkcs11.Attribute[name]): value for name, value in reported.items()}

    def __getitem__(self, attribute: Any) -> Any:
        if int(attribute) not in self.reported:
            raise pkcs11.AttributeTypeInvalid
        return self.reported[int(attribute)]

    def get_attributes(self, wanted: list[Any]) -> dict[int, Any]:
        return {int(name): self.reported[int(name)] for name in wanted if int(name) in self.reported}


def test_flags_without_a_name_are_one_number() -> None:
    assert flag_names(0x40000000 | 0x2 | 0x100 | 0x8000, pkcs11.MechanismFlag) == ["ENCRYPT", "GENERATE", "0x40000002"]
    assert flag_names(0, pkcs11.TokenFlag) == []


def test_what_is_not_reported_is_neither_true_nor_false() -> None:
    item: Any = Object(
        CLASS=pkcs11.ObjectClass.SECRET_KEY,
        KEY_TYPE=pkcs11.KeyType.AES,
        LABEL="a" * 300,
        ID=b"\x01",
        VALUE=b"canary",
        VALUE_LEN=32,
        ENCRYPT=True,
        DECRYPT=False,
        SENSITIVE=True,
    )
    shown = show_object(item)
    assert (shown["class"], shown["type"], shown["size"], shown["id"]) == ("secret", "AES", 256, "01")
    assert shown["label"] == f"{'a' * 200}... (300 characters)"
    assert shown["operations"] == ["encrypt"] and shown["flags"] == {"sensitive": True}
    assert {"wrap", "extractable", "private"} <= set(shown["not_reported"]) and "decrypt" not in shown["not_reported"]
    assert "canary" not in str(shown)
    certificate: Any = Object(CLASS=pkcs11.ObjectClass.CERTIFICATE, LABEL="ca", VALUE=b"canary")
    assert show_object(certificate) == {"class": "certificate", "label": "ca", "code": None}
    vendor: Any = Object(CLASS=0x80000001)
    assert show_object(vendor)["class"] == "0x80000001"


class Shows:
    """A session with these objects."""

    token = "token"
    way = None  # python-pkcs11's own

    def __init__(self, *objects: Object) -> None:
        self.objects, self.raw, self.ended = objects, self, False

    def get_objects(self, _template: Any, batch_size: int) -> Iterator[Object]:
        try:
            yield from self.objects[:batch_size]
        finally:
            self.ended = True


@pytest.mark.parametrize(("most", "wanted"), [(1, ["a", None]), (2, ["a", "b"]), (3, ["a", "b"])])
def test_more_than_is_shown(most: int, wanted: list[str | None]) -> None:
    session: Any = Shows(*(Object(CLASS=pkcs11.ObjectClass.DATA, LABEL=label) for label in "ab"))
    assert [entry and entry["label"] for entry in show_objects(session, most)] == wanted
    assert session.ended


def test_one_object_that_cannot_be_read() -> None:
    class Broken(Object):
        def __getitem__(self, attribute: Any) -> Any:
            raise pkcs11.DeviceError

    session: Any = Shows(Broken(), Object(CLASS=pkcs11.ObjectClass.DATA))
    assert [entry and (entry["class"], entry["code"]) for entry in show_objects(session, 5)] == [(None, "CKR_DEVICE_ERROR"), ("data", None)]


class Key(Object):
    """``stays``: a token object, which it ought not to be. ``fixed``: C_DestroyObject is refused."""

    def __init__(self, stays: Any, fixed: bool = False) -> None:
        super().__init__(TOKEN=stays)
        self.fixed, self.destroyed = fixed, False

    def destroy(self) -> None:
        if self.fixed:
            raise pkcs11.DeviceError
        self.destroyed = True


def test_a_key_of_the_session_is_destroyed_at_the_end() -> None:
    keys = [Key(False), Key(False)]
    with pytest.raises(KeyError), for_this_session(keys, "a test"):
        assert not any(key.destroyed for key in keys)
        raise KeyError
    assert all(key.destroyed for key in keys)


@pytest.mark.parametrize(("fixed", "words"), [(False, "It was destroyed."), (True, "It could not be destroyed")])
def test_a_key_that_the_token_kept_is_told(fixed: bool, words: str) -> None:
    keys, used = [Key(False), Key(True, fixed)], False
    with pytest.raises(TokenError, match=words), for_this_session(keys, "a test"):
        used = True
    assert not used and keys[0].destroyed and keys[1].destroyed is not fixed
