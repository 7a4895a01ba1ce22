# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""The option groups INSTANCE and TOKEN: one HSM, as the variable ``hsm_instances`` declares it."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  name:
    description:
      - Name of the instance, unique in the registry. Letters, digits, C(.), C(_) and C(-), beginning with a letter or
        digit.
    type: str
    required: true
  description:
    description:
      - Free text.
    type: str
    default: ""
  model:
    description:
      - What kind of HSM it is, in any case. It gives the routing prefix, C(hsm::<model>) for the first instance of a
        model and C(hsm::<model>_1), C(hsm::<model>_2) for those registered after it.
      - Models that O(library) has a default for are V(softhsm2), V(utimaco), V(proteccio), V(crypt2pay),
        V(smartcardhsm), V(luna), V(nshield), V(cloudhsm), V(futurex), V(yubihsm) and V(other). Any other name may be
        used together with O(library).
      - Required for O(state=present).
    type: str
  library:
    description:
      - Absolute path of the vendor's PKCS#11 library on the target.
      - By default the first of the places where the packages of the O(model) put it.
    type: path
  admins:
    description:
      - Who may administer the keys of this instance. V(*) means everyone, and gives a warning.
      - It is recorded only. A key management server enforces it, see M(keyfleet.hsm.kms_config).
    type: list
    elements: str
    default: []
  max_sessions:
    description:
      - How many sessions a service may hold open on this HSM. It is recorded for such services; a task uses one at a
        time.
    type: int
    default: 1024
  connection_timeout:
    description:
      - How many seconds a task waits for a token that another task uses. V(0) means without limit.
    type: int
    default: 0
  environment:
    description:
      - Environment variables that the vendor's library reads, for example the path of its configuration. They are set
        before the library is loaded, and kept in the registry.
      - They are returned and shown in diffs, so they are no place for a secret.
    type: dict
    default: {}
  init_args:
    description:
      - One line of text that the library takes with C_Initialize, as NSS and YubiHSM do. Its form is the vendor's.
      - It is kept in the registry, returned, logged and shown in diffs, so it is no place for a secret.
    type: str
    default: ""
  os_locking:
    description:
      - Whether C_Initialize says that the library may use the locks of the operating system (CKF_OS_LOCKING_OK), which
        some libraries insist on.
    type: bool
    default: false
  layout:
    description:
      - For whom M(keyfleet.hsm.hsm_key) and M(keyfleet.hsm.hsm_certificate) lay out keys on the tokens of this instance.
      - V(pkcs11) gives both halves of a key pair and its certificate one C(CKA_ID), by which OpenSSL's providers find them.
      - V(eviden) gives each a C(CKA_ID) of its own, as the Eviden KMS server does itself (C(<id>_pk) and C(<id>_cert)).
        The server keeps one object for each C(CKA_ID) and cannot use many pairs that share one.
      - A change concerns keys that are made from then on. Those that are there are reported by
        M(keyfleet.hsm.hsm_sync), and relabelled with its O(keyfleet.hsm.hsm_sync#module:repair=layout).
      - With V(eviden) no key is made for O(keyfleet.hsm.hsm_key#module:keys[].generation) above 1 or for
        O(keyfleet.hsm.hsm_key#module:keys[].max_age), because the server goes on with the first one.
    type: str
    choices:
      - pkcs11
      - eviden
    default: pkcs11
  tokens:
    description:
      - The tokens of this HSM, in order. An instance with an empty list gets no prefix and takes no number.
      - Required for O(state=present).
    type: list
    elements: dict
    suboptions:
      label:
        description:
          - Label of the token.
          - Exactly one of O(tokens[].label), O(tokens[].serial) and O(tokens[].slot) is required. Two tokens that
            answer to it are an error that lists them.
        type: str
      serial:
        description:
          - Serial number of the token, as the token gives it. It stays the same for the life of a token, so it tells
            two tokens with the same label apart.
        type: str
      slot:
        description:
          - Number of the slot that the token is in, decimal, or hexadecimal after V(0x). It is returned in decimal.
          - Some tokens move to another slot when they are initialised or when a device is added.
        type: str
      initialize:
        description:
          - Whether to create the token in a free slot when no token has this O(tokens[].label), and to set its user
            PIN.
          - Needs O(tokens[].label), O(tokens[].so_pin) or O(tokens[].so_pin_file), and a user PIN.
          - A token that is initialised already is never initialised again. One that has no user PIN yet gets it.
        type: bool
        default: false
      so_pin:
        description:
          - PIN of the security officer. Used where O(tokens[].initialize) or O(tokens[].new_pin) needs it, and kept
            nowhere.
          - At most one of O(tokens[].so_pin) and O(tokens[].so_pin_file) may be given.
        type: str
      so_pin_file:
        description:
          - Absolute path of a file on the target that holds the PIN of the security officer. The rules of
            O(tokens[].pin_file) hold.
        type: path
      pin:
        description:
          - The user PIN. Put it in quotes. YAML reads V(0123456) without them as the number 42798. A boolean is refused.
          - Alone, it is used in this task and kept nowhere, so that later tasks must be given it again.
          - With O(tokens[].pin_file) it is also written to that file. A file that holds something else is not overwritten, unless it is a
            PIN that this token has refused.
        type: str
      pin_file:
        description:
          - Absolute path of a file on the target that holds the user PIN. The registry keeps the path, and all
            modules read the PIN from there.
          - Alone, the file must exist. With O(tokens[].pin) or O(tokens[].new_pin), the file is made to hold that
            PIN, with mode V(0600).
          - A file that anyone but its owner may read or write is refused, and so is one that belongs neither to the
            user who runs the module nor to root. One newline at the end of the file is dropped, and nothing else.
        type: path
      new_pin:
        description:
          - The user PIN that shall be in force from now on. It replaces the one in O(tokens[].pin_file), on the token
            and in the file.
          - Needs O(tokens[].pin_file), which tells a later run that the change was made already.
          - When the PIN in force is locked or not known, O(tokens[].so_pin) or O(tokens[].so_pin_file) sets the new
            one as security officer.
          - When it is in force everywhere, put its value into O(tokens[].pin) and take O(tokens[].new_pin) away, in
            one edit.
        type: str
      login:
        description:
          - Whether to log in, V(true), V(false) or V(pinpad). Set it to V(false) for a token that needs no PIN.
          - With V(pinpad) a person types the user PIN at the device, which has to report a protected authentication
            path (CKF_PROTECTED_AUTHENTICATION_PATH). Every login of every task asks for it anew. No option may give a
            PIN then, nor create the token.
        type: raw
        choices:
          - true
          - false
          - pinpad
        default: true
      user_type:
        description:
          - Who logs in. With V(so) the PIN in O(tokens[].pin) or O(tokens[].pin_file) is the security officer's.
          - A security officer sees no private keys, so a token with keys to manage wants V(user).
        type: str
        choices:
          - user
          - so
        default: user
      shared:
        description:
          - That other hosts have this token, too. The playbook C(keyfleet.hsm.site) then visits these hosts one after the other. This
            module does not read it.
        type: bool
        default: false
"""
