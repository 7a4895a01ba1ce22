# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError

DOCUMENTATION = r"""
name: hsm_present
short_description: Entries of a declaration without those that shall be absent
version_added: 0.1.0
author:
  - keyfleet.hsm contributors (@keyfleet)
description:
  - Gives the entries of C(hsm_instances) or C(hsm_groups) in their order, without those that say C(state=absent).
positional: _input, secrets
options:
  _input:
    description:
      - The entries.
    type: list
    elements: dict
    required: true
  secrets:
    description:
      - With V(false) the tokens of the instances come without PINs and without C(initialize), so that a play can hand them on. They keep
        their C(pin_file).
    type: bool
    default: true
seealso:
  - plugin: keyfleet.hsm.hsm_prefixes
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Show the names of the HSMs that shall be there, here standby
  ansible.builtin.debug:
    msg: "{{ hsm_instances | keyfleet.hsm.hsm_present | map(attribute='name') | list }}"
  vars:
    hsm_instances:
      - name: primary
        state: absent
      - name: standby
        model: softhsm2
        tokens: [{label: payments-standby}]
"""

RETURN = r"""
_value:
  description: The entries that shall be there.
  type: list
  elements: dict
  sample:
    - name: standby
      model: softhsm2
      tokens: [{label: payments-standby}]
"""


def hsm_present(entries: Any, secrets: bool = True) -> list[Any]:
    """The entries that shall be there, in their order."""
    # Here and not above: to find one filter Ansible loads them all, in the process of each task.
    from ansible_collections.keyfleet.hsm.plugins.module_utils._model.declared import is_absent, without_secrets

    if not isinstance(entries, (list, tuple)):
        raise AnsibleFilterError(f"keyfleet.hsm.hsm_present: the input is a {type(entries).__name__}: give a list, as in hsm_instances")
    present = [entry for entry in entries if not is_absent(entry)]
    return present if secrets else [without_secrets(entry) for entry in present]


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"hsm_present": hsm_present}
