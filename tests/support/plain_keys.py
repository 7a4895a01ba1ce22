# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Keys of a token and records of the registry as plain values, for tests of what is worked out from them."""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from typing import Any

from ansible_collections.keyfleet.hsm.plugins.module_utils._model.keys.objects import Key, KeyObject
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.records import GroupRecord, VirtualKey, virtual_of
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.scope import Scope

_handles = count(1)
_ids = count(1)


def der(type: str, value: str) -> bytes:
    """A stand-in for the DER of a public key. ``value`` tells pairs apart."""
    return f"{type} public key {value}".encode()


def _object(kind: str, label: str, key_id: bytes | None, **fields: Any) -> KeyObject:
    named = {"handle": next(_handles), "label": label, "key_id": label.encode() if key_id is None else key_id}
    return KeyObject(kind=kind, **{**named, **fields})


def secret(label: str = "dek", key_id: bytes | None = None, *, value: str | None = "aa0001", type: str = "AES", **fields: Any) -> Key:
    """A secret key. ``value`` is its check value in hex, None where the token gives none."""
    fields = {"size": 256, "operations": ("encrypt", "decrypt"), "check_value": bytes.fromhex(value) if value else None, **fields}
    return Key(secret=_object("secret", label, key_id, type=type, **fields))


def half(kind: str, label: str = "sig", key_id: bytes | None = None, *, value: str | None = "p", type: str = "EC", **fields: Any) -> Key:
    """The public or the private half of a pair alone. ``value`` is None where the token does not give the public key.

    A private half gives it only where it is an RSA key, as on a token.
    """
    known = der(type, value) if value is not None and (kind == "public" or type == "RSA") else None
    operations = ("sign",) if kind == "private" else ("verify",)
    fields = {"size": 256, "operations": operations, "public_key": known, **fields}
    return Key(**{kind: _object(kind, label, key_id, type=type, **fields)})


def pair(label: str = "sig", key_id: bytes | None = None, *, value: str | None = "p", type: str = "EC", **fields: Any) -> Key:
    private = half("private", label, key_id, value=value, type=type, **fields).private
    return Key(private=private, public=half("public", label, key_id, value=value, type=type, **fields).public)


def named(key: Key, label: str | None = None, key_id: bytes | None = None) -> Key:
    """The same key under another CKA_LABEL or CKA_ID: somebody edited it."""
    changes: dict[str, Any] = {name: value for name, value in (("label", label), ("key_id", key_id)) if value is not None}
    return Key(**{item.kind: replace(item, **changes) for item in key.objects})


def record_of(key: Key, token_id: int = 1, **changes: Any) -> VirtualKey:
    """The record of a key that was found on a token, with an id of its own."""
    return replace(virtual_of(key, token_id, "hsm_sync"), id=f"record-{next(_ids)}", **changes)


HERE, STANDBY, GONE = 1, 2, 3  # tokens: the one that serves, another member of the group, one that is a member no more
GROUP = GroupRecord("payments", members=(HERE, STANDBY), id="group-1")


def scope_of(*records: VirtualKey, group: GroupRecord | None = None, **more: Any) -> Scope:
    """The scope of a group, or of a token's keys that are in none. Records of the group are those that have its id."""
    return Scope(HERE, group, records, same_token=frozenset({HERE}), **more)


def in_group(record: VirtualKey, group: GroupRecord = GROUP) -> VirtualKey:
    return replace(record, group_id=group.id)
