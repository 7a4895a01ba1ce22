# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Selectors, prefixes and UIDs: rules with many inputs, checked as properties."""

from __future__ import annotations

import pytest
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.addresses import check_addresses, prefix_of, renumberings
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.errors import Refused
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.records import InstanceRecord, TokenRecord
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.tokens.selectors import MAX_SLOT, TokenSelector, label_problem, parse_slot
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.uids import key_id_text, model_problem, prefix_order, prefixes, uid
from hypothesis import given
from hypothesis import strategies as st

MODELS = st.sampled_from(["softhsm2", "SoftHSM2", "utimaco", "other"])
DECLARED = st.lists(st.tuples(MODELS, st.booleans()), max_size=12)


def test_prefixes_of_the_product() -> None:
    declared = [("softhsm2", True), ("SoftHSM2", True), ("utimaco", True)]
    assert prefixes(declared) == ["hsm::softhsm2", "hsm::softhsm2_1", "hsm::utimaco"]
    assert prefixes([("softhsm2", False), ("softhsm2", True)]) == [None, "hsm::softhsm2"]


@given(DECLARED)
def test_prefixes_are_unique_and_aligned(declared: list[tuple[str, bool]]) -> None:
    found = prefixes(declared)
    assert len(found) == len(declared)
    given_out = [prefix for prefix in found if prefix is not None]
    assert len(set(given_out)) == len(given_out) == sum(has_slots for _model, has_slots in declared)


@given(DECLARED, MODELS)
def test_an_instance_at_the_end_moves_no_other(declared: list[tuple[str, bool]], model: str) -> None:
    assert prefixes([*declared, (model, True)])[:-1] == prefixes(declared)


@given(DECLARED, st.integers(min_value=0, max_value=12))
def test_an_instance_without_slots_takes_no_number(declared: list[tuple[str, bool]], place: int) -> None:
    with_empty = [*declared[:place], ("softhsm2", False), *declared[place:]]
    assert [prefix for prefix in prefixes(with_empty) if prefix] == [prefix for prefix in prefixes(declared) if prefix]


def test_prefixes_sort_by_number() -> None:
    names = ["hsm::softhsm2_10", None, "hsm::softhsm2_9", "hsm::utimaco", "hsm::softhsm2"]
    assert sorted(names, key=prefix_order) == ["hsm::softhsm2", "hsm::softhsm2_9", "hsm::softhsm2_10", "hsm::utimaco", None]


@pytest.mark.parametrize("model", ["12", "a b", "", "soft::hsm", "softhsm2_1", "_x"])
def test_models_that_cannot_route(model: str) -> None:
    assert model_problem(model)


@pytest.mark.parametrize("model", ["softhsm2", "Utimaco", "crypt2pay", "my-hsm", "a_b"])
def test_models_that_can(model: str) -> None:
    assert model_problem(model) is None


@given(st.integers(min_value=0, max_value=MAX_SLOT), st.text(min_size=1))
def test_the_key_id_is_all_that_follows_the_slot(slot: int, key_id: str) -> None:
    joined = uid("hsm::softhsm2_3", slot, key_id)
    assert joined.split("::", 3) == ["hsm", "softhsm2_3", str(slot), key_id]


@pytest.mark.parametrize(
    ("prefix", "slot", "key_id"), [("softhsm2", 0, "k"), ("hsm::", 0, "k"), ("hsm::x", -1, "k"), ("hsm::x", True, "k"), ("hsm::x", 0, "")]
)
def test_uids_that_cannot_be(prefix: str, slot: int, key_id: str) -> None:
    with pytest.raises(ValueError, match=r"prefix|slot|empty"):
        uid(prefix, slot, key_id)


@given(st.text(min_size=1).filter(str.isprintable))
def test_an_id_that_is_text_is_the_key_id(text: str) -> None:
    assert key_id_text(text.encode(), "label") == text


@pytest.mark.parametrize(("key_id", "label", "text"), [(b"\xff\x00", "label", "label"), (b"", "label", "label"), (b"\x01", "", "01")])
def test_other_ids_fall_back_to_the_label_and_then_to_hex(key_id: bytes, label: str, text: str) -> None:
    assert key_id_text(key_id, label) == text


@given(st.integers(min_value=0, max_value=MAX_SLOT))
def test_slots_are_decimal_or_hex(number: int) -> None:
    assert parse_slot(str(number)) == parse_slot(hex(number)) == parse_slot(hex(number).upper().replace("X", "x")) == number


@pytest.mark.parametrize("text", ["", "-1", "0x", "12a", "1 2", "0b1", str(MAX_SLOT + 1), "٣"])
def test_slots_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match="slot number"):
        parse_slot(text)


@pytest.mark.parametrize("label", ["", " ", "a ", " a", "x" * 33, "ü" * 17, "a\nb"])
def test_labels_that_no_token_can_have(label: str) -> None:
    assert label_problem(label)


@given(st.fixed_dictionaries({name: st.one_of(st.none(), st.just("1")) for name in ("label", "serial", "slot")}))
def test_exactly_one_selector(options: dict[str, str | None]) -> None:
    selector, problems = TokenSelector.parse(options, "tokens[0]")
    given_names = [name for name, value in options.items() if value]
    assert (selector is not None) == (problems == []) == (len(given_names) == 1)


def records(models: list[tuple[str, bool]]) -> list[InstanceRecord]:
    token = (TokenRecord(selector=TokenSelector("label", "t")),)
    return [InstanceRecord(name=f"i{n}", model=m, library="/l", tokens=token if slots else ()) for n, (m, slots) in enumerate(models)]


@given(DECLARED, st.data())
def test_removal_moves_exactly_those_behind_it(declared: list[tuple[str, bool]], data: st.DataObject) -> None:
    before = records(declared)
    gone = data.draw(st.sampled_from(before)) if before else None
    after = [record for record in before if record is not gone]
    moved = renumberings(prefix_of(before), prefix_of(after))
    behind = [] if gone is None or not gone.tokens else before[before.index(gone) + 1 :]
    expected = [record.name for record in behind if record.tokens and gone and record.model.lower() == gone.model.lower()]
    assert [line.split("'")[1] for line in moved] == expected
    if moved:
        with pytest.raises(Refused):
            check_addresses(moved, allowed=False)
    check_addresses(moved, allowed=True)
