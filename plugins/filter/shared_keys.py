# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

DOCUMENTATION = r"""
name: shared_keys
short_description: Where tokens of several hosts do not have the same keys
version_added: 0.1.0
author:
  - keyfleet.hsm contributors (@keyfleet)
description:
  - Compares what M(keyfleet.hsm.hsm_sync) returned of tokens that are behind one load balancer, and that clients take for one. Keys are
    compared by label, C(CKA_ID) and fingerprint.
  - A key that only a registry has, and one that differs from its record, are problems, too.
positional: _input
options:
  _input:
    description:
      - An entry for each token, with the C(host), the C(label) of the token and, as C(answer), what the module returned with
        O(keyfleet.hsm.hsm_sync#module:results=all). Tokens of one label are compared.
    type: list
    elements: dict
    required: true
seealso:
  - module: keyfleet.hsm.hsm_sync
"""

EXAMPLES = r"""
- name: Read the keys
  keyfleet.hsm.hsm_sync:
    instance: payments
    results: all
  check_mode: true
  register: keys

- name: Compare them
  ansible.builtin.assert:
    that: problems | length == 0
    fail_msg: "{{ problems | join('\n') }}"
  vars:
    problems: "{{ tokens | keyfleet.hsm.shared_keys }}"
    tokens:
      - {host: gw1, label: payments, answer: "{{ hostvars.gw1['keys'] }}"}
      - {host: gw2, label: payments, answer: "{{ hostvars.gw2['keys'] }}"}
"""

RETURN = r"""
_value:
  description: One text for each problem, with host, token and keys. Empty where there is none.
  type: list
  elements: str
  sample:
    - "gw2: token 'payments' lacks 'web-tls', which gw1 has"
"""


def shared_keys(tokens: Any) -> list[str]:
    """All problems, each as one text."""
    # Here and not above: to find one filter Ansible loads them all, in the process of each task.
    from ansible_collections.keyfleet.hsm.plugins.module_utils._model.site.shared_keys import problems

    if not isinstance(tokens, (list, tuple)) or not all(
        isinstance(one, Mapping) and {"host", "label", "answer"} <= one.keys() for one in tokens
    ):
        raise AnsibleFilterError("keyfleet.hsm.shared_keys: the input is not a list of mappings: give host, label and answer of each token")
    return problems(tokens)


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"shared_keys": shared_keys}
