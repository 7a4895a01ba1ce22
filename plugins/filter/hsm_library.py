# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError

DOCUMENTATION = r"""
name: hsm_library
short_description: Where the PKCS#11 library of an HSM may be
version_added: 0.1.0
author:
  - keyfleet.hsm contributors (@keyfleet)
description:
  - Gives the paths where the packages of an HSM's vendor, or the distribution, put the PKCS#11 library. The first of
    them that exists on the target is the one that the modules take by default.
  - It looks at no host. Which of the paths exists is for a task on the target to say.
positional: _input
options:
  _input:
    description:
      - The model, as in C(hsm_instances). Upper and lower case do not count.
    type: str
    required: true
  architecture:
    description:
      - The architecture of the target, as C(ansible_facts.architecture) has it. Some paths depend on it.
    type: str
    required: true
seealso:
  - module: keyfleet.hsm.hsm_instance
"""

EXAMPLES = r"""
- name: Look which of the paths exist on the target
  ansible.builtin.stat:
    path: "{{ item }}"
  loop: "{{ 'luna' | keyfleet.hsm.hsm_library(architecture=ansible_facts.architecture) }}"
  register: libraries

- name: Show the library that is there
  ansible.builtin.debug:
    msg: "{{ libraries.results | selectattr('stat.exists') | map(attribute='item') | first | default('none') }}"
"""

RETURN = r"""
_value:
  description: Absolute paths, best first. An empty list for a model that has no default.
  type: list
  elements: str
  sample:
    - /usr/safenet/lunaclient/lib/libCryptoki2_64.so
"""


def hsm_library(model: Any, architecture: Any) -> list[str]:
    """Candidate paths of the library of ``model`` on a machine of that architecture."""
    # Here and not above: to find one filter Ansible loads them all, in the process of each task.
    from ansible_collections.keyfleet.hsm.plugins.module_utils._model.tokens.vendors import default_libraries
    from ansible_collections.keyfleet.hsm.plugins.module_utils._model.uids import model_problem

    problems = []
    for what, value in (("the model", model), ("architecture", architecture)):
        if not isinstance(value, str) or not value:
            problems.append(f"{what}: is a {type(value).__name__}: give a text" if value != "" else f"{what}: is empty: give a text")
    if not problems and (problem := model_problem(model)):
        problems.append(f"the model: {problem}")
    if problems:
        raise AnsibleFilterError("keyfleet.hsm.hsm_library: " + "; ".join(problems))
    return list(default_libraries(str(model), str(architecture)))


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"hsm_library": hsm_library}
