# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""The option group REGISTRY."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  registry:
    description:
      - Absolute path of the registry on the target, the SQLite file that holds instances and virtual keys, and no
        secret.
      - M(keyfleet.hsm.hsm_instance) creates it. Outside check mode this module fails when it is missing.
      - Two registries know nothing of each other. Use one for each host.
    type: path
    default: /var/lib/keyfleet/registry.db
  option_names:
    description:
      - What messages call the options of this task, for a play whose users fill variables and not options. Each option with the
        variable that it comes from, for example C(repair=hsm_sync_repair).
      - The option V(*) stands for each other one, and V(*) in its variable for the name. C(*=hsm_instances[2].*) makes
        C(tokens[0].pin_file) C(hsm_instances[2].tokens[0].pin_file).
    type: dict
"""
