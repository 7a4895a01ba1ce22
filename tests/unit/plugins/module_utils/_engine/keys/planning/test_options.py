# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What an entry says beside its state: what differs and what is done about it, operations, earlier generations, ``enforce``.

A row is what is there, a column what is said or whose policy counts, a cell what is done. ``!`` stands before a problem: its words
are in ``plan_tables``. "holds back" and "applies" are groups with ``apply_changes`` false and true; the rest is a token's own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import pytest
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.keys.objects import Key
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.records import VirtualKey
from plain_keys import GROUP, STANDBY, in_group, record_of
from plain_plans import Answer, PlainLook, World, clear, key
from plan_tables import in_words, rows_of

SCOPES = {"instance": None, "holds back": GROUP, "applies": replace(GROUP, apply_changes=True)}
AES, EC = key(), key(type="EC")
FIXED, KEPT = key(modifiable=False), key(destroyable=False)


def there(found: Key | None, scope: str, record: VirtualKey | None, **more: Any) -> World:
    """A world with at most one key and its record, which is that scope's own."""
    group = SCOPES[scope]
    known = () if record is None else (in_group(record) if group is not None else record,)
    return World((found,) if found is not None else (), known, group, **more)


def secret(**fields: Any) -> Key:
    return Key(secret=replace(AES.main, **fields))


class Difference(NamedTuple):
    """A key and an entry that differ, and what the token says of a source."""

    found: Key
    wish: dict[str, Any]
    look: PlainLook = PlainLook()


SOURCE = {"material": clear("AES")}
DIFFERENCES = {
    "the type": Difference(EC, {"type": "AES"}),
    "the size": Difference(AES, {"size": 128}),
    "the curve": Difference(EC, {"type": "EC", "curve": "P-384"}),
    "the id": Difference(AES, {"id": "99"}),
    "sensitive, asked for false": Difference(AES, {"sensitive": False}),
    "extractable, asked for true": Difference(AES, {"extractable": True}),
    "modifiable": Difference(AES, {"modifiable": False}),
    "destroyable": Difference(AES, {"destroyable": False}),
    "the allowed mechanisms": Difference(secret(allowed_mechanisms=("AES_CBC", "AES_GCM")), {"allowed_mechanisms": ["AES_GCM"]}),
    "wrap_with_trusted": Difference(secret(wrap_with_trusted=False), {"wrap_with_trusted": True}),
    "wrap_with_trusted, which the token does not say": Difference(AES, {"wrap_with_trusted": True}),
    "the size, which the token does not say": Difference(secret(size=None), {"size": 128}),
    "operations, not modifiable": Difference(FIXED, {"operations": ["encrypt"]}),
    "the size, not destroyable": Difference(KEPT, {"size": 128}),
    "the source": Difference(AES, SOURCE, PlainLook(same_key=False)),
    "the source, which the token does not take": Difference(AES, SOURCE, PlainLook(same_key=False, refuses="no")),
    "the source, which cannot be told": Difference(AES, SOURCE, PlainLook(same_key=None)),
    "nothing": Difference(AES, {}),
}

ON_MISMATCH = """
what differs                                     fail       keep       replace     replace, holds back  replace, applies
the type                                         !differs   keep       replace     !policy              replace
the size                                         !differs   keep       replace     !policy              replace
the curve                                        !differs   keep       replace     !policy              replace
the id                                           !differs   keep       replace     !policy              replace
sensitive, asked for false                       !differs   keep       replace     !policy              replace
extractable, asked for true                      !differs   keep       replace     !policy              replace
modifiable                                       !differs   keep       replace     !policy              replace
destroyable                                      !differs   keep       replace     !policy              replace
the allowed mechanisms                           !differs   keep       replace     !policy              replace
wrap_with_trusted                                !differs   keep       replace     !policy              replace
wrap_with_trusted, which the token does not say  !not-said  !not-said  !not-said   !not-said            !not-said
the size, which the token does not say           !not-said  !not-said  !not-said   !not-said            !not-said
operations, not modifiable                       !frozen    keep       replace     record               record
the size, not destroyable                        !differs   keep       !for-good   !policy              !for-good
the source                                       !differs   keep       replace     !policy              replace
the source, which the token does not take        !differs   keep       !not-taken  !policy              !not-taken
the source, which cannot be told                 keep       keep       keep        keep                 keep
nothing                                          keep       keep       keep        keep                 keep
"""


def on_mismatch(row: str, column: str) -> Answer:
    found, wish, look = DIFFERENCES[row]
    way, _comma, scope = column.partition(", ")
    return there(found, scope or "instance", record_of(found), look=look).plan({"type": "AES", **wish, "on_mismatch": way})


class Change(NamedTuple):
    """A key, the entry that changes it, and what is recorded of it."""

    found: Key
    wish: dict[str, Any]
    record: VirtualKey | None


LESS, MORE, SAME = ({"operations": names} for names in (["encrypt"], ["encrypt", "decrypt", "sign"], ["encrypt", "decrypt"]))
PLAIN = secret(sensitive=False, extractable=True)
GOOD = record_of(AES)
NARROW, SUSPENDED = replace(GOOD, operations=("encrypt",)), replace(GOOD, state="suspended")
CHANGES = {
    "fewer operations": Change(AES, LESS, GOOD),
    "fewer operations, as recorded": Change(AES, LESS, NARROW),
    "more operations": Change(AES, MORE, GOOD),
    "other operations": Change(AES, {"operations": ["encrypt", "sign"]}, GOOD),
    "the same operations": Change(AES, SAME, GOOD),
    "the same, recorded with fewer": Change(AES, SAME, NARROW),
    "none named, recorded with fewer": Change(AES, {}, NARROW),
    "fewer operations, not modifiable": Change(FIXED, LESS, record_of(FIXED)),
    "more operations, not modifiable": Change(FIXED, MORE, record_of(FIXED)),
    "a pair loses sign": Change(EC, {"type": "EC", "operations": ["verify"]}, record_of(EC)),
    "sensitive": Change(PLAIN, {"sensitive": True}, record_of(PLAIN)),
    "not extractable": Change(PLAIN, {"extractable": False}, record_of(PLAIN)),
    "sensitive, unrecorded": Change(PLAIN, {"sensitive": True}, None),
    "fewer operations, suspended": Change(AES, LESS, SUSPENDED),
    "fewer operations, to be active": Change(AES, {**LESS, "state": "active"}, SUSPENDED),
}

DECLARED = """
what is declared                  instance  holds back  applies
fewer operations                  change    record      change
fewer operations, as recorded     change    keep        change
more operations                   change    !policy     change
other operations                  change    !policy     change
the same operations               keep      keep        keep
the same, recorded with fewer     record    record      record
none named, recorded with fewer   keep      keep        keep
fewer operations, not modifiable  !frozen   record      record
more operations, not modifiable   !frozen   !policy     !frozen
a pair loses sign                 change    record      change
sensitive                         change    !policy     change
not extractable                   change    !policy     change
sensitive, unrecorded             change    !policy     change
fewer operations, suspended       change    record      change
fewer operations, to be active    change    set_state   change
"""


def declared(row: str, column: str) -> Answer:
    found, wish, record = CHANGES[row]
    return there(found, column, record).plan({"type": "AES", **wish})


FIRST, SECOND, SMALL = key("k"), key("k@2"), key("k@2", size=128)
OLD, NEW = record_of(FIRST), record_of(SECOND, generation=2)
# The keys that are there, and the records. The second generation is declared.
GENERATIONS: dict[str, tuple[list[Key], list[VirtualKey]]] = {
    "plain": ([FIRST], [OLD]),
    "unrecorded": ([FIRST], []),
    "not destroyable": ([KEPT], [record_of(KEPT)]),
    "recorded as suspended": ([FIRST], [replace(OLD, state="suspended")]),
    "recorded as deactivated": ([FIRST], [replace(OLD, state="deactivated")]),
    "recorded as destroyed": ([FIRST], [replace(OLD, state="destroyed")]),
    "gone": ([], [OLD]),
    "on another member": ([], [replace(OLD, token_id=STANDBY)]),
    "the second is there": ([FIRST, SECOND], [OLD, NEW]),
    "the second is there, unrecorded": ([FIRST, SECOND], [OLD]),
    "the second is there, recorded as the first": ([FIRST, SECOND], [OLD, record_of(SECOND)]),
    "the second is there, another size": ([FIRST, SMALL], [OLD, record_of(SMALL, generation=2)]),
    "the second is there, unusable": ([FIRST, SECOND], [OLD, NEW]),
    "the second is gone": ([FIRST], [OLD, NEW]),
}

PREVIOUS = """
the first generation                        keep    deactivate         destroy        destroy, holds back  destroy, applies
plain                                       create  create+deactivate  create+delete  create+forget        create+delete
unrecorded                                  create  create+deactivate  create+delete  create+keep          create+delete
not destroyable                             create  create+deactivate  !for-good      create+forget        !for-good
recorded as suspended                       create  create+deactivate  create+delete  create+forget        create+delete
recorded as deactivated                     create  create+keep        create+delete  create+forget        create+delete
recorded as destroyed                       create  create+keep        create+delete  create+keep          create+delete
gone                                        create  create             create+forget  create+forget        create+forget
on another member                           create  create             create+forget  create+forget        !away
the second is there                         keep    keep+deactivate    keep+delete    keep+forget          keep+delete
the second is there, unrecorded             record  record+deactivate  record+delete  record+forget        record+delete
the second is there, recorded as the first  record  record+deactivate  record+delete  record+forget        record+delete
the second is there, another size           keep    keep+deactivate    !now-differs   keep+forget          !now-differs
the second is there, unusable               keep    keep+deactivate    !now-unusable  keep+forget          !now-unusable
the second is gone                          create  create+deactivate  !now-lost      create+forget        !now-lost
"""


def previous(row: str, column: str) -> Answer:
    keys, records = GENERATIONS[row]
    way, _comma, scope = column.partition(", ")
    group = SCOPES[scope or "instance"]
    known = tuple(in_group(record) if group is not None else record for record in records)
    look = PlainLook(unusable={"k@2": "CKR_DEVICE_ERROR"} if row == "the second is there, unusable" else {})
    wish = {"type": "AES", "size": 256, "generation": 2, "previous": way, "on_vanished": "recreate", "on_mismatch": "keep"}
    return World(tuple(keys), known, group, look=look).plan(wish)


DECRYPTS, FIXED_DECRYPTS = key(operations=["decrypt"]), key(operations=["decrypt"], modifiable=False)
IN_USE: dict[str, tuple[Key | None, str]] = {
    "a secret key": (AES, "active"),
    "a pair": (EC, "active"),
    "suspended": (AES, "suspended"),
    "only decrypts": (DECRYPTS, "active"),
    "not modifiable": (FIXED, "active"),
    "not modifiable, only decrypts": (FIXED_DECRYPTS, "active"),
    "gone": (None, "active"),
    "deactivated": (AES, "deactivated"),
    "deactivated, only decrypts": (DECRYPTS, "deactivated"),
}

ENFORCED = """
what it is                     deactivated  deactivated, holds back  deactivated, applies  compromised  compromised, applies
a secret key                   deactivate   !policy                  deactivate            set_state    set_state
a pair                         deactivate   !policy                  deactivate            set_state    set_state
suspended                      deactivate   !policy                  deactivate            set_state    set_state
only decrypts                  deactivate   !policy                  deactivate            set_state    set_state
not modifiable                 !frozen      !policy                  !frozen               !frozen      !frozen
not modifiable, only decrypts  deactivate   !policy                  deactivate            set_state    set_state
gone                           !absent      !absent                  !absent               !absent      !absent
deactivated                    change       !policy                  change                set_state    set_state
deactivated, only decrypts     keep         !policy                  keep                  set_state    set_state
"""


def enforced(row: str, column: str) -> Answer:
    found, before = IN_USE[row]
    state, _comma, scope = column.partition(", ")
    return there(found, scope or "instance", replace(record_of(found or AES), state=before)).plan({"state": state, "enforce": True})


ONE, OTHER = key("k", id="01"), key("k", id="02")
LABELLED = {"one key, id 01": (ONE,), "two keys, ids 01 and 02": (ONE, OTHER)}

NAMED = """
there                    no id      id 01   id 03     absent    id 01, absent  id 03, absent  id 01, suspended  id 03, suspended
one key, id 01           record     record  !differs  delete    delete         keep           set_state         !absent
two keys, ids 01 and 02  !several   record  !several  !several  delete         keep           set_state         !absent
"""


def named(row: str, column: str) -> Answer:
    said, _comma, state = column.partition(", ")
    wish: dict[str, Any] = {"id": said.removeprefix("id ")} if said.startswith("id ") else {}
    state = state or (said if said == "absent" else "present")
    return World(LABELLED[row]).plan({**wish, "state": state, **({"type": "AES"} if state == "present" else {})})


TABLES = {
    "on_mismatch": (ON_MISMATCH, on_mismatch, DIFFERENCES),
    "declared": (DECLARED, declared, CHANGES),
    "previous": (PREVIOUS, previous, GENERATIONS),
    "enforced": (ENFORCED, enforced, IN_USE),
    "named": (NAMED, named, LABELLED),
}


@pytest.mark.parametrize("name", TABLES)
def test_options(name: str) -> None:
    table, planned, rows = TABLES[name]
    answer: Callable[[str, str], Answer] = planned
    assert {(row, column): in_words(answer(row, column)) for row, column, _words in rows_of(table)} == {
        (row, column): words for row, column, words in rows_of(table)
    }
    assert {row for row, _column, _words in rows_of(table)} == rows.keys()


@pytest.mark.parametrize(
    ("wish", "recorded"),
    [
        ({"state": "suspended"}, ("encrypt",)),
        ({"state": "deactivated"}, ("encrypt",)),
        ({"type": "AES", "sensitive": True}, ("encrypt",)),
        ({"type": "AES", "state": "active", "extractable": False}, ("encrypt",)),
        ({"type": "AES", "operations": ["encrypt", "decrypt"]}, ("encrypt", "decrypt")),
        ({"type": "AES", "size": 128, "on_mismatch": "replace"}, ("encrypt", "decrypt")),  # it is another key
    ],
)
def test_what_a_group_has_narrowed_stays_so_unless_it_is_declared(wish: dict[str, Any], recorded: tuple[str, ...]) -> None:
    world = there(PLAIN, "applies", replace(record_of(PLAIN), operations=("encrypt",)))
    (record,) = world.after(world.plan(wish)).own()
    assert record.operations == recorded


GCM = ("AES_GCM",)
RESTRICTED = secret(allowed_mechanisms=GCM)


def test_the_next_generation_is_as_restricted() -> None:
    wish = {"type": "AES", "generation": 2}
    here, elsewhere = World((RESTRICTED,)), World((), (in_group(record_of(RESTRICTED, STANDBY)),), GROUP)
    assert [world.plan(wish).only().spec.allowed_mechanisms for world in (here, elsewhere)] == [GCM, GCM]
    assert World((secret(allowed_mechanisms=()),)).plan(wish).only().spec.allowed_mechanisms is None


def test_a_record_learns_the_restriction_that_is_declared() -> None:
    world, wish = World((RESTRICTED,), (record_of(RESTRICTED, allowed_mechanisms=None),)), {"type": "AES", "allowed_mechanisms": [*GCM]}
    answer = world.plan(wish)
    assert answer.actions == [("k", "record")]
    assert answer.only().step.after == {**(answer.only().step.before or {}), "virtual_key": {"allowed_mechanisms": [*GCM]}}
    after = world.after(answer)
    assert after.records[0].allowed_mechanisms == GCM and after.plan(wish).actions == [("k", "keep")]


def test_a_member_that_does_not_report_the_restriction_does_not_lose_it() -> None:
    known = in_group(record_of(RESTRICTED))
    world = World((AES,), (known,), replace(GROUP, apply_changes=True))
    after = world.after(world.plan({"type": "AES", "operations": ["encrypt"]}))
    assert after.records[0].allowed_mechanisms == GCM and after.records[0].operations == ("encrypt",)
