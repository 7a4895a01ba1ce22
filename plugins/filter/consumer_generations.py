# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from ansible.errors import AnsibleFilterError

DOCUMENTATION = r"""
name: consumer_generations
short_description: Which generation of its key each service uses, by the certificates
version_added: 0.1.0
author:
  - keyfleet.hsm contributors (@keyfleet)
description:
  - Works out for the role P(keyfleet.hsm.client#role) which key each certificate is of, where C(client_consumers) has
    C(generation=current).
positional: _input
options:
  _input:
    description:
      - The C(consumers) of P(keyfleet.hsm.consumer_plan#filter).
    type: list
    elements: dict
    required: true
  looks:
    description:
      - Answers of M(keyfleet.hsm.hsm_info), in whose C(item) is one of C(proofs) of P(keyfleet.hsm.consumer_plan#filter).
    type: list
    elements: dict
    required: true
  fingerprints:
    description:
      - SHA-256 of the public keys in DER of the certificates, by the files of these.
    type: dict
    required: true
  texts:
    description:
      - What an earlier run has written for the services, by path. It counts in a preview, where nobody knows better.
    type: dict
    default: {}
  preview:
    description:
      - Whether the answers are those of check mode, which tries no PIN. What they leave open is then C(unseen), and a problem otherwise.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Show which generation of its key nginx is to use
  ansible.builtin.debug:
    msg: "{{ consumers | keyfleet.hsm.consumer_generations(looks=looks, fingerprints={'/srv/web.pem': '0f2a'}) }}"
  vars:
    consumers: [{name: web, keys: [{name: tls, follows: web-tls, certificate: /srv/web.pem}]}]
    looks:
      - item: {names: [web]}
        login: true
        left_off: []
        objects: [{class: public, label: web-tls@2, fingerprint: 0f2a, code: null}]
"""

RETURN = r"""
_value:
  description:
    - C(current), labels by the names of the service and the key. C(unseen), the keys of which a preview cannot tell.
    - C(problems), one text for each.
  type: dict
  sample: {current: {web: {tls: web-tls@2}}, unseen: [], problems: []}
"""


def consumer_generations(consumers: Any, looks: Any, fingerprints: Any, texts: Any = None, preview: bool = False) -> dict[str, Any]:
    """Labels, and what is wrong."""
    # Here and not above: to find one filter Ansible loads them all, in the process of each task.
    from ansible_collections.keyfleet.hsm.plugins.module_utils._model.consumer_generations import follow

    if not all(isinstance(given, (list, tuple)) for given in (consumers, looks)) or not isinstance(fingerprints, Mapping):
        raise AnsibleFilterError("keyfleet.hsm.consumer_generations: give the consumers of consumer_plan, a list of looks, and a mapping")
    prints = {str(path): str(value) for path, value in fingerprints.items()}
    return asdict(follow(consumers, looks, prints, texts or {}, preview=bool(preview)))


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"consumer_generations": consumer_generations}
