#!/usr/bin/python

# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: hsm_instance
short_description: Register an HSM, create its tokens and test them
version_added: 0.1.0
author:
  - keyfleet.hsm contributors (@keyfleet)
description:
  - Declares one HSM of a host - its PKCS#11 library, its tokens, who administers it - and keeps that declaration in a
    registry on the target, where the other modules of this collection find it.
  - The task declares the whole instance. An option that is omitted returns to its default, also when the instance is
    registered with another value. This is unlike M(keyfleet.hsm.hsm_key), which does not compare omitted options.
  - Creates tokens, sets their user PIN, changes it, and keeps it in a file that only its owner can read, where this
    is asked for.
  - Tests every token on each run. A token is accessible when it was found, the login went well, and a key that lives
    only in that session encrypted and decrypted, or signed and verified.
  - Gives the instance its routing prefix, for example C(hsm::softhsm2_1). UIDs of keys begin with it, so the module
    refuses whatever would give an instance that is registered already another prefix.
  - All tokens are looked at before the first change. When one of them cannot be used, nothing is changed on a token
    or in the registry, unless O(validate=false).
extends_documentation_fragment:
  - keyfleet.hsm.attributes
  - keyfleet.hsm.attributes.pkcs11
  - keyfleet.hsm.registry
  - keyfleet.hsm.instance
  - keyfleet.hsm.pin_safety
attributes:
  check_mode:
    support: full
    details:
      - A token that does not exist yet is not created. It is returned with V(null) for its slot and serial number,
        which are the token's own to choose.
  diff_mode:
    support: full
    details:
      - The diff lists the token, the PIN file and the instance, each as it was and as it will be. It is the same in
        check mode.
      - PINs are not in it.
  idempotent:
    support: full
    details:
      - A token that is initialised is never initialised again, and O(tokens[].new_pin) is set once.
options:
  registry:
    description:
      - Absolute path of the registry on the target, the SQLite file that holds instances and virtual keys, and no
        secret.
      - The file is created with mode V(0600), and its folder with mode V(0700), when it is missing.
      - Two registries know nothing of each other. Use one for each host.
  validate:
    description:
      - Whether all tokens must be accessible for the instance to be registered or changed.
      - With V(false) the instance is registered as declared, and RV(instance.tokens[].error) says what is wrong. The
        tokens are tested all the same, which tries each PIN once.
      - The O(tokens[].pin) of a token that cannot be reached is kept in its O(tokens[].pin_file), where the file holds
        no other one. One that the token refuses is not.
    type: bool
    default: true
  allow_renumber:
    description:
      - Whether the prefix of a registered instance may change, or the slot of a token that keys are recorded for.
        Both move UIDs that other programs may have stored.
      - With V(false) the module refuses to, and names the old and the new address.
      - With V(true), O(tokens[].initialize) may also create a token in the place of a registered one that is not
        there.
    type: bool
    default: false
  expect_prefix:
    description:
      - The prefix that the instance shall have, for example C(hsm::softhsm2_1). The module refuses to go on, before it
        makes a token or writes anything, when the instance has another one, or would get one.
      - In check mode an instance that is not registered yet may have a lower number, since others that would be
        registered before it are not.
      - The filter P(keyfleet.hsm.hsm_prefixes#filter) gives the prefixes of a whole declaration.
    type: str
  force:
    description:
      - Whether an instance or a token that virtual keys refer to may be removed. The records of these keys are then
        forgotten. The keys stay in the HSM.
      - The records of a group's keys stay the group's, with all they say. Run M(keyfleet.hsm.hsm_sync) with the group before, and they
        are those of a member that has the keys.
      - An instance that a configuration file refers to is not removed, whatever this option says. Neither is an
        instance or a token that is a connection of a group. Take it out of the group first with
        M(keyfleet.hsm.hsm_group).
    type: bool
    default: false
  exclusive:
    description:
      - Whether a registered token that is not in O(tokens) leaves the registry. With V(false) it stays as it is, and is not tested.
      - The playbook C(keyfleet.hsm.replace_hsm) registers a new token beside one that may be dead with it.
    type: bool
    default: true
  state:
    description:
      - V(present) registers the instance, or changes it to what is declared.
      - V(absent) removes it from the registry. Its tokens, their keys and the PIN files stay as they are.
    type: str
    choices:
      - present
      - absent
    default: present
notes:
  - The order in which instances are registered counts for their prefixes, and stays as it is when an instance is
    changed.
  - When several tokens of one task cannot be used, the error lists each of them.
  - When something had been done before a failure, C(changed) is true, and C(msg) tells it after the words
    C(Before that). Run the task again once the cause is fixed.
  - Tasks and plays that use one token at the same time wait for each other, see O(connection_timeout).
  - Ansible prints the items of a loop, and from C(-v) on it does so in spite of C(loop_control.label). Loop over the
    names of instances, and never over dictionaries with PINs in them.
seealso:
  - module: keyfleet.hsm.hsm_group
  - module: keyfleet.hsm.hsm_info
  - module: keyfleet.hsm.hsm_key
  - module: keyfleet.hsm.hsm_status
  - module: keyfleet.hsm.hsm_sync
  - module: keyfleet.hsm.kms_config
"""

EXAMPLES = r"""
- name: Register an HSM, and create its token when it is missing
  keyfleet.hsm.hsm_instance:
    name: primary
    description: card payments
    model: softhsm2
    library: /usr/lib/softhsm/libsofthsm2.so
    admins:
      - ops@example.com
    max_sessions: 1024
    connection_timeout: 30
    tokens:
      - label: payments
        initialize: true
        so_pin: "{{ vault_so_pin }}"
        pin: "{{ vault_pin }}"
        pin_file: /etc/keyfleet/pins/payments
  register: primary

- name: Show where its keys will be addressed
  ansible.builtin.debug:
    msg: "{{ primary.instance.prefix }} in slot {{ primary.instance.tokens[0].slot }}"

# The second of its model: its prefix is hsm::softhsm2_1. The library's own configuration is named in an environment
# variable.
- name: Register a second HSM of the same model, with two tokens
  keyfleet.hsm.hsm_instance:
    name: standby
    model: softhsm2
    environment:
      SOFTHSM2_CONF: /etc/keyfleet/softhsm2.conf
    tokens:
      - label: payments-standby
        initialize: true
        so_pin: "{{ vault_so_pin }}"
        pin: "{{ vault_pin }}"
        pin_file: /etc/keyfleet/pins/payments-standby
      - label: audit
        initialize: true
        so_pin: "{{ vault_so_pin }}"
        pin: "{{ vault_pin }}"
        pin_file: /etc/keyfleet/pins/audit

# hsm_instances is a list of what this module takes. The loop runs over the names, since Ansible prints the items of a
# loop. What is not handed over returns to its default, so the task names every field.
- name: Register every HSM of a declaration, in its order
  keyfleet.hsm.hsm_instance:
    name: "{{ item }}"
    description: "{{ declared.description | default(omit) }}"
    model: "{{ declared.model }}"
    library: "{{ declared.library | default(omit) }}"
    admins: "{{ declared.admins | default(omit) }}"
    max_sessions: "{{ declared.max_sessions | default(omit) }}"
    connection_timeout: "{{ declared.connection_timeout | default(omit) }}"
    environment: "{{ declared.environment | default(omit) }}"
    init_args: "{{ declared.init_args | default(omit) }}"
    os_locking: "{{ declared.os_locking | default(omit) }}"
    layout: "{{ declared.layout | default(omit) }}"
    tokens: "{{ declared.tokens }}"
  loop: "{{ hsm_instances | map(attribute='name') }}"
  vars:
    declared: "{{ hsm_instances | selectattr('name', 'equalto', item) | first }}"

- name: Show what a change would do, and do nothing
  keyfleet.hsm.hsm_instance:
    name: primary
    description: card payments, site A
    model: softhsm2
    tokens:
      - label: payments
        pin_file: /etc/keyfleet/pins/payments
  check_mode: true
  diff: true

- name: Name a token by its serial number
  keyfleet.hsm.hsm_instance:
    name: primary
    model: softhsm2
    tokens:
      - serial: "{{ primary.instance.tokens[0].serial }}"
        pin_file: /etc/keyfleet/pins/payments

- name: Change the user PIN, on the token and in its file
  keyfleet.hsm.hsm_instance:
    name: primary
    model: softhsm2
    tokens:
      - label: payments
        pin_file: /etc/keyfleet/pins/payments
        new_pin: "{{ vault_new_pin }}"

# Only after finding out which PIN is right and what tried the wrong one.
- name: Log in once although a wrong PIN was tried before
  keyfleet.hsm.hsm_instance:
    name: primary
    model: softhsm2
    tokens:
      - label: payments
        pin_file: /etc/keyfleet/pins/payments
    allow_low_pin_count: true

- name: Register an HSM that has not been delivered yet
  keyfleet.hsm.hsm_instance:
    name: site-b
    model: softhsm2
    tokens:
      - label: payments-site-b
        pin_file: /etc/keyfleet/pins/payments-site-b
    validate: false

- name: Remove an HSM from the registry
  keyfleet.hsm.hsm_instance:
    name: site-b
    state: absent
"""

RETURN = r"""
instance:
  description:
    - The instance as it is registered, or would be in check mode.
    - For O(state=absent) the instance that was removed, or V(null) when there was none.
  returned: success
  type: dict
  contains:
    id:
      description: UUID of the instance, made by the registry. It stays when the instance is changed. V(null) as long
        as check mode only predicts the instance.
      returned: success
      type: str
      sample: 6877a954-738e-405a-a2c0-248dc9f382c4
    name:
      description: Its name.
      returned: success
      type: str
      sample: primary
    description:
      description: Its description.
      returned: success
      type: str
      sample: card payments
    model:
      description: Its model, in lower case.
      returned: success
      type: str
      sample: softhsm2
    prefix:
      description:
        - Its routing prefix, with which the UIDs of its keys begin, for example V(hsm::softhsm2_1).
        - V(null) for an instance without tokens.
        - Check mode does not know of instances that earlier tasks of the play would register.
      returned: success
      type: str
    library:
      description: Path of the PKCS#11 library that was found.
      returned: success
      type: str
      sample: /usr/lib/softhsm/libsofthsm2.so
    admins:
      description: Who may administer its keys.
      returned: success
      type: list
      elements: str
      sample: [ops@example.com]
    max_sessions:
      description: Maximum number of sessions of a service.
      returned: success
      type: int
      sample: 1024
    connection_timeout:
      description: Seconds to wait for a token, V(0) for no limit.
      returned: success
      type: int
      sample: 30
    environment:
      description: Environment variables that are set before the library is loaded.
      returned: success
      type: dict
      sample:
        SOFTHSM2_CONF: /etc/keyfleet/softhsm2.conf
    init_args:
      description: The text that the library takes with C_Initialize, empty for none.
      returned: success
      type: str
      sample: ""
    os_locking:
      description: Whether the library may use the locks of the operating system.
      returned: success
      type: bool
      sample: false
    layout:
      description: For whom keys are laid out.
      returned: success
      type: str
      sample: pkcs11
    created_at:
      description: When the instance was registered, in UTC. V(null) as long as check mode only predicts the instance.
      returned: success
      type: str
      sample: "2026-11-21T20:48:06Z"
    updated_at:
      description: When it was last changed, in UTC. A run that changes nothing leaves it as it is.
      returned: success
      type: str
      sample: "2026-11-21T20:48:06Z"
    tokens:
      description: Its tokens, in the declared order.
      returned: success
      type: list
      elements: dict
      contains:
        slot:
          description: Number of the slot that the token is in, or was in when it was seen last. V(null) when it never
            was.
          returned: success
          type: int
        label:
          description: Its label.
          returned: success
          type: str
        serial:
          description: Its serial number. V(null) when it was never seen.
          returned: success
          type: str
        accessible:
          description:
            - Whether the token was found, the login went well and a round trip worked just now.
            - V(false) for a token that check mode does not create, V(null) for O(state=absent).
          returned: success
          type: bool
        probe:
          description:
            - What the token did in that round trip, as RV(keyfleet.hsm.hsm_status#module:instances[].slots[].probe) says.
            - V(null) when there was none, or none that worked.
          returned: success
          type: str
        error:
          description: Why it is not accessible, in words. V(null) when there is nothing to tell.
          returned: success
          type: str
        code:
          description: The same as C(code) in RV(failure).
          returned: success
          type: str
        pin_state:
          description:
            - What the token's flags say about its user PIN. V(ok), V(low) (a wrong PIN was tried since the last good
              login), V(final_try) (one try is left), V(locked), V(not_initialized) (no user PIN was set yet),
              V(to_be_changed), or V(unknown) when they could not be read.
            - V(null) for O(state=absent).
          returned: success
          type: str
        pin_file:
          description: Path of the file that holds its PIN, V(null) without one.
          returned: success
          type: str
        login:
          description: Whether a login is made. V(pinpad) where a person types the PIN at the device.
          returned: success
          type: raw
        user_type:
          description: Who logs in, V(user) or V(so).
          returned: success
          type: str
        initialized:
          description: Whether this run created the token, or would have in check mode.
          returned: success
          type: bool
      sample:
        - slot: 1441987930
          label: payments
          serial: 14a441f9d5f2fd5a
          accessible: true
          probe: AES_ECB
          error: null
          code: null
          pin_state: ok
          pin_file: /etc/keyfleet/pins/payments
          login: true
          user_type: user
          initialized: true
failure:
  description: Why it failed, by its L(failure code,https://github.com/keyfleet/keyfleet.hsm/blob/main/docs/failure_codes.md).
  returned: failure
  type: dict
  sample: {code: pin_incorrect, details: {device_fault: false, pin_state: low, serial: e00b4b43d3881a0c}}
"""

from ansible_collections.keyfleet.hsm.plugins.module_utils._model.plan import Context, Outcome
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.tokens.instance_spec import InstanceRequest
from ansible_collections.keyfleet.hsm.plugins.module_utils._module import options
from ansible_collections.keyfleet.hsm.plugins.module_utils._module.guarded import GuardedModule
from ansible_collections.keyfleet.hsm.plugins.module_utils._module.run import run


def main() -> None:
    def engine(request: InstanceRequest, context: Context) -> Outcome:
        from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.instances.hsm_instance import converge
        from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.tokens.apart import apart

        return apart(converge, InstanceRequest.without_library)(request, context)

    spec = options.merge(options.REGISTRY, options.INSTANCE, options.INSTANCE_STATE, options.PIN_SAFETY)
    required_if = [("state", "present", ("model", "tokens"))]
    run(
        GuardedModule(argument_spec=spec, required_if=required_if, supports_check_mode=True),
        InstanceRequest.parse,
        engine,
    )


if __name__ == "__main__":
    main()
