# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the health service reads of certificates on tokens: an error is told as one, and is never taken for a token without any."""

from __future__ import annotations

import time

import pytest
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.records import InstanceRecord, TokenRecord
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.tokens.selectors import TokenSelector
from authority import Authority
from cryptography.hazmat.primitives.serialization import Encoding
from health_service import make_token
from hsm_fixture import SOFTHSM, Hsm
from keyfleet_gateway.certificates import certificate_ends

DAY = 86_400


def test_an_error_is_no_token_without_certificates(hsm: Hsm, library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make_token(hsm)
    make_token(hsm, "spare")
    (hsm.scratch / "web.der").write_bytes(Authority(hsm.scratch, "ours").issue("web")[0].public_bytes(Encoding.DER))
    hsm.tool("--write-object", str(hsm.scratch / "web.der"), "--type", "cert", "--label", "web", "--id", "01")
    monkeypatch.setenv("FAULT_REAL", SOFTHSM)

    def told(plan: str, *labels: str) -> list[object]:
        tokens = tuple(TokenRecord(TokenSelector("label", label), label=label) for label in labels)
        environment = {"SOFTHSM2_CONF": str(hsm.scratch / "softhsm2.conf"), "FAULT_PLAN": plan}
        found = certificate_ends(InstanceRecord("primary", "softhsm2", library, environment=environment, tokens=tokens), 20)
        return [one["error"] if "error" in one else [(item["label"], item["id"]) for item in one["certificates"]] for one in found]

    web = [("web", "01")]
    assert told("", "payments", "spare") == [web, []]
    for call, first, second in (
        ("C_Initialize:1:before=0x30", "error", "error"),
        ("C_OpenSession:1:before=0x30", "error", []),
        ("C_FindObjectsInit:2:before=0x30", web, "error"),
        ("C_GetAttributeValue:1:before=0x30:on", "error", "error"),
        ("C_OpenSession:2:stop", web, "error"),
    ):
        answers = ["error" if isinstance(one, str) else one for one in told(call, "payments", "spare")]
        assert answers == [first, second], call
    missing, there = told("", "nothing", "payments")
    assert isinstance(missing, str) and "nothing" in missing and there == web
    (end,) = certificate_ends(
        InstanceRecord(
            *("primary", "softhsm2", SOFTHSM),
            environment={"SOFTHSM2_CONF": str(hsm.scratch / "softhsm2.conf")},
            tokens=(TokenRecord(TokenSelector("label", "payments"), label="payments"),),
        ),
        9,
    )[0]["certificates"]
    assert 9 * DAY < end["end"] - time.time() < 10 * DAY
