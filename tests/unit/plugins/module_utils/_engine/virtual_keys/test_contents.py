# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What speaks for a record whose key is missing, and which keys of a token a group compares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.virtual_keys.contents import TokenContents, prunable
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.keys.objects import Key
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.records import VirtualKey
from plain_keys import GROUP, half, in_group, named, pair, record_of, scope_of, secret

AES, EC = record_of(secret()), record_of(pair())
HERE, THERE = (
    "token 'a' has a key with the same label, id or public key",
    "another member has it, or a key of that label or id, see members",
)
DEAD = "a run that was cut off was at work on it"


@pytest.mark.parametrize(
    ("record", "here", "there", "pending", "reason"),
    [
        (AES, [], [], (), None),
        (AES, [secret("other"), pair("dek", b"dek")], [], (), None),  # another kind of key
        # The key, or one that has a name in common with it, here or on another member.
        (AES, [secret("dek", b"2")], [], (), HERE),
        (AES, [secret("other", b"dek")], [], (), HERE),
        (AES, [], [secret("dek", b"2")], (), THERE),
        (AES, [], [secret("other", b"dek")], (), THERE),
        (AES, [secret("dek", b"2")], [secret("dek", b"2")], (), HERE),
        (AES, [], [secret("other", b"2")], (), None),  # a check value alone is no ground
        (EC, [pair("other", b"2")], [], (), HERE),
        (EC, [], [pair("other", b"2")], (), THERE),
        (EC, [], [pair("other", b"2", value="q")], (), None),
        (EC, [half("public")], [], (), None),  # the public half is not the key
        (record_of(half("public")), [pair("other", b"2")], [], (), HERE),
        (record_of(pair(type="RSA")), [half("private", "other", b"2", type="RSA")], [], (), HERE),
        # What a dead run was at work on, on any member.
        (AES, [], [], ("here", "dek"), DEAD),
        (AES, [], [], ("there", "dek"), DEAD),
        (AES, [secret("dek", b"2")], [], ("there", "dek"), DEAD),
        (AES, [], [], ("there", "other"), None),
    ],
)
def test_what_speaks_for_a_record(
    record: VirtualKey, here: list[Key], there: list[Key], pending: Sequence[str], reason: str | None
) -> None:
    mine = TokenContents("token 'a'", here, pending[1:] if "here" in pending else ())
    others = [TokenContents("token 'b'", there, pending[1:] if "there" in pending else ())]
    gone, warnings = prunable([record], mine, others, "group 'payments'")
    assert gone == ((record,) if reason is None else ())
    assert warnings == (() if reason is None else (f"group 'payments': '{record.label}' not pruned: {reason}.",))


def test_a_member_that_could_not_be_read_may_have_them_all() -> None:
    gone, warnings = prunable([AES, EC], TokenContents("token 'a'", []), None, "group 'payments'")
    assert gone == () and len(warnings) == 1 and "nothing was pruned, because a member could not be read" in warnings[0]
    assert prunable([], TokenContents("token 'a'", []), None, "group 'payments'") == ((), ())


def test_what_is_kept_is_told_by_reason() -> None:
    records = [AES, replace(AES, label="", key_id=b"\x01"), EC]
    contents = TokenContents("token 'a'", [secret("dek", b"2"), secret("x", b"\x01")])
    gone, warnings = prunable(records, contents, (), "token 'a'")
    assert gone == (EC,) and warnings == (f"token 'a': 'dek', '01' not pruned: {HERE}.",)


def test_labels_that_stand_more_than_once() -> None:
    keys = [secret("a", b"1"), secret("a", b"2"), pair("b"), secret("", b"3"), secret("", b"4")]
    assert TokenContents("token 'a'", keys).repeated_labels() == {"a"}


OWN = replace(GROUP, key_scan="own")


@pytest.mark.parametrize(
    ("key", "all_keys", "own_keys"),
    [
        (secret(), True, True),
        (secret("dek", b"9", value="bb0001"), True, True),  # a namesake
        (named(secret(), "copy", b"9"), True, True),  # the key itself under another name
        (named(secret(value=None), "copy", b"9"), True, False),
        (named(secret(value="bb0001"), "copy"), True, False),  # its CKA_ID alone
        (named(pair(), "copy", b"9"), True, True),
        (named(half("public"), "copy", b"9"), True, True),
        (pair("dek", value="q"), True, False),  # of another kind
        (secret("loose", value="dd0001"), True, False),  # recorded, but not by this group
        (secret("stranger", value="cc0001"), True, False),
        (secret("", b"1", value="cc0001"), True, False),
        (secret("", b""), False, False),
        (secret("half"), False, False),  # a run that was cut off was making it
    ],
)
def test_what_a_group_compares(key: Key, all_keys: bool, own_keys: bool) -> None:
    records = [in_group(AES), in_group(EC), in_group(record_of(secret("half"))), record_of(secret("loose", value="dd0001"))]
    contents = TokenContents("token 'a'", [key], ["half"])
    assert contents.compared(scope_of(*records, group=GROUP)) == [key] * all_keys
    assert contents.compared(scope_of(*records, group=OWN)) == [key] * own_keys


@pytest.mark.parametrize("side", ["token 'a'", "token 'b'"])
def test_nothing_is_given_up_where_a_token_may_hide_keys(side: str) -> None:
    mine, other = (
        TokenContents(name, [], hidden="this user cannot see all" if name == side else None) for name in ("token 'a'", "token 'b'")
    )
    gone, (warning,) = prunable([AES], mine, [other], "group 'payments'")
    assert gone == () and f"{side} may have the keys that are missing: this user cannot see all" in warning
    assert prunable([], mine, [other], "group 'payments'") == ((), ())
