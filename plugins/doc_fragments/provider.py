# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""The option group PROVIDER: a token that no registry knows, and what it changes about the options of a registered one.

It stands before the fragments ``registry`` and ``connection``: of two descriptions the first counts.
"""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  registry:
    description:
      - Absolute path of the registry on the target, the SQLite file that holds instances and virtual keys, and no
        secret. M(keyfleet.hsm.hsm_instance) creates it. Outside check mode this module fails when it is missing.
      - Not used together with O(library).
  token_label:
    description:
      - Label of the token.
      - At most one of O(token_label), O(token_serial) and O(slot) may be given. Exactly one is required together with
        O(library), and together with an O(instance) that has several tokens.
  pin:
    description:
      - The user PIN of the token. It is used in this task and kept nowhere.
      - Not needed for tokens that were registered with a PIN file.
      - At most one of O(pin) and O(pin_file) may be given. One of them is required together with O(library).
  library:
    description:
      - Absolute path of a PKCS#11 library on the target. With it the task reaches a token that no registry knows.
        Nothing is recorded, and keys have no UID.
    type: path
  environment:
    description:
      - Environment variables that are set before the O(library) is loaded.
      - Refused without O(library), since registered instances have environments of their own.
    type: dict
  init_args:
    description:
      - One line of text that the O(library) takes with C_Initialize, as NSS does. It is logged, so it is no place for a
        secret.
      - Refused without O(library).
    type: str
  os_locking:
    description:
      - Whether C_Initialize says that the O(library) may use the locks of the operating system.
      - Refused without O(library).
    type: bool
"""
