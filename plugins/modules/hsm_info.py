#!/usr/bin/python

# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: hsm_info
short_description: Report what a PKCS#11 library and one of its tokens offer
version_added: 0.1.0
author:
  - keyfleet.hsm contributors (@keyfleet)
description:
  - Reports a library, its slots and tokens, the mechanisms of one token, what it can do, and its objects without
    their values. It is the first thing to run with an HSM that is new to you, and its answer belongs into a bug report.
  - Needs no registered instance. Changes nothing on the token. Its session is read-only, and what it tries, it tries
    with keys that live in this session only.
  - Without O(token_label), O(token_serial) or O(slot) it lists the slots. With one of them it also looks into that
    token. Without a PIN it never tries a login, and sees public objects only.
  - The library works in a process of its own with a limit of time. When it crashes or hangs, the task fails, and
    what was found until then is returned.
extends_documentation_fragment:
  - keyfleet.hsm.attributes
  - keyfleet.hsm.attributes.pkcs11
  - keyfleet.hsm.registry
  - keyfleet.hsm.pin_safety
attributes:
  check_mode:
    support: full
    details:
      - Does the same as without, the login included, since it changes nothing.
  diff_mode:
    support: N/A
    details:
      - There is never a difference to show.
  idempotent:
    support: full
options:
  library:
    description:
      - Absolute path of the vendor's PKCS#11 library on the target.
    type: path
    required: true
  environment:
    description:
      - Environment variables that are set before the O(library) is loaded, for example the path of its configuration.
    type: dict
  init_args:
    description:
      - One line of text that the O(library) takes with C_Initialize, as NSS and YubiHSM do. It is logged, so it is no
        place for a secret.
    type: str
  os_locking:
    description:
      - Whether C_Initialize says that the O(library) may use the locks of the operating system.
    type: bool
  token_label:
    description:
      - Label of the token to look into.
      - At most one of O(token_label), O(token_serial) and O(slot) may be given. One of them is required together with
        O(pin) or O(pin_file).
    type: str
  token_serial:
    description:
      - Serial number of the token, as the token gives it.
    type: str
  slot:
    description:
      - Number of the slot that the token is in, decimal, or hexadecimal after V(0x).
    type: str
  pin:
    description:
      - The user PIN of the token. It is used in this task and kept nowhere.
      - At most one of O(pin) and O(pin_file) may be given.
    type: str
  pin_file:
    description:
      - Absolute path of a file on the target that holds the user PIN. One newline at its end is dropped, and nothing
        else.
      - A file that anyone but its owner may read or write is refused, and so is one that belongs neither to the user
        who runs the module nor to root.
    type: path
  registry:
    description:
      - Absolute path of the registry on the target, if there is one. It is opened only when a PIN is given, for PINs that
        the token refused before, and remembers one that is refused now. It is never created.
    type: path
    default: /var/lib/keyfleet/registry.db
  labels:
    description:
      - Return the objects with these labels alone. By default all are.
    type: list
    elements: str
  generations:
    description:
      - Return also the objects of all generations of the keys in O(labels), as C(web@2) for V(web). No registry is asked, so C(web@7)
        is among them, also where that is a key of its own. For this the label of each object on the token is read, in one call,
        and in four behind p11-kit.
      - An object that cannot be read is returned as well, since nobody knows whose it is.
    type: bool
    default: false
  timeout:
    description:
      - How many seconds everything together may take. A smart card may need a minute for an RSA key.
    type: int
    default: 120
notes:
  - Without a registry nothing remembers a refused PIN, and not every token flags a wrong try. After V(pin_incorrect) do
    not run the task again before you know which PIN is right.
  - Labels, serial numbers and paths are in the answer. Replace those that are nobody's business before you send it.
seealso:
  - module: keyfleet.hsm.hsm_instance
  - module: keyfleet.hsm.hsm_status
"""

EXAMPLES = r"""
- name: List the slots and tokens of a library
  keyfleet.hsm.hsm_info:
    library: /usr/lib/softhsm/libsofthsm2.so

- name: Show what can be seen of one token without a login
  keyfleet.hsm.hsm_info:
    library: /usr/lib/softhsm/libsofthsm2.so
    token_label: payments

- name: Log in once, list the keys and try what the token can do
  keyfleet.hsm.hsm_info:
    library: /usr/lib/softhsm/libsofthsm2.so
    token_label: payments
    pin_file: /etc/keyfleet/pins/payments
  register: payments

- name: Show what was tried in vain
  ansible.builtin.debug:
    msg: "{{ payments.capabilities | rejectattr('works', 'true') | list }}"
"""

RETURN = r"""
library:
  description: What the library reports of itself. V(null) where it cannot be loaded.
  returned: when the library was called
  type: dict
  contains:
    path:
      description: The file.
      returned: always
      type: str
    manufacturer:
      description: Its maker.
      returned: always
      type: str
    description:
      description: Its name.
      returned: always
      type: str
    version:
      description: Its version.
      returned: always
      type: str
    cryptoki_version:
      description: The version of PKCS#11.
      returned: always
      type: str
  sample:
    path: /usr/lib/softhsm/libsofthsm2.so
    manufacturer: SoftHSM
    description: Implementation of PKCS11
    version: "2.6"
    cryptoki_version: "2.40"
slots:
  description: The slots, at most 200, in the library's order.
  returned: when the library was called
  type: list
  elements: dict
  contains:
    slot_id:
      description: Number of the slot.
      returned: always
      type: int
    description:
      description: What the library calls it.
      returned: always
      type: str
    manufacturer:
      description: Maker of the slot.
      returned: always
      type: str
    hardware_version:
      description: Version of the slot's hardware.
      returned: always
      type: str
    firmware_version:
      description: Version of the slot's firmware.
      returned: always
      type: str
    flags:
      description: Its flags, without C(CKF_).
      returned: always
      type: list
      elements: str
    token:
      description: The token in it. V(null) for an empty slot, and for one that cannot be read.
      returned: always
      type: dict
      contains:
        label:
          description: Label of the token. Empty before it is initialized.
          returned: always
          type: str
        serial:
          description: Serial number.
          returned: always
          type: str
        manufacturer:
          description: Its maker.
          returned: always
          type: str
        model:
          description: Its model.
          returned: always
          type: str
        hardware_version:
          description: Version of its hardware.
          returned: always
          type: str
        firmware_version:
          description: Version of its firmware.
          returned: always
          type: str
        initialized:
          description: Whether it is initialized.
          returned: always
          type: bool
        flags:
          description: Its flags, without C(CKF_). What has no name is one hexadecimal number.
          returned: always
          type: list
          elements: str
        pin_state:
          description: What the flags say of the user PIN, as in M(keyfleet.hsm.hsm_status), before any login. V(null)
            for a token that is not initialized.
          returned: always
          type: str
        so_pin_state:
          description: The same of the security officer's PIN.
          returned: always
          type: str
        pin_length:
          description: Least and greatest length of a PIN in bytes, C(min) and C(max). V(null) where it is not
            reported.
          returned: always
          type: dict
        memory:
          description: Bytes for objects, C(total_public), C(free_public), C(total_private) and C(free_private).
            V(null) where they are not reported.
          returned: always
          type: dict
    code:
      description: Why the token cannot be read, by its failure code. V(null) where it can.
      returned: always
      type: str
    error:
      description: The same as a sentence.
      returned: always
      type: str
token:
  description: The token that was named, with C(slot_id), C(label) and C(serial). V(null) where none was named or found.
  returned: when the library was called
  type: dict
  sample: {slot_id: 1720573505, label: payments, serial: 037d2be6668dde41}
login:
  description: Whether a login was made.
  returned: when the library was called
  type: bool
mechanisms:
  description: The mechanisms of the token in the order of their numbers, at most 1000.
  returned: when the library was called
  type: list
  elements: dict
  contains:
    name:
      description: Its name without C(CKM_), or its number in hexadecimal.
      returned: always
      type: str
    min_key_size:
      description: Least size of a key, in bits or bytes as PKCS#11 has it for the mechanism. V(null) where it is not
        reported.
      returned: always
      type: int
    max_key_size:
      description: Greatest size of a key.
      returned: always
      type: int
    flags:
      description: What it can be used for, without C(CKF_).
      returned: always
      type: list
      elements: str
    code:
      description: Why it cannot be read, by its failure code. V(null) where it can.
      returned: always
      type: str
  sample:
    - {name: AES_KEY_GEN, min_key_size: 16, max_key_size: 32, flags: [GENERATE], code: null}
probe:
  description:
    - The round trip that M(keyfleet.hsm.hsm_status) makes. C(works), C(did) and C(refused) as C(probe) and
      C(probe_refused) there, C(code) and C(error).
    - V(null) without a login on a token that requires one.
  returned: when the library was called
  type: dict
  sample: {works: true, did: AES_ECB, refused: {}, code: null, error: null}
capabilities:
  description:
    - What was tried, with keys that live in this session only. A mechanism that the token does not list is not tried.
    - Without a login on a token that requires one only random numbers are tried.
  returned: when the library was called
  type: list
  elements: dict
  contains:
    capability:
      description: V(random), V(generate), V(import), V(encrypt), V(wrap), V(unwrap), V(sign), V(derive) or
        V(encapsulate). V(encrypt) also decrypts, V(sign) also verifies, V(encapsulate) also decapsulates.
      returned: always
      type: str
    type:
      description: Type of the key.
      returned: always
      type: str
    mechanism:
      description: Name of the mechanism without C(CKM_).
      returned: always
      type: str
    works:
      description: Whether it works. V(null) where it could not be tried.
      returned: always
      type: bool
    code:
      description: Why it does not, by its failure code.
      returned: always
      type: str
    error:
      description: The same as a sentence.
      returned: always
      type: str
  sample:
    - {capability: encrypt, type: AES, mechanism: AES_GCM, works: true, code: null, error: null}
objects:
  description:
    - The objects on the token that the session sees, or those of O(labels), at most 200. Values are never read.
  returned: when the library was called
  type: list
  elements: dict
  contains:
    class:
      description: V(secret), V(private) or V(public) for a key; for others the name without C(CKO_), for example
        V(certificate). V(null) where the object cannot be read.
      returned: always
      type: str
    label:
      description: Its label.
      returned: when it can be read
      type: str
    id:
      description: Its CKA_ID in hexadecimal.
      returned: for keys
      type: str
    type:
      description: Type of the key.
      returned: for keys
      type: str
    size:
      description: Size in bits. V(null) where it is not reported.
      returned: for keys
      type: int
    curve:
      description: Name of the curve.
      returned: for keys
      type: str
    fingerprint:
      description: SHA-256 of the public key's DER in hex. V(null) where the token does not give the key.
      returned: for public keys
      type: str
    operations:
      description: What it may be used for.
      returned: for keys
      type: list
      elements: str
    flags:
      description: Its attributes, for example C(sensitive) and C(extractable), as far as they are reported.
      returned: for keys
      type: dict
    not_reported:
      description: Those of C(operations) and C(flags) that the token does not report.
      returned: for keys
      type: list
      elements: str
    code:
      description: Why it cannot be read, by its failure code. V(null) where it can.
      returned: always
      type: str
  sample:
    - class: secret
      label: dek
      id: 64656b
      type: AES
      size: 256
      curve: null
      operations: [encrypt, decrypt]
      flags: {private: true, sensitive: true, extractable: false}
      not_reported: [copyable]
      code: null
left_off:
  description: Which of C(slots), C(mechanisms) and C(objects) are longer than what is shown.
  returned: when the library was called
  type: list
  elements: str
problems:
  description: What could not be done. Where there is one, the task fails.
  returned: when the library was called
  type: list
  elements: dict
  contains:
    step:
      description: V(library), V(slots), V(token), V(mechanisms), V(session), V(objects), V(probe) or V(capabilities).
      returned: always
      type: str
    code:
      description: Why, by its failure code.
      returned: always
      type: str
    error:
      description: The same as a sentence.
      returned: always
      type: str
    details:
      description: Values for programs, as in C(failure.details).
      returned: always
      type: dict
failure:
  description: Why it failed, by its L(failure code,https://github.com/keyfleet/keyfleet.hsm/blob/main/docs/failure_codes.md).
  returned: failure
  type: dict
  sample: {code: no_token, details: {}}
"""

from ansible_collections.keyfleet.hsm.plugins.module_utils._model.info_request import InfoRequest
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.plan import Context, Outcome
from ansible_collections.keyfleet.hsm.plugins.module_utils._module import options
from ansible_collections.keyfleet.hsm.plugins.module_utils._module.guarded import GuardedModule
from ansible_collections.keyfleet.hsm.plugins.module_utils._module.run import run


def main() -> None:
    def engine(request: InfoRequest, context: Context) -> Outcome:
        from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.hsm_info import look

        return look(request, context)

    spec = options.merge(options.REGISTRY, options.INFO, options.PIN_SAFETY)
    run(GuardedModule(argument_spec=spec, supports_check_mode=True), InfoRequest.parse, engine)


if __name__ == "__main__":
    main()
