# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a token does not tell is neither met nor a difference: an error, or a warning, unless the registry has it of what we made.

A row is what an entry declares. The columns are what the token answers (yes, no, not told) and, where it does not tell,
``unverifiable``; in "remembered" and "remembered otherwise" it does not tell, and the record has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import pytest
from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.keys.planning.plan import KeyPlan
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.keys.objects import REMEMBERED, Key, KeyObject
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.records import VirtualKey
from plain_keys import HERE, STANDBY, record_of
from plain_plans import PlainLook, World, key, made
from plan_tables import in_words, rows_of

WARN = {"unverifiable": "warn"}


def hidden(found: Key, *names: str) -> Key:
    """The key on a token that does not report these."""
    return Key(**{item.kind: _hidden(item, names) for item in found.objects})


def _hidden(item: KeyObject, names: Sequence[str]) -> KeyObject:
    untold = tuple(name for name in item.operations if name in names) + tuple(name for name in names if name in ("wrap", "derive"))
    silent = dict.fromkeys(name for name in names if name in (*REMEMBERED, "size", "curve", "allowed_mechanisms"))
    return replace(item, untold=untold, operations=tuple(name for name in item.operations if name not in names), **silent)


class Declared(NamedTuple):
    """What an entry says, a key that is so, and one that is not. ``names`` are what the token may hide of them."""

    wish: dict[str, Any]
    met: Key
    other: Key
    names: tuple[str, ...]


def flag(name: str, value: bool) -> Declared:
    return Declared({name: value}, _with(name, value), _with(name, not value), (name,))


def _with(name: str, value: bool) -> Key:
    return Key(secret=replace(key().main, **{name: value}))


def allowed(*names: str) -> Key:
    return Key(secret=replace(key().main, allowed_mechanisms=names))


OPERATIONS = {"operations": ["encrypt", "decrypt"]}
DECLARED = {
    "size": Declared({"size": 256}, key(), key(size=128), ("size",)),
    "curve": Declared({"type": "EC", "curve": "P-256"}, key(type="EC"), key(type="EC", curve="P-384"), ("size", "curve")),
    **{f"{name} {word}": flag(name, word == "yes") for name in REMEMBERED for word in ("yes", "no")},
    "allowed mechanisms": Declared({"allowed_mechanisms": ["AES_GCM"]}, allowed("AES_GCM"), allowed(), ("allowed_mechanisms",)),
    "an operation": Declared(OPERATIONS, key(), key(operations=["decrypt"]), ("encrypt",)),
    "no other": Declared(OPERATIONS, key(), key(operations=["encrypt", "decrypt", "wrap"], allow_weak=True), ("wrap",)),
}

ANSWERS = """
what is declared       yes     no        not told, fail  not told, warn  remembered  remembered otherwise
size                   record  !differs  !not-said       record          keep        !differs
curve                  record  !differs  !not-said       record          keep        !differs
sensitive yes          record  change    !not-said       record          keep        change
sensitive no           record  !differs  !not-said       record          keep        !differs
extractable yes        record  !differs  !not-said       record          keep        !differs
extractable no         record  change    !not-said       record          keep        change
modifiable yes         record  !differs  !not-said       record          keep        !differs
modifiable no          record  !differs  !not-said       record          keep        !differs
destroyable yes        record  !differs  !not-said       record          keep        !differs
destroyable no         record  !differs  !not-said       record          keep        !differs
wrap_with_trusted yes  record  !differs  !not-said       record          keep        !differs
wrap_with_trusted no   record  !differs  !not-said       record          keep        !differs
allowed mechanisms     record  !differs  !not-said       record          !not-said   !not-said
an operation           record  change    !not-said       record          keep        change
no other               record  change    !not-said       record          keep        change
"""


def remembered(item: Declared, found: Key) -> VirtualKey:
    """The record of ``found``, which we made on a token that hides what the entry declares."""
    told = {
        name: value
        for name in item.names
        if isinstance(value := found.main.has(name), bool) and name not in ("size", "curve", "allowed_mechanisms")
    }
    return replace(record_of(found), unreported=tuple(told.items()))


@pytest.mark.parametrize(("row", "column", "words"), [*rows_of(ANSWERS)])
def test_three_answers(row: str, column: str, words: str) -> None:
    item = DECLARED[row]
    found = item.other if column in ("no", "remembered otherwise") else item.met
    records = (remembered(item, found),) if column.startswith("remembered") else ()
    if column not in ("yes", "no"):
        found = hidden(found, *item.names)
    more = WARN if column.endswith("warn") else {}
    answer = World((found,), records).plan({"type": "AES", **item.wish, **more})
    assert in_words(answer) == words
    warned = [text for plan in answer.plans for text in plan.warnings if "could not be verified" in text]
    assert len(warned) == (1 if column.endswith("warn") else 0)


@pytest.mark.parametrize("row", DECLARED)
def test_what_is_not_declared_is_not_asked_for(row: str) -> None:
    item = DECLARED[row]
    plan = World((hidden(item.met, *item.names),)).plan({"type": item.met.main.type}).only()
    assert (plan.action, plan.warnings) == ("record", ())


def test_the_error_names_option_entry_attributes_and_way_out() -> None:
    found = hidden(key(), "encrypt", "derive", "extractable")
    answer = World((found,)).plan({"type": "AES", "extractable": False, **OPERATIONS})
    assert answer.problems == [
        "keys[0] (k).extractable: the token does not report CKA_EXTRACTABLE, CKA_ENCRYPT, CKA_DERIVE of 'k', so extractable, operations "
        "cannot be verified. Nothing was changed. Set unverifiable: warn, or remove extractable, operations from the entry."
    ]


def test_a_difference_that_is_told_is_not_put_aside_by_what_is_not() -> None:
    found = hidden(key(), "extractable")
    assert in_words(World((found,)).plan({"type": "AES", "size": 128, "extractable": False, **WARN})) == "!differs"


def test_a_key_whose_type_is_not_told_is_not_destroyed_for_being_another() -> None:
    silent = Key(secret=replace(key().main, type="unknown"))
    answer = World((silent,)).plan({"type": "AES", "on_mismatch": "replace"})
    assert answer.plans == [] and "does not report CKA_KEY_TYPE" in answer.problems[0]
    assert World((silent,)).plan({"state": "absent"}).only().action == "delete"


def run(world: World, wish: dict[str, Any], *names: str) -> tuple[KeyPlan, World]:
    """A run that makes or changes the key on a token that hides ``names``, and what it leaves: the key as that shows it, the record."""
    plan = world.plan({"type": "AES", **wish}).only()
    if plan.makes_key:
        shown = hidden(made(plan.spec), *names)
        record = replace(plan.record_of(shown, HERE, made=True), id="r")
    else:
        (shown,), (old,) = world.keys, world.records
        record = plan.changed_record(old, shown, world.scope)
    return plan, replace(world, keys=(shown,), records=(record,))


ALL = {"size": 256, "sensitive": True, "extractable": False, "modifiable": True, "destroyable": True, "wrap_with_trusted": False}
HIDDEN = ("size", *REMEMBERED, "encrypt", "decrypt", "wrap", "derive")


def test_what_we_made_is_remembered() -> None:
    plan, world = run(World(), {**ALL, **OPERATIONS}, *HIDDEN)
    assert plan.action == "create"
    again = world.plan({"type": "AES", **ALL, **OPERATIONS}).only()
    assert (again.action, again.warnings) == ("keep", ())
    assert in_words(world.plan({"type": "AES", "size": 128})) == "!differs"
    # On a token that reports all there is nothing to remember.
    assert run(World(), {"extractable": False, **OPERATIONS})[1].records[0].unreported == ()
    # What was set on one token's object says nothing of another's, and nothing of a key that took its place.
    for other in (replace(world.records[0], token_id=STANDBY), replace(world.records[0], type="DES3")):
        assert in_words(World(world.keys, (other,)).plan({"type": "AES", "extractable": False})) == "!not-said"


@pytest.mark.parametrize(
    ("names", "tried", "fail", "warn"),
    [
        ((), {}, ["ENCRYPT"], ["ENCRYPT"]),
        (("encrypt",), {"encrypt": True}, ["ENCRYPT"], ["ENCRYPT"]),
        (("encrypt",), {"encrypt": False}, [], []),
        (("encrypt",), {}, None, ["ENCRYPT"]),
        (("derive",), {}, None, ["ENCRYPT", "DERIVE"]),
    ],
)
def test_enforce_is_never_met_by_silence(names: tuple[str, ...], tried: dict[str, bool], fail: list[str] | None, warn: list[str]) -> None:
    for way, expected in (("fail", fail), ("warn", warn)):
        world = World((hidden(key(), *names),), look=PlainLook(tried=tried))
        answer = world.plan({"state": "deactivated", "enforce": True, "unverifiable": way})
        if expected is None:
            assert in_words(answer) == "!not-said" and "enforce cannot be verified" in answer.said
            continue
        assert [change.name for change in answer.only().changes] == expected
        assert bool(answer.only().warnings) == (way == "warn" and fail is None)


def test_what_was_taken_away_is_remembered() -> None:
    _plan, world = run(World(), {}, "encrypt", "wrap", "derive")
    world = replace(world, look=PlainLook(tried={"encrypt": True}))
    wish = {"state": "deactivated", "enforce": True}
    plan, after = run(world, wish)
    assert [change.name for change in plan.changes] == ["ENCRYPT"]  # that it neither wraps nor derives is known: it was made so
    assert dict(after.records[0].unreported) == {"encrypt": False, "wrap": False, "derive": False}
    assert after.plan(wish).only().action == "keep"
