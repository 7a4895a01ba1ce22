# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options of hsm_status, checked without a registry."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.errors import InputError
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.status_request import ProbeOrder, StatusRequest
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.tokens.connection_request import Login
from ansible_collections.keyfleet.hsm.plugins.module_utils._module.options import PIN_SAFETY, STATUS


def parse(**options: Any) -> StatusRequest:
    """With the defaults that Ansible fills in."""
    defaults = {name: option.get("default") for name, option in {**STATUS, **PIN_SAFETY}.items()}
    return StatusRequest.parse({**defaults, "registry": "/r.db", **options})


def test_a_whole_request() -> None:
    assert parse() == StatusRequest("/r.db", None, ProbeOrder("roundtrip", 30, Login()))
    given = {"instances": ["a", "b"], "probe": "login", "require": "all", "timeout": 1, "allow_low_pin_count": True}
    assert parse(**given) == StatusRequest("/r.db", ("a", "b"), ProbeOrder("login", 1, Login(allow_low_pin_count=True)), "all")


@pytest.mark.parametrize("seconds", [0, -1])
def test_a_time_that_is_none(seconds: int) -> None:
    with pytest.raises(InputError) as caught:
        parse(timeout=seconds)
    assert caught.value.problems == [f"timeout: {seconds} is too short: give seconds above 0"]
