# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

DOCUMENTATION = r"""
name: to_toml
short_description: Write a mapping as TOML
version_added: 0.1.0
author:
  - keyfleet.hsm contributors (@keyfleet)
description:
  - Writes a mapping as TOML text, keys in the order of the mapping. Keys with values come before tables, as TOML
    wants it.
  - The same mapping gives the same bytes, and the text ends with a newline.
  - TOML has no word for "no value", so V(null) is refused, and the error names its place.
notes:
  - Do not write PINs with it, since what a filter gives passes through the controller and the task's output. The module
    M(keyfleet.hsm.kms_config) keeps them on the target.
requirements:
  - tomli-w on the controller
positional: _input
options:
  _input:
    description:
      - The mapping. It may hold text, numbers, booleans, dates, lists and mappings.
    type: dict
    required: true
seealso:
  - module: keyfleet.hsm.kms_config
"""

EXAMPLES = r"""
- name: Write a configuration file as TOML
  ansible.builtin.copy:
    content: "{{ service_settings | keyfleet.hsm.to_toml }}"
    dest: /tmp/service.toml
    mode: "0644"
  vars:
    service_settings:
      name: gateway
      http:
        port: 8080
        hosts: [localhost]
"""

RETURN = r"""
_value:
  description: The TOML text.
  type: str
  sample: |
    name = "gateway"

    [http]
    port = 8080
"""


def to_toml(value: Any) -> str:
    """TOML text of a mapping."""
    # Here and not above: to find one filter Ansible loads them all, in the process of each task.
    from ansible_collections.keyfleet.hsm.plugins.module_utils._model.toml_values import plain

    try:
        import tomli_w
    except ImportError as error:
        raise AnsibleFilterError(
            "keyfleet.hsm.to_toml: needs the Python library tomli_w on the controller, in the Python that runs Ansible: pip install tomli-w"
        ) from error
    if not isinstance(value, Mapping):
        raise AnsibleFilterError(f"keyfleet.hsm.to_toml: the input is a {type(value).__name__}: a TOML document is a mapping, give one")
    document, problems = plain(value, "input")
    if problems:
        raise AnsibleFilterError("keyfleet.hsm.to_toml: " + "; ".join(problems))
    text = str(tomli_w.dumps(document))
    return text if text.endswith("\n") else f"{text}\n"


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"to_toml": to_toml}
