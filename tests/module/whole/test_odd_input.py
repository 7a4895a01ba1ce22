# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Odd values get one clear refusal that names their place: "unexpected" is left for defects of ours."""

from __future__ import annotations

from typing import Any

import pytest
from hsm_fixture import SOFTHSM, Hsm

KEY = {"label": "a", "type": "AES"}
DIRECT = {"library": SOFTHSM, "token_label": "payments"}
ODD: list[tuple[str, dict[str, Any], str]] = [
    ("hsm_key", {**DIRECT, "environment": {"DEBUG": True}, "keys": [KEY]}, "environment: the value of DEBUG is no text"),
    ("hsm_key", {**DIRECT, "environment": {"DEBUG": [1]}, "keys": [KEY]}, "environment: the value of DEBUG is no text"),
    ("hsm_key", {**DIRECT, "environment": {"A B": "1"}, "keys": [KEY]}, "environment: 'A B' is no variable name"),
    ("hsm_key", {"instance": "primary", "keys": [None]}, "keys[0]: is empty"),
    ("hsm_key", {"instance": "primary", "keys": [{**KEY, "size": 2**80}]}, "larger than 63 bits"),
    ("hsm_key", {"instance": "primary", "keys": [{**KEY, "label": "\ud800"}]}, "is not valid UTF-8"),
    ("hsm_key", {"instance": "primary", "pin_file": "/etc", "keys": [KEY]}, "pin_file: /etc is not a regular file"),
    ("hsm_status", {"timeout": 100_000_000_000}, "timeout: 100000000000 is too long"),
    ("hsm_info", {"library": SOFTHSM, "timeout": 0}, "timeout: 0 is too short"),
    ("hsm_info", {"library": SOFTHSM, "slot": "1", "pin_file": "/etc"}, "pin_file: /etc is not a regular file"),
    ("hsm_status", {"timeout": 2**70}, "larger than 63 bits"),
    ("hsm_instance", {"name": "x", "model": "softhsm2", "tokens": [{"label": "x"}], "connection_timeout": 2**40}, "is too large"),
    ("gateway_certificate", {"path": "/nowhere/x.p12", "common_name": "x", "owner": "99999999999"}, "owner: there is no user"),
    ("gateway_certificate", {"path": "/nowhere/x.p12", "common_name": "x", "group": "4294967295"}, "group: there is no group"),
    ("gateway_certificate", {"path": "/nowhere/x.p12", "common_name": "x", "owner": "a\0"}, "contains a NUL character"),
]


@pytest.mark.parametrize(("module", "options", "text"), ODD, ids=[text for _module, _options, text in ODD])
def test_odd_values_are_refused_by_name(primary: Hsm, module: str, options: dict[str, Any], text: str) -> None:
    for check in (True, False):
        answer = primary.call(
            module, {"registry": primary.registry, **options} if module != "gateway_certificate" else options, check=check
        )
        if check and "there is no" in text:  # an earlier task may make the user
            continue
        assert answer["failed"], answer
        assert answer["failure"]["code"] != "unexpected"
        assert text in answer["msg"]


def test_a_number_in_an_environment_is_its_text(primary: Hsm) -> None:
    environment = {**primary.environment, "KEYFLEET_NUMBER": 1}
    answer = primary.call("hsm_key", {**DIRECT, "environment": environment, "pin_file": f"{primary.scratch}/none", "keys": [KEY]})
    assert answer["failure"]["code"] == "pin_file_missing"
    # Beside pin_file, hsm_key takes no pin: the one module that does writes the file.
    assert answer["msg"].endswith("Create it (mode 0600), or give hsm_instance the PIN beside pin_file once, and it writes it.")


def test_a_message_is_short_and_without_control_characters(primary: Hsm) -> None:
    keys = [{"label": f"{'k' * 60}-{number}\x1b[2J", "type": "AES", "size": 257} for number in range(200)]
    answer = primary.keys(*keys)
    assert len(answer["msg"]) <= 2000
    assert "\x1b" not in answer["msg"]
    assert len(answer["failure"]["details"]["problems"]) >= 200
