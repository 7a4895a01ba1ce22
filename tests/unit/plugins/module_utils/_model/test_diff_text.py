# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The diff of many keys: a line that counts them, and one for each that changes."""

from __future__ import annotations

import re

from ansible.plugins.callback import CallbackBase
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.diff_text import SHOWN, Section, prepared_diff
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.plan import CHANGE, CREATE, DELETE, KEEP, REPLACE, Step
from hypothesis import given
from hypothesis import strategies as st

AES = {"id": b"dek".hex(), "type": "AES", "size": 256, "curve": None, "operations": ["encrypt", "decrypt"], "sensitive": True}


def keys(*steps: Step, total: int | None = None) -> str:
    diff = prepared_diff(Section("key", steps, len(steps) if total is None else total))
    shown: str = CallbackBase()._get_diff(diff)
    return shown


def test_what_ansible_shows_of_each_kind() -> None:
    steps = [
        Step(KEEP, "key same", AES, AES),
        Step(CREATE, "key dek", None, AES),
        Step(CHANGE, "key kek", AES, {**AES, "operations": ["decrypt"], "state": "deactivated"}),
        Step(REPLACE, "key short", {**AES, "size": 128}, AES),
        Step(DELETE, "key old", AES, None),
        Step(CHANGE, "key found", AES, {**AES, "virtual_key": {"generation": 2, "id": ""}}),
    ]
    assert keys(*steps).splitlines() == [
        "6 keys: +1 -/+1 ~2 -1 =1",
        "- key old: id 64656b, type AES, size 256, operations [encrypt, decrypt], sensitive true",
        "-/+ key short: destroyed and made anew, size 128 -> 256",
        "~ key kek: operations [encrypt, decrypt] -> [decrypt], state none -> deactivated",
        "~ key found: virtual_key none -> (generation 2, id )",
        "+ key dek: type AES, size 256, operations [encrypt, decrypt], sensitive true",
    ]


def test_a_thousand_keys_are_fifty_lines_and_what_goes_is_among_them() -> None:
    steps = [Step(CREATE, f"key k{number}", None, AES) for number in range(950)]
    steps += [Step(CHANGE, f"key c{number}", AES, {**AES, "size": 128}) for number in range(3)]
    steps += [Step(DELETE, f"key d{number}", AES, None) for number in range(2)]
    lines = keys(*steps, total=1000).splitlines()
    assert lines[0] == "1,000 keys: +950 ~3 -2 =45" and lines[-1] == "... and 905 more" and len(lines) == SHOWN + 2
    assert [line.split(":")[0] for line in lines[1:3]] == ["- key d0", "- key d1"]


def test_nothing_to_tell() -> None:
    assert prepared_diff(Section("key", [Step(KEEP, "key same", AES, AES)], 1)) == {"before": {}, "after": {}}
    assert keys() == ""


def test_sections_are_counted_apart_and_share_the_lines() -> None:
    parts = [Step(DELETE, f"left-over {number}", {"kind": "secret"}, None) for number in range(30)]
    steps = [Step(CREATE, f"key k{number}", None, AES) for number in range(30)]
    lines = prepared_diff(Section("left-over", parts, 30), Section("key", steps, 31))["prepared"].splitlines()
    assert lines[0] == "30 left-overs: +0 ~0 -30 =0" and lines[31] == "31 keys: +30 ~0 -0 =1" and lines[-1] == "... and 10 more"


def test_a_label_of_another_program_moves_no_cursor_and_is_one_line() -> None:
    (_head, line) = keys(Step(CREATE, "hsm::softhsm2::7::\x1b[2J\nkey", None, AES)).splitlines()
    assert line.startswith("+ hsm::softhsm2::7::\\x1b[2J\\nkey: ")


ACTIONS = st.sampled_from([CREATE, CHANGE, REPLACE, DELETE, KEEP])


@given(st.lists(ACTIONS, max_size=120), st.integers(0, 2000))
def test_the_counts_add_up(actions: list[str], others: int) -> None:
    text = keys(*(Step(action, f"key {n}", AES, AES) for n, action in enumerate(actions)), total=len(actions) + others)
    changing = [action for action in actions if action != KEEP]
    assert bool(text) is bool(changing)
    if text:
        head, *lines = text.splitlines()
        total, *parts = (int(number.replace(",", "")) for number in re.findall(r"[0-9,]+", head))
        assert total == sum(parts) == len(actions) + others
        more = int(lines.pop().split()[2].replace(",", "")) if lines[-1].startswith("...") else 0
        assert len(lines) + more == len(changing) and len(lines) <= SHOWN
