# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every state that an entry may ask for, on everything that may be on the token and in the registry, under every policy.

A row is what is found under the label of the entry, a column the state that is asked for, a cell what is done. ``!`` stands before
a problem: its words are in ``plan_tables``. Types, operations and sizes are as they are declared; other differences, and what else
an entry may say, are in ``test_options``.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import pytest
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.keys.objects import Key
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.keys.spec import MADE
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.records import GroupRecord, VirtualKey
from plain_keys import GONE, GROUP, HERE, STANDBY, in_group, record_of
from plain_plans import World, key
from plan_tables import in_words, rows_of

OTHERS = GroupRecord("others", members=(HERE,), id="group-2")
AES, EC = key(), key(type="EC")
PRIVATE, PUBLIC = replace(EC, public=None), replace(EC, private=None)
FIXED, KEPT = key(modifiable=False), key(destroyable=False)
GOOD = record_of(AES)
OUT_OF_USE = ("pre-active", "suspended", "deactivated", "compromised", "destroyed")


class Place(NamedTuple):
    """A key under the label ``k``, what is recorded of it, and whose that record is. ``type`` is what is asked for."""

    found: Key | None = None
    record: VirtualKey | None = None
    whose: str = "own"
    type: str = "AES"


PLACES = {
    "nothing": Place(),
    "a secret key": Place(AES),
    "a secret key, recorded": Place(AES, GOOD),
    "recorded with less": Place(AES, replace(GOOD, operations=("encrypt",))),
    "recorded with another id": Place(AES, replace(GOOD, key_id=b"edited")),
    "recorded on another member": Place(AES, replace(GOOD, token_id=STANDBY)),
    "recorded on a former member": Place(AES, replace(GOOD, token_id=GONE)),
    "recorded in no group": Place(AES, GOOD, "loose"),
    "another group's": Place(AES, GOOD, "other"),
    "not destroyable, recorded": Place(KEPT, record_of(KEPT)),
    "not modifiable, recorded": Place(FIXED, record_of(FIXED)),
    "of another type, recorded": Place(EC, record_of(EC)),
    "another key of that name": Place(key(), GOOD),
    "another pair of that name": Place(key(type="EC"), record_of(EC), type="EC"),
    "a pair": Place(EC, type="EC"),
    "a pair, recorded": Place(EC, record_of(EC), type="EC"),
    "a pair, recorded as public": Place(EC, record_of(PUBLIC), type="EC"),
    "private half": Place(PRIVATE, type="EC"),
    "private half of recorded pair": Place(PRIVATE, record_of(EC), type="EC"),
    "public half": Place(PUBLIC, type="EC"),
    "public half, recorded as pair": Place(PUBLIC, record_of(EC), type="EC"),
    "public half, recorded as such": Place(PUBLIC, record_of(PUBLIC), type="EC"),
    "gone": Place(None, GOOD),
    "gone, another group's": Place(None, GOOD, "other"),
    "gone, recorded in no group": Place(None, GOOD, "loose"),
    "on another member only": Place(None, replace(GOOD, token_id=STANDBY)),
    **{f"recorded as {state}": Place(AES, replace(GOOD, state=state)) for state in OUT_OF_USE},
    **{f"gone, recorded as {state}": Place(None, replace(GOOD, state=state)) for state in OUT_OF_USE},
}

# A token whose instance is named.
INSTANCE = """
found                          present   absent     public_only     pre-active  active     suspended  deactivated  compromised  destroyed
nothing                        create    keep       !absent         create      create     !absent    !absent      !absent      !absent
a secret key                   record    delete     !no-pair        !move       record     set_state  deactivate   set_state    delete
a secret key, recorded         keep      delete     !no-pair        !move       keep       set_state  deactivate   set_state    delete
recorded with less             keep      delete     !no-pair        !move       keep       set_state  deactivate   set_state    delete
recorded with another id       record    delete     !no-pair        !move       record     set_state  deactivate   set_state    delete
another group's                keep      !others    !no-pair        !move       keep       !others    !others      !others      !others
not destroyable, recorded      keep      !for-good  !no-pair        !move       keep       set_state  deactivate   set_state    !for-good
not modifiable, recorded       keep      delete     !no-pair        !move       keep       set_state  deactivate   set_state    delete
of another type, recorded      !differs  delete     remove_private  !differs    !differs   set_state  deactivate   set_state    delete
another key of that name       keep      delete     !no-pair        !move       keep       set_state  deactivate   set_state    delete
another pair of that name      keep      delete     remove_private  !move       keep       set_state  deactivate   set_state    delete
a pair                         record    delete     remove_private  !move       record     set_state  deactivate   set_state    delete
a pair, recorded               keep      delete     remove_private  !move       keep       set_state  deactivate   set_state    delete
a pair, recorded as public     record    delete     remove_private  !move       record     set_state  deactivate   set_state    delete
private half                   !unknown  delete     !no-public      !unknown    !unknown   set_state  deactivate   set_state    delete
private half of recorded pair  !repair   delete     !no-public      !repair     !repair    set_state  deactivate   set_state    delete
public half                    !repair   delete     record          !repair     !repair    set_state  deactivate   set_state    delete
public half, recorded as pair  !whole    delete     record          !whole      !whole     set_state  deactivate   set_state    delete
public half, recorded as such  !public   delete     keep            !public     !public    set_state  deactivate   set_state    delete
recorded as pre-active         keep      delete     !no-pair        keep        set_state  !move      !move        set_state    delete
recorded as suspended          keep      delete     !no-pair        !move       set_state  keep       deactivate   set_state    delete
recorded as deactivated        !retired  delete     !no-pair        !move       !move      !move      keep         set_state    delete
recorded as compromised        !retired  delete     !no-pair        !move       !move      !move      !move        keep         delete
recorded as destroyed          !retired  delete     !no-pair        !move       !move      !move      !move        !move        delete
gone                           !gone     forget     !absent         !gone       !gone      set_state  deactivate   set_state    set_state
gone, recorded as pre-active   !gone     forget     !absent         !gone       !gone      !move      !move        set_state    set_state
gone, recorded as suspended    !gone     forget     !absent         !gone       !gone      keep       deactivate   set_state    set_state
gone, recorded as deactivated  !retired  forget     !absent         !retired    !retired   !move      keep         set_state    set_state
gone, recorded as compromised  !retired  forget     !absent         !retired    !retired   !move      !move        keep         set_state
gone, recorded as destroyed    !retired  forget     !absent         !retired    !retired   !move      !move        !move        keep
gone, another group's          !gone     keep       !absent         !gone       !gone      !absent    !absent      !absent      !absent
"""

# A group that keeps changes from the HSM (apply_changes: false).
HOLDS_BACK = """
found                          present    absent  public_only  pre-active  active     suspended  deactivated  compromised  destroyed
nothing                        create     keep    !absent      create      create     !absent    !absent      !absent      !absent
a secret key                   record     keep    !no-pair     !move       record     set_state  deactivate   set_state    !policy
a secret key, recorded         keep       forget  !no-pair     !move       keep       set_state  deactivate   set_state    !policy
recorded with less             keep       forget  !no-pair     !move       keep       set_state  deactivate   set_state    !policy
recorded with another id       record     forget  !no-pair     !move       record     set_state  deactivate   set_state    !policy
recorded on another member     keep       forget  !no-pair     !move       keep       set_state  deactivate   set_state    !policy
recorded on a former member    record     forget  !no-pair     !move       record     set_state  deactivate   set_state    !policy
recorded in no group           record     keep    !no-pair     !move       record     set_state  deactivate   set_state    !policy
another group's                record     keep    !no-pair     !move       record     set_state  deactivate   set_state    !policy
not destroyable, recorded      keep       forget  !no-pair     !move       keep       set_state  deactivate   set_state    !policy
not modifiable, recorded       keep       forget  !no-pair     !move       keep       set_state  deactivate   set_state    !policy
of another type, recorded      !differs   forget  record       !differs    !differs   set_state  deactivate   set_state    !policy
another key of that name       !differs   forget  !no-pair     !differs    !differs   set_state  deactivate   set_state    !policy
another pair of that name      !differs   forget  record       !differs    !differs   set_state  deactivate   set_state    !policy
a pair                         record     keep    record       !move       record     set_state  deactivate   set_state    !policy
a pair, recorded               keep       forget  record       !move       keep       set_state  deactivate   set_state    !policy
a pair, recorded as public     !given-up  forget  keep         !given-up   !given-up  set_state  deactivate   set_state    !policy
private half                   !unknown   keep    !no-public   !unknown    !unknown   set_state  deactivate   set_state    !policy
private half of recorded pair  !repair    forget  !no-public   !repair     !repair    set_state  deactivate   set_state    !policy
public half                    !repair    keep    record       !repair     !repair    set_state  deactivate   set_state    !policy
public half, recorded as pair  !whole     forget  record       !whole      !whole     set_state  deactivate   set_state    !policy
public half, recorded as such  !public    forget  keep         !public     !public    set_state  deactivate   set_state    !policy
recorded as pre-active         keep       forget  !no-pair     keep        set_state  !move      !move        set_state    !policy
recorded as suspended          keep       forget  !no-pair     !move       set_state  keep       deactivate   set_state    !policy
recorded as deactivated        !retired   forget  !no-pair     !move       !move      !move      keep         set_state    !policy
recorded as compromised        !retired   forget  !no-pair     !move       !move      !move      !move        keep         !policy
recorded as destroyed          !retired   forget  !no-pair     !move       !move      !move      !move        !move        !policy
gone                           !lost      forget  !absent      !lost       !lost      set_state  deactivate   set_state    set_state
gone, recorded as pre-active   !lost      forget  !absent      !lost       !lost      !move      !move        set_state    set_state
gone, recorded as suspended    !lost      forget  !absent      !lost       !lost      keep       deactivate   set_state    set_state
gone, recorded as deactivated  !retired   forget  !absent      !retired    !retired   !move      keep         set_state    set_state
gone, recorded as compromised  !retired   forget  !absent      !retired    !retired   !move      !move        keep         set_state
gone, recorded as destroyed    !retired   forget  !absent      !retired    !retired   !move      !move        !move        keep
gone, another group's          !others    keep    !absent      !others     !others    !absent    !absent      !absent      !absent
gone, recorded in no group     !lost      keep    !absent      !lost       !lost      !absent    !absent      !absent      !absent
on another member only         !lost      forget  !absent      !lost       !lost      set_state  deactivate   set_state    !away
"""

# A group that applies changes.
APPLIES = """
found                          present    absent      public_only     pre-active  active     suspended  deactivated  compromised  destroyed
nothing                        create     keep        !absent         create      create     !absent    !absent      !absent      !absent
a secret key                   record     delete      !no-pair        !move       record     set_state  deactivate   set_state    delete
a secret key, recorded         keep       delete      !no-pair        !move       keep       set_state  deactivate   set_state    delete
recorded with less             keep       delete      !no-pair        !move       keep       set_state  deactivate   set_state    delete
recorded with another id       record     delete      !no-pair        !move       record     set_state  deactivate   set_state    delete
recorded on another member     keep       delete      !no-pair        !move       keep       set_state  deactivate   set_state    delete
recorded on a former member    record     delete      !no-pair        !move       record     set_state  deactivate   set_state    delete
recorded in no group           record     delete      !no-pair        !move       record     set_state  deactivate   set_state    delete
another group's                record     !others     !no-pair        !move       record     set_state  deactivate   set_state    !others
not destroyable, recorded      keep       !for-good   !no-pair        !move       keep       set_state  deactivate   set_state    !for-good
not modifiable, recorded       keep       delete      !no-pair        !move       keep       set_state  deactivate   set_state    delete
of another type, recorded      !differs   delete      remove_private  !differs    !differs   set_state  deactivate   set_state    delete
another key of that name       !differs   !exchanged  !no-pair        !differs    !differs   set_state  deactivate   set_state    !exchanged
another pair of that name      !differs   !exchanged  !exchanged      !differs    !differs   set_state  deactivate   set_state    !exchanged
a pair                         record     delete      remove_private  !move       record     set_state  deactivate   set_state    delete
a pair, recorded               keep       delete      remove_private  !move       keep       set_state  deactivate   set_state    delete
a pair, recorded as public     !given-up  delete      remove_private  !given-up   !given-up  set_state  deactivate   set_state    delete
private half                   !unknown   delete      !no-public      !unknown    !unknown   set_state  deactivate   set_state    delete
private half of recorded pair  !repair    delete      !no-public      !repair     !repair    set_state  deactivate   set_state    delete
public half                    !repair    delete      record          !repair     !repair    set_state  deactivate   set_state    delete
public half, recorded as pair  !whole     delete      record          !whole      !whole     set_state  deactivate   set_state    delete
public half, recorded as such  !public    delete      keep            !public     !public    set_state  deactivate   set_state    delete
recorded as pre-active         keep       delete      !no-pair        keep        set_state  !move      !move        set_state    delete
recorded as suspended          keep       delete      !no-pair        !move       set_state  keep       deactivate   set_state    delete
recorded as deactivated        !retired   delete      !no-pair        !move       !move      !move      keep         set_state    delete
recorded as compromised        !retired   delete      !no-pair        !move       !move      !move      !move        keep         delete
recorded as destroyed          !retired   delete      !no-pair        !move       !move      !move      !move        !move        delete
gone                           !lost      forget      !absent         !lost       !lost      set_state  deactivate   set_state    set_state
gone, recorded as pre-active   !lost      forget      !absent         !lost       !lost      !move      !move        set_state    set_state
gone, recorded as suspended    !lost      forget      !absent         !lost       !lost      keep       deactivate   set_state    set_state
gone, recorded as deactivated  !retired   forget      !absent         !retired    !retired   !move      keep         set_state    set_state
gone, recorded as compromised  !retired   forget      !absent         !retired    !retired   !move      !move        keep         set_state
gone, recorded as destroyed    !retired   forget      !absent         !retired    !retired   !move      !move        !move        keep
gone, another group's          !others    keep        !absent         !others     !others    !absent    !absent      !absent      !absent
gone, recorded in no group     !lost      keep        !absent         !lost       !lost      !absent    !absent      !absent      !absent
on another member only         !lost      !away       !absent         !lost       !lost      set_state  deactivate   set_state    !away
"""

# A group that applies changes and has its own keys alone (key_scan: own).
OWN_KEYS = """
found                          present    absent      public_only     pre-active  active     suspended  deactivated  compromised  destroyed
nothing                        create     keep        !absent         create      create     !absent    !absent      !absent      !absent
a secret key                   record     keep        !no-pair        !move       record     !stranger  !stranger    !stranger    !absent
a secret key, recorded         keep       delete      !no-pair        !move       keep       set_state  deactivate   set_state    delete
recorded with less             keep       delete      !no-pair        !move       keep       set_state  deactivate   set_state    delete
recorded with another id       record     delete      !no-pair        !move       record     set_state  deactivate   set_state    delete
recorded on another member     keep       delete      !no-pair        !move       keep       set_state  deactivate   set_state    delete
recorded on a former member    record     delete      !no-pair        !move       record     set_state  deactivate   set_state    delete
recorded in no group           record     keep        !no-pair        !move       record     !stranger  !stranger    !stranger    !absent
another group's                !others    keep        !no-pair        !move       !others    !stranger  !stranger    !stranger    !absent
not destroyable, recorded      keep       !for-good   !no-pair        !move       keep       set_state  deactivate   set_state    !for-good
not modifiable, recorded       keep       delete      !no-pair        !move       keep       set_state  deactivate   set_state    delete
of another type, recorded      !differs   delete      remove_private  !differs    !differs   set_state  deactivate   set_state    delete
another key of that name       !differs   !exchanged  !no-pair        !differs    !differs   set_state  deactivate   set_state    !exchanged
another pair of that name      !differs   !exchanged  !exchanged      !differs    !differs   set_state  deactivate   set_state    !exchanged
a pair                         record     keep        !stranger       !move       record     !stranger  !stranger    !stranger    !absent
a pair, recorded               keep       delete      remove_private  !move       keep       set_state  deactivate   set_state    delete
a pair, recorded as public     !given-up  delete      remove_private  !given-up   !given-up  set_state  deactivate   set_state    delete
private half                   !unknown   keep        !no-public      !unknown    !unknown   !stranger  !stranger    !stranger    !absent
private half of recorded pair  !repair    delete      !no-public      !repair     !repair    set_state  deactivate   set_state    delete
public half                    !repair    keep        !stranger       !repair     !repair    !stranger  !stranger    !stranger    !absent
public half, recorded as pair  !whole     delete      record          !whole      !whole     set_state  deactivate   set_state    delete
public half, recorded as such  !public    delete      keep            !public     !public    set_state  deactivate   set_state    delete
recorded as pre-active         keep       delete      !no-pair        keep        set_state  !move      !move        set_state    delete
recorded as suspended          keep       delete      !no-pair        !move       set_state  keep       deactivate   set_state    delete
recorded as deactivated        !retired   delete      !no-pair        !move       !move      !move      keep         set_state    delete
recorded as compromised        !retired   delete      !no-pair        !move       !move      !move      !move        keep         delete
recorded as destroyed          !retired   delete      !no-pair        !move       !move      !move      !move        !move        delete
gone                           !lost      forget      !absent         !lost       !lost      set_state  deactivate   set_state    set_state
gone, recorded as pre-active   !lost      forget      !absent         !lost       !lost      !move      !move        set_state    set_state
gone, recorded as suspended    !lost      forget      !absent         !lost       !lost      keep       deactivate   set_state    set_state
gone, recorded as deactivated  !retired   forget      !absent         !retired    !retired   !move      keep         set_state    set_state
gone, recorded as compromised  !retired   forget      !absent         !retired    !retired   !move      !move        keep         set_state
gone, recorded as destroyed    !retired   forget      !absent         !retired    !retired   !move      !move        !move        keep
gone, another group's          !others    keep        !absent         !others     !others    !absent    !absent      !absent      !absent
gone, recorded in no group     !lost      keep        !absent         !lost       !lost      !absent    !absent      !absent      !absent
on another member only         !lost      !away       !absent         !lost       !lost      set_state  deactivate   set_state    !away
"""

TABLES = {
    INSTANCE: None,
    HOLDS_BACK: GROUP,
    APPLIES: replace(GROUP, apply_changes=True),
    OWN_KEYS: replace(GROUP, apply_changes=True, key_scan="own"),
}


def placed(place: Place, group: GroupRecord | None) -> World:
    found, record, whose, _type = place
    keys = (found,) if found is not None else ()
    if record is None:
        return World(keys, group=group)
    if whose == "other":
        return World(keys, (), group, ((OTHERS, replace(record, group_id=OTHERS.id)),))
    return World(keys, (in_group(record) if group is not None and whose == "own" else record,), group)


@pytest.mark.parametrize(("table", "group"), TABLES.items(), ids=["instance", "holds back", "applies", "own keys"])
def test_states(table: str, group: GroupRecord | None) -> None:
    found = {}
    for row, state, _words in rows_of(table):
        place = PLACES[row]
        wish = {"state": state, **({"type": place.type} if state in MADE else {})}
        found[row, state] = in_words(placed(place, group).plan(wish))
    assert found == {(row, state): words for row, state, words in rows_of(table)}


def test_nothing_is_left_out() -> None:
    of_groups = {name for name in PLACES if "member" in name or "in no group" in name}
    for table, group in TABLES.items():
        rows = {row for row, _state, _words in rows_of(table)}
        assert rows == PLACES.keys() - (of_groups if group is None else set())
