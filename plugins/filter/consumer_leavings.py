# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from ansible.errors import AnsibleFilterError

DOCUMENTATION = r"""
name: consumer_leavings
short_description: What was made for services that are not declared any more
version_added: 0.1.0
author:
  - keyfleet.hsm contributors (@keyfleet)
description:
  - Works out for the role P(keyfleet.hsm.client#role) which files and units it has made on a host for C(client_consumers) of an earlier run
    and needs no more.
  - It names nothing that the role has not made. It looks at no host.
positional: _input
options:
  _input:
    description:
      - The services that are declared, C(consumers) of what P(keyfleet.hsm.consumer_plan#filter) returns.
    type: list
    elements: dict
    required: true
  paths:
    description:
      - The files below C(/etc/keyfleet-consumers).
    type: list
    elements: str
    required: true
  texts:
    description:
      - What the files C(settings) and C(keys) there hold, by their paths.
    type: dict
    required: true
seealso:
  - plugin: keyfleet.hsm.consumer_plan
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Show what goes
  ansible.builtin.debug:
    msg: "{{ [] | keyfleet.hsm.consumer_leavings(paths=[path], texts={path: text}) }}"
  vars:
    path: /etc/keyfleet-consumers/bao/settings
    text: |
      # Written by the role keyfleet.hsm.client. A change by hand is undone by the next run.
      KIND=openbao
      SERVICE=openbao
"""

RETURN = r"""
_value:
  description:
    - C(names) of the services, C(units) to stop, C(parts) and C(files) to remove, and C(folders) to remove where they are empty then.
    - C(included) are files that the configuration of nginx must not name any more, C(nginx) and C(sshd) the services that read theirs anew,
      and C(last) says whether no service is left.
    - C(problems), one text for each.
  type: dict
  sample:
    names: [bao]
    units: []
    parts:
      - /etc/systemd/system/openbao.service.d/keyfleet-consumer.conf
      - /run/keyfleet-consumers/bao
      - /var/lib/keyfleet-consumers/bao.failures
      - /var/lib/keyfleet-consumers/bao.halt
      - /var/lib/keyfleet-consumers/bao.proved
      - /var/lib/keyfleet-consumers/bao.uses
    files: [/etc/keyfleet-consumers/bao/settings]
    folders: [/etc/systemd/system/openbao.service.d, /etc/keyfleet-consumers/bao]
    included: []
    nginx: []
    sshd: []
    last: true
    problems: []
"""


def consumer_leavings(consumers: Any, paths: Any, texts: Any) -> dict[str, Any]:
    """What goes, as lists of names and paths."""
    # Here and not above: to find one filter Ansible loads them all, in the process of each task.
    from ansible_collections.keyfleet.hsm.plugins.module_utils._model.consumer_leavings import leavings

    if not isinstance(consumers, (list, tuple)) or not isinstance(texts, Mapping):
        raise AnsibleFilterError("keyfleet.hsm.consumer_leavings: give the consumers of consumer_plan, and texts as a mapping")
    return asdict(leavings([str(path) for path in paths], {str(path): str(text) for path, text in texts.items()}, consumers))


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"consumer_leavings": consumer_leavings}
