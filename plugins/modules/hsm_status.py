#!/usr/bin/python

# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: hsm_status
short_description: Test whether the registered HSMs can be used
version_added: 0.1.0
author:
  - keyfleet.hsm contributors (@keyfleet)
description:
  - Tries every token of the registered instances now, and tells for each whether it can be used, and why not.
  - Can also look whether the credentials of services are in them, and compare what a gateway says of them.
  - Each instance is probed in a process of its own with a limit of time. A token that hangs, or a library that crashes,
    takes nothing from the others.
  - Changes nothing, neither in the registry nor on a token. Whether what it finds fails the play is up
    to O(require).
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
options:
  require:
    description:
      - How many of the probed tokens must be accessible for the task to succeed - V(all), at least one with V(any),
        or V(none).
      - A token counts when it also has every credential that O(expect) wants of it, without a problem.
      - With V(all) the gateway of O(gateway_url) must have answered, without a difference from the probe.
      - V(all) and V(any) fail also when there is no token to probe.
    type: str
    choices:
      - all
      - any
      - none
    default: none
  undeclared:
    description:
      - V(report) tells what is registered and not in O(declared) in a warning. V(refuse) fails because of it, before anything is
        probed.
    type: str
    choices:
      - report
      - refuse
    default: report
seealso:
  - module: keyfleet.hsm.hsm_status_info
  - module: keyfleet.hsm.hsm_info
  - module: keyfleet.hsm.hsm_instance
  - module: keyfleet.hsm.hsm_sync
"""

EXAMPLES = r"""
- name: Probe every registered HSM
  keyfleet.hsm.hsm_status:
  register: status

- name: Show which slots can be used
  ansible.builtin.debug:
    msg: "{{ dict(status.instances | map(attribute='prefix') | zip(status.instances | map(attribute='slots'))) }}"

- name: Fail unless every token can be used
  keyfleet.hsm.hsm_status:
    probe: roundtrip
    require: all

- name: Fail only when none of two HSMs can be logged in to
  keyfleet.hsm.hsm_status:
    instances:
      - primary
      - standby
    probe: login
    require: any
    timeout: 10

- name: Fail unless the certificate of the signing CA and its key are in the token, and the key signs
  keyfleet.hsm.hsm_status:
    instances:
      - primary
    require: all
    expect:
      - label: signing-ca
        instance: primary

- name: See whether the gateway on this host says what a probe finds
  keyfleet.hsm.hsm_status:
    gateway_url: https://localhost:4440
    gateway_token_file: /etc/keyfleet/status.token
    gateway_ca_path: /etc/keyfleet/gateway/ca.pem
    timeout: 10
  register: checked

- name: Show where they differ
  ansible.builtin.debug:
    msg: "{{ checked.gateway.error or checked.gateway.differences }}"

- name: Compare the registry with what is declared, and probe nothing
  keyfleet.hsm.hsm_status:
    instances: []
    undeclared: report
    declared:
      instances:
        - name: primary
          tokens:
            - label: payments
        - name: standby
      groups:
        - cards
  register: compared

- name: Show the groups that nobody declares
  ansible.builtin.debug:
    var: compared.undeclared.groups

# A PIN that was refused is not tried again, so the loop ends there.
- name: Wait until an HSM has come back
  keyfleet.hsm.hsm_status:
    instances:
      - primary
  register: primary
  until: primary.healthy or 'pin_incorrect' in codes or 'pin_not_tried' in codes
  retries: 20
  delay: 15
  vars:
    codes: "{{ primary.instances | map(attribute='slots') | flatten | map(attribute='code') | list }}"
"""

RETURN = r"""
healthy:
  description: Whether there was at least one token to probe, and all were accessible and have what O(expect) wants of them.
  returned: when the probe was made
  type: bool
  sample: false
instances:
  description: The instances that were probed, in the order of their prefixes.
  returned: when the probe was made
  type: list
  elements: dict
  contains:
    prefix:
      description: Routing prefix of the instance. V(null) for one without tokens.
      returned: always
      type: str
    model:
      description: Its model.
      returned: always
      type: str
    name:
      description: Its name.
      returned: always
      type: str
    slots:
      description: Its tokens, in the order of their slots.
      returned: always
      type: list
      elements: dict
      contains:
        slot_id:
          description: Number of the slot. That of the last visit when the token was not found, V(null) when it never
            was.
          returned: always
          type: int
        accessible:
          description: Whether the token was found, the login went well, and with O(probe=roundtrip) the round trip
            worked.
          returned: always
          type: bool
        probe:
          description:
            - What the token did in the round trip. V(AES_ECB), V(AES_CBC) and V(AES_GCM) encrypted and decrypted, V(EC) and
              V(RSA) signed and verified, with a key made for that. V(key) used a key that was there. With V(random) the
              token gave random numbers and nothing more - it makes no keys for a session, and has none that could be used.
            - V(null) when there was no round trip, or none that worked.
          returned: always
          type: str
        probe_refused:
          description: The answers to what was tried before RV(instances[].slots[].probe), return values by the same names.
          returned: always
          type: dict
        login:
          description: Whether a login is made at this token, as it is registered. V(pinpad) where a person types the PIN at the device.
          returned: always
          type: raw
        label:
          description: Label of the token.
          returned: always
          type: str
        serial:
          description: Its serial number. V(null) when it was never found.
          returned: always
          type: str
        error:
          description: Why it is not accessible, in words, else V(null).
          returned: always
          type: str
        code:
          description: The same as C(code) in RV(failure), else V(null).
          returned: always
          type: str
        device_fault:
          description:
            - Whether the fault is the device's, and not a mistake of who calls it, such as a wrong PIN. A hang, a
              crash of the library, and a registered token that is gone count as the device's.
          returned: always
          type: bool
        pin_state:
          description:
            - What the token's flags say about its PIN. V(ok), V(low) (a wrong PIN was tried since the last good
              login), V(final_try) (one try is left), V(locked), V(not_initialized) (no user PIN was set yet),
              V(to_be_changed), or V(unknown) when they could not be read.
          returned: always
          type: str
        versions:
          description:
            - C(library), its name and version. C(cryptoki), its version of PKCS#11. C(model), C(firmware) and C(hardware), as the token
              reports them.
            - Each is V(null) where it cannot be read, and all of it where the token was not found.
          returned: with O(holdings)
          type: dict
        certificates:
          description:
            - The X.509 certificates on the token, each with C(label), C(id) in hex, C(subject), C(not_after) in UTC and C(fingerprint).
            - V(null) where they could not be read.
          returned: with O(holdings)
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
    - prefix: hsm::softhsm2_1
      model: softhsm2
      name: second
      slots:
        - slot_id: null
          accessible: false
          probe: null
          probe_refused: {}
          login: true
          label: nothere
          serial: null
          error: >-
            no token answers to label 'nothere' in /usr/lib/softhsm/libsofthsm2.so. Tokens that are there: 'payments'
            (slot 1401428492, serial e00b4b43d3881a0c).
          code: no_token
          device_fault: false
          pin_state: unknown
credentials:
  description:
    - What was found of each entry of O(expect), once for each token that is to have it.
    - With a token that is not accessible, RV(credentials[].found) is V(null), and the problem is the token's.
  returned: when the probe was made
  type: list
  elements: dict
  contains:
    instance:
      description: Name of the instance.
      returned: always
      type: str
    slot_id:
      description: Number of the slot. V(null) for a token that was never found.
      returned: always
      type: int
    token_label:
      description: Label of the token.
      returned: always
      type: str
    expect:
      description: Number of the entry of O(expect), from 0.
      returned: always
      type: int
    name:
      description: The label, or the CKA_ID.
      returned: always
      type: str
    found:
      description: Whether the certificate and the private key that are expected are there.
      returned: always
      type: bool
    match:
      description: Whether the certificate's public key is the private key's. V(null) where one of them is not there or not expected.
      returned: always
      type: bool
    signs:
      description: Whether the private key signed just now, and the signature verifies. V(null) where there was nothing to try.
      returned: always
      type: bool
    not_before:
      description: From when on the certificate is valid, in UTC.
      returned: always
      type: str
    not_after:
      description: Until when it is.
      returned: always
      type: str
    fingerprint:
      description: SHA-256 of the certificate, in hex.
      returned: always
      type: str
    problem:
      description: What is wrong, in words. V(null) where nothing is.
      returned: always
      type: str
    code:
      description: The first problem in one word, the same as C(code) in RV(failure).
      returned: always
      type: str
  sample:
    - instance: primary
      slot_id: 1401428492
      token_label: payments
      expect: 0
      name: web-tls
      found: true
      match: true
      signs: true
      not_before: "2026-11-29T09:20:11Z"
      not_after: "2027-11-29T09:20:11Z"
      fingerprint: 5b0a4c7cf1c9ff5b3a5ab0bb6b29ed1b11ad0a4a2bd34a7f9d0a2b3f3b3a9d11
      problem: null
      code: null
gateway:
  description: What the gateway of O(gateway_url) says. V(null) without that option.
  returned: when the probe was made
  type: dict
  contains:
    url:
      description: The gateway's URL.
      returned: always
      type: str
    health:
      description:
        - HTTP status of C(/health), V(null) when there was no answer. Gateways give 204 when every slot is healthy, and 500 when one is
          not. The Eviden KMS gives 200 or 503, and speaks of its database only.
      returned: always
      type: int
    status:
      description: The answer of C(/hsm/status), by prefix and slot. V(null) when there was none that can be used.
      returned: always
      type: list
      elements: dict
    differences:
      description:
        - One entry for each slot on which gateway and probe differ, as of the filter P(keyfleet.hsm.kms_status_differences#filter).
          Prefix and slot are V(null) where it is C(/health) that differs.
        - Without a usable answer the list is empty, which says nothing. See RV(gateway.error).
      returned: always
      type: list
      elements: dict
    error:
      description: Why the gateway's status is not known, in words. V(null) when it is.
      returned: always
      type: str
    code:
      description: The same in one word, V(gateway_unreachable), V(gateway_refused), V(gateway_invalid) or V(gateway_token_unusable).
      returned: always
      type: str
  sample:
    url: https://localhost:4440
    health: 204
    status:
      - {prefix: "hsm::utimaco", model: utimaco, slots: [{slot_id: 7, accessible: true}]}
    differences:
      - prefix: "hsm::utimaco"
        slot_id: 7
        server: true
        probe: false
        why: "the server calls it accessible; the probe failed: the device was removed"
    error: null
    code: null
undeclared:
  description: What is registered and not in O(declared), empty lists without that option.
  returned: when the probe was made
  type: dict
  contains:
    instances:
      description: Names of instances.
      returned: always
      type: list
      elements: str
    tokens:
      description: Tokens of declared instances, each with C(instance) and C(token).
      returned: always
      type: list
      elements: dict
    groups:
      description: Names of groups.
      returned: always
      type: list
      elements: str
  sample: {instances: [old], tokens: [{instance: primary, token: payments-2024}], groups: []}
keys_recorded:
  description:
    - The virtual keys of all registered instances, from the registry.
    - "Each has C(instance), C(token), C(group), C(label) without the generation, C(id) in hex, C(generation), C(kind), C(type), C(size),
      C(curve) and C(state). Its age counts from C(since). C(found) tells that a sync found the key, so that it may be older."
  returned: when the probe was made, with O(holdings)
  type: list
  elements: dict
  sample:
    - instance: primary
      token: payments
      group: null
      label: dek-1
      id: 64656b2d31
      generation: 1
      kind: secret
      type: AES
      size: 256
      curve: null
      state: active
      since: "2026-11-29T20:15:00Z"
      found: false
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
  sample: {code: not_healthy, details: {}}
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

    spec = options.merge(options.REGISTRY, options.STATUS, options.PIN_SAFETY)
    run(GuardedModule(argument_spec=spec, supports_check_mode=True), StatusRequest.parse, engine, needs=libraries_for_status, fetch=fetch)


if __name__ == "__main__":
    main()
