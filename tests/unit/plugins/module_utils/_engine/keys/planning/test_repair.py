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

from ansible_collections.keyfleet.hsm.plugins.module_utils._model.faults import WRONG_ANSWER
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


AES, EC, RSA = key(), key(type="EC"), key(type="RSA")
assert RSA.private is not None and EC.private is not None and EC.public is not None
RSA_PRIVATE = Key(private=replace(RSA.private, modulus=b"n", exponent=b"e"))
PRIVATE, PUBLIC = replace(EC, public=None), replace(EC, private=None)
HOLLOW, FAILS, WRONG = PlainLook(hollow=("k",)), PlainLook(unusable={"k": "CKR_FUNCTION_FAILED"}), PlainLook(unusable={"k": WRONG_ANSWER})
LEFT = {
    "an RSA private half": Left(RSA_PRIVATE),
    "an RSA private half, recorded": Left(RSA_PRIVATE, record_of(RSA)),
    "an EC private half": Left(PRIVATE),
    "an EC private half, recorded": Left(PRIVATE, record_of(EC)),
    "an EC private half, recorded another's": Left(PRIVATE, record_of(EC), PlainLook(halves=False)),
    "an EC private half that somebody imported": Left(Key(private=replace(EC.private, local=False))),
    "a public half": Left(PUBLIC),
    "a public half, recorded as a pair": Left(PUBLIC, record_of(EC)),
    "a public half, recorded as such": Left(PUBLIC, record_of(PUBLIC)),
    "a public half that somebody imported": Left(Key(public=replace(EC.public, local=False))),
    "a public half, not destroyable": Left(Key(public=replace(EC.public, destroyable=False))),
    "a public half beside a certificate": Left(PUBLIC, certified=(b"k",)),
    "a secret key without a value": Left(AES, None, HOLLOW),
    "a secret key without a value, recorded": Left(AES, record_of(AES), HOLLOW),
    "a secret key that fails once": Left(AES, None, FAILS),
    "a secret key that works": Left(AES),
    "a secret key that may do more": Left(key(operations=("encrypt", "decrypt", "sign"), extractable=True)),
    "a pair that does not belong together": Left(EC, None, WRONG),
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
a pair that does not belong together       !halves       !halves     !halves     !halves         !halves     !halves        !halves
"""
SAID: dict[str, dict[str, Any]] = {
    "repair": {"repair": True},
    "note": {"notes": (note(),)},
    "note, replaces": {"notes": (note(replaces=True),)},
}


def planned(row: str, column: str) -> str:
    found, record, look, certified = LEFT[row]
    said, _slash, held_back = column.partition(" / ")
    known = (in_group(record),) if record is not None else ()
    group = replace(GROUP, apply_changes=not held_back)
    world = World((found,), known, group, look=look, certified=certified, **SAID.get(said, {}))
    wish = {"type": found.main.type, "material": clear(found.main.type, "q") if said == "source" else None}
    return in_words(world.plan(wish))


def test_repair() -> None:
    assert {(row, column): planned(row, column) for row, column, _words in rows_of(TABLE)} == {
        (row, column): words for row, column, words in rows_of(TABLE)
    }
    assert {row for row, _column, _words in rows_of(TABLE)} == LEFT.keys()
