# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

DOCUMENTATION = r"""
name: load_balancer_problems
short_description: What is wrong with the variables of the role load_balancer
version_added: 0.1.0
author:
  - keyfleet.hsm contributors (@keyfleet)
description:
  - Checks the variables of the role P(keyfleet.hsm.load_balancer#role) against each other, and lists all problems.
  - It looks at no host.
positional: _input, variables
options:
  _input:
    description:
      - The gateways, with C(name), C(address), C(port), C(health_port), C(ports), C(priority), C(certificate_name) and
        C(token_serial) of each.
    type: list
    elements: dict
    required: true
  variables:
    description:
      - The variables of the role, by their names without C(load_balancer_). The role has all of them.
      - C(stats_password) may be anything that is true when there is one. C(foreign) says whether somebody else's configuration is there.
    type: dict
    required: true
  hosts:
    description:
      - Names of the hosts in the inventory. Their tokens can be looked at.
    type: list
    elements: str
    required: true
  host:
    description:
      - Name of the load balancer in the inventory.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Validate the role's variables
  ansible.builtin.assert:
    that: problems | length == 0
    fail_msg: "{{ problems | join('\n') }}"
  vars:
    problems: "{{ gateways | keyfleet.hsm.load_balancer_problems(variables, hosts=groups['all'], host=inventory_hostname) }}"
"""

RETURN = r"""
_value:
  description: One text for each problem, with the variable, the gateway, what is wrong and what to do. Empty where nothing is.
  type: list
  elements: str
  sample:
    - "load_balancer_gateways: gw2: invalid port 0: give a number from 1 to 65535"
"""


def load_balancer_problems(gateways: Any, variables: Any, hosts: Any, host: Any) -> list[str]:
    """All problems, each as one text."""
    # Here and not above: to find one filter Ansible loads them all, in the process of each task.
    from ansible_collections.keyfleet.hsm.plugins.module_utils._model.load_balancer import NEEDED, problems

    if not isinstance(gateways, (list, tuple)) or not all(isinstance(gateway, Mapping) for gateway in gateways):
        raise AnsibleFilterError("keyfleet.hsm.load_balancer_problems: the input is not a list of mappings: give the gateways")
    if not isinstance(variables, Mapping) or (lacking := NEEDED - variables.keys()):
        what = ", ".join(sorted(lacking)) if isinstance(variables, Mapping) else "all"
        raise AnsibleFilterError(f"keyfleet.hsm.load_balancer_problems: variables: missing {what}: give the role's variables")
    return problems(gateways, variables, hosts, host)


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"load_balancer_problems": load_balancer_problems}
