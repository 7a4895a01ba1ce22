#!/usr/bin/python
# -*- coding: utf-8 -*-

# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.sync import converge
from ansible_collections.keyfleet.hsm.plugins.module_utils._module import options
from ansible_collections.keyfleet.hsm.plugins.module_utils._module.run import run


def main() -> None:
    spec = options.merge(options.REGISTRY, options.CONNECTION, options.PIN_SAFETY)
    spec["instance"] = {**spec["instance"], "required": True}
    run(AnsibleModule(argument_spec=spec, supports_check_mode=True), converge)


if __name__ == "__main__":
    main()
