# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options of hsm_info, and what is made of the lines of its child."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.errors import InputError
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.findings import cut, findings, line
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.info_request import InfoRequest
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.tokens.connection_request import Login
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.tokens.secret import Secret
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.tokens.selectors import TokenSelector
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.tokens.starting import Starting
from ansible_collections.keyfleet.hsm.plugins.module_utils._module.options import INFO, PIN_SAFETY


def parse(**options: Any) -> InfoRequest:
    """With the defaults that Ansible fills in."""
    defaults = {name: option.get("default") for name, option in {**INFO, **PIN_SAFETY}.items()}
    return InfoRequest.parse({**defaults, "registry": "/r.db", "library": "/l.so", **options})


def test_a_whole_request() -> None:
    assert parse() == InfoRequest("/l.so", Starting(), None, Login(), "/r.db", 120)
    given = {"init_args": "a", "environment": {"A": "b"}, "slot": "0x10", "pin": Secret("1234"), "timeout": 5}
    wanted = InfoRequest("/l.so", Starting({"A": "b"}, "a"), TokenSelector("slot", 16), Login(Secret("1234")), "/r.db", 5)
    assert parse(**given) == wanted
    assert parse(token_serial="7", allow_low_pin_count=True).login == Login(allow_low_pin_count=True)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"pin": Secret("1234")}, ["pin: a PIN is tried on one token only"]),
        ({"pin_file": "/p"}, ["pin_file: a PIN is tried on one token only"]),
        ({"token_label": "a", "slot": "1"}, ["give exactly one of token_label, token_serial, slot"]),
        ({"slot": "x", "timeout": 0}, ["slot", "timeout"]),
        ({"slot": "1", "pin": Secret("1234"), "pin_file": "/p"}, ["not both"]),
    ],
)
def test_a_request_that_is_refused(options: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        parse(**options)
    assert len(caught.value.problems) == len(words)
    assert all(word in problem for word, problem in zip(words, caught.value.problems, strict=True))


def test_what_was_found_until_the_child_ended() -> None:
    lines = [
        line("library", {"path": "/l.so"}),
        line("step", "slots"),
        *cut("slots", [1, 2, 3], 2),
        *cut("mechanisms", [1, 2], 2),
        line("step", "session"),
        line("problems", {"code": "probe_crashed"}),
    ]
    found = findings(lines)
    assert (found["library"], found["slots"], found["mechanisms"]) == ({"path": "/l.so"}, [1, 2], [1, 2])
    assert found["left_off"] == ["slots"] and found["problems"] == [{"step": "session", "code": "probe_crashed"}]
    assert found["token"] is None
    assert findings([line("problems", {"code": "a"})])["problems"] == [{"step": "library", "code": "a"}]
