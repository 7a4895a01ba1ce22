#!/usr/bin/python

# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: hsm_registry
short_description: Report, save and restore the registry
version_added: 0.1.0
author:
  - keyfleet.hsm contributors (@keyfleet)
description:
  - Reports what the registry on the target holds, saves it as one file, and puts such a file back in its place.
  - A backup is what the registry held at one moment, whatever other tasks write meanwhile. It is checked before it is named and each
    time that it is read. It says whose it is, and that of another host is refused.
  - No HSM is asked, no PIN is used, and no key in an HSM is touched. The registry holds no PIN and no key, and neither does a backup.
  - The playbooks C(keyfleet.hsm.registry_backup) and C(keyfleet.hsm.registry_restore) fetch backups to the controller and bring them back.
extends_documentation_fragment:
  - keyfleet.hsm.attributes
  - keyfleet.hsm.registry
requirements:
  - python >= 3.10 on the target
attributes:
  check_mode:
    support: full
    details:
      - With O(state=restored), a backup that is not at O(path) is taken for one that an earlier task would bring.
  diff_mode:
    support: full
    details:
      - The diff counts the rows of each table and lists instances and groups. It does not show the rows.
  idempotent:
    support: partial
    details:
      - O(state=saved) compares by what is in the tables, so that one content gives one file. O(state=restored) is refused the second
        time, since there is a registry then.
options:
  state:
    description:
      - V(reported) reads the backup at O(path), or the registry where O(path) is not given. Neither has to be there.
      - V(saved) makes O(path) a backup of the registry, or of the backup at O(src).
      - V(restored) makes the backup at O(path) the registry. What stands in its notes of runs that were at work is left out.
      - V(absent) leaves no registry, so that one can be made anew.
    type: str
    choices:
      - reported
      - saved
      - restored
      - absent
    default: reported
  path:
    description:
      - Absolute path of the backup. It is written with the mode C(0600), in one step.
      - Required with O(state=saved) and O(state=restored).
      - A file that is not a backup, or that of another O(host), is never replaced.
    type: path
  src:
    description:
      - Absolute path of a backup that O(path) is made from, for example where it was fetched to.
    type: path
  host:
    description:
      - Whose backup it is. It is written into the file, and compared when the file is read.
      - Required with O(state=saved) and O(state=restored).
    type: str
  instances:
    description:
      - Names of the instances that are declared for the O(host). A backup that has none of them is refused. Single ones that only one
        side has are told in a warning.
    type: list
    elements: str
  over:
    description:
      - Whether O(state=restored) and O(state=absent) may let go of a registry that holds anything, or that cannot be read. It is never
        deleted, but renamed, see RV(set_aside).
    type: bool
    default: false
seealso:
  - module: keyfleet.hsm.hsm_instance
  - module: keyfleet.hsm.hsm_sync
"""

EXAMPLES = r"""
- name: Report what the registry holds
  keyfleet.hsm.hsm_registry:
  register: held

- name: Save it
  keyfleet.hsm.hsm_registry:
    state: saved
    path: /var/lib/keyfleet/saved/registry.db
    host: "{{ inventory_hostname }}"

- name: Report what was saved
  keyfleet.hsm.hsm_registry:
    path: /var/lib/keyfleet/saved/registry.db

- name: Put it back, in the place of the registry that is there
  keyfleet.hsm.hsm_registry:
    state: restored
    path: /var/lib/keyfleet/saved/registry.db
    host: "{{ inventory_hostname }}"
    over: true
"""

RETURN = r"""
registry:
  description: What the registry or the backup holds after this task. With O(state=restored) in check mode it may be what is there now.
  returned: success
  type: dict
  contains:
    exists:
      description: Whether it is there.
      returned: always
      type: bool
    digest:
      description: SHA-256 of all rows. A registry and its backup have the same.
      returned: always
      type: str
    schema:
      description: Version of the tables. Of a registry, the one that this release works with.
      returned: always
      type: int
    rows:
      description: Number of rows by table.
      returned: always
      type: dict
    instances:
      description: Names of the instances, in the order of registration.
      returned: always
      type: list
      elements: str
    groups:
      description: Names of the groups.
      returned: always
      type: list
      elements: str
    newest_event:
      description: When the latest event was recorded, which tells how old a backup is.
      returned: always
      type: str
    host:
      description: Whose backup it is. V(null) for a registry.
      returned: always
      type: str
  sample:
    exists: true
    digest: 4f0c2f0c0d4bb5b1b93a2e1d3d9d8a8f7c6b5a49382716050f1e2d3c4b5a6978
    schema: 7
    rows: {instance: 2, token: 2, virtual_key: 14}
    instances: [primary, standby]
    groups: [payments]
    newest_event: "2026-11-21T21:09:27Z"
    host: null
set_aside:
  description: Path that the registry was renamed to, with O(state=restored) and O(state=absent). V(null) where none was there, and in
    check mode.
  returned: success
  type: str
  sample: /var/lib/keyfleet/registry.db.replaced-20261121T211000Z
failure:
  description: Why it failed, by its L(failure code,https://github.com/keyfleet/keyfleet.hsm/blob/main/docs/failure_codes.md).
  returned: failure
  type: dict
  sample: {code: registry_in_place, details: {}}
"""

from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.hsm_registry import converge
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.registry_request import RegistryRequest
from ansible_collections.keyfleet.hsm.plugins.module_utils._module import options
from ansible_collections.keyfleet.hsm.plugins.module_utils._module.guarded import GuardedModule
from ansible_collections.keyfleet.hsm.plugins.module_utils._module.run import run


def main() -> None:
    spec = options.merge(options.REGISTRY, options.REGISTRY_FILE)
    run(GuardedModule(argument_spec=spec, supports_check_mode=True), RegistryRequest.parse, converge, needs=())


if __name__ == "__main__":
    main()
