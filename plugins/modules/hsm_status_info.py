#!/usr/bin/python

# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: hsm_status_info
short_description: Find out whether the registered HSMs can be used
version_added: 0.1.0
author:
  - keyfleet.hsm contributors (@keyfleet)
description:
  - Looks at what M(keyfleet.hsm.hsm_status) looks at, in the same way, and never fails because of what it finds - a token that cannot be
    used, a credential that is not there, a gateway that does not answer, or what is registered and not declared.
  - It fails when it cannot look - wrong options, an instance that is not registered, or a registry that is not there.
  - Changes nothing. A probe is a login all the same, see the notes.
extends_documentation_fragment:
  - keyfleet.hsm.attributes
  - keyfleet.hsm.attributes.pkcs11
  - keyfleet.hsm.registry
  - keyfleet.hsm.status
  - keyfleet.hsm.pin_safety
attributes:
  check_mode:
    support: full
    details:
      - Does the same as without, logins included, since it changes nothing.
      - When the registry does not exist yet, the answer is empty, with a warning.
  diff_mode:
    support: N/A
    details:
      - There is never a difference to show.
  idempotent:
    support: full
seealso:
  - module: keyfleet.hsm.hsm_status
  - module: keyfleet.hsm.hsm_info
"""

EXAMPLES = r"""
- name: Look at every registered HSM
  keyfleet.hsm.hsm_status_info:
  register: found

- name: Name the tokens that cannot be used
  ansible.builtin.debug:
    msg: "{{ found.instances | map(attribute='slots') | flatten | rejectattr('accessible') | map(attribute='label') | list }}"

- name: Find out when the certificate of the web server ends
  keyfleet.hsm.hsm_status_info:
    probe: login
    instances:
      - primary
    expect:
      - label: web-tls
  register: web

- name: Show it, or why it is not known
  ansible.builtin.debug:
    msg: "{{ web.credentials[0].not_after or web.credentials[0].problem }}"
"""

RETURN = r"""
healthy:
  description: See RV(keyfleet.hsm.hsm_status#module:healthy).
  returned: when the probe was made
  type: bool
  sample: false
instances:
  description: The instances that were probed, see RV(keyfleet.hsm.hsm_status#module:instances).
  returned: when the probe was made
  type: list
  elements: dict
  sample:
    - prefix: hsm::softhsm2
      model: softhsm2
      name: primary
      slots:
        - slot_id: 1401428492
          accessible: true
          probe: AES_ECB
          probe_refused: {}
          login: true
          label: payments
          serial: e00b4b43d3881a0c
          error: null
          code: null
          device_fault: false
          pin_state: ok
credentials:
  description: What was found of each entry of O(expect), see RV(keyfleet.hsm.hsm_status#module:credentials).
  returned: when the probe was made
  type: list
  elements: dict
  sample: []
gateway:
  description: What the gateway of O(gateway_url) says, see RV(keyfleet.hsm.hsm_status#module:gateway).
  returned: when the probe was made
  type: dict
undeclared:
  description: What is registered and not in O(declared), see RV(keyfleet.hsm.hsm_status#module:undeclared).
  returned: when the probe was made
  type: dict
  sample: {instances: [old], tokens: [{instance: primary, token: payments-2024}], groups: []}
keys_recorded:
  description: The virtual keys that the registry has, see RV(keyfleet.hsm.hsm_status#module:keys_recorded).
  returned: when the probe was made, with O(holdings)
  type: list
  elements: dict
  sample: []
groups:
  description: The groups that are registered, each with its C(name), and C(instances) of its members.
  returned: when the probe was made, with O(holdings)
  type: list
  elements: dict
  sample: [{name: cards, instances: [primary, standby]}]
failure:
  description: Why it failed, by its L(failure code,https://github.com/keyfleet/keyfleet.hsm/blob/main/docs/failure_codes.md).
  returned: failure
  type: dict
  sample: {code: no_instance, details: {registered: [primary]}}
"""

from ansible_collections.keyfleet.hsm.plugins.module_utils._model.plan import Context, Outcome
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.status_request import StatusRequest
from ansible_collections.keyfleet.hsm.plugins.module_utils._module import options
from ansible_collections.keyfleet.hsm.plugins.module_utils._module.fetch import fetch
from ansible_collections.keyfleet.hsm.plugins.module_utils._module.guarded import GuardedModule
from ansible_collections.keyfleet.hsm.plugins.module_utils._module.run import libraries_for_status, run


def main() -> None:
    def engine(request: StatusRequest, context: Context) -> Outcome:
        from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.hsm_status import report

        return report(request, context)

    spec = options.merge(options.REGISTRY, options.STATUS_INFO, options.PIN_SAFETY)
    run(GuardedModule(argument_spec=spec, supports_check_mode=True), StatusRequest.parse, engine, needs=libraries_for_status, fetch=fetch)


if __name__ == "__main__":
    main()
