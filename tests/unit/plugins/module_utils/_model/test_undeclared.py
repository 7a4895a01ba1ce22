# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is registered and not declared, with plain records."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.records import GroupRecord, InstanceRecord, TokenRecord
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.site.undeclared import Declared, told
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.tokens.selectors import TokenSelector

TOKENS = (TokenRecord(TokenSelector("label", "a"), label="a", serial="1f", slot=16), TokenRecord(TokenSelector("slot", 17), slot=17))
REGISTERED = [InstanceRecord("primary", "softhsm2", "/l.so", tokens=TOKENS), InstanceRecord("old", "softhsm2", "/l.so")]
GROUPS = [GroupRecord("cards")]


def undeclared(instances: list[dict[str, Any]], *groups: str) -> dict[str, list[Any]]:
    return Declared.parse({"instances": instances, "groups": list(groups)}).undeclared(REGISTERED, GROUPS)


@pytest.mark.parametrize(
    ("tokens", "left"),
    [
        ([{"label": "a"}, {"slot": "17"}], []),
        # The same tokens, declared in another way.
        ([{"serial": "1f"}, {"slot": "0x11"}], []),
        ([{"slot": "16"}], ["slot 17"]),
        ([{"label": "b"}, {"slot": "17"}], ["a"]),
        ([], ["a", "slot 17"]),
        (None, []),
    ],
)
def test_tokens(tokens: list[dict[str, str]] | None, left: list[str]) -> None:
    found = undeclared([{"name": "primary", "tokens": tokens}, {"name": "old"}], "cards")
    assert found == {"instances": [], "tokens": [{"instance": "primary", "token": name} for name in left], "groups": []}


def test_all_of_it_in_one_sentence() -> None:
    found = undeclared([{"name": "primary", "tokens": [{"label": "a"}]}], "other")
    assert told(found) == "registered and not declared: instance 'old', token 'slot 17' of instance 'primary', group 'cards'."
    assert told(undeclared([{"name": "primary"}, {"name": "old"}], "cards")) == ""
