#!/usr/bin/python

# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: hsm_sync
short_description: Record the keys of an HSM in the registry, and report what differs
version_added: 0.1.0
author:
  - keyfleet.hsm contributors (@keyfleet)
description:
  - Reads all keys of an instance, and records each that the registry does not know as a virtual key. A virtual key
    points at a key in the HSM and holds no key material.
  - Only adds. A key that has vanished from the HSM and a key that differs from its record are reported, and nothing
    is corrected.
  - Never changes anything in the HSM.
extends_documentation_fragment:
  - keyfleet.hsm.attributes
  - keyfleet.hsm.attributes.pkcs11
  - keyfleet.hsm.registry
  - keyfleet.hsm.connection
  - keyfleet.hsm.pin_safety
attributes:
  check_mode:
    support: full
    details:
      - When the registry, the instance or the token is not registered yet, the answer is empty, with a warning.
  diff_mode:
    support: full
    details:
      - The diff lists the keys that are added, by their UID.
  idempotent:
    support: full
options:
  instance:
    description:
      - Name of an instance that M(keyfleet.hsm.hsm_instance) has registered.
    required: true
  token_label:
    description:
      - Label of the token to read.
      - At most one of O(token_label), O(token_serial) and O(slot) may be given. All tokens of the instance are read
        without one.
  pin:
    description:
      - The user PIN of the token. It is used in this task and kept nowhere.
      - Not needed for tokens that were registered with a PIN file.
      - At most one of O(pin) and O(pin_file) may be given. Both are refused when the task would read several tokens,
        because one PIN is not tried on all. Choose one with O(token_label) then.
notes:
  - All tokens are read before the first key is recorded. When one cannot be read, nothing is recorded.
  - A key that has neither C(CKA_ID) nor C(CKA_LABEL) cannot be addressed. It is told in a warning and not recorded,
    and so are keys that share both with another.
seealso:
  - module: keyfleet.hsm.hsm_key
  - module: keyfleet.hsm.hsm_status
"""

EXAMPLES = r"""
- name: Record the keys that the registry does not know yet
  keyfleet.hsm.hsm_sync:
    instance: primary
  register: sync

- name: Read one token of an instance
  keyfleet.hsm.hsm_sync:
    instance: standby
    token_label: audit

- name: Show what would be recorded, and record nothing
  keyfleet.hsm.hsm_sync:
    instance: primary
  check_mode: true
  diff: true

- name: Stop when keys have vanished, or were changed behind our back
  ansible.builtin.assert:
    that: sync.summary.missing + sync.summary.drifted == 0
    fail_msg: "Missing: {{ sync.missing }}. Different: {{ sync.drift }}."
"""

RETURN = r"""
added:
  description: UIDs of the keys that were recorded by this run, or would be in check mode.
  returned: success
  type: list
  elements: str
  sample:
    - hsm::softhsm2::1401428492::unmanaged
missing:
  description: UIDs of the records whose key is not in the HSM any more. They stay recorded.
  returned: success
  type: list
  elements: str
  sample:
    - hsm::softhsm2::1670330475::x
drift:
  description:
    - What differs between a key and its record. Nothing is corrected.
    - A record is found by C(CKA_ID) and C(CKA_LABEL) together, and by one of them alone when the other was edited.
  returned: success
  type: list
  elements: dict
  contains:
    uid:
      description: UID of the record.
      returned: always
      type: str
    field:
      description: What differs - V(id), V(label), V(type), V(size) or V(operations).
      returned: always
      type: str
    virtual:
      description: What is recorded.
      returned: always
      type: raw
    hsm:
      description: What the HSM says.
      returned: always
      type: raw
  sample:
    - uid: hsm::softhsm2::1670330475::pair
      field: operations
      virtual: [sign, verify]
      hsm: [sign]
summary:
  description: Counts of keys.
  returned: success
  type: dict
  contains:
    added:
      description: Number of keys that were recorded by this run.
      returned: always
      type: int
    known:
      description: Number of keys that were recorded before and are in the HSM.
      returned: always
      type: int
    missing:
      description: Number of records whose key is not in the HSM.
      returned: always
      type: int
    drifted:
      description: Number of keys that differ from their record.
      returned: always
      type: int
  sample:
    added: 1
    known: 2
    missing: 0
    drifted: 0
failure:
  description: Why the task failed, for programs. The text for people is in C(msg).
  returned: failure
  type: dict
  contains:
    code:
      description:
        - A word that stays the same from release to release.
        - V(invalid_input) - invalid values, or options that contradict each other. All of them are listed.
        - V(no_instance), V(no_token), V(several_tokens), V(token_not_initialized) - the instance or the token is not
          there, or more than one token answers.
        - V(token_not_declared) - the registered instance has no such token, or no token at all.
        - V(token_changed) - the token is not the one that was registered, though it answers to the same label or
          slot.
        - V(login_needed) - the token is registered with C(user_type=so), or with C(login=false) though it requires a
          login. Without a login as user its keys would look absent.
        - V(pin_missing), V(pin_file_missing), V(pin_file_unreadable), V(pin_file_unsafe), V(pin_file_empty),
          V(pin_file_invalid) - no PIN is known, or its file cannot be used. No login was tried.
        - V(pin_count_low), V(pin_final_try), V(pin_locked), V(pin_not_initialized) - the token's flags speak against
          a login. None was tried.
        - V(pin_not_tried) - the token refused the PIN in this file before, and the file has not been written since.
        - V(pin_incorrect), V(pin_expired) - the token refused the PIN. It was tried once.
        - V(library_missing), V(library_invalid), V(library_init_failed) - the PKCS#11 library is not there, is none,
          or does not start.
        - V(lock_timeout), V(lock_unavailable) - another task held the token for too long, or the lock file cannot be
          used.
        - V(registry_missing), V(registry_unavailable), V(registry_invalid), V(registry_too_new),
          V(registry_write_failed) - the registry is not there, cannot be opened, is another program's file, is a
          newer release's, or could not be written.
        - C(CKR_) and the rest of the name of a PKCS#11 return value, for example V(CKR_DEVICE_ERROR) - a call to the
          library failed.
        - V(missing_library) - no Python on the target has python-pkcs11. V(unexpected) - a defect of this collection.
      returned: failure
      type: str
      sample: token_changed
    details:
      description: What belongs to the code, for example C(problems) for V(invalid_input). May be empty.
      returned: failure
      type: dict
      sample: {}
"""

from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.sync import converge
from ansible_collections.keyfleet.hsm.plugins.module_utils._module import options
from ansible_collections.keyfleet.hsm.plugins.module_utils._module.guarded import GuardedModule
from ansible_collections.keyfleet.hsm.plugins.module_utils._module.run import run


def main() -> None:
    spec = options.merge(options.REGISTRY, options.CONNECTION, options.IN_GROUP, options.PIN_SAFETY, options.SYNC)
    run(GuardedModule(argument_spec=spec, supports_check_mode=True), converge)


if __name__ == "__main__":
    main()
