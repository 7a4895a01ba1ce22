# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""The option ``instances``: a list of what the option group INSTANCE describes, as ``hsm_instances`` holds it.

It has words of its own, because a list entry sets nothing up. A test holds its options to those of the fragment ``instance``.
"""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  instances:
    description:
      - The HSMs in the order that their prefixes count, each as M(keyfleet.hsm.hsm_instance) takes it. The variable
        C(hsm_instances) fits.
      - What only M(keyfleet.hsm.hsm_instance) uses is taken and has no effect.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description:
          - Name of the instance, the same as in the registry. Letters, digits, C(.), C(_) and C(-), beginning with a
            letter or digit.
        type: str
        required: true
      description:
        description:
          - Free text. No effect here.
        type: str
        default: ""
      model:
        description:
          - What kind of HSM it is, in any case. It gives the routing prefix, C(hsm::<model>) for the first instance
            of a model and C(hsm::<model>_1), C(hsm::<model>_2) for those after it in the list.
          - The server knows V(softhsm2), V(utimaco), V(proteccio), V(crypt2pay), V(smartcardhsm) and V(other). An HSM
            of another kind is served as V(other), with its O(instances[].library).
          - Required.
        type: str
      library:
        description:
          - Absolute path of the vendor's PKCS#11 library on the target, in which the slots are looked up.
          - By default the first of the places where the packages of the O(instances[].model) put it.
          - All instances of one model must have the same.
        type: path
      admins:
        description:
          - Who may administer the keys of this instance on the server. It becomes C(hsm_admin) in the file.
          - V(*) means everyone, and an empty list means nobody. Both give a warning.
        type: list
        elements: str
        default: []
      max_sessions:
        description:
          - No effect here.
        type: int
        default: 1024
      connection_timeout:
        description:
          - How many seconds to wait for a library that another task uses. V(0) means without limit.
        type: int
        default: 0
      environment:
        description:
          - Environment variables that the vendor's library reads. They are set while the slots are looked up, and are
            not written into the file.
          - The server is one process, so two values for one variable are refused. Give the server the same
            environment.
        type: dict
        default: {}
      init_args:
        description:
          - One line of text that the library takes with C_Initialize. It is used while the slots are looked up, and is
            not written into the file.
        type: str
        default: ""
      os_locking:
        description:
          - Whether C_Initialize says that the library may use the locks of the operating system. The same holds for it.
        type: bool
        default: false
      layout:
        description:
          - For whom keys are laid out. No effect on the file.
        type: str
        choices:
          - pkcs11
          - eviden
        default: pkcs11
      tokens:
        description:
          - The tokens of this HSM, in order. At least one is required.
        type: list
        elements: dict
        suboptions:
          label:
            description:
              - Label of the token.
              - Exactly one of O(instances[].tokens[].label), O(instances[].tokens[].serial) and
                O(instances[].tokens[].slot) is required. Two tokens that answer to it are an error that lists them.
            type: str
          serial:
            description:
              - Serial number of the token, as the token gives it.
            type: str
          slot:
            description:
              - Number of the slot that the token is in, decimal, or hexadecimal after V(0x).
            type: str
          initialize:
            description:
              - Nothing is created here. With V(true), a token that does not exist yet is no error in check mode.
              - M(keyfleet.hsm.hsm_instance) creates it, and its rules for the other options hold here as well.
            type: bool
            default: false
          so_pin:
            description:
              - No effect here.
            type: str
          so_pin_file:
            description:
              - No effect here. The file is not read.
            type: path
          pin:
            description:
              - The user PIN, in quotes. It becomes one of C(hsm_password) in the file. No PIN file is written.
              - O(instances[].tokens[].new_pin) comes before it, and it comes before O(instances[].tokens[].pin_file).
              - Without O(instances[].tokens[].new_pin), it is refused with the code V(pin_differs) when
                O(instances[].tokens[].pin_file) holds another PIN. No login is made that could tell which is right.
            type: str
          pin_file:
            description:
              - Absolute path of a file on the target that holds the user PIN.
              - Its rules are those of M(keyfleet.hsm.hsm_instance). Nobody but the owner may read or write it.
              - It need not exist beside O(instances[].tokens[].pin), nor in check mode.
            type: path
          new_pin:
            description:
              - The user PIN that M(keyfleet.hsm.hsm_instance) puts in force. Nothing is changed on the token here.
              - It becomes the PIN in the file. Outside check mode O(instances[].tokens[].pin_file) must hold it
                already, which it does after the change.
            type: str
          login:
            description:
              - Whether the server logs in. Set it to V(false) for a token that needs no PIN.
              - V(pinpad) is refused, because nobody is there to type the PIN when the server logs in.
            type: raw
            choices:
              - true
              - false
              - pinpad
            default: true
          user_type:
            description:
              - V(so) is refused, because the server logs in as user.
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
      allow_renumber:
        description:
          - The same as O(allow_renumber), said with the instance for whose sake prefixes move.
        type: bool
        default: false
      force:
        description:
          - Whether an instance with O(instances[].state=absent) may leave the file while virtual keys refer to it. It does
            not leave while a group has a connection to it.
        type: bool
        default: false
      state:
        description:
          - V(absent) leaves the instance out of the file. Beside it only O(instances[].name), O(instances[].force) and
            O(instances[].allow_renumber) count.
          - An instance that is not in the list at all is left out too, where nothing refers to it. Where a group or a
            virtual key does, the module refuses.
        type: str
        choices:
          - present
          - absent
        default: present
"""
