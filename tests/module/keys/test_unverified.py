# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tokens that do not report some attributes of their keys: SoftHSM2's, behind a library that hides them."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import Any

import pytest
from hsm_fixture import SOFTHSM, Hsm, ok, usage

# Their numbers: PKCS#11 3.1, section 4 and the table of attributes in its header file.
NUMBERS = {
    "SENSITIVE": 0x103,
    "ENCRYPT": 0x104,
    "WRAP": 0x106,
    "SIGN": 0x108,
    "DERIVE": 0x10C,
    "MODULUS": 0x120,
    "VALUE_LEN": 0x161,
    "EXTRACTABLE": 0x162,
    "MODIFIABLE": 0x170,
    "DESTROYABLE": 0x172,
}
DECLARED = {
    "label": "dek",
    "type": "AES",
    "size": 256,
    "operations": ["encrypt", "decrypt"],
    "sensitive": True,
    "extractable": False,
    "modifiable": True,
    "destroyable": True,
}


class Hiding:
    """A registered token behind the fault library, which hides the attributes that are named last."""

    def __init__(self, hsm: Hsm, library: str) -> None:
        self.hsm = hsm
        ok(hsm.register(library=library, environment=self._environment()))

    def _environment(self, *names: str, plan: str = "") -> dict[str, str]:
        hidden = " ".join(str(NUMBERS[name]) for name in names)
        return {**self.hsm.environment, "FAULT_REAL": SOFTHSM, "FAULT_HIDE": hidden, "FAULT_PLAN": plan}

    def hides(self, *names: str, plan: str = "") -> None:
        with closing(sqlite3.connect(self.hsm.registry)) as registry:
            registry.execute("UPDATE instance SET environment = ?", (json.dumps(self._environment(*names, plan=plan)),))
            registry.commit()


@pytest.fixture
def hiding(hsm: Hsm, library: str) -> Hiding:
    return Hiding(hsm, library)


def texts(answer: dict[str, Any]) -> str:
    return " ".join(str(text) for text in answer.get("warnings", []))


def test_what_we_made_is_remembered_and_what_others_made_is_not_known(hiding: Hiding) -> None:
    hsm = hiding.hsm
    hiding.hides(*NUMBERS)
    made = ok(hsm.keys(DECLARED))
    assert made["changed"] is True and not texts(made)
    for check in (True, False):
        again = ok(hsm.keys(DECLARED, check=check))
        assert again["changed"] is False and not texts(again) and again["key_results"][0]["size"] == 256
    assert ok(hsm.run("hsm_sync", instance="primary"))["drift"] == []
    contrary = hsm.keys({**DECLARED, "size": 128, "extractable": True})
    assert "size is 256, asked for 128, extractable is false" in contrary["msg"], contrary

    hsm.tool("--keygen", "--key-type", "AES:16", "--label", "others", "--id", "01", "--extractable")
    others = {**DECLARED, "label": "others"}
    refused = hsm.keys({"label": "new", "type": "AES"}, others)
    assert refused["failure"]["code"] == "cannot_plan" and refused["changed"] is False
    assert "keys[1] (others).size: the token does not report CKA_VALUE_LEN, CKA_SENSITIVE, CKA_EXTRACTABLE" in refused["msg"]
    assert "Set unverifiable: warn, or remove size, sensitive, extractable" in refused["msg"] and "new" not in hsm.tool("--list-objects")
    assert not texts(ok(hsm.keys({"label": "others", "type": "AES"})))
    for _run in range(2):
        warned = ok(hsm.keys({**others, "unverifiable": "warn"}))
        assert "CKA_EXTRACTABLE" in texts(warned) and "could not be verified" in texts(warned)
    assert warned["changed"] is False


@pytest.mark.parametrize(("kind", "of", "operations"), [("AES", "secrkey", "encrypt decrypt"), ("EC", "privkey", "sign verify derive")])
def test_enforce_is_proved_by_use(hiding: Hiding, kind: str, of: str, operations: str) -> None:
    hsm, wish = hiding.hsm, {"label": "old", "state": "deactivated", "enforce": True}
    hiding.hides(*NUMBERS)
    ok(hsm.keys({"label": "old", "type": kind, "operations": operations.split()}))
    # It answers that it has written, and has not.
    hiding.hides(*NUMBERS, plan="C_SetAttributeValue:1:before=0")
    lied = hsm.keys(wish)
    assert lied.get("failed") and "and the key did not change" in lied["msg"] and usage(hsm.tool, "old", of) & {"encrypt", "sign"}, lied
    hiding.hides(*NUMBERS)
    done = ok(hsm.keys(wish))
    assert done["changed"] is True and not texts(done)
    assert usage(hsm.tool, "old", of).isdisjoint({"encrypt", "sign", "derive"})
    assert ok(hsm.keys(wish))["changed"] is False


def test_the_size_of_an_rsa_key_is_in_its_public_half_too(hiding: Hiding) -> None:
    hiding.hsm.tool("--keypairgen", "--key-type", "RSA:2048", "--label", "rsa", "--id", "02", "--usage-sign")
    hiding.hides(*NUMBERS)
    ok(hiding.hsm.keys({"label": "rsa", "type": "RSA", "size": 2048}))
    assert "size is 2048, asked for 3072" in hiding.hsm.keys({"label": "rsa", "type": "RSA", "size": 3072})["msg"]


def test_enforce_on_a_key_of_others(hiding: Hiding) -> None:
    """What can be tried is; what cannot is an error before anything is written, or a warning."""
    hsm, wish = hiding.hsm, {"label": "old", "state": "deactivated", "enforce": True}
    hsm.tool("--keygen", "--key-type", "AES:16", "--label", "old", "--id", "01")
    hiding.hides("ENCRYPT", "DERIVE")
    refused = hsm.keys(wish)
    assert "keys[0] (old).enforce: the token does not report CKA_DERIVE of 'old'" in refused["msg"], refused
    assert "encrypt" in usage(hsm.tool, "old")
    warned = ok(hsm.keys({**wish, "unverifiable": "warn"}))
    assert warned["changed"] is True and "CKA_DERIVE" in texts(warned) and "encrypt" not in usage(hsm.tool, "old")
    again = ok(hsm.keys(wish))
    assert again["changed"] is False and not texts(again)
