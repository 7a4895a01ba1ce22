# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One HSM is described twice, as the options of hsm_instance and as an entry of ``instances``: in the same words."""

from __future__ import annotations

from typing import Any

import yaml
from ansible_collections.keyfleet.hsm.plugins.doc_fragments.instance import ModuleDocFragment as Instance
from ansible_collections.keyfleet.hsm.plugins.doc_fragments.instances import ModuleDocFragment as Instances


def test_an_entry_of_instances_is_an_instance() -> None:
    # Its options have another place there, and there is no state.
    text = Instance.DOCUMENTATION.replace("Required for O(state=present).", "Required.")
    instance: dict[str, Any] = yaml.safe_load(text.replace("O(", "O(instances[]."))
    instances: dict[str, Any] = yaml.safe_load(Instances.DOCUMENTATION)
    assert instances["options"]["instances"]["suboptions"] == instance["options"]
