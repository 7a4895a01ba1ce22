# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""The option group IN_GROUP: a group of tokens in place of one."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  group:
    description:
      - Name of a group that M(keyfleet.hsm.hsm_group) has made. The first of its connections by priority that can be
        reached serves the task, see RV(served_by). Those before it are told in warnings.
      - A connection is passed over when its library cannot be loaded, its token is not there, or the device fails while
        it is opened and read. A PIN that is refused and a token that was exchanged or is not initialised end the task.
      - O(token_label), O(token_serial) and O(slot) are refused together with it. So are O(pin) and O(pin_file) where the
        group has several connections, because one PIN is not tried on all.
    type: str
"""
