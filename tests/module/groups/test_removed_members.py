# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A member leaves its group and then the registry: what is recorded of the group's keys stays the group's."""

from __future__ import annotations

from typing import Any

from hsm_fixture import Hsm, Pair, four_steps, ok

PRIMARY, STANDBY, THIRD = ({"instance": name} for name in ("primary", "standby", "third"))
PAN = {"label": "pan", "type": "AES"}


def unregister(pair: Pair, name: str, *, check: bool = False, **options: Any) -> dict[str, Any]:
    return pair.hsm.run("hsm_instance", check=check, name=name, state="absent", allow_renumber=True, **options)


def home(pair: Pair, label: str = "pan") -> str:
    """The instance on which a key of the group was last found."""
    query = (
        "SELECT instance.name FROM virtual_key JOIN token ON token.id = virtual_key.token_id JOIN instance ON instance.id = "
        "token.instance_id WHERE group_id IS NOT NULL AND virtual_key.label = ?"
    )
    ((name,),) = pair.rows(query, label)
    return str(name)


def on_two(pair: Pair, *names: str) -> None:
    """Key pan on these instances, each of which made it of one value and lets it go nowhere."""
    source = {"content": "00112233445566778899aabbccddeeff", "format": "hex"}
    for name in names:
        ok(pair.hsm.run("hsm_key", instance=name, keys=[{**PAN, "source": source}]))


def deactivated(pair: Pair) -> None:
    ok(pair.keys({"label": "pan", "state": "deactivated"}))
    assert pair.records()["pan"][0] == "deactivated"


def test_a_record_goes_to_the_member_that_has_the_key(pair: Pair, hsm: Hsm) -> None:
    """Which is not the one that serves, and cannot get it."""
    hsm.register("third", tokens=[hsm.token("third")])
    on_two(pair, "standby", "third")
    ok(pair.group(connections=[STANDBY, THIRD]))
    ok(pair.sync())
    deactivated(pair)
    ok(pair.group(connections=[PRIMARY, STANDBY, THIRD]))
    assert ok(pair.sync(repair="wrap", leaving=[STANDBY]))["would_be_lost"] == []
    ok(pair.group(connections=[PRIMARY, THIRD]))
    done = four_steps(lambda check: pair.sync(check=check))
    assert done["served_by"]["instance"] == "primary" and len(done["missing"]) == 1 and home(pair) == "third"
    assert ok(unregister(pair, "standby"))["changed"] is True  # nothing refers to it any more
    assert pair.records()["pan"][0] == "deactivated"


def test_what_was_not_looked_for_is_not_forgotten(pair: Pair) -> None:
    on_two(pair, "primary", "standby")
    ok(pair.sync())
    ok(pair.hsm.keys({"label": "own", "type": "AES"}))
    ok(pair.keys({"label": "gone", "type": "AES"}))
    ok(pair.group(apply_changes=True))
    ok(pair.keys({"label": "gone", "state": "destroyed"}))
    deactivated(pair)
    ok(pair.group(connections=[STANDBY], apply_changes=True))
    for check in (True, False):
        refused = unregister(pair, "primary", check=check)
        assert refused["failure"]["details"]["virtual_keys"] == ["own"]
        assert refused["failure"]["details"]["group_keys"] == {"payments": ["pan"]}
        text = "1 virtual key of group 'payments' was last found on it: 'pan'. Run hsm_sync with group: payments"
        assert text in refused["msg"] and "1 virtual key refers to it: 'own'. Make that key absent" in refused["msg"], refused["msg"]
    done = four_steps(lambda check: {**unregister(pair, "primary", check=check, force=True)})
    assert "'pan'" in str(done["warnings"]) and home(pair) == home(pair, "gone") == "standby"
    assert pair.records()["pan"][0] == "deactivated" and pair.records()["gone"][0] == "destroyed"
    assert pair.rows("SELECT subject FROM event WHERE action = 'forget_key'") == [("own",)]
    assert len(pair.rows("SELECT subject FROM event WHERE action = 'move_key'")) == 2
    assert ok(pair.sync())["summary"]["known"] == 1 and pair.records()["pan"][0] == "deactivated"


def test_a_token_that_is_not_declared_any_more_takes_no_record_along(pair: Pair, hsm: Hsm) -> None:
    """The same where the instance stays."""
    both = [hsm.token("payments"), hsm.token("more")]
    hsm.register(tokens=both)
    ok(hsm.run("hsm_key", instance="primary", token_label="more", keys=[PAN]))
    ok(pair.group(connections=[{"instance": "primary", "token_label": "more"}]))
    ok(pair.sync())
    deactivated(pair)
    ok(pair.group(connections=[STANDBY]))
    refused = hsm.run("hsm_instance", **hsm.instance())
    assert refused["failure"]["details"] == {"group_keys": {"payments": ["pan"]}}
    done = ok(hsm.run("hsm_instance", **hsm.instance(), force=True))
    assert "run hsm_sync with group: payments" in str(done["warnings"])
    assert pair.records()["pan"][0] == "deactivated" and home(pair) == "standby"
