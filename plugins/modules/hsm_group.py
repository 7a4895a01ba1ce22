#!/usr/bin/python

# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: hsm_group
short_description: Group tokens of several HSMs in priority order
version_added: 0.1.0
author:
  - keyfleet.hsm contributors (@keyfleet)
description:
  - Declares a group - connections to tokens in priority order, whether changes of its virtual keys reach the HSM, and
    which keys a sync of it records - and keeps it in the registry on the target.
  - The task declares the whole group. An option that is omitted returns to its default, but for O(key_scan), which
    stays as it is.
  - Works on the registry alone. No HSM is asked, no PIN is used, and no key in an HSM is touched.
extends_documentation_fragment:
  - keyfleet.hsm.attributes
  - keyfleet.hsm.registry
requirements:
  - python >= 3.10 on the target
attributes:
  check_mode:
    support: full
    details:
      - When the registry, an instance or a token is not registered yet, it is taken for one that an earlier task of
        the play would register, with a warning.
  diff_mode:
    support: full
    details:
      - The diff shows the group as it was and as it will be. It is the same in check mode.
      - A connection that is new to the group stands in it as it was declared.
  idempotent:
    support: full
options:
  name:
    description:
      - Name of the group, unique in the registry. Letters, digits, C(.), C(_) and C(-), beginning with a letter or
        digit.
    type: str
    required: true
  description:
    description:
      - Free text.
    type: str
    default: ""
  connections:
    description:
      - The tokens of the group, the one to be tried first at the beginning. To move, add or remove one, edit the list.
      - Required for O(state=present), with at least one entry.
      - A token may be in several groups.
      - A connection that is removed takes no virtual key with it. A warning tells how many were last found on it.
    type: list
    elements: dict
    suboptions:
      instance:
        description:
          - Name of an instance that M(keyfleet.hsm.hsm_instance) has registered.
        type: str
        required: true
      token_label:
        description:
          - Label of one of its tokens.
          - At most one of O(connections[].token_label), O(connections[].token_serial) and O(connections[].slot) may be
            given. None is needed when the instance has one token.
        type: str
      token_serial:
        description:
          - Serial number of the token.
        type: str
      slot:
        description:
          - Number of the slot that the token was in when it was seen last, decimal, or hexadecimal after V(0x).
        type: str
      priority:
        description:
          - Place of the connection, V(1) or more. By default the place in the list.
          - Connections with a priority come first, by that number, and then the others in their order. All are then
            numbered from 1 without gaps. The same number twice is an error.
        type: int
  apply_changes:
    description:
      - Whether what is changed on a virtual key of the group, or removed, is changed on the key in the HSM too.
      - A new virtual key makes a key in the HSM, whatever this option says.
    type: bool
    default: false
  key_scan:
    description:
      - Which keys a sync of the group records. With V(all) it is every key of the token, with V(own) only those that
        were made or named through the group.
      - V(all) for a new group. It cannot be changed once the group is saved, and a group that is there keeps what it
        has when this is omitted.
    type: str
    choices:
      - all
      - own
  force:
    description:
      - Whether a group that has virtual keys may be removed. Their records are then removed with it. The keys stay in
        the HSM.
    type: bool
    default: false
  exclusive:
    description:
      - Whether a connection that is not in O(connections) leaves the group. With V(false) the connections that are there keep their
        places, and new ones come behind them.
    type: bool
    default: true
  state:
    description:
      - V(present) makes the group, or changes it to what is declared.
      - V(absent) removes it from the registry. A group or a registry that is not there is no error then.
    type: str
    choices:
      - present
      - absent
    default: present
seealso:
  - module: keyfleet.hsm.hsm_instance
  - module: keyfleet.hsm.hsm_key
  - module: keyfleet.hsm.hsm_sync
"""

EXAMPLES = r"""
- name: Group two HSMs, the first to be tried first
  keyfleet.hsm.hsm_group:
    name: payments
    description: card keys
    connections:
      - instance: primary
      - instance: standby
        token_label: payments-standby

- name: Move the standby to the top by its place in the list
  keyfleet.hsm.hsm_group:
    name: payments
    description: card keys
    connections:
      - instance: standby
        token_label: payments-standby
      - instance: primary

- name: Order the connections by number
  keyfleet.hsm.hsm_group:
    name: payments
    description: card keys
    connections:
      - instance: standby
        token_label: payments-standby
        priority: 20
      - instance: primary
        priority: 10

- name: Let changes of virtual keys reach the HSM, and record only the group's own keys
  keyfleet.hsm.hsm_group:
    name: audit
    connections:
      - instance: standby
        token_label: audit
    apply_changes: true
    key_scan: own

- name: Show what taking an HSM out would change, and change nothing
  keyfleet.hsm.hsm_group:
    name: payments
    description: card keys
    connections:
      - instance: primary
  check_mode: true
  diff: true

# The records of its virtual keys go with it. The keys stay in the HSM.
- name: Remove a group, with its virtual keys
  keyfleet.hsm.hsm_group:
    name: audit
    state: absent
    force: true
"""

RETURN = r"""
group:
  description:
    - The group as it is in the registry, or would be in check mode.
    - For O(state=absent) the group that was removed, or V(null) when there was none.
  returned: success
  type: dict
  contains:
    id:
      description: UUID of the group, made by the registry. It stays when the group is changed. V(null) as long as check
        mode only predicts the group.
      returned: success
      type: str
    name:
      description: Its name.
      returned: success
      type: str
    description:
      description: Its description.
      returned: success
      type: str
    connections:
      description: Its connections, in priority order.
      returned: success
      type: list
      elements: dict
      contains:
        priority:
          description: Place of the connection, from 1 on without gaps.
          returned: success
          type: int
        instance:
          description: Name of the instance.
          returned: success
          type: str
        token_label:
          description: Label of the token when it was seen last. V(null) when it is not known.
          returned: success
          type: str
        slot:
          description: Number of the slot that the token was in when it was seen last. V(null) when it is not known.
          returned: success
          type: int
    apply_changes:
      description: Whether changes of its virtual keys reach the HSM.
      returned: success
      type: bool
    key_scan:
      description: Which keys a sync of it records, V(all) or V(own).
      returned: success
      type: str
    created_at:
      description: When the group was made, in UTC. V(null) as long as check mode only predicts the group.
      returned: success
      type: str
    updated_at:
      description: When it was last changed, in UTC. A run that changes nothing leaves it as it is.
      returned: success
      type: str
  sample:
    id: 0d8c2f5e-4f0e-4f57-9a53-5a0fb7a0a3d5
    name: payments
    description: card keys
    connections:
      - priority: 1
        instance: primary
        token_label: payments
        slot: 1441987930
      - priority: 2
        instance: standby
        token_label: payments-standby
        slot: 86419943
    apply_changes: false
    key_scan: all
    created_at: "2026-11-21T20:48:06Z"
    updated_at: "2026-11-21T20:48:06Z"
forgotten:
  description: Labels of the virtual keys whose records were removed with the group, see O(force).
  returned: success
  type: list
  elements: str
  sample: []
failure:
  description: Why it failed, by its L(failure code,https://github.com/keyfleet/keyfleet.hsm/blob/main/docs/failure_codes.md).
  returned: failure
  type: dict
  sample: {code: key_scan_fixed, details: {key_scan: all, asked: own}}
"""

from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.hsm_group import converge
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.groups.spec import GroupRequest
from ansible_collections.keyfleet.hsm.plugins.module_utils._module import options
from ansible_collections.keyfleet.hsm.plugins.module_utils._module.guarded import GuardedModule
from ansible_collections.keyfleet.hsm.plugins.module_utils._module.run import run


def main() -> None:
    spec = options.merge(options.REGISTRY, options.GROUP)
    run(GuardedModule(argument_spec=spec, supports_check_mode=True), GroupRequest.parse, converge, needs=())


if __name__ == "__main__":
    main()
