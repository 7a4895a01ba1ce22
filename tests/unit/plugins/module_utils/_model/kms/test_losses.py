# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What may leave the server's file, and what may not: one table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.errors import Refused
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.kms.config import Served
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.kms.losses import Referred, check_losses
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.records import TokenRecord
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.tokens.identity import TokenIdentity
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.tokens.instance_spec import InstanceSpec, TokenSpec
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.tokens.selectors import TokenSelector

SERVED = {("softhsm2", 7)}


def referred(slot: int | None = 7, **more: Any) -> Referred:
    return Referred("primary", "softhsm2", TokenRecord(TokenSelector("label", "t"), label="t", slot=slot), **more)


def declared(name: str, label: str, slot: int | None) -> Served:
    spec = InstanceSpec(name, "softhsm2", tokens=(TokenSpec(0, TokenSelector("label", label)),))
    return Served("instances[0]", spec, "/l.so", "/l.so", (None if slot is None else TokenIdentity(slot=slot),))


GROUP, KEYS = {"groups": ["cards"]}, {"keys": ["dek-1", "dek-2"]}
BY_GROUP = "token 't' of instance 'primary': these groups have a connection to it: 'cards'. Take it out of them first with hsm_group"
BY_KEYS = "token 't' of instance 'primary': 2 virtual keys refer to it: 'dek-1', 'dek-2'"


@pytest.mark.parametrize(
    ("token", "instances", "absent", "words"),
    [
        # Nothing refers to it, or it stays: under its name, or as the same token of another instance.
        (referred(), [], {}, None),
        (referred(**GROUP), [declared("primary", "t", 7)], {}, None),
        (referred(**GROUP), [declared("main", "t", 7)], {}, None),
        # Its slot moved, or is not known yet in check mode.
        (referred(**KEYS), [declared("primary", "t", 8)], {}, None),
        (referred(**KEYS), [declared("primary", "t", None)], {}, None),
        # The file does not serve it now.
        (referred(8, **GROUP), [declared("primary", "u", 7)], {}, None),
        (referred(8, **GROUP, named=True), [declared("primary", "u", 7)], {}, None),
        (referred(8, **GROUP), [], {}, None),
        # It would go: the instance, or one of its tokens. The file named it, and is not there any more.
        (referred(**GROUP), [], {}, BY_GROUP),
        (referred(**KEYS), [], {}, BY_KEYS),
        (referred(**KEYS), [declared("primary", "u", 9)], {}, BY_KEYS),
        (referred(None, **KEYS, named=True), [], {}, BY_KEYS),
        # By name: with force for what is recorded, and never from under a group.
        (referred(**KEYS), [], {"primary": False}, BY_KEYS),
        (referred(**KEYS), [], {"primary": True}, None),
        (referred(**GROUP), [], {"primary": True}, BY_GROUP),
    ],
)
def test_what_is_referred_to_stays(token: Referred, instances: list[Served], absent: Mapping[str, bool], words: str | None) -> None:
    if words is None:
        check_losses([token], SERVED, instances, absent)
        return
    with pytest.raises(Refused) as caught:
        check_losses([token], SERVED, instances, absent)
    assert words in caught.value.message and "say state: absent there" in caught.value.message
    assert caught.value.code == "in_use"
    assert caught.value.details == {"groups": list(token.groups), "virtual_keys": list(token.keys), "by_name": bool(absent)}
