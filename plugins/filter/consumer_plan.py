# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

DOCUMENTATION = r"""
name: consumer_plan
short_description: What services with keys in an HSM are given, and what is wrong with their declaration
version_added: 0.1.0
author:
  - keyfleet.hsm contributors (@keyfleet)
description:
  - Works out for the role P(keyfleet.hsm.client#role) which files and units each of its C(client_consumers) needs, and lists all
    problems.
  - It looks at no host, and reads no PIN.
positional: _input
options:
  _input:
    description:
      - The services, as in C(client_consumers).
    type: list
    elements: dict
    required: true
  hsms:
    description:
      - The names in C(client_hsms).
    type: list
    elements: str
    required: true
  client_library:
    description:
      - Absolute path on the target of p11-kit's client module.
    type: str
    required: true
  way:
    description:
      - How OpenSSL opens keys in an HSM on this host.
    type: str
    choices:
      - engine
      - provider
    required: true
  run:
    description:
      - Folder of the sockets of the connections to gateways.
    type: str
    default: /run/keyfleet-client
  current:
    description:
      - Labels of the generations that keys with C(generation=current) follow, as P(keyfleet.hsm.consumer_generations#filter) returns them.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Validate the services
  ansible.builtin.assert:
    that: plan.problems | length == 0
    fail_msg: "{{ plan.problems | join('\n') }}"
  vars:
    plan: >-
      {{ [{'name': 'web', 'kind': 'nginx', 'hsm': 'payments', 'token': 'payments', 'pin_file': '/etc/keyfleet/pins/payments',
      'keys': [{'label': 'web-tls', 'certificate': '/srv/web.pem'}]}]
      | keyfleet.hsm.consumer_plan(hsms=['payments'], client_library='/usr/lib/pkcs11/p11-kit-client.so', way='provider') }}
"""

RETURN = r"""
_value:
  description:
    - C(problems), one text for each. C(consumers), what templates need of each. C(proofs), the PINs to prove, each once.
  type: dict
  sample:
    problems: ["client_consumers: web: hsm: 'paymnts' is not in client_hsms: it has payments"]
    consumers: []
    proofs: []
"""


def consumer_plan(
    consumers: Any, hsms: Any, client_library: Any, way: Any, run: Any = "/run/keyfleet-client", current: Any = None
) -> dict[str, Any]:
    """Problems, consumers, and the PINs to prove."""
    # Here and not above: to find one filter Ansible loads them all, in the process of each task.
    from ansible_collections.keyfleet.hsm.plugins.module_utils._model.consumers import consumer_plan as build

    if not isinstance(consumers, (list, tuple)) or not all(isinstance(one, Mapping) for one in consumers):
        raise AnsibleFilterError("keyfleet.hsm.consumer_plan: the input is not a list of mappings: give client_consumers")
    if way not in ("engine", "provider"):
        raise AnsibleFilterError(f"keyfleet.hsm.consumer_plan: way: {way!r} is unknown: use engine or provider")
    plan = build(consumers, [str(name) for name in hsms], str(client_library), str(way), str(run), current or {})
    return {"problems": plan.problems, "consumers": plan.consumers, "proofs": plan.proofs}


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"consumer_plan": consumer_plan}
