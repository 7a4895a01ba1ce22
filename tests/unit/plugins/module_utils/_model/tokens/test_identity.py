# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which token this is, in a table and by properties."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.records import (
    InstanceRecord,
    TokenRecord,
    is_same_token,
    options_of,
)
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.tokens.identity import (
    Store,
    TokenIdentity,
    unpadded,
    way_to_one,
)
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.tokens.selectors import TokenSelector
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.tokens.starting import Starting
from hypothesis import given
from hypothesis import strategies as st

STORE = Store.of("/lib/a.so", Starting({"CONF": "/etc/a"}))
ELSEWHERE = Store.of("/lib/a.so", Starting({"CONF": "/etc/b"}))
STARTED = Store.of("/lib/a.so", Starting({"CONF": "/etc/a"}, "configdir='sql:/b'"))
OTHER = Store.of("/lib/b.so", Starting())
TELLS = TokenIdentity(STORE, "e00b4b43", "pay", 3)
ZEROS = TokenIdentity(STORE, "0000000000000000", "pay", 3)
SHARED = TokenIdentity(STORE, "123", "pay", 3, shared=True)

IDENTITIES = st.builds(
    TokenIdentity,
    st.sampled_from([STORE, ELSEWHERE, STARTED, OTHER]),
    st.sampled_from(["", "0000000000000000", "123", "e00b4b43"]),
    st.sampled_from(["", "pay", "web"]),
    st.sampled_from([None, 3, 4]),
    st.booleans(),
)


@pytest.mark.parametrize(
    ("one", "change", "same"),
    [
        (TELLS, {"slot": 4}, True),
        (TELLS, {"store": ELSEWHERE}, True),  # one HSM, with its environment declared and inherited
        (TELLS, {"store": OTHER}, False),
        (TELLS, {"label": "web"}, False),
        (TELLS, {"label": ""}, True),
        (TELLS, {"serial": "e00b4b44"}, False),
        (ZEROS, {}, True),
        (ZEROS, {"slot": 4}, False),
        (ZEROS, {"label": "web"}, False),
        (ZEROS, {"store": ELSEWHERE}, False),
        (ZEROS, {"store": STARTED}, False),
        (ZEROS, {"store": OTHER}, False),
        (SHARED, {}, True),
        (SHARED, {"slot": 4}, False),
        (SHARED, {"label": "web"}, False),
        (SHARED, {"store": ELSEWHERE}, False),
        (replace(ZEROS, serial="", slot=None), {}, False),  # never seen
    ],
)
def test_the_same_token(one: TokenIdentity, change: dict[str, Any], same: bool) -> None:
    two = replace(one, **change)
    assert one.is_same(two, one_maker=False) is two.is_same(one, one_maker=False) is same


def test_a_makers_serial_number_holds_in_another_library() -> None:
    assert TELLS.is_same(replace(TELLS, store=OTHER), one_maker=True)
    assert not ZEROS.is_same(replace(ZEROS, store=OTHER), one_maker=True)


@pytest.mark.parametrize(
    ("known", "seen", "replaced"),
    [
        (TELLS, {}, False),
        (TELLS, {"slot": 9, "label": "web"}, False),  # renamed, and moved
        (TELLS, {"serial": "e00b4b44"}, True),
        (ZEROS, {"label": "web"}, True),  # another one in its slot
        (SHARED, {"label": "web"}, True),
        (TokenIdentity(), {"serial": "123", "label": "web"}, False),  # never seen
    ],
)
def test_replaced(known: TokenIdentity, seen: dict[str, Any], replaced: bool) -> None:
    assert known.is_replaced_by(replace(known, **seen)) is replaced


@given(IDENTITIES, IDENTITIES, st.booleans())
def test_it_goes_both_ways_and_different_serials_are_different_tokens(one: TokenIdentity, two: TokenIdentity, one_maker: bool) -> None:
    assert one.is_same(two, one_maker=one_maker) is two.is_same(one, one_maker=one_maker)
    assert one.serial == two.serial or not one.is_same(two, one_maker=True)


@given(IDENTITIES, IDENTITIES)
def test_two_tokens_of_one_library_never_share_a_lock_and_one_token_never_has_two(one: TokenIdentity, two: TokenIdentity) -> None:
    """Within one store, whose tokens know whether another has their serial number."""
    shared = one.serial == two.serial and one.slot != two.slot
    one, two = replace(one, store=STORE, shared=shared), replace(two, store=STORE, shared=shared)
    same_lock = one.lock_parts("m") == two.lock_parts("m")
    if one.slot != two.slot:
        assert not same_lock
    elif one == two:
        assert same_lock


def test_another_makers_token_of_the_same_serial_number_and_label_has_another_lock() -> None:
    assert TELLS.lock_parts("SoftHSM v2") != TELLS.lock_parts("IBM SoftTok")
    assert TELLS.lock_parts("m") == replace(TELLS, store=OTHER, slot=9).lock_parts("m")  # by whatever way


@given(st.text("ab0 ", max_size=16), st.sampled_from([" ", "\0"]))
def test_padding_is_taken_off(text: str, padding: str) -> None:
    assert unpadded(text.strip().ljust(16, padding)) == text.strip()


@pytest.mark.parametrize(
    ("found", "way"),
    [
        ([TELLS, replace(TELLS, label="web")], "label"),
        ([TELLS, replace(TELLS, serial="1")], "serial"),
        ([SHARED, replace(SHARED, slot=4)], "slot"),
        ([ZEROS, replace(ZEROS, label="", slot=4)], "slot"),
    ],
)
def test_by_what_to_name_it(found: list[TokenIdentity], way: str) -> None:
    assert way_to_one(found) == way


def row(number: int, label: str | None, serial: str, slot: int | None) -> TokenRecord:
    return TokenRecord(TokenSelector("slot", slot or 0), label=label, serial=serial, slot=slot, id=number)


@pytest.mark.parametrize(
    ("label", "serial", "options", "named"),
    [
        ("web", "0b", {"token_label": "web"}, "web in slot 4"),
        ("pay", "0b", {"token_serial": "0b"}, "pay in slot 4"),
        ("pay", "123", {"slot": 4}, "pay in slot 4"),
        (None, "0000000000000000", {"slot": 4}, "slot 4"),
    ],
)
def test_what_a_token_is_called(label: str | None, serial: str, options: dict[str, object], named: str) -> None:
    token = row(2, label, serial, 4)
    assert options_of(InstanceRecord("a", "luna", "/lib/a.so", tokens=(row(1, "pay", "123", 3), token)), token) == options
    assert token.named() == named


def test_tokens_of_one_serial_number_through_instances() -> None:
    """A registry of an earlier version may hold a padded serial number."""
    pay, web = row(1, "pay", "123\0\0", 3), row(2, "web", "123", 4)
    both = InstanceRecord("a", "luna", "/lib/a.so", tokens=(pay, web))
    again = InstanceRecord("b", "luna", "/lib/a.so", tokens=(row(3, "pay", "123", 3),))
    assert is_same_token(both, pay, again, again.tokens[0], any_model=False)
    assert not is_same_token(both, web, again, again.tokens[0], any_model=True)
