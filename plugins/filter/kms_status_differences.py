# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError

DOCUMENTATION = r"""
name: kms_status_differences
short_description: Slots on which the Eviden KMS server and a live probe differ
version_added: 0.1.0
author:
  - keyfleet.hsm contributors (@keyfleet)
description:
  - Compares what the server answers to C(GET /hsm/status) with what M(keyfleet.hsm.kms_config), by
    O(keyfleet.hsm.kms_config#module:state=probed), or M(keyfleet.hsm.hsm_status) found.
  - The server calls a slot accessible as soon as a PIN is configured for it, and makes no PKCS#11 call. A dead HSM stays
    accessible in its answer.
positional: _input, probed
options:
  _input:
    description:
      - The server's answer.
    type: list
    elements: dict
    required: true
  probed:
    description:
      - RV(keyfleet.hsm.kms_config#module:probed), or C(instances) of M(keyfleet.hsm.hsm_status).
    type: list
    elements: dict
    required: true
seealso:
  - module: keyfleet.hsm.kms_config
  - module: keyfleet.hsm.hsm_status
"""

EXAMPLES = r"""
- name: Show what the server does not know, here that the probe of slot 7 failed
  ansible.builtin.debug:
    msg: "{{ served | keyfleet.hsm.kms_status_differences(probed) }}"
  vars:
    served:
      - prefix: hsm::utimaco
        model: utimaco
        slots:
          - {slot_id: 7, accessible: true}
    probed:
      - prefix: hsm::utimaco
        model: utimaco
        name: vault
        slots:
          - {slot_id: 7, accessible: false, error: the device was removed}
"""

RETURN = r"""
_value:
  description:
    - One entry for each slot on which they differ, by prefix and slot. Empty when they agree.
    - C(server) and C(probe) are V(true), V(false), or V(null) for a side that does not have the slot. C(why) says it in words.
  type: list
  elements: dict
  sample:
    - prefix: hsm::utimaco
      slot_id: 7
      server: true
      probe: false
      why: "the server only knows that a PIN is configured; the probe failed: the device was removed"
"""


def kms_status_differences(served: Any, probed: Any) -> list[dict[str, Any]]:
    """The slots on which the server's answer and the probe differ."""
    # Here and not above: to find one filter Ansible loads them all, in the process of each task.
    from ansible_collections.keyfleet.hsm.plugins.module_utils._model.errors import InputError
    from ansible_collections.keyfleet.hsm.plugins.module_utils._model.kms.status import status_differences

    try:
        return status_differences(served, probed)
    except InputError as error:
        raise AnsibleFilterError(f"keyfleet.hsm.kms_status_differences: {error}") from None


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"kms_status_differences": kms_status_differences}
