# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.status.probing import in_turns
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.records import InstanceRecord, TokenRecord
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.tokens.selectors import TokenSelector


def instance(name: str, library: str, *serials: str | None) -> InstanceRecord:
    tokens = (TokenRecord(TokenSelector("slot", slot), f"t{serial}", serial, slot) for slot, serial in enumerate(serials))
    return InstanceRecord(name, "other", f"/lib/{library}.so", tokens=tuple(tokens))


def turns(*records: InstanceRecord) -> list[list[str]]:
    return [[record.name for record in chain] for chain in in_turns(records)]


def test_one_library_and_one_token_go_in_turn_and_all_others_side_by_side() -> None:
    a, b, again = instance("a", "x", "1"), instance("b", "y", "2"), instance("again", "x", "3")
    assert turns(a, b) == [["a"], ["b"]]
    assert turns(a, b, again) == [["b"], ["a", "again"]]
    # A token of one serial number and label is one, by whatever library.
    assert turns(a, b, instance("twin", "z", "9", "1")) == [["b"], ["a", "twin"]]
    # What links two chains makes them one, in the given order.
    assert turns(b, a, instance("both", "y", "1")) == [["b", "a", "both"]]
    # A token that was never seen may be any.
    assert turns(a, b, instance("new", "z", None)) == [["a", "b", "new"]]
