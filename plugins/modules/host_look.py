#!/usr/bin/python

# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: host_look
short_description: Ask a host in one task for what a role has to know before it begins
version_added: 0.1.0
author:
  - keyfleet.hsm contributors (@keyfleet)
description:
  - Answers with the state of files, packages, a service, files that were left over, and users. The roles of this collection compare the
    answer with what they would make, and leave out all further tasks when there is nothing to do.
  - Nothing is written, and no HSM is asked. What cannot be told is V(null), and is no error.
requirements:
  - python >= 3.9 on the target
attributes:
  action_group:
    support: none
    membership: []
    description: It has no option C(registry), so that C(group/keyfleet.hsm.hsm) does not include this module.
  check_mode:
    support: full
    details:
      - It only looks.
  diff_mode:
    support: none
    details:
      - Nothing is changed.
  idempotent:
    support: full
extends_documentation_fragment:
  - keyfleet.hsm.attributes
options:
  files:
    description:
      - Paths of files and folders. Links are not followed.
    type: list
    elements: path
    default: []
  packages:
    description:
      - Names of packages, asked of dpkg.
    type: list
    elements: str
    default: []
  archive:
    description:
      - A Debian package in a file on the host. Asked is whether this very package is installed.
    type: path
  units:
    description:
      - Units of systemd.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description:
          - Name of the unit. A service needs no C(.service).
        type: str
        required: true
      reads:
        description:
          - Files that its process reads when it starts. Asked is whether one was changed since then, and whether systemd has read the files
            of the unit itself since they changed.
        type: list
        elements: path
        default: []
  ports:
    description:
      - TCP ports at which somebody should listen.
    type: list
    elements: int
    default: []
  host:
    description:
      - Name or address with these ports, as the host itself reaches it.
    type: str
    default: 127.0.0.1
  health_url:
    description:
      - An address that answers for a service's health. No proxy is asked, and no redirect followed.
    type: str
  find:
    description:
      - Files that should not be there.
    type: list
    elements: dict
    default: []
    suboptions:
      folder:
        description:
          - The folder that holds them. Folders in it are not searched.
        type: path
        required: true
      pattern:
        description:
          - A regular expression for the whole name.
        type: str
        required: true
      age:
        description:
          - Only files that are at least so many seconds old.
        type: int
        default: 0
  users:
    description:
      - Names of users, asked for their groups.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Look at a service and its file
  keyfleet.hsm.host_look:
    files:
      - /etc/cosmian/kms.toml
    units:
      - name: cosmian_kms
    ports:
      - 9998
  register: looked

- name: Show what differs from a service that runs with a file of root's alone
  ansible.builtin.debug:
    msg: "{{ looked.units.cosmian_kms }} {{ looked.files['/etc/cosmian/kms.toml'] }}"
"""

RETURN = r"""
files:
  description:
    - By path what is there, V(file) with owner, group, mode and SHA-256, V(directory) or V(other) with owner, group and mode, or V(absent).
  returned: success
  type: dict
  sample: {/etc/cosmian: "directory root:root 0755", /etc/cosmian/kms.toml: absent}
packages:
  description:
    - Of O(packages) those that are installed, by name, with what dpkg is to do with them, version and architecture. V(null) without dpkg.
  returned: success
  type: dict
  sample: {softhsm2: "install 2.6.1-2.1 amd64"}
archive:
  description:
    - What dpkg is to do with the package in O(archive), V(install) or V(hold), where it is installed in that version and architecture.
  returned: success
  type: str
  sample: hold
units:
  description:
    - By name LoadState, ActiveState and UnitFileState, as systemd has them. V(null) without systemd.
    - With O(units[].reads) also C(stale), whether a file is younger than the process, or the unit than what systemd has in memory.
      V(null) where that cannot be told.
  returned: success
  type: dict
  sample: {cosmian_kms: {load: loaded, active: active, enabled: enabled}}
listening:
  description:
    - Those of O(ports) that take a connection.
  returned: success
  type: list
  elements: int
  sample: [9998]
health:
  description:
    - The HTTP status of O(health_url). V(null) without an answer.
  returned: success
  type: int
  sample: 204
found:
  description:
    - For each entry of O(find) the paths that were found.
  returned: success
  type: list
  elements: list
  sample: [[]]
users:
  description:
    - By name the groups of each user, V(null) for one that is not there.
  returned: success
  type: dict
  sample: {cosmian: [cosmian, softhsm]}
failure:
  description: Why it failed, by its L(failure code,https://github.com/keyfleet/keyfleet.hsm/blob/main/docs/failure_codes.md).
  returned: failure
  type: dict
  sample: {code: invalid_input, details: {}}
"""

from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.host_look import look
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.host_request import HostRequest
from ansible_collections.keyfleet.hsm.plugins.module_utils._module import options
from ansible_collections.keyfleet.hsm.plugins.module_utils._module.guarded import GuardedModule
from ansible_collections.keyfleet.hsm.plugins.module_utils._module.run import run


def main() -> None:
    run(GuardedModule(argument_spec=options.HOST_LOOK, supports_check_mode=True), HostRequest.parse, look, needs=())


if __name__ == "__main__":
    main()
