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
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.tokens.secret import Secret
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


def problems(**options: Any) -> list[str]:
    with pytest.raises(InputError) as caught:
        parse(**options)
    return caught.value.problems


def expected(**options: Any) -> dict[str, Any]:
    defaults = {name: option.get("default") for name, option in STATUS["expect"]["options"].items()}
    return {**defaults, **options}


def test_what_cannot_be_expected() -> None:
    entries = [
        expected(),
        expected(label=" a", id="xyz"),
        expected(label="a", certificate=False, private_key=False),
        expected(label="a", token_label="t", slot="1"),
        expected(label="a", instance="other"),
    ]
    assert problems(expect=entries, instances=["primary"]) == [
        "expect[0]: give label, id or both",
        "expect[1].label: ' a' begins or ends with a blank",
        "expect[1].id: 'xyz' is not hex: give CKA_ID as pairs of hex digits, for example 0a1b",
        "expect[2]: certificate and private_key are both false, so nothing is expected",
        "expect[3]: give exactly one of token_label, token_serial, slot; found label and slot",
        "expect[4].instance: 'other' is not one of instances, which are probed",
    ]


def test_which_gateway_is_not_asked() -> None:
    secret = Secret("x")
    assert problems(gateway_token=secret) == ["gateway_token: belongs to gateway_url, which is missing"]
    assert problems(gateway_url="http://gw:4441", gateway_token=secret) == [
        "gateway_url: a token goes over https only, or to this host itself (localhost)"
    ]
    assert parse(gateway_url="http://localhost:4441/", gateway_token=secret).gateway.url == "http://localhost:4441"
    # A password in it is not repeated.
    assert "pw" not in problems(gateway_url="https://me:pw@gw")[0].replace("password", "")
    for url in ("gw:4440", "file:///etc/shadow", "https://", "https://gw/\r\nX: 1", "https://gw:port", "https://gw?x=1"):
        assert len(problems(gateway_url=url)) == 1, url
    assert problems(gateway_url="https://gw", gateway_token=Secret("a\nb"), gateway_token_file="/t", gateway_client_key="/k") == [
        "gateway_token: give gateway_token or gateway_token_file, not both",
        "gateway_token: has a blank, or a character that no token has",
        "gateway_client_key: belongs to gateway_client_cert, which is missing",
    ]
