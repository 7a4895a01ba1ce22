# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A Secret shows itself nowhere."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable

import pytest
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.tokens.secret import Secret, mask
from hypothesis import given
from hypothesis import strategies as st

PIN = "canary-4711"


def test_no_form_of_it_shows_the_text() -> None:
    secret = Secret(PIN)
    forms = [str(secret), repr(secret), f"{secret}", f"{secret!r:>20}", f"{[secret]}", format(secret, "x")]
    assert all(PIN not in form for form in forms)
    assert not hasattr(secret, "__dict__")


def test_it_is_not_serialised() -> None:
    for dump in (json.dumps, pickle.dumps):
        with pytest.raises(TypeError):
            dump(Secret(PIN))


def test_it_is_compared_and_revealed() -> None:
    assert Secret(PIN) == Secret(PIN) != Secret("other")
    assert Secret(PIN) != PIN
    assert Secret(PIN).reveal() == PIN
    assert not Secret("")


@given(st.sets(st.text(alphabet="abc1", min_size=1)), st.text(alphabet="abc1 "))
def test_mask_leaves_no_secret(secrets: set[str], text: str) -> None:
    parts = mask(text, secrets).split("***")
    assert not any(secret in part for secret in secrets for part in parts)


@pytest.mark.parametrize("text", ["back\\sl7391", "tab\t7391", "both\"'7391", "Schlüssel\n7391", "\udc807391"])
@pytest.mark.parametrize("written", [str, repr, json.dumps, lambda text: repr({"pin": text}), lambda text: f"line\n{text}\nline"])
def test_mask_finds_every_spelling(text: str, written: Callable[[str], str]) -> None:
    assert "7391" not in mask(written(text), {text})


def test_mask_finds_each_line_of_a_key() -> None:
    assert mask("bad line: MIIEvQIBADANBgkq", {"-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkq\nAA\n"}) == "bad line: ***"
    assert mask("AA is no key", {"MIIE\nAA\n"}) == "AA is no key"
