# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

DOCUMENTATION = r"""
name: sharing_hosts
short_description: Hosts that share a token with another one
version_added: 0.1.0
author:
  - keyfleet.hsm contributors (@keyfleet)
description:
  - Gives the hosts that may meet another one at the same token - those with a token that says C(shared=true), and those with a
    C(serial) that another host declares, too.
  - The playbook C(keyfleet.hsm.site) visits these one after the other, so that a second one sees that a wrong PIN was tried.
positional: _input
options:
  _input:
    description:
      - The variable C(hsm_instances) of each host, by its name.
    type: dict
    required: true
seealso:
  - plugin: keyfleet.hsm.hsm_present
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Show who shares a token, here kms1 and kms2
  ansible.builtin.debug:
    msg: "{{ declared | keyfleet.hsm.sharing_hosts }}"
  vars:
    declared:
      kms1: [{name: primary, model: luna, tokens: [{serial: "1300402"}]}]
      kms2: [{name: primary, model: luna, tokens: [{serial: "1300402"}]}]
      kms3: [{name: primary, model: luna, tokens: [{serial: "1300777"}]}]
"""

RETURN = r"""
_value:
  description: Names of hosts.
  type: list
  elements: str
  sample: [kms1, kms2]
"""


def sharing_hosts(declared: Any) -> list[str]:
    """The hosts that share a token with another one."""
    # Here and not above: to find one filter Ansible loads them all, in the process of each task.
    from ansible_collections.keyfleet.hsm.plugins.module_utils._model.site import sharing

    if not isinstance(declared, Mapping):
        raise AnsibleFilterError("keyfleet.hsm.sharing_hosts: the input is not a mapping: give hsm_instances of each host by its name")
    return sharing.sharing_hosts(declared)


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"sharing_hosts": sharing_hosts}
