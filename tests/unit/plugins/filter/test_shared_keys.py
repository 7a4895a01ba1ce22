# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The filter shared_keys: what two tokens behind one load balancer may differ in."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.keyfleet.hsm.plugins.filter.shared_keys import shared_keys


def token(host: str, label: str = "one", slot: int = 7, **keys: str) -> dict[str, Any]:
    """What hsm_sync returned of a token with these keys, by their fingerprints."""
    fingerprints = {f"hsm::other_1::{slot}::{name}": value for name, value in keys.items()}
    document = {"keys": [{"label": name} for name in keys], "others": [], "fingerprints": fingerprints}
    return {"host": host, "label": label, "answer": {"document": document, "missing": [], "drift": []}}


def changed(one: dict[str, Any], **answer: Any) -> dict[str, Any]:
    return {**one, "answer": {**one["answer"], **answer}}


def test_the_same_keys_in_other_slots_are_no_problem_and_tokens_of_other_labels_are_not_compared() -> None:
    assert shared_keys([token("gw1", rsa="a", ec="b"), token("gw2", slot=9, rsa="a", ec="b"), token("gw2", "two", rsa="c")]) == []


@pytest.mark.parametrize(
    ("second", "words"),
    [
        (token("gw2", rsa="a"), ["gw2: token 'one' lacks 'ec', which gw1 has"]),
        (token("gw2", rsa="a", ec="b", more="c"), ["gw1: token 'one' lacks 'more', which gw2 has"]),
        (token("gw2", rsa="a", ec="x"), ["gw2: token 'one' has another key than gw1 as 'ec'"]),
        (changed(token("gw2"), document=None, msg="no token"), ["gw2: token 'one': its keys cannot be read: no token"]),
        (
            changed(token("gw2", rsa="a", ec="b"), missing=["hsm::x::1::ec"]),
            ["gw2: token 'one' does not have 'ec', which the registry of this host has recorded"],
        ),
        (
            changed(
                token("gw2", rsa="a", ec="b"), drift=[{"uid": "hsm::x::1::ec", "field": "fingerprint"}, {"uid": "u", "field": "operations"}]
            ),
            ["gw2: token 'one' has another key than the one that is recorded as 'ec'"],
        ),
    ],
)
def test_what_differs_is_named_with_its_host(second: dict[str, Any], words: list[str]) -> None:
    assert shared_keys([token("gw1", rsa="a", ec="b"), second]) == words


def test_keys_that_cannot_be_declared_and_generations_count_too() -> None:
    one, other = token("gw1", rsa="a"), token("gw2", rsa="a")
    one["answer"]["document"]["keys"].append({"label": "rsa", "generation": 2})
    other["answer"]["document"]["others"] = [{"label": "", "id": "0a"}]
    assert shared_keys([one, other]) == ["gw2: token 'one' lacks 'rsa@2', which gw1 has", "gw1: token 'one' lacks '0a', which gw2 has"]
    one, other = token("gw1", rsa="a"), token("gw2", rsa="a")
    other["answer"]["document"]["fingerprints"] = {"hsm::other::3::0a": "a"}
    assert shared_keys([one, other]) == ["gw2: token 'one' has keys of other CKA_IDs than gw1: '0a', 'rsa'"]


def test_what_is_no_input() -> None:
    with pytest.raises(AnsibleFilterError, match="the input is not a list of mappings"):
        shared_keys([{"host": "gw1"}])
