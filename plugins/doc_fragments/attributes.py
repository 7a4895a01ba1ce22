# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""What Ansible can count on, for all modules; each says in its own documentation how far."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options: {}
attributes:
  action_group:
    description: Use C(group/keyfleet.hsm.hsm) in C(module_defaults) to set defaults for this module.
    support: full
    membership:
      - keyfleet.hsm.hsm
  check_mode:
    description: Can run in C(check_mode) and return changed status prediction without modifying target.
  diff_mode:
    description: Returns details on what has changed (or possibly needs changing in C(check_mode)), when in diff mode.
  idempotent:
    description:
      - When run twice in a row outside check mode, with the same arguments, the second invocation indicates no
        change.
      - This assumes that the system controlled or queried by the module has not changed in a relevant way.
  platform:
    description: Target OS or families that can be operated against.
    support: full
    platforms: posix
"""

    # For the modules that talk to a token.
    PKCS11 = r"""
options: {}
requirements:
  - python >= 3.10 on the target
  - python-pkcs11 >= 0.10 on the target
notes:
  - An interpreter without the Python libraries is no obstacle. The module then looks for them in
    C(/opt/keyfleet/venv/bin/python), C(/usr/bin/python3) and C(/usr/local/bin/python3).
"""
