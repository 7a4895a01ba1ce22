# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Messages in the words of whoever wrote an inventory."""

from __future__ import annotations

import pytest
from ansible_collections.keyfleet.hsm.plugins.module_utils._module.naming import naming

OPTIONS = ("tokens", "name", "allow_low_pin_count", "pin", "pin_file", "repair")
NAMES = {
    "*": "hsm_instances[2].*",
    "allow_low_pin_count": "hsm_allow_low_pin_count",
    "repair": "hsm_sync_repair",
    "hsm_sync with repair": "--tags sync with hsm_sync_repair",
    "other": "x",
}


@pytest.mark.parametrize(
    ("message", "named"),
    [
        ("tokens[0] (label 'a').pin_file: missing.", "hsm_instances[2].tokens[0] (label 'a').pin_file: missing."),
        ("name: 'a b' is no name; tokens: empty", "hsm_instances[2].name: 'a b' is no name; hsm_instances[2].tokens: empty"),
        ("2 problems:\n- pin: a\n- pin_file: b", "2 problems:\n- hsm_instances[2].pin: a\n- hsm_instances[2].pin_file: b"),
        ("Say allow_low_pin_count: true once.", "Say hsm_allow_low_pin_count: true once."),
        ("Copy it with repair: wrap.", "Copy it with hsm_sync_repair: wrap."),
        ("Copy it (hsm_sync with repair: wrap).", "Copy it (--tags sync with hsm_sync_repair: wrap)."),
        # Words of a sentence, and what already names a place.
        ("the pin: file of tokens", "the pin: file of tokens"),
        ("instance 'tokens': refused", "instance 'tokens': refused"),
        ("x.repair: wrap", "x.repair: wrap"),
    ],
)
def test_options_become_variables(message: str, named: str) -> None:
    assert naming(NAMES, OPTIONS)(message) == named
    assert naming(None, OPTIONS)(message) == message
    assert naming({"*": "*"}, OPTIONS)(message) == message
