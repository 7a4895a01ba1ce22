# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a crash may leave of a key, and what may be done about it.

A row is what is there, a column what else is known or said: ``repair: true``, the note of a run that died while it made or while it
replaced the key, a ``source``. "held" is in a group with ``apply_changes: false``, the others one that applies changes. ``!``
stands before a problem: its words are in ``plan_tables``.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import pytest
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.faults import WRONG_ANSWER
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.keys.layout import LAYOUTS, certificate_id
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.keys.objects import Key
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.records import VirtualKey
from plain_keys import GROUP, in_group, record_of
from plain_plans import PlainLook, World, clear, key, note
from plan_tables import in_words, rows_of


class Left(NamedTuple):
    """What is there, what is recorded of it, and how the token answers."""

    found: Key
    record: VirtualKey | None = None
    look: PlainLook = PlainLook()
    certified: tuple[bytes, ...] = ()


HOLLOW, FAILS, WRONG = PlainLook(hollow=("k",)), PlainLook(unusable={"k": "CKR_FUNCTION_FAILED"}), PlainLook(unusable={"k": WRONG_ANSWER})


def everything(layout: str) -> dict[str, Left]:
    """The rows of the table, as keys are called in this layout."""
    aes, ec, rsa = key(), key(type="EC", layout=layout), key(type="RSA", layout=layout)
    assert rsa.private is not None and ec.private is not None and ec.public is not None
    rsa_private = Key(private=replace(rsa.private, modulus=b"n", exponent=b"e"))
    private, public = replace(ec, public=None), replace(ec, private=None)
    return {
        "an RSA private half": Left(rsa_private),
        "an RSA private half, recorded": Left(rsa_private, record_of(rsa)),
        "an EC private half": Left(private),
        "an EC private half, recorded": Left(private, record_of(ec)),
        "an EC private half, recorded another's": Left(private, record_of(ec), PlainLook(halves=False)),
        "an EC private half that somebody imported": Left(Key(private=replace(ec.private, local=False))),
        "a public half": Left(public),
        "a public half, recorded as a pair": Left(public, record_of(ec)),
        "a public half, recorded as such": Left(public, record_of(public)),
        "a public half that somebody imported": Left(Key(public=replace(ec.public, local=False))),
        "a public half, not destroyable": Left(Key(public=replace(ec.public, destroyable=False))),
        "a public half beside a certificate": Left(public, certified=(certificate_id(layout, b"k"),)),
        "a secret key without a value": Left(aes, None, HOLLOW),
        "a secret key without a value, recorded": Left(aes, record_of(aes), HOLLOW),
        "a secret key that fails once": Left(aes, None, FAILS),
        "a secret key that works": Left(aes),
        "a secret key that may do more": Left(key(operations=("encrypt", "decrypt", "sign"), extractable=True)),
        "a secret key that may do more, for good": Left(key(operations=("encrypt", "decrypt", "sign"), modifiable=False)),
        "a pair that does not belong together": Left(ec, None, WRONG),
    }


TABLE = """
what is there                              nothing said  repair      note        note, replaces  source      repair / held  note / held
an RSA private half                        !repair       repair      repair      repair          repair      repair         repair
an RSA private half, recorded              !repair       repair      !repair     !repair         repair      repair         !repair
an EC private half                         !unknown      !unknown    repair      repair          repair      !unknown       repair
an EC private half, recorded               !repair       repair      !repair     !repair         repair      repair         !repair
an EC private half, recorded another's     !repair       !apart      !repair     !repair         !apart      !apart         !repair
an EC private half that somebody imported  !unknown      !unknown    !unknown    repair          repair      !unknown       !unknown
a public half                              !repair       repair      repair      repair          !repair     !policy        repair
a public half, recorded as a pair          !whole        !whole      !whole      repair          !whole      !whole         !whole
a public half, recorded as such            !public       !public     !public     !public         !public     !public        !public
a public half that somebody imported       !repair       !imported   !repair     repair          !repair     !imported      !repair
a public half, not destroyable             !for-good     !for-good   !for-good   !for-good       !for-good   !for-good      !for-good
a public half beside a certificate         !certified    !certified  !certified  !certified      !certified  !certified     !certified
a secret key without a value               !repair       repair      repair      repair          !repair     !policy        repair
a secret key without a value, recorded     keep          keep        !whole      repair          keep        keep           !whole
a secret key that fails once               !repair       !unusable   !unusable   !unusable       !repair     !unusable      !unusable
a secret key that works                    record        record      record      record          record      record         record
a secret key that may do more              record        record      change      record          record      record         change
a secret key that may do more, for good    record        record      record      record          record      record         record
a pair that does not belong together       !halves       !halves     !halves     !halves         !halves     !halves        !halves
"""
SAID: dict[str, dict[str, Any]] = {
    "repair": {"repair": True},
    "note": {"notes": (note(),)},
    "note, replaces": {"notes": (note(replaces=True),)},
}


def planned(left: Left, column: str, layout: str) -> str:
    found, record, look, certified = left
    said, _slash, held_back = column.partition(" / ")
    known = (in_group(record),) if record is not None else ()
    group = replace(GROUP, apply_changes=not held_back)
    world = World((found,), known, group, look=look, certified=certified, layout=layout, **SAID.get(said, {}))
    wish = {"type": found.main.type, "material": clear(found.main.type, "q") if said == "source" else None}
    return in_words(world.plan(wish))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_repair(layout: str) -> None:
    """What a public half is called makes no difference."""
    left = everything(layout)
    assert {(row, column): planned(left[row], column, layout) for row, column, _words in rows_of(TABLE)} == {
        (row, column): words for row, column, words in rows_of(TABLE)
    }
    assert {row for row, _column, _words in rows_of(TABLE)} == left.keys()
