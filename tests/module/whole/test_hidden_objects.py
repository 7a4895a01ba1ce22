# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""SoftHSM2 shows no object whose file the user cannot open, and none that it could not destroy to the process that tried. What is hidden
is not taken for absent.

The user here is root without the right to read what is others', so that it can still start the tests' own Python.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hsm_fixture import PIN, Hsm, Pair, ok, usage

CONFINED = ("setpriv", "--bounding-set=-dac_override,-dac_read_search")
NOBODY = 65534
A, B = ({"label": label, "type": "AES"} for label in "ab")


def confined(hsm: Hsm, module: str = "hsm_key", *, check: bool = False, **args: Any) -> dict[str, Any]:
    return hsm.finish(hsm.start(module, {"registry": hsm.registry, **args}, check=check, by=CONFINED))


def others_key(hsm: Hsm, label: str, token: str = "payments") -> Path:
    """A key that another user made: its file is theirs, mode 0600."""
    before = set((hsm.scratch / "tokens").rglob("*.object"))
    hsm.tool("--keygen", "--key-type", "AES:32", "--label", label, "--id", label.encode().hex(), token=token)
    (made,) = set((hsm.scratch / "tokens").rglob("*.object")) - before
    os.chown(made, NOBODY, NOBODY)
    return made


def test_no_second_key_is_made(primary: Hsm) -> None:
    ok(primary.keys(A))
    made = others_key(primary, "b")
    direct = {"library": primary.library, "environment": primary.environment, "token_label": "payments", "pin": PIN}
    for way in ({"instance": "primary"}, direct):
        for check in (True, False):
            answer = confined(primary, check=check, keys=[A, B], **way)
            assert answer["failure"]["code"] == "cannot_plan" and answer["changed"] is False, answer
            assert "'b' may be there already: this user cannot open an object file in" in answer["msg"], answer["msg"]
            assert made.name in answer["msg"]
    assert primary.tool("--list-objects").count("label:") == 2
    assert ok(confined(primary, instance="primary", keys=[A]))["changed"] is False  # what is seen is there
    told = ok(confined(primary, instance="primary", keys=[{"label": "b", "state": "absent"}]))
    assert any("'b' may be there all the same" in str(text) for text in told["warnings"]) and usage(primary.tool, "b")
    assert [entry["action"] for entry in ok(primary.keys(A, B))["applied"]] == ["record"]  # who may see it finds it


def test_a_member_that_hides_keys_has_not_answered(pair: Pair) -> None:
    others_key(pair.standby, "b", "payments-b")
    answer = confined(pair.hsm, group="payments", keys=[A])
    assert "nobody can tell whether 'a' is there already: connection 2" in answer["msg"], answer["msg"]
    assert usage(pair.tool, "a") == set()
    assert ok(confined(pair.hsm, group="payments", keys=[A], on_unreachable="generate"))["changed"]


@pytest.mark.parametrize("scope", [{"instance": "primary"}, {"group": "payments"}])
def test_what_was_recorded_and_is_hidden_now_is_not_lost(pair: Pair, scope: dict[str, str]) -> None:
    others_key(pair.hsm, "b")
    ok(pair.hsm.run("hsm_sync", **scope))
    told = ok(confined(pair.hsm, "hsm_sync", prune=True, **scope))
    text = json.dumps(told["warnings"])
    assert told["pruned"] == [] and "nothing was pruned" in text and "this user cannot open an object file" in text, told
    assert len(told["missing"]) == 1 == len(pair.rows("SELECT label FROM virtual_key"))
    answer = confined(pair.hsm, keys=[B], **scope)
    assert answer.get("failed") and "what is not found may be there all the same" in answer["msg"], answer


def test_no_second_copy_is_made(pair: Pair) -> None:
    ok(pair.keys({**B, "extractable": True}))
    before = set((pair.standby.scratch / "tokens").rglob("*.object"))
    ok(pair.sync(repair="wrap"))
    for made in set((pair.standby.scratch / "tokens").rglob("*.object")) - before:
        os.chown(made, NOBODY, NOBODY)
    told = ok(confined(pair.hsm, "hsm_sync", group="payments", repair="wrap"))
    assert told["repaired"] == [] and "it may be there: this user cannot open" in told["not_repaired"][0]["reason"], told
    assert pair.tool_b("--list-objects").count("label:") == 1


def test_no_second_certificate_is_stored(primary: Hsm) -> None:
    ok(primary.keys({"label": "web", "type": "EC"}))
    asked = {"instance": "primary", "key_label": "web", "subject": {"CN": "web"}, "self_signed": {"valid_days": 3}}
    ok(primary.run("hsm_certificate", **asked))
    before = primary.tool("--list-objects", "--type", "cert")
    for path in (primary.scratch / "tokens").rglob("*.object"):
        if b"\x06\x03\x55\x04\x03" in path.read_bytes():  # commonName
            os.chown(path, NOBODY, NOBODY)
    answer = confined(primary, "hsm_certificate", **asked)
    assert answer["failure"]["code"] == "cannot_plan" and "a certificate of 'web' may be there already" in answer["msg"], answer
    assert primary.tool("--list-objects", "--type", "cert") == before != ""


def test_what_the_token_refuses_to_destroy_is_not_told_as_destroyed(primary: Hsm) -> None:
    """The session that was refused sees the object no more. Everybody else does."""
    web = {"label": "web", "type": "EC"}
    made = {"subject": {"CN": "web"}, "self_signed": {"valid_days": 3}}
    wanted: list[tuple[str, dict[str, Any]]] = [
        ("hsm_certificate", {"key_label": "web", "state": "absent"}),
        ("hsm_key", {"keys": [{**A, "state": "destroyed"}]}),
        ("hsm_key", {"keys": [{**web, "state": "public_only"}]}),
    ]
    ok(primary.keys(A, web))
    ok(primary.run("hsm_certificate", instance="primary", key_label="web", **made))
    there = primary.tool("--list-objects")
    folders = {path.parent for path in (primary.scratch / "tokens").rglob("*.object")}
    for folder in folders:
        folder.chmod(0o500)
    for module, args in wanted:
        answer = confined(primary, module, instance="primary", **args)
        assert answer["failure"]["code"] == "CKR_FUNCTION_FAILED" and answer["changed"] is True, answer
        assert "does not prove that it is gone" in answer["msg"] and not answer.get("applied")
    assert primary.tool("--list-objects") == there
    for folder in folders:
        folder.chmod(0o700)
    for module, args in wanted:
        assert ok(primary.run(module, instance="primary", **args))["changed"] is True
        assert ok(primary.run(module, instance="primary", **args))["changed"] is False
    left = [line for line in primary.tool("--list-objects").splitlines() if "Object" in line]
    assert left == ["Public Key Object; EC  EC_POINT 256 bits"]
