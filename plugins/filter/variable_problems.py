# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

DOCUMENTATION = r"""
name: variable_problems
short_description: Say what is wrong with variables of a role
version_added: 0.1.0
author:
  - keyfleet.hsm contributors (@keyfleet)
description:
  - Looks at variables that a role writes into configuration files. Their types are checked as well, since Ansible
    checks a role's variables by converting them, and hands on what was given.
positional: _input, kinds
options:
  _input:
    description:
      - The variables, by name.
    type: dict
    required: true
  kinds:
    description:
      - What each of them has to be, by name - V(text), V(optional) (a text or nothing), V(path), V(paths), V(unit), V(list)
        (of texts), V(devices) (as systemd's C(DeviceAllow) takes them), V(account) and V(accounts)
        (names of users and groups), V(environment), V(softhsm_path) or V(softhsm_settings).
    type: dict
    required: true
seealso:
  - plugin: keyfleet.hsm.config_word
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Refuse what cannot be given to a unit
  ansible.builtin.assert:
    that: problems | length == 0
    fail_msg: "{{ problems | join(' ') }}"
  vars:
    problems: >-
      {{ {'example_service': 'example', 'example_paths': ['/srv']}
        | keyfleet.hsm.variable_problems({'example_service': 'unit', 'example_paths': 'paths'}) }}
"""

RETURN = r"""
_value:
  description: One text for each problem, with the variable, what is wrong and what to do. Empty where nothing is.
  type: list
  elements: str
  sample:
    - "service_writable_paths: var/lib: give absolute paths."
"""


def variable_problems(variables: Any, kinds: Any) -> list[str]:
    """All problems, each as one text."""
    # Here and not above: to find one filter Ansible loads them all, in the process of each task.
    from ansible_collections.keyfleet.hsm.plugins.module_utils._model import variable_rules

    for name, value in (("input", variables), ("kinds", kinds)):
        if not isinstance(value, Mapping):
            raise AnsibleFilterError(f"keyfleet.hsm.variable_problems: {name}: is no mapping: give one by names of variables")
    for name in variables:
        if kinds.get(name) not in variable_rules.KINDS:
            raise AnsibleFilterError(f"keyfleet.hsm.variable_problems: kinds: {name}: use one of {', '.join(variable_rules.KINDS)}")
    return variable_rules.variable_problems(variables, kinds)


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"variable_problems": variable_problems}
