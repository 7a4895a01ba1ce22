# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

DOCUMENTATION = r"""
name: gateway_plan
short_description: What the open gateway offers, and what is wrong with its variables
version_added: 0.1.0
author:
  - keyfleet.hsm contributors (@keyfleet)
description:
  - Works out for the role P(keyfleet.hsm.gateway#role) which instances it offers, each on its port, to which clients, and to how many
    at once.
  - It looks at no host, and hands on no PIN.
positional: _input, variables
options:
  _input:
    description:
      - The instances, each with the options of M(keyfleet.hsm.hsm_instance).
    type: list
    elements: dict
    required: true
  variables:
    description:
      - Variables of the role, by their names without C(gateway_) - C(instance), C(ports), C(listen_port), C(clients) and
        C(client_ca_source).
    type: dict
    required: true
  architecture:
    description:
      - Machine of the host, as C(ansible_facts.architecture) says it.
    type: str
    default: x86_64
"""

EXAMPLES = r"""
- name: Show which port each instance has
  ansible.builtin.debug:
    msg: "{{ plan.instances | items2dict(key_name='name', value_name='port') }}"
  vars:
    plan: "{{ hsm_instances | keyfleet.hsm.gateway_plan(variables) }}"
    variables: {instance: "", ports: {}, listen_port: 4442, clients: [app1], client_ca_source: system}
    hsm_instances:
      - name: primary
        model: luna
        tokens: [{label: payments, pin_file: /etc/keyfleet/pins/payments}]
"""

RETURN = r"""
_value:
  description:
    - C(problems), one text for each. C(instances), what templates need of each. C(common_names), C(dns_names) and C(fingerprints) of
      the clients.
  type: dict
  sample:
    problems: []
    instances:
      - name: primary
        port: 4442
        libraries: [/usr/safenet/lunaclient/lib/libCryptoki2_64.so]
        environment: {}
        tokens: ["pkcs11:token=payments"]
        softhsm: false
        max_sessions: 1024
        queue_seconds: 2073600
    common_names: [app1]
    dns_names: [app1]
    fingerprints: []
"""

_NEEDED = {"instance", "ports", "listen_port", "clients", "client_ca_source"}


def gateway_plan(instances: Any, variables: Any, architecture: Any = "x86_64") -> dict[str, Any]:
    """Problems, instances, and the clients by the way in which they are known."""
    # Here and not above: to find one filter Ansible loads them all, in the process of each task.
    from ansible_collections.keyfleet.hsm.plugins.module_utils._model.gateway_front import common_names, dns_names, fingerprints, front_plan

    if not isinstance(instances, (list, tuple)) or not all(isinstance(one, Mapping) for one in instances):
        raise AnsibleFilterError("keyfleet.hsm.gateway_plan: the input is not a list of mappings: give hsm_instances")
    if not isinstance(variables, Mapping) or (lacking := _NEEDED - variables.keys()):
        what = ", ".join(sorted(lacking)) if isinstance(variables, Mapping) else "all"
        raise AnsibleFilterError(f"keyfleet.hsm.gateway_plan: variables: missing {what}: give the role's variables")
    plan = front_plan(instances, variables, str(architecture))
    clients = variables["clients"] if isinstance(variables["clients"], (list, tuple)) else []
    return {
        "problems": plan.problems,
        "instances": plan.instances,
        "common_names": common_names(clients),
        "dns_names": dns_names(clients),
        "fingerprints": fingerprints(clients),
    }


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"gateway_plan": gateway_plan}
