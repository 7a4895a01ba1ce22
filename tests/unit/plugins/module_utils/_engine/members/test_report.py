# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What was read of a group's members, as a sync asks it."""

from __future__ import annotations

from collections.abc import Sequence

from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.members.comparison import Member, MemberReport
from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.tokens.connection import Target
from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.tokens.serving import Connection
from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.virtual_keys.contents import TokenContents
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.groups.member_comparison import MemberKey, compare_members
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.keys.objects import Key
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.records import InstanceRecord, TokenRecord
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.tokens.selectors import TokenSelector
from plain_keys import secret


def member(priority: int, *keys: Key) -> Member:
    selector = TokenSelector("label", f"token {priority}")
    connection = Connection(priority, InstanceRecord(f"site-{priority}", "softhsm2", "/lib/a.so"), TokenRecord(selector))
    compared = [MemberKey("secret", key.main.key_id, key.main.label, "AES", 256, key.fingerprint) for key in keys]
    return Member(connection, Target(("/lib/a.so",), {}, selector), connection.shown(), TokenContents(str(selector), keys), compared)


def report(*members: Member, **more: object) -> MemberReport:
    return MemberReport(members, found=tuple(compare_members([one.keys for one in members])), **more)


def labels(contents: Sequence[TokenContents] | None) -> list[list[str]] | None:
    return None if contents is None else [[key.main.label for key in one.keys] for one in contents]


def test_what_those_hold_that_do_not_serve() -> None:
    members = [member(1, secret("a")), member(2, secret("b")), member(4, secret("c"))]
    assert labels(report(*members, serving=1).others) == [["a"], ["c"]]
    assert labels(report(members[0]).others) == []
    # One that could not be read may hold anything.
    assert report(*members, serving=1, unread=({"priority": 3},)).others is None


def test_a_label_that_one_member_has_twice() -> None:
    twice = member(2, secret("a", b"1"), secret("a", b"2"), secret("b"))
    assert report(member(1, secret("b")), twice).repeated_labels() == {"a"}


def test_rows_name_the_members() -> None:
    rows = report(member(1, secret("a")), member(3)).rows
    assert [(row["label"], [one["instance"] for one in row["have"]], [one["priority"] for one in row["lack"]]) for row in rows] == [
        ("a", ["site-1"], [3])
    ]
