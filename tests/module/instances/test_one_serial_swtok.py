# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Two tokens of one serial number as a provider really has them: opencryptoki's software tokens all say 123."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hsm_fixture import Hsm, four_steps, ok
from swtok import FIRST_SO_PIN, PIN, Two

LABELS = ("first", "second")
SECOND_PIN, NEW_PIN = "135791", "112233"
DEK = {"label": "dek", "type": "AES", "extractable": True}


@pytest.fixture
def two() -> Iterator[Two]:
    found = Two()
    yield found
    found.server.close()


@pytest.fixture
def slots(hsm: Hsm, two: Two) -> Hsm:
    """The instance ``primary`` with both, by label: the first is there, the second was created. Four steps."""
    slots = replace(hsm, library=two.library, server=two.server)
    pins = slots.scratch / "pins"
    tokens = [
        {"label": "first", "pin": PIN, "pin_file": str(pins / "first")},
        slots.token("second", so_pin=FIRST_SO_PIN, pin=SECOND_PIN),
    ]
    done = four_steps(lambda check: register(slots, tokens, check=check))
    assert [(token["slot"], token["label"], token["serial"]) for token in done["instance"]["tokens"]] == [
        (0, "first", "123"),
        (1, "second", "123"),
    ]
    return slots


def register(slots: Hsm, tokens: list[dict[str, Any]], *, check: bool = False) -> dict[str, Any]:
    return slots.run("hsm_instance", check=check, name="primary", model="opencryptoki", library=slots.library, tokens=tokens)


def test_each_has_its_own_pin_and_its_own_tries(slots: Hsm, two: Two) -> None:
    files = {label: slots.scratch / "pins" / label for label in LABELS}
    tokens = [{"label": label, "pin_file": str(file)} for label, file in files.items()]
    assert ok(register(slots, [tokens[0], {**tokens[1], "new_pin": NEW_PIN}]))["changed"] is True
    for label, pin in zip(LABELS, (PIN, NEW_PIN), strict=True):
        two.other_program("pkcs11-tool", "--module", two.library, "--token-label", label, "--login", "--pin", pin, "--list-objects")

    files["first"].write_text("000000")
    for code in ("pin_incorrect", "pin_not_tried"):
        found = slots.run("hsm_status", require="none")["instances"][0]["slots"]
        assert [(slot["label"], slot["code"], slot["pin_state"]) for slot in found] == [("first", code, "low"), ("second", None, "ok")]
    # The token's own count: one try was taken of the first, none of the second.
    flags = [line for line in two.other_program("pkcsconf", "-t").splitlines() if "Flags:" in line]
    assert ["USER_PIN_COUNT_LOW" in line for line in flags] == [True, False]
    files["first"].write_text(PIN)
    assert ok(slots.run("hsm_status", allow_low_pin_count=True))["healthy"] is True


def test_keys_of_one_are_not_the_others(slots: Hsm, two: Two) -> None:
    refused = slots.run("hsm_instance", name="again", model="opencryptoki", library=two.library, tokens=[{"serial": "123", "pin": PIN}])
    assert refused["failure"]["code"] == "several_tokens" and "Name one of them by label." in refused["msg"]

    both = [{"instance": "primary", "token_label": label} for label in LABELS]
    ok(slots.run("hsm_group", name="both", connections=both))
    ok(slots.run("hsm_key", group="both", keys=[DEK]))
    synced = ok(slots.run("hsm_sync", group="both", repair="wrap"))
    (lacking,), (reason,) = synced["members"], synced["not_repaired"]
    assert [[one["slot"] for one in lacking[word]] for word in ("have", "lack")] == [[0], [1]]
    # These tokens wrap no secret keys: that is said of the right one, and nothing is taken for a copy.
    assert reason["code"] == "mechanism_missing" and "token 'first' (slot 0" in reason["reason"], reason

    same = {**DEK, "label": "kek", "source": {"content": "42" * 32, "format": "hex"}}
    for label in LABELS:
        assert ok(slots.run("hsm_key", instance="primary", token_label=label, keys=[same]))["changed"] is True
    assert [key["label"] for key in ok(slots.run("hsm_sync", group="both"))["members"]] == ["dek"]

    # A group of one of them does not claim what is on the other.
    ok(slots.run("hsm_group", name="both", state="absent", force=True))
    ok(slots.run("hsm_group", name="one", connections=both[:1]))
    ok(slots.run("hsm_key", group="one", keys=[DEK]))
    for label in ("dek", "kek"):
        ok(slots.run("hsm_key", instance="primary", token_label="second", keys=[{"label": label, "state": "absent"}]))
    listed = [
        two.other_program("pkcs11-tool", "--module", two.library, "--token-label", label, "--login", "--pin", pin, "--list-objects")
        for label, pin in zip(LABELS, (PIN, SECOND_PIN), strict=True)
    ]
    assert ["dek" in listed[0], "kek" in listed[0], listed[1]] == [True, True, ""]
    info = ok(slots.run("hsm_info", library=two.library, token_label="first", pin=PIN))
    assert {entry["label"] for entry in info["objects"]} == {"dek", "kek"} and info["token"]["slot_id"] == 0
