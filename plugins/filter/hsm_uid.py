# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError

DOCUMENTATION = r"""
name: hsm_uid
short_description: UID of a key in an HSM
version_added: 0.1.0
author:
  - keyfleet.hsm contributors (@keyfleet)
description:
  - Joins a routing prefix, a slot and a key id to the UID by which the Eviden KMS server knows a key.
positional: _input, slot, key_id
options:
  _input:
    description:
      - The routing prefix, for example C(hsm::softhsm2_1).
    type: str
    required: true
  slot:
    description:
      - Number of the slot, as a number or as text, decimal, or hexadecimal after V(0x). The UID has it in decimal.
    type: raw
    required: true
  key_id:
    description:
      - The key id, which is all that follows the slot. It may contain C(::).
    type: str
    required: true
seealso:
  - plugin: keyfleet.hsm.hsm_prefixes
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Show the UID of a key, here hsm::softhsm2::0::my-aes-key
  ansible.builtin.debug:
    msg: "{{ 'hsm::softhsm2' | keyfleet.hsm.hsm_uid(0, 'my-aes-key') }}"

- name: Show the UID of a key in a slot that is known in hexadecimal, here hsm::utimaco_1::26::my-rsa-key
  ansible.builtin.debug:
    msg: "{{ 'hsm::utimaco_1' | keyfleet.hsm.hsm_uid('0x1a', 'my-rsa-key') }}"
"""

RETURN = r"""
_value:
  description: The UID, for example V(hsm::softhsm2::0::my-aes-key).
  type: str
"""


def hsm_uid(prefix: Any, slot: Any, key_id: Any) -> str:
    """``<prefix>::<slot>::<key_id>``, the slot in decimal."""
    # Here and not above: to find one filter Ansible loads them all, in the process of each task.
    from ansible_collections.keyfleet.hsm.plugins.module_utils._model.tokens.selectors import parse_slot
    from ansible_collections.keyfleet.hsm.plugins.module_utils._model.uids import uid

    for name, value in (("the prefix", prefix), ("key_id", key_id)):
        if not isinstance(value, str):
            raise AnsibleFilterError(f"keyfleet.hsm.hsm_uid: {name}: is a {type(value).__name__}: give text")
    if isinstance(slot, bool) or not isinstance(slot, (int, str)):
        raise AnsibleFilterError(
            f"keyfleet.hsm.hsm_uid: slot: is a {type(slot).__name__}: give a number, or text in decimal or hexadecimal after 0x"
        )
    try:
        number = parse_slot(slot)
    except ValueError as error:
        raise AnsibleFilterError(f"keyfleet.hsm.hsm_uid: slot: {error}") from error
    try:
        return uid(str(prefix), number, str(key_id))
    except ValueError as error:
        raise AnsibleFilterError(
            f"keyfleet.hsm.hsm_uid: {error}: write it as in 'hsm::softhsm2' | keyfleet.hsm.hsm_uid(0, 'my-key')"
        ) from error


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"hsm_uid": hsm_uid}
