# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.errors import InputError
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.kms.status import status_differences


def status(*slots: tuple[str, int | None, bool], **more: Any) -> list[dict[str, Any]]:
    return [
        {"prefix": prefix, "model": "m", "slots": [{"slot_id": slot, "accessible": accessible, **more}]}
        for prefix, slot, accessible in slots
    ]


def test_the_same_is_no_difference_in_any_order() -> None:
    one = status(("hsm::a", 2, True), ("hsm::a", 1, False))
    assert status_differences(one, one[::-1]) == []


@pytest.mark.parametrize(
    ("server", "probe", "words"),
    [
        (True, False, "the probe failed: gone"),
        (False, True, "the probe worked"),
        (True, None, "the probe does not know it"),
        (None, True, "does not serve it"),
        (None, False, "does not serve it"),
    ],
)
def test_what_differs_is_told(server: bool | None, probe: bool | None, words: str) -> None:
    served = [] if server is None else status(("hsm::a", 7, server))
    probed = [] if probe is None else status(("hsm::a", 7, probe), error="gone")
    (found,) = status_differences(served, probed)
    assert {name: found[name] for name in ("prefix", "slot_id", "server", "probe")} == {
        "prefix": "hsm::a",
        "slot_id": 7,
        "server": server,
        "probe": probe,
    }
    assert words in found["why"]


def test_a_token_without_a_login_is_not_compared_where_both_have_it() -> None:
    probed = status(("hsm::a", 7, True), login=False)
    assert status_differences(status(("hsm::a", 7, False)), probed) == []
    assert [entry["server"] for entry in status_differences([], probed)] == [None]


def test_the_same_slot_under_another_prefix_is_another_slot() -> None:
    found = status_differences(status(("hsm::a", 7, True)), status(("hsm::a_1", 7, True)))
    assert [(entry["prefix"], entry["server"], entry["probe"]) for entry in found] == [("hsm::a", True, None), ("hsm::a_1", None, True)]


def test_a_token_that_was_never_found_has_no_address() -> None:
    assert status_differences([], status(("hsm::a", None, False))) == []


@pytest.mark.parametrize("wrong", [None, "no", [1], [{"prefix": "a"}], status(("a", 1, "yes")), {"error": "unauthorized"}])
def test_another_shape_is_refused_on_both_sides(wrong: Any) -> None:
    for given in ((wrong, []), ([], wrong)):
        with pytest.raises(InputError, match="is not a status"):
            status_differences(*given)
