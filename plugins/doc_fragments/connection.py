# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""The option group CONNECTION: which token a task means, and its PIN."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  instance:
    description:
      - Name of an instance that M(keyfleet.hsm.hsm_instance) has registered. Its library, its environment and its
        tokens are taken from the registry.
    type: str
  token_label:
    description:
      - Label of the token.
      - At most one of O(token_label), O(token_serial) and O(slot) may be given. None is needed when the instance has
        one token.
    type: str
  token_serial:
    description:
      - Serial number of the token, as the token gives it.
    type: str
  slot:
    description:
      - Number of the slot that the token is in, decimal, or hexadecimal after V(0x).
      - Some tokens move to another slot when they are initialised or when a device is added, so a label or a serial
        number is the safer choice.
    type: str
  pin:
    description:
      - The user PIN of the token. It is used in this task and kept nowhere.
      - Not needed for an instance whose token was registered with a PIN file.
      - At most one of O(pin) and O(pin_file) may be given.
    type: str
  pin_file:
    description:
      - Absolute path of a file on the target that holds the user PIN. One newline at its end is dropped, and nothing
        else.
      - A file that anyone but its owner may read or write is refused, and so is one that belongs neither to the user
        who runs the module nor to root.
    type: path
"""
