# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Keys laid out for the Eviden server: the same plans, whose objects have names of their own, and names that may not meet."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.keys.planning.planner import not_for_eviden
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.keys.layout import EVIDEN, LAYOUTS, PKCS11
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.keys.objects import Key, group_keys
from plain_keys import record_of
from plain_plans import World, key, note

EC = {"label": "k", "type": "EC"}
PAIR = key(type="EC", layout=EVIDEN)
LONE = Key(public=PAIR.public)


def names(world: World) -> list[tuple[str, bytes, str]]:
    return sorted((item.kind, item.key_id, item.label) for item in world.objects)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("there", LAYOUTS)
def test_a_pair_is_one_key_in_whichever_layout_it_is_and_in_whichever_it_is_looked_at(there: str, layout: str) -> None:
    world = World((key(type="EC", layout=there),), layout=layout)
    assert [item.pair_label for item in group_keys(world.objects)] == ["k"]
    recorded = world.after(world.plan(EC))
    assert recorded.plan(EC).actions == [("k", "keep")] and recorded.objects == world.objects
    assert recorded.after(recorded.plan({"state": "absent"})).objects == []


def test_what_is_made() -> None:
    made = World(layout=EVIDEN)
    made = made.after(made.plan(EC, {"label": "dek", "type": "AES"}))
    assert names(made) == [("private", b"k", "k"), ("public", b"k_pk", "k_pk"), ("secret", b"dek", "dek")]
    assert made.plan(EC).actions == [("k", "keep")]
    left = made.after(made.plan({"state": "public_only"}))
    assert names(left) == [("public", b"k_pk", "k_pk"), ("secret", b"dek", "dek")]
    assert left.plan({"state": "public_only"}).actions == [("k", "keep")]
    assert left.after(left.plan({"state": "absent"})).plan({"state": "absent"}).actions == [("k", "keep")]


def test_an_id_of_its_own_is_kept_by_both_halves() -> None:
    wish = {**EC, "id": "0a"}
    made = World(layout=EVIDEN)
    made = made.after(made.plan(wish))
    assert names(made) == [("private", b"\x0a", "k"), ("public", b"\x0a_pk", "k_pk")]
    lone = replace(made, keys=(Key(public=made.keys[0].public),))
    assert lone.plan({"state": "absent", "id": "0a"}).actions == [("k", "delete")]
    assert lone.plan({"state": "absent", "id": "0b"}).actions == [("k", "keep")]


@pytest.mark.parametrize(
    ("world", "wish"),
    [
        (World((PAIR,)), {"label": "k_pk", "type": "AES"}),
        (World((PAIR,)), {"label": "k_pk", "type": "EC"}),
        (World((key("k_pk"),)), EC),
        (World((key("x", id=b"k_pk".hex()),)), EC),
    ],
    ids=["the public half's name", "a pair by that name", "a secret key by that name", "its id"],
)
def test_a_name_is_not_given_twice(world: World, wish: dict[str, str]) -> None:
    assert "belongs to" in replace(world, layout=EVIDEN).plan(wish).said


def test_two_keys_of_a_batch_do_not_meet_in_one_name() -> None:
    both = (EC, {"label": "k_pk", "type": "AES"})
    assert "its secret key would get CKA_ID 6b5f706b, and so would an object of 'k'" in World(layout=EVIDEN).plan(*both).said
    assert World(layout=PKCS11).plan(*both).said == "create create"


def test_a_public_key_that_somebody_calls_so_is_not_half_of_another_pair() -> None:
    """Its name alone makes no half of it: only where no key goes by the label, and its record is that of the pair."""
    other = key("other", "EC", layout=EVIDEN)
    world = World((PAIR, other), (record_of(PAIR), record_of(other)), layout=EVIDEN)
    assert world.plan(EC, {"label": "other", "type": "EC"}).said == "keep keep"
    gone = replace(world, keys=(LONE, other))
    assert "it was whole when it was recorded" in replace(gone, repair=True).plan(EC).said


def test_what_is_destroyed_is_named() -> None:
    """A public key alone that is called so may be anybody's, unless it was recorded as half of the pair, or as all that is left of it."""
    for records, action in (((), "keep"), ((record_of(LONE),), "keep"), ((record_of(PAIR),), "delete")):
        assert World((LONE,), records, layout=EVIDEN).plan({"state": "absent"}).said == action
    assert World((LONE,), (replace(record_of(LONE), origin="hsm_key"),), layout=EVIDEN).plan({"state": "absent"}).said == "delete"
    assert World((LONE,), notes=(note(),), layout=EVIDEN).plan({"state": "absent"}).said == "delete"


def test_rotation_is_refused_and_a_later_generation_that_is_there_stays() -> None:
    first, second = key(), key("k@2")
    old = replace(record_of(first), made_at="2020-01-01T00:00:00Z")
    there = World((first,), (old,), layout=EVIDEN)
    for option, wish in (("generation", {"generation": 2}), ("max_age", {"max_age": "30d"})):
        (refused,) = not_for_eviden(there.plan({"type": "AES", **wish}).plans)
        assert refused.startswith(f"keys[0] (k).{option}: ")
    assert not_for_eviden(there.plan({"type": "AES", "max_age": "9000d"}).plans) == []
    both = replace(there, keys=(first, second), records=(old, replace(record_of(second), generation=2)))
    assert not_for_eviden(both.plan({"type": "AES", "generation": 2}).plans) == []
    assert not_for_eviden(both.plan({"state": "absent", "generation": 2}).plans) == []
