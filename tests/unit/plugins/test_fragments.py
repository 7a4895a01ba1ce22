# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One HSM is described twice, as the options of hsm_instance and as an entry of ``instances``: the options are the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml
from ansible_collections.keyfleet.hsm.plugins.doc_fragments.instance import ModuleDocFragment as Instance
from ansible_collections.keyfleet.hsm.plugins.doc_fragments.instances import ModuleDocFragment as Instances
from ansible_collections.keyfleet.hsm.plugins.module_utils._module.options import DECLARED


def without_words(options: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Each option in its order with all but its description, which every option has."""
    found = []
    for name, option in options.items():
        assert option["description"], name
        rest = {key: value for key, value in option.items() if key != "description"}
        found.append((name, {**rest, "suboptions": without_words(option.get("suboptions", {}))}))
    return found


def test_an_entry_of_instances_has_the_options_of_an_instance() -> None:
    instance: dict[str, Any] = yaml.safe_load(Instance.DOCUMENTATION)
    instances: dict[str, Any] = yaml.safe_load(Instances.DOCUMENTATION)
    entry = instances["options"]["instances"]["suboptions"]
    # Of the task's options in hsm_instance, what an entry may say too.
    state = {name: entry.pop(name) for name in DECLARED}
    assert without_words(entry) == without_words(instance["options"])
    for name, option in state.items():
        assert {key: value for key, value in option.items() if key != "description"} == DECLARED[name]
