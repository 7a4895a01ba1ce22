# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A key that may wrap and decrypt, on a real token: what it gives away is what hsm_sync says."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from hsm_fixture import PIN, Hsm, Pair, four_steps, ok, usage

KEK = {"label": "kek", "type": "AES", "operations": ["wrap", "decrypt"]}
OUT = {"label": "out", "type": "AES", "extractable": True}

# Wraps keys, and decrypts what comes out: how many bytes of each that gives.
_GIVES_AWAY = """
import json, sys
import pkcs11
from pkcs11 import Attribute as A, Mechanism as M
library, pin = sys.argv[1:]
session = pkcs11.lib(library).get_token(token_label="payments").open(user_pin=pin)
found = {}
kinds = (pkcs11.ObjectClass.PUBLIC_KEY, pkcs11.ObjectClass.PRIVATE_KEY)
public, private = (list(session.get_objects({A.LABEL: "kek", A.CLASS: kind}))[0] for kind in kinds)
for raw in list(session.get_objects({A.LABEL: "out"})) + list(session.get_objects({A.LABEL: "guarded"})):
    try:
        wrapped = public.wrap_key(raw, mechanism=M.RSA_PKCS)
    except pkcs11.PKCS11Error as error:
        found[raw.label] = type(error).__name__
    else:
        found[raw.label] = len(private.decrypt(wrapped, mechanism=M.RSA_PKCS))
print(json.dumps(found))
"""


def weak(answer: dict[str, Any]) -> list[tuple[str, list[str]]]:
    rows = ok(answer)["weak"]
    return [(row["label"], [key["label"] for key in row["exposes"]]) for row in rows]


def test_such_a_key_is_made_only_when_that_was_said(primary: Hsm) -> None:
    for check in (True, False):
        answer = primary.keys(KEK, OUT, check=check)
        assert answer["failure"]["code"] == "cannot_plan" and "allow_weak: true" in answer["msg"] and answer["changed"] is False
    ok(primary.keys({**KEK, "operations": ["decrypt"]}))
    assert "would wrap and decrypt" in primary.keys(KEK)["msg"] and usage(primary.tool, "kek") == {"decrypt"}
    four_steps(lambda check: primary.keys({**KEK, "allow_weak": True}, OUT, check=check))
    assert ok(primary.keys(KEK))["changed"] is False  # it is there as it is declared
    assert weak(primary.run("hsm_sync", instance="primary")) == [("kek", ["out"])]
    ok(primary.keys({**KEK, "operations": ["wrap"]}))
    assert weak(primary.run("hsm_sync", instance="primary")) == []


def test_what_sync_lists_is_what_the_token_gives_away(primary: Hsm) -> None:
    guarded = {**OUT, "label": "guarded", "wrap_with_trusted": True}
    ok(primary.keys({**KEK, "type": "RSA", "size": 2048, "allow_weak": True}, OUT, guarded, {"label": "in", "type": "AES"}))
    command = [sys.executable, "-c", _GIVES_AWAY, primary.library, PIN]
    done = subprocess.run(command, capture_output=True, text=True, env=primary.environment, check=True)
    assert json.loads(done.stdout) == {"out": 32, "guarded": "KeyNotWrappable"}
    assert weak(primary.run("hsm_sync", instance="primary")) == [("kek", ["out"])]
    assert ok(primary.keys(guarded))["changed"] is False
    assert "wrap_with_trusted is true, asked for false" in primary.keys({**guarded, "wrap_with_trusted": False})["msg"]


def test_every_member_of_a_group_is_looked_at(pair: Pair) -> None:
    ok(pair.hsm.run("hsm_key", instance="standby", keys=[{**KEK, "allow_weak": True}, OUT]))
    (row,) = ok(pair.sync())["weak"]
    assert "payments-b" in row["token"] and (row["label"], [key["label"] for key in row["exposes"]]) == ("kek", ["out"])
