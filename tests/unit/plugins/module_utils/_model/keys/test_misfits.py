# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What stands beside keys and is not laid out for the Eviden server, and what would be done about it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import pytest
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.keys.misfits import LayoutNote, misfits
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.keys.object_names import CertificateName, Names
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.keys.objects import Key, KeyObject, group_keys, laid_out
from plain_keys import half, named, pair, secret


class There(NamedTuple):
    """Objects of a token, its certificates as (CKA_ID, value), the note of a run that died, and what is told of them."""

    keys: list[Key]
    told: list[str]
    certificates: tuple[tuple[bytes, bytes], ...] = ()
    noted: bool = False


PAIR = pair("k")
assert PAIR.private is not None and PAIR.public is not None
LAID_OUT = laid_out(PAIR)


def public(key: Key, **changes: Any) -> Key:
    assert key.public is not None
    return Key(private=key.private, public=replace(key.public, **changes))


TOKENS = {
    "nothing beside": There([secret("dek"), half("public", "a"), half("private", "b")], []),
    "both share their names": There([PAIR], ["public_key rename"]),
    "the server's names": There([LAID_OUT], []),
    "an id, and not yet a label": There([public(PAIR, key_id=b"k_pk")], ["public_key rename"]),
    "not modifiable": There([public(PAIR, modifiable=False)], ["public_key anew"]),
    "neither that nor destroyable": There([public(PAIR, modifiable=False, destroyable=False)], ["public_key !not_destroyable"]),
    "an unknown value": There([public(PAIR, public_key=None)], ["public_key !unknown_public_key"]),
    "no id": There([named(PAIR, key_id=b"")], []),
    "the name is a secret key's": There([PAIR, secret("x", b"k_pk")], ["public_key !name_taken"]),
    "the name is another pair's": There([PAIR, half("public", "x", b"k_pk", value="q")], ["public_key !name_taken"]),
    "made, and the old one is there": There([PAIR, half("public", "k_pk", b"k_pk")], ["public_key drop"]),
    "lost, and noted": There([Key(private=PAIR.private)], ["public_key restore"], noted=True),
    "there, and noted": There([LAID_OUT], [], noted=True),
    "a certificate with the id of a secret key": There([secret("k")], ["certificate anew"], ((b"k", b"1"),)),
    "two of them": There([LAID_OUT], ["certificate anew", "certificate anew"], ((b"k", b"1"), (b"k", b"2"))),
    "stored anew, and the old one is there": There([LAID_OUT], ["certificate drop"], ((b"k", b"1"), (b"k_cert", b"1"))),
    "a later one beside it": There([LAID_OUT], ["certificate anew"], ((b"k", b"1"), (b"k_cert", b"2"))),
    "its name is a secret key's": There([LAID_OUT, secret("x", b"k_cert")], ["certificate !name_taken"], ((b"k", b"1"),)),
    "another id": There([LAID_OUT], [], ((b"other", b"1"), (b"k_cert", b"2"))),
}


def objects(keys: list[Key]) -> list[KeyObject]:
    return [item for key in keys for item in key.objects]


@pytest.mark.parametrize("case", TOKENS)
def test_misfits(case: str) -> None:
    keys, told, certificates, noted = TOKENS[case]
    names = [CertificateName(1000 + number, Names(key_id, "k"), value) for number, (key_id, value) in enumerate(certificates)]
    assert PAIR.private is not None and PAIR.public is not None
    notes = [LayoutNote.of(1, PAIR.private, PAIR.public)] if noted else []
    found = misfits(group_keys(objects(keys)), names, notes)
    assert [f"{one.object} {'!' + one.problem.code if one.problem else one.way}" for one in found] == told
