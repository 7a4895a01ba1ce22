# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every field of a record is written by insert and by update, and read again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path

import pytest
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.records import (
    GroupRecord,
    InstanceRecord,
    PendingKey,
    TokenRecord,
    VirtualKey,
)
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.tokens.selectors import TokenSelector
from ansible_collections.keyfleet.hsm.plugins.module_utils._registry import groups, instances, pending_keys, virtual_keys
from ansible_collections.keyfleet.hsm.plugins.module_utils._registry.database import Database, open_database

TOKEN = TokenRecord(TokenSelector("label", "payments"), "payments", "c0ffee", 7, False, "so", "/etc/pin")
OTHER = TokenRecord(TokenSelector("slot", 3), None, None, None, True, "user", None)
INSTANCE = InstanceRecord(
    "primary", "softhsm2", "/lib/a.so", "first", ("ada", "bob"), 12, 30, {"A": "1"}, (TOKEN, OTHER), "configdir='x'", True, "eviden"
)
KEY = VirtualKey(
    token_id=1,
    kind="secret",
    key_id=b"\x00\xff",
    label="dek",
    type="AES",
    size=128,
    curve="none",
    operations=("encrypt",),
    origin="hsm_key",
    state="suspended",
    fingerprint="66e94b",
    public_key=b"der",
    made_at="2026-01-01T00:00:00Z",
    generation=3,
    unreported=(("derive", False),),
)
# In every field another value, but for what a record is born with.
CHANGED = replace(
    KEY,
    token_id=2,
    kind="private",
    key_id=b"\x01",
    label="web",
    type="EC",
    size=256,
    curve="P-256",
    operations=("sign", "verify"),
    state="active",
    fingerprint="77",
    public_key=b"other",
    made_at="2027-01-01T00:00:00Z",
    generation=4,
    unreported=(("encrypt", True), ("sensitive", True)),
)
BORN_WITH = {"id", "origin", "created_at", "updated_at"}


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Database]:
    with open_database(str(tmp_path / "registry.db"), run="test", create=True) as database, database.transaction():
        instances.save(database, INSTANCE, "add_instance")
        groups.save(database, GroupRecord("payments", "two", True, "own", (2, 1)))
        yield database


def apart_from(record: object, *names: str) -> dict[str, object]:
    return {name: value for name, value in vars(record).items() if name not in names}


def test_instances_and_tokens(registry: Database) -> None:
    (found,) = instances.all_instances(registry)
    assert apart_from(found, "id", "position", "created_at", "updated_at", "tokens") == apart_from(
        INSTANCE, "id", "position", "created_at", "updated_at", "tokens"
    )
    assert found.id and found.position == 1 and found.created_at == found.updated_at
    assert [replace(token, id=None) for token in found.tokens] == [TOKEN, OTHER]
    second, first = (
        replace(token, slot=9, login=not token.login, pinpad=not token.pinpad, user_type="x", pin_file="/p", serial="s")
        for token in found.tokens
    )
    values = {"name": "b", "model": "m", "library": "l", "description": "d", "admins": (), "max_sessions": 1, "connection_timeout": 2}
    changed = replace(found, **values, environment={"B": "2"}, tokens=(first, second), init_args="", os_locking=False, layout="pkcs11")
    instances.save(registry, changed, "change_instance")
    assert [replace(record, updated_at=found.updated_at) for record in instances.all_instances(registry)] == [changed]


def test_groups(registry: Database) -> None:
    (found,) = groups.all_groups(registry)
    assert found == GroupRecord("payments", "two", True, "own", (2, 1), found.id, found.created_at, found.updated_at)
    groups.save(registry, replace(found, description="one", apply_changes=False, members=(1,), key_scan="all"))
    (now,) = groups.all_groups(registry)
    assert (now.description, now.apply_changes, now.members) == ("one", False, (1,))
    assert (now.id, now.key_scan, now.created_at) == (found.id, "own", found.created_at)  # a scan mode is not changed


def test_virtual_keys(registry: Database) -> None:
    (group,) = groups.all_groups(registry)
    assert all(
        getattr(KEY, field.name) != getattr(CHANGED, field.name) for field in fields(KEY) if field.name not in (*BORN_WITH, "group_id")
    )
    assert virtual_keys.add(registry, [("uid", KEY)]) == [True]
    (made,) = virtual_keys.of_tokens(registry, [1])
    assert apart_from(made, *BORN_WITH) == apart_from(KEY, *BORN_WITH) and made.origin == "hsm_key" and made.id and made.created_at
    virtual_keys.update(registry, "uid", replace(CHANGED, id=made.id, group_id=group.id, origin="other", created_at="never"))
    assert virtual_keys.of_group(registry, group.id or "") == [replace(CHANGED, id=made.id, group_id=group.id, created_at=made.created_at)]


def test_a_key_that_another_run_recorded_meanwhile(registry: Database) -> None:
    virtual_keys.add(registry, [("uid", KEY)])
    same_name = replace(CHANGED, token_id=1, kind=KEY.kind, key_id=KEY.key_id, label=KEY.label)
    assert virtual_keys.add(registry, [("uid", same_name)]) == [False]
    (before,) = virtual_keys.of_tokens(registry, [1])
    assert before.type == "AES"
    later = replace(same_name, generation=2, made_at=None)
    assert virtual_keys.add(registry, [("uid", later)], overwrite=True) == [True]
    # What the one knew and the other does not is kept.
    expected = replace(later, id=before.id, created_at=before.created_at, generation=3, made_at=KEY.made_at)
    assert virtual_keys.of_tokens(registry, [1]) == [expected]


def test_pending_keys(registry: Database) -> None:
    note = PendingKey(1, "dek", b"\x01", True, False, 2)
    pending_keys.add(registry, [note])
    assert pending_keys.of_token(registry, 1) == {"dek": note}
    pending_keys.add(registry, [PendingKey(1, "dek", b"\x02", False, True, 9)])
    # How many nameless objects there were counts from the first run that died.
    assert pending_keys.of_token(registry, 1) == {"dek": PendingKey(1, "dek", b"\x02", False, True, 2)}
    pending_keys.remove(registry, 1, ["dek"])
    assert pending_keys.of_token(registry, 1) == {}
