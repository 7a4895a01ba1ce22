# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""The option group PIN_SAFETY, and what every module that logs in does to keep a PIN from being locked."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  allow_low_pin_count:
    description:
      - Whether to log in although the token says that a wrong PIN was tried since the last good login.
      - Tokens lock a PIN after a few wrong tries. Their flags tell when one was wrong (C(CKF_USER_PIN_COUNT_LOW)) and
        when only one is left (C(CKF_USER_PIN_FINAL_TRY)). With V(false) the module stops at either flag, before any
        login.
      - Find out first which PIN is right, and which program tried another. Then run once with V(true). A good login
        clears the flags.
      - A PIN that is locked is never tried, whatever this option says.
    type: bool
    default: false
notes:
  - The token's flags are read before a login. A PIN that the token refuses is tried once, and not again by the same
    task.
  - Check mode logs in as well, because a token shows its private keys only to who is logged in. A wrong PIN costs one
    of the token's tries then too.
  - While a task works on a token it holds a lock for it on the target, so that tasks and plays that run at the same
    time wait for each other instead of disturbing each other's login.
  - No PIN is ever returned, logged, put into a diff or given on a command line. Ansible itself, though, prints the
    items of a loop, and from C(-v) on it does so in spite of C(loop_control.label). Loop over the names of instances,
    and never over dictionaries with PINs in them.
"""
