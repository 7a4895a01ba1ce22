# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which key of a token a certificate is for: a key's generations are those of hsm_key."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.keyfleet.hsm.plugins.module_utils._cryptoki.objects import Inventory
from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.certificates.key import find_key, later_generations
from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.keys.planning.generations import expand
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.certificates.spec import CertificateSpec
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.errors import KeyfleetError
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.keys.generations import recorded_generations, stored_label
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.keys.objects import Key
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.keys.spec import parse_keys
from hypothesis import given
from hypothesis import strategies as st
from plain_keys import pair, record_of, secret
from plain_plans import NOW

NUMBERS = st.sets(st.integers(1, 5), max_size=4)


def later(label: str, there: list[str], recorded: dict[str, int] | None = None) -> list[str]:
    """With the labels on the token, and the generations of the records of labels."""
    objects = [item for one in there for item in pair(one).objects]
    return list(later_generations(objects, label, lambda base: recorded_generations((recorded or {}).items()).get(base, ())))


@pytest.mark.parametrize(
    ("label", "there", "recorded", "found"),
    [
        ("web", ["web", "web@7"], {"web": 1, "web@7": 1}, []),  # somebody's own name for another key
        ("web", ["web", "web@7"], {}, []),
        ("web", ["web", "web@2"], {"web": 1, "web@2": 2}, ["web@2"]),
        ("web", ["web", "web@2", "web@3", "web@5"], {}, ["web@2", "web@3"]),  # without a registry the row alone counts
        ("web", ["web", "web@3"], {"web@2": 2, "web@3": 1}, ["web@3"]),  # in a row with one that another member has
        ("web", ["web", "web@2"], {"web@2": 2, "web@3": 3}, ["web@2"]),  # what is not on this token makes no certificate
        ("web", ["web@2"], {"web@2": 2}, ["web@2"]),
        ("web", ["web@2"], {}, []),
        ("web@2", ["web", "web@2", "web@3", "web@7"], {"web@2": 2, "web@3": 3}, ["web@3"]),
        ("web@7", ["web", "web@7", "web@8"], {}, []),
    ],
)
def test_generations_after_one(label: str, there: list[str], recorded: dict[str, int], found: list[str]) -> None:
    assert later(label, there, recorded) == found


@given(NUMBERS, NUMBERS, NUMBERS)
def test_the_last_one_is_the_current_one_of_hsm_key(there: set[int], as_such: set[int], found: set[int]) -> None:
    """``as_such`` are recorded as generations of the key, ``found`` as keys of their own; all records are of keys on the token."""
    there = there | {1}
    recorded = {stored_label("web", number): number if number in as_such else 1 for number in (as_such | found) & there}
    labels = [stored_label("web", number) for number in sorted(there)]
    records = {label: record_of(secret(label), generation=number) for label, number in recorded.items()}
    specs, problems = parse_keys([{"label": "web", "type": "AES"}])
    expanded, _families, wrong = expand(specs, labels, records, NOW)
    assert problems == wrong == []
    assert ["web", *later("web", labels, recorded)][-1] == expanded[0].label


@pytest.mark.parametrize(
    ("there", "recorded", "way"),
    [
        (["web@2"], (2,), "Name its later generation (key_label: web@2)."),
        (["web@2", "web@7"], (), "Generate it with hsm_key first, or name the one that is meant: 'web@2', 'web@7'."),
        (["other"], (), "Generate it with hsm_key first."),
    ],
)
def test_the_way_out_where_the_key_is_not_there(there: list[str], recorded: tuple[int, ...], way: str) -> None:
    found: Any = SimpleNamespace(token="token 'payments'")
    inventory = Inventory([item for label in there for item in pair(label).objects])
    with pytest.raises(KeyfleetError) as caught:
        find_key(found, inventory, CertificateSpec("web"), lambda base: recorded)
    assert caught.value.code == "no_key" and caught.value.message.endswith(f"on token 'payments'. {way}")
    assert not caught.value.details  # an earlier task may make it


@pytest.mark.parametrize(
    ("there", "key_id", "text"),
    [
        ([pair("web")], b"\xaa", "key_id: on T key 'web' has CKA_ID 776562, not aa. Give its own key_id, or leave key_id out."),
        ([pair("web"), pair("web", key_id=b"b")], b"\xaa", "key_id: on T key 'web' has CKA_ID 776562, 62, not aa. Give one of these."),
        ([secret("web")], None, "key_label: key 'web' on T is a secret key of type AES, which can have no certificate. Name a key pair."),
    ],
)
def test_another_key_of_that_name_is_named_and_none_is_to_be_made(there: list[Key], key_id: bytes | None, text: str) -> None:
    found: Any = SimpleNamespace(token="T")
    with pytest.raises(KeyfleetError) as caught:
        find_key(found, Inventory([item for one in there for item in one.objects]), CertificateSpec("web", key_id), lambda base: ())
    assert (caught.value.code, caught.value.message) == ("no_key", text)
    assert caught.value.details  # no earlier task makes it: check mode refuses as well
