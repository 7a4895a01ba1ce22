# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

DOCUMENTATION = r"""
name: hsm_prefixes
short_description: Routing prefixes of a list of HSM instances
version_added: 0.1.0
author:
  - keyfleet.hsm contributors (@keyfleet)
description:
  - Gives the routing prefix of each instance, by the rule of the Eviden KMS server.
  - The first instance of a model has the prefix C(hsm::<model>), those after it C(hsm::<model>_1), C(hsm::<model>_2),
    in the order of the list. The model is put in lower case.
  - An instance without tokens, or with C(state=absent), takes no number. It gives V(null), so that the result stays in step
    with the list.
positional: _input
options:
  _input:
    description:
      - The instances, as the variable C(hsm_instances) holds them. Only C(model), C(tokens) and C(state) of each are read.
    type: list
    elements: dict
    required: true
seealso:
  - plugin: keyfleet.hsm.hsm_uid
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Show the prefixes, here hsm::softhsm2, hsm::softhsm2_1 and hsm::utimaco
  ansible.builtin.debug:
    msg: "{{ hsm_instances | keyfleet.hsm.hsm_prefixes }}"
  vars:
    hsm_instances:
      - name: primary
        model: SoftHSM2
        tokens: [{label: payments}]
      - name: standby
        model: softhsm2
        tokens: [{label: payments-standby}]
      - name: vault
        model: utimaco
        tokens: [{slot: 0}]
"""

RETURN = r"""
_value:
  description: One prefix for each instance, V(null) for one without tokens or with C(state=absent).
  type: list
  elements: str
  sample:
    - hsm::softhsm2
    - hsm::softhsm2_1
    - hsm::utimaco
"""


def hsm_prefixes(instances: Any) -> list[str | None]:
    """The prefix of each instance in the list."""
    # Here and not above: to find one filter Ansible loads them all, in the process of each task.
    from ansible_collections.keyfleet.hsm.plugins.module_utils._model.declared import is_absent
    from ansible_collections.keyfleet.hsm.plugins.module_utils._model.uids import model_problem, prefixes

    if not isinstance(instances, (list, tuple)):
        raise AnsibleFilterError(
            f"keyfleet.hsm.hsm_prefixes: the input is a {type(instances).__name__}: give a list of instances, as in hsm_instances"
        )
    found: list[tuple[str, bool]] = []
    problems: list[str] = []
    for index, instance in enumerate(instances):
        if not isinstance(instance, Mapping):
            problems.append(f"instances[{index}]: is a {type(instance).__name__}: give a mapping with model and tokens")
            continue
        model, tokens = instance.get("model"), instance.get("tokens") or []
        if is_absent(instance):
            found.append(("", False))
        elif not isinstance(model, str):
            problems.append(f"instances[{index}].model: is missing or no text: give the instance's model, for example softhsm2")
        elif problem := model_problem(model):
            problems.append(f"instances[{index}].model: {problem}")
        elif not isinstance(tokens, (list, tuple)):
            problems.append(f"instances[{index}].tokens: is a {type(tokens).__name__}: give a list of tokens")
        else:
            found.append((str(model), bool(tokens)))
    if problems:
        raise AnsibleFilterError("keyfleet.hsm.hsm_prefixes: " + "; ".join(problems))
    return prefixes(found)


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"hsm_prefixes": hsm_prefixes}
