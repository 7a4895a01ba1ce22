# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""When the playbook rotate_pin starts the health service again after a failure: only where no wrong PIN can be tried."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from jinja2.nativetypes import NativeEnvironment

PLAYBOOK = Path(__file__).resolve().parents[2] / "playbooks/rotate_pin.yml"
NAMES = ("rotate_pin_proven", "rotate_pin_first_told", "rotate_pin_nothing_waits", "rotate_pin_kept", "rotate_pin_sure")
OK = {"site_one": "shared", "failed": False, "changed": True}
GONE, WAITS = {"results": [{"stat": {"exists": False}}]}, {"results": [{"stat": {"exists": True}}]}


def failed(code: str, *, changed: bool = False) -> dict[str, Any]:
    return {"site_one": "shared", "failed": True, "changed": changed, "failure": {"code": code}}


def sure(first: dict[str, Any] | None, other: dict[str, Any] | None, waits: Any = None, **facts: Any) -> list[bool]:
    """Of the host that changes the PIN, and of one that shares the token: whether the service starts."""
    (play,) = yaml.safe_load(PLAYBOOK.read_text())
    told = []
    for mine in (first, other):
        host = {"rotate_pin_unfinished": facts.get("unfinished", [])}
        left = {"rotate_pin_left": GONE if waits is None else waits}
        hostvars = {"one": host | left | ({"site_instance": {"results": [first]}} if first else {})}
        values = {"site_name": "shared", "hostvars": hostvars, "rotate_pin_turn": "one", **host, "rotate_pin_others_unfinished": False}
        values |= {
            "rotate_pin_is_first": mine is first,
            "site_instance": {"results": [mine]} if mine else {"results": [{**OK, "site_one": "x"}]},
        }
        for name in NAMES:
            values[name] = NativeEnvironment(autoescape=False).from_string(play["vars"][name]).render(values)
        told.append(values["rotate_pin_sure"])
    return told


@pytest.mark.parametrize(
    ("first", "other", "facts", "starts"),
    [
        # Before anything was asked of the token, and where it has refused what it was to be given.
        (None, {**OK, "site_one": "before"}, {}, [True, True]),
        (failed("pin_not_accepted"), None, {}, [True, True]),
        # The PIN in the file of the first host is wrong. What others have was good until now.
        (failed("pin_incorrect"), None, {}, [False, True]),
        # Only a login could tell which PIN is in force, or the host cannot say.
        (failed("device_error", changed=True), None, {"waits": WAITS}, [False, False]),
        (failed("device_error"), None, {"waits": {}}, [False, False]),
        # The token has the new PIN, and so has the file of the first host.
        (failed("registry_busy", changed=True), None, {}, [True, False]),
        (OK, None, {}, [True, False]),
        (OK, failed("library_missing"), {}, [True, False]),
        (OK, OK | {"changed": False}, {}, [True, True]),
        # What an earlier run has left may be an old file.
        (failed("lock_timeout"), None, {"unfinished": ["shared"]}, [False, False]),
    ],
)
def test_the_health_service_starts_where_its_pin_is_in_force(
    first: dict[str, Any] | None, other: dict[str, Any] | None, facts: dict[str, Any], starts: list[bool]
) -> None:
    assert sure(first, other, **facts) == starts
