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
      - It also stops at a PIN file that the token refused before, as long as the file has not been written since. That is
        for tokens that do not flag a wrong PIN.
      - A PIN that is locked is never tried, whatever this option says.
    type: bool
    default: false
notes:
  - The token's flags are read before a login. A PIN that the token refuses is tried once. The registry remembers the
    state of its file, so no later task tries it again. Check mode logs in as well.
  - No PIN is ever returned, logged, put into a diff or given on a command line.
"""
