# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which tokens of two hosts rotate_pin takes for one, from plain values: the other hosts' PIN files follow it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml

LOOK = Path(__file__).resolve().parents[2] / "playbooks/tasks/rotate_pin/look.yml"


def seen(host: str, declared: list[dict[str, Any]], *tokens: tuple[str, str]) -> list[str]:
    """What the playbook notes of a host whose library shows ``tokens``, each with serial and label."""
    (task,) = [task for task in yaml.safe_load(LOOK.read_text()) if task["name"].startswith("Note the tokens")]
    # As ansible.builtin.template renders what is no file.
    environment = jinja2.Environment(trim_blocks=True, undefined=jinja2.StrictUndefined)  # noqa: S701 (none of it is HTML)
    environment.filters["bool"] = bool
    slots = [{"slot_id": number, "token": {"serial": serial, "label": label}} for number, (serial, label) in enumerate(tokens)]
    text = environment.from_string(task["vars"]["serials"]).render(declared={"tokens": declared}, slots=slots, inventory_hostname=host)
    return [line.strip() for line in text.split("\n") if line.strip()]


A = {"label": "a"}


@pytest.mark.parametrize(
    ("declared", "tokens", "one"),
    [
        ([A], [("4efb921434f30e05", "a")], True),
        ([A], [(" 4efb9214 ", "a"), ("0", "b")], True),
        # One number with many tokens.
        ([A], [("0000000000000000", "a")], False),
        ([A], [("", "a")], False),
        ([A], [("123", "a")], False),
        ([A], [("4efb9214", "a"), ("4efb9214", "b")], False),
        # The declaration says it.
        ([{**A, "shared": True}], [("123", "a")], True),
        ([{**A, "shared": True}], [("", "a")], True),
        ([{"serial": "123"}], [("123", "a")], True),
        ([{"slot": 0}], [("0000", "a")], False),
    ],
)
def test_a_token_of_two_hosts(declared: list[dict[str, Any]], tokens: list[tuple[str, str]], one: bool) -> None:
    first, second = (seen(host, declared, *tokens) for host in ("h1", "h2"))
    assert len(first) == 1 and (first == second) is one


def test_a_serial_number_with_another_label_is_another_token() -> None:
    assert seen("h1", [{"serial": "DENK0100123"}], ("DENK0100123", "a")) != seen("h2", [{"serial": "DENK0100123"}], ("DENK0100123", "b"))
