# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleFilterError

DOCUMENTATION = r"""
name: site_findings
short_description: Say what is wrong with the declaration of a host
version_added: 0.1.0
author:
  - keyfleet.hsm contributors (@keyfleet)
description:
  - Looks at the variables of the playbook C(keyfleet.hsm.site) as a whole, before a host is touched. The playbook uses it.
  - Fields that nothing reads, groups and keys that name what is not declared, tokens without a PIN file, and variables whose
    names look like one of the collection's and are none. Values are not shown.
  - Files of requests and issued certificates on the controller are read.
positional: _input, names, host
options:
  _input:
    description:
      - The variables that are no role's, by name. Those that are not given count as not set.
    type: dict
    required: true
  names:
    description:
      - Names of all variables of the host that may be the collection's.
    type: list
    elements: str
    required: true
  host:
    description:
      - The name of the host, for its files in the folder of certificates.
    type: str
    default: ""
seealso:
  - plugin: keyfleet.hsm.variable_problems
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Show what is wrong, here that hsm_key is unknown
  ansible.builtin.debug:
    msg: "{{ found.problems }}"
  vars:
    found: "{{ {'hsm_instances': hsm_instances} | keyfleet.hsm.site_findings(['hsm_instances', 'hsm_key']) }}"
    hsm_instances:
      - name: primary
        model: softhsm2
        tokens: [{label: payments, pin_file: /etc/keyfleet/pins/payments}]
"""

RETURN = r"""
_value:
  description:
    - C(problems), one text for each. C(notes), what a person should know. C(declared), the names of all that shall be registered, as
      O(keyfleet.hsm.hsm_status#module:declared) takes it. C(keys), of each entry of keys C(instance), C(group), C(label), which may be a
      range, C(id), C(state), and C(max_age) and C(lead) in seconds. C(certificates), the calls of M(keyfleet.hsm.hsm_certificate).
  type: dict
  sample:
    problems: ["hsm_key: unknown variable, did you mean hsm_keys? If it is one of your own, list it in site_own_variables."]
    notes: []
    declared: {instances: [{name: primary, tokens: [{label: payments}]}], groups: []}
    keys: [{instance: primary, group: null, label: dek-1, id: null, state: present, max_age: 7776000, lead: null}]
    certificates: []
"""

_ROLES = Path(__file__).resolve().parents[2] / "roles"
_OPTION = re.compile(r"^      (\w+):(?: &\w+)?$", re.MULTILINE)  # of an argument spec, which all have this indentation
_REGISTERED = re.compile(r"^ +register: (\w+)$", re.MULTILINE)
_FACTS = re.compile(r"^( *)(?:- )?ansible\.builtin\.set_fact:\n((?:\1 {2,}.*\n)+)", re.MULTILINE)
_FACT = re.compile(r"^ +(\w+):", re.MULTILINE)


@functools.cache
def role_variables() -> tuple[frozenset[str], frozenset[str]]:
    """The options of all roles, and what their tasks note of a host, which is there when a play with a role came before."""
    known = {name for path in _ROLES.glob("*/meta/argument_specs.yml") for name in _OPTION.findall(path.read_text())}
    noted: set[str] = set()
    for path in _ROLES.glob("*/tasks/**/*.yml"):
        text = path.read_text()
        noted.update(_REGISTERED.findall(text))
        noted.update(name for _indent, facts in _FACTS.findall(text) for name in _FACT.findall(facts))
    return frozenset(known), frozenset(noted)


@functools.cache
def fields() -> dict[str, list[str]]:
    """What each list takes, by the place where it stands. What is not handed over would be ignored in silence, and a test compares these
    with the tasks."""
    # Here and not above: to find one filter Ansible loads them all, in the process of each task.
    from ansible_collections.keyfleet.hsm.plugins.module_utils._module import key_options, options, site_certificates

    return {
        "hsm_instances": [*options.INSTANCE, *options.DECLARED],
        "hsm_instances.tokens": list(options.TOKEN),
        "hsm_groups": [name for name in options.GROUP if name != "exclusive"],
        "hsm_groups.connections": list(options.GROUP["connections"]["options"]),
        "hsm_keys": [
            name for name in (*options.IN_GROUP, *options.CONNECTION, *key_options.KEYS) if name not in ("pin", "pin_file", "in_use")
        ],
        "hsm_keys.keys": list(key_options.KEYS["keys"]["options"]),
        site_certificates.VARIABLE: site_certificates.FIELDS,
    }


def site_findings(variables: Any, names: Any, host: str = "") -> dict[str, Any]:
    """Problems, notes, what is declared, and calls for certificates."""
    from ansible_collections.keyfleet.hsm.plugins.module_utils._model.site.declaration import Declaration
    from ansible_collections.keyfleet.hsm.plugins.module_utils._model.site.variables import SITE, variable_name_problems
    from ansible_collections.keyfleet.hsm.plugins.module_utils._module import site_certificates

    if not isinstance(variables, Mapping):
        raise AnsibleFilterError("keyfleet.hsm.site_findings: the input is not a mapping: give one by names of variables")
    if not isinstance(names, (list, tuple)):
        raise AnsibleFilterError("keyfleet.hsm.site_findings: names: not a list: give the names of variables")
    lists = ("hsm_instances", "hsm_groups", "hsm_keys", "hsm_certificates", "hsm_sync_refresh", "site_own_variables")
    declaration = Declaration({**dict.fromkeys(SITE), **{name: [] for name in lists}, **variables}, fields())
    certificates = site_certificates.Certificates(declaration, host)
    known, noted = role_variables()
    own = declaration.variables["site_own_variables"]
    patterns = [str(pattern) for pattern in own] if isinstance(own, (list, tuple)) else []
    unknown = variable_name_problems(map(str, names), {*SITE, *known}, noted, patterns)
    return {
        "problems": [*unknown, *declaration.problems(), *certificates.problems],
        "notes": list(declaration.notes()),
        "declared": declaration.declared(),
        "keys": declaration.keys(),
        "certificates": certificates.calls,
    }


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"site_findings": site_findings}
