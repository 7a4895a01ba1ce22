# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which keys of a token the server cannot use, and whether the one that wraps its database's keys will do."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.keys.objects import KeyObject
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.kms.config import Served
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.kms.served_keys import (
    WrappingKey,
    unusable_keys,
    wrapping_key,
    wrapping_key_problem,
)
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.tokens.identity import TokenIdentity
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.tokens.instance_spec import InstanceSpec, TokenSpec
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.tokens.selectors import TokenSelector


def served(name: str, *slots: int | None, model: str = "softhsm2") -> Served:
    tokens = tuple(TokenSpec(index, TokenSelector("slot", index)) for index in range(len(slots)))
    seen = tuple(None if slot is None else TokenIdentity(slot=slot) for slot in slots)
    return Served(name, InstanceSpec(name, model, tokens=tokens), "/l.so", "/l.so", seen)


INSTANCES = [served("a", 1), served("b", 2, 3), served("c", None, model="other")]


@pytest.mark.parametrize("uid", [None, "a key of the database", 7])
def test_a_wrapping_key_that_no_hsm_has_is_the_servers_own(uid: Any) -> None:
    assert wrapping_key({} if uid is None else {"key_encryption_key": uid}, INSTANCES) == (None, None)


@pytest.mark.parametrize(
    ("uid", "place", "key_id"),
    [
        ("hsm::softhsm2::1::kek", ("hsm::softhsm2", 1), "kek"),
        ("hsm::softhsm2_1::3::a::b", ("hsm::softhsm2_1", 3), "a::b"),
        # A token that is to come: nobody knows its slot yet.
        ("hsm::other::9::kek", ("hsm::other", 9), "kek"),
    ],
)
def test_where_a_wrapping_key_is(uid: str, place: tuple[str, int], key_id: str) -> None:
    assert wrapping_key({"key_encryption_key": uid}, INSTANCES) == (WrappingKey(place, key_id), None)


@pytest.mark.parametrize(
    ("uid", "words"),
    [
        ("hsm::1::kek", "is not hsm::<model>::<slot>::<key>"),
        ("hsm::softhsm2::kek", "is not hsm::<model>::<slot>::<key>"),
        ("hsm::softhsm2::1::", "is not hsm::<model>::<slot>::<key>"),
        ("hsm::softhsm2_2::1::kek", "no declared instance has the prefix hsm::softhsm2_2; there are: 'hsm::other', 'hsm::softhsm2'"),
        ("hsm::softhsm2_1::1::kek", "hsm::softhsm2_1 has no slot 1; it has '2', '3'"),
    ],
)
def test_a_wrapping_key_that_is_nowhere(uid: str, words: str) -> None:
    key, problem = wrapping_key({"key_encryption_key": uid}, INSTANCES)
    assert key is None and problem is not None and words in problem


def key(kind: str = "secret", label: str = "kek", key_id: bytes = b"kek", **more: Any) -> KeyObject:
    return KeyObject(1, kind, label, key_id, **{"type": "AES", "size": 256, "operations": ("encrypt", "decrypt"), **more})


@pytest.mark.parametrize(
    ("objects", "certified", "words", "there"),
    [
        ([key()], (), None, True),
        ([key(key_id=b"other")], (), None, True),
        # By its CKA_ID first: that another one has the label is no matter.
        ([key(label="x"), key(key_id=b"other")], (), None, True),
        ([], (), "is not there. Create it with hsm_key", False),
        ([key(label="x", key_id=b"y")], (b"kek",), "is not there", False),
        ([key(), key(label="x")], (), "is there 2 times", True),
        ([key(key_id=b"a"), key(key_id=b"b")], (), "is there 2 times", True),
        ([key()], (b"kek",), "is there 2 times", True),
        ([key(operations=("wrap", "unwrap"))], (), "does not permit encrypt and decrypt: the server wraps with C_Encrypt", True),
        ([key(operations=("encrypt",))], (), "does not permit decrypt:", True),
        # What the token does not say is not held against it.
        ([key(operations=(), untold=("encrypt", "decrypt"))], (), None, True),
    ],
)
def test_a_key_that_is_to_wrap(objects: list[KeyObject], certified: tuple[bytes, ...], words: str | None, there: bool) -> None:
    problem, found = wrapping_key_problem(WrappingKey(("hsm::softhsm2", 1), "kek"), objects, certified)
    assert found is there
    assert problem is None if words is None else problem is not None and words in problem


def test_keys_that_the_server_cannot_use() -> None:
    fine = [key(), key(size=128), key(kind="private", type="RSA", size=2048), key(type="GENERIC_SECRET")]
    assert unusable_keys(fine, old_server=True) is None
    pair = [key(kind=kind, key_id=b"web", type="EC", size=256) for kind in ("private", "public")]
    odd = [key(key_id=b"", label="old", size=192), key(key_id=b"b", size=192)]
    assert unusable_keys([*fine, *pair, *odd], old_server=True) == "AES-192 ('b', 'old'); EC ('web')"
    # Version 5.28 uses them.
    assert unusable_keys([*fine, *pair, *odd], old_server=False) == "EC ('web')"
