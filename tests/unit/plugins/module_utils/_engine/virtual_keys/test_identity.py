# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Is this that key? Every pair of a key and a record, and what each place that asks lets count."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.virtual_keys.identity import (
    PAIR,
    Difference,
    facts,
    facts_of_keys,
    facts_of_record,
    family,
    is_another,
)
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.keys.objects import Key, fingerprint_of
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.records import VirtualKey
from plain_keys import der, half, named, pair, record_of, secret

P, Q = fingerprint_of(der("EC", "p")), fingerprint_of(der("EC", "q"))
# How each place asks: which key a record points at; whether another stands under a recorded name, on the HSM that recorded it and
# on another one; whether a key is that of another group.
COMPARE = {"check_values": True, "sizes": True}
EXCHANGED = {"check_values": True, "unknown_types": True}
CLAIMED = {"check_values": False, "unknown_types": True}
ANSWERS = ("compare", "exchanged", "claimed")

AES, RSA, EC = secret(), pair(type="RSA", size=2048), pair()
UNSAID = secret(size=None, value=None)


def sized(key: Key, size: int | None) -> Key:
    return Key(**{item.kind: replace(item, size=size) for item in key.objects})


@pytest.mark.parametrize(
    ("key", "record", "fields"),
    [
        # Names say nothing: both may have been edited.
        (AES, record_of(AES), ""),
        (named(AES, "other", b"9"), record_of(AES), ""),
        (named(EC, "other", b"9"), record_of(EC), ""),
        # The type.
        (secret(type="DES3", value=None), record_of(UNSAID), "compare=type exchanged=type claimed=type"),
        (secret(type="unknown", value=None), record_of(UNSAID), "exchanged=type claimed=type"),
        (UNSAID, record_of(secret(type="unknown", value=None)), "exchanged=type claimed=type"),
        (secret(type="unknown"), record_of(secret(type="unknown")), ""),
        (EC, record_of(RSA, public_key=None, fingerprint=None), "compare=type exchanged=type claimed=type"),
        (secret("k", type="AES"), record_of(pair("k")), "compare=type exchanged=type claimed=type"),
        (pair(type="RSA", value="q"), record_of(EC), "compare=type exchanged=type claimed=type"),
        (replace(EC, private=replace(EC.private, type="unknown")), record_of(EC), ""),  # the public key alone decides
        # The size, of which a copy that was unwrapped may say nothing.
        (secret(size=128, value=None), record_of(AES), "compare=size"),
        (secret(size=128), record_of(AES), "compare=size"),
        (secret(size=None), record_of(AES), ""),
        (AES, record_of(AES, size=None), ""),
        (UNSAID, record_of(UNSAID), ""),
        (half("private", size=384), record_of(EC), "compare=size"),
        (sized(EC, 384), record_of(EC), ""),
        (Key(private=replace(EC.private, size=None), public=replace(EC.public, size=384, public_key=None)), record_of(EC), "compare=size"),
        # A secret key's check value.
        (secret(value="bb0001"), record_of(AES), "compare=fingerprint exchanged=fingerprint"),
        (secret(value=None), record_of(AES), ""),
        (AES, record_of(AES, fingerprint=None), ""),
        # A pair's public key.
        (pair(value="q"), record_of(EC), "compare=fingerprint exchanged=fingerprint claimed=fingerprint"),
        (pair(value="q"), record_of(EC, fingerprint=None), "compare=fingerprint exchanged=fingerprint claimed=fingerprint"),
        (pair(value="q"), record_of(EC, public_key=None, fingerprint=None), ""),
        (pair(value=None), record_of(EC), ""),
        # Halves of pairs. A private one gives its public key only where it is an RSA key.
        (half("private"), record_of(EC), ""),
        (half("private", type="RSA", size=2048), record_of(RSA), ""),
        (
            half("private", type="RSA", size=2048, value="q"),
            record_of(RSA),
            "compare=fingerprint exchanged=fingerprint claimed=fingerprint",
        ),
        (half("public"), record_of(EC), ""),
        (half("public", value="q"), record_of(EC), "compare=fingerprint exchanged=fingerprint claimed=fingerprint"),
        (EC, record_of(half("public")), ""),
        (pair(value="q"), record_of(half("public")), "compare=fingerprint exchanged=fingerprint claimed=fingerprint"),
    ],
)
def test_what_proves_that_a_key_is_another(key: Key, record: VirtualKey, fields: str) -> None:
    found = [is_another(key, record, **way) for way in (COMPARE, EXCHANGED, CLAIMED)]
    told = " ".join(f"{name}={other.field}" for name, other in zip(ANSWERS, found, strict=True) if other is not None)
    assert told == fields


def test_a_difference_says_what_was_found_and_recorded() -> None:
    assert is_another(pair(value="q"), record_of(EC), check_values=False) == Difference("fingerprint", Q, P)
    assert is_another(secret(value="bb0001"), record_of(AES), check_values=True) == Difference("fingerprint", "bb0001", "aa0001")
    assert is_another(secret(size=128), record_of(AES), check_values=False, sizes=True) == Difference("size", 128, 256)
    assert is_another(EC, record_of(RSA), check_values=False) == Difference("type", "EC", "RSA")


def test_a_computed_check_value_stands_in_for_one_that_the_token_does_not_give() -> None:
    assert is_another(secret(value=None), record_of(AES), check_values=True, check_value="bb0001") == Difference(
        "fingerprint", "bb0001", "aa0001"
    )
    assert is_another(secret(value=None), record_of(AES), check_values=True, check_value="aa0001") is None
    assert is_another(AES, record_of(AES), check_values=True, check_value="bb0001") is None  # the token's own counts
    assert is_another(secret(value=None), record_of(AES), check_values=False, check_value="bb0001") is None


@pytest.mark.parametrize(
    ("key", "record", "in_common"),
    [
        (AES, record_of(AES), {"label", "id"}),  # a check value is no ground
        (named(AES, key_id=b"9"), record_of(AES), {"label"}),
        (named(AES, "other"), record_of(AES), {"id"}),
        (named(AES, "other", b"9"), record_of(AES), set()),
        (named(AES, "", b""), record_of(named(AES, "", b"")), set()),  # two without names have none in common
        (EC, record_of(EC), {"label", "id", "key"}),
        (named(EC, "other", b"9"), record_of(EC), {"key"}),
        (pair("other", value="q"), record_of(EC), set()),
        (secret("sig"), record_of(EC), set()),  # a secret key is not called after a pair
        (half("public"), record_of(EC), set()),  # the public half is not the pair
        (EC, record_of(half("public")), {"key"}),  # but a pair has the public half
        (half("private", "other", type="RSA"), record_of(RSA), {"key"}),
        (half("private", "other"), record_of(EC), set()),
    ],
)
def test_what_a_record_may_know_a_key_by(key: Key, record: VirtualKey, in_common: set[str]) -> None:
    assert {what for _kind, what, _value in facts_of_keys([key]) & facts_of_record(record)} == in_common


def test_the_halves_of_a_pair_are_one_where_that_is_asked_for() -> None:
    assert {family(kind) for kind in ("private", "public")} == {PAIR}
    assert family("secret") == "secret"
    assert facts(PAIR, "sig", b"1", P) == [(PAIR, "label", "sig"), (PAIR, "id", b"1"), (PAIR, "key", P)]
    assert facts(PAIR) == []
