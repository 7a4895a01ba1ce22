#!/usr/bin/python

# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: kms_config
short_description: Write the configuration of the Eviden KMS server from the declared HSMs
version_added: 0.1.0
author:
  - keyfleet.hsm contributors (@keyfleet)
description:
  - Writes the TOML file that the Eviden (formerly Cosmian) KMS server reads, with one C([[hsm_instances]]) for each
    declared HSM.
  - It runs on the target. The slot of each token is looked up in the HSM, and the PINs are read from their files
    there. No login is made, so no PIN is tried, and no PIN travels back.
  - Everything is checked before anything is written, and everything that is wrong is told at once. What the server
    would merge, ignore or drop in silence is refused - flat C(hsm_*) keys beside the array, unknown or misspelt names
    at the top level, an instance without tokens, a token without a PIN, a slot that is named twice, two libraries for
    one model, two values for one environment variable, a model that the server does not know. An empty O(instances)
    is allowed, gives a warning, and writes a file without HSMs.
  - An address that would change is refused too, whether the file that is there or the registry tells of it. See
    O(allow_renumber).
  - The file gets mode V(0400), and is replaced in one step. The service is not restarted.
extends_documentation_fragment:
  - keyfleet.hsm.attributes
  - keyfleet.hsm.attributes.pkcs11
  - keyfleet.hsm.registry
  - keyfleet.hsm.instances
attributes:
  check_mode:
    support: full
    details:
      - A token with O(instances[].tokens[].initialize=true) that does not exist yet, and a library that is not
        installed yet, give a warning and a placeholder in the diff, so that the first check of a bare host passes.
        Outside check mode both are errors.
  diff_mode:
    support: full
    details:
      - The diff shows the file as TOML without its comments. PINs, passwords and other secrets are shown as
        V((secret\)), and as V((secret, changed\)) where they change.
  idempotent:
    support: full
    details:
      - The file is compared by what it says, so comments and the order of its keys are no change. Its mode is
        compared as well.
requirements:
  - tomli-w on the target
  - tomli on the target (Python 3.10 only)
options:
  registry:
    description:
      - Absolute path of the registry on the target, which M(keyfleet.hsm.hsm_instance) creates.
      - The module works without one. Outside check mode it then warns, since nothing keeps the prefixes and the file
        in step with the registered instances.
      - Where there is one, it must give the instances the same prefixes. It records which of them the file names, so
        that M(keyfleet.hsm.hsm_instance) does not remove an instance that the server uses.
  settings:
    description:
      - Everything else that the file shall say, as the server names it - the keys and tables at the top level, with
        what is in them. Only the names at the top level are checked.
      - A value that is a secret is masked in the diff by its name, for example C(tls_p12_password), and so are the
        credentials in a URL. All values are kept out of logs.
    type: dict
    default: {}
  config_path:
    description:
      - Absolute path of the file. A folder that is missing is made with mode V(0700).
      - A file that is there and cannot be read or understood is never replaced.
    type: path
    default: /etc/cosmian/kms.toml
  allow_renumber:
    description:
      - Whether slots may move to another prefix, as they do when an earlier instance of the same model is removed or
        the order is changed. UIDs that the server has stored, or that other programs have, then point elsewhere.
      - With V(false) the module refuses to, and names the old and the new prefix.
    type: bool
    default: false
notes:
  - The server takes the libraries from its environment, for example E(SOFTHSM2_PKCS11_LIB), not from this file. RV(unit) has
    what its unit needs; the role P(keyfleet.hsm.kms#role) writes it there.
seealso:
  - module: keyfleet.hsm.hsm_instance
  - plugin: keyfleet.hsm.hsm_prefixes
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Register the HSMs, and create their tokens
  keyfleet.hsm.hsm_instance:
    name: primary
    model: softhsm2
    tokens:
      - label: payments
        initialize: true
        so_pin: "{{ vault_so_pin }}"
        pin: "{{ vault_pin }}"
        pin_file: /etc/keyfleet/pins/payments

- name: Configure the KMS server for them
  keyfleet.hsm.kms_config:
    instances:
      - name: primary
        model: softhsm2
        admins:
          - ops@example.com
        tokens:
          - label: payments
            pin_file: /etc/keyfleet/pins/payments
    settings:
      default_username: ops@example.com
      http:
        port: 9998
        hostname: 127.0.0.1
      db:
        database_type: sqlite
        sqlite_path: /var/lib/cosmian/kms
  register: kms

- name: Show what is addressed where
  ansible.builtin.debug:
    msg: "{{ kms.instances[0].prefix }} has slot {{ kms.instances[0].slots[0] }}"
"""

RETURN = r"""
config_path:
  description: Path of the file.
  returned: success
  type: str
  sample: /etc/cosmian/kms.toml
instances:
  description: What the file says of each instance, in its order. No PIN.
  returned: success
  type: list
  elements: dict
  sample:
    - {name: primary, prefix: "hsm::softhsm2", model: softhsm2, slots: [1044301586]}
  contains:
    name:
      description: Name of the instance.
      returned: success
      type: str
    prefix:
      description: Its routing prefix, for example V(hsm::softhsm2_1).
      returned: success
      type: str
    model:
      description: Its model, as the server spells it.
      returned: success
      type: str
    slots:
      description: Numbers of its slots. V(null) in check mode for a token that does not exist yet.
      returned: success
      type: list
      elements: int
unusable:
  description:
    - Keys that the server may not be able to use, because a public half or a certificate has their C(CKA_ID), with the
      C(instance), the C(label) and the C(id) of the key, and the C(object). A warning tells of them, too.
    - Seen without a login, so of private and secret keys only those count that the registry has recorded.
      O(keyfleet.hsm.hsm_sync#module:repair=layout) relabels what stands beside them.
  returned: success
  type: list
  elements: dict
  sample: []
differs:
  description: Whether the file, as this task found it, said something else or had another mode.
  returned: success
  type: bool
  sample: true
complete:
  description:
    - Whether everything that the file names is there. V(false) only in check mode, where a token, its library or its PIN
      file may be to come. A run would fail as long as it is not.
  returned: success
  type: bool
  sample: true
unit:
  description: What the systemd unit of the server has to give it, for this configuration to work.
  returned: success
  type: dict
  sample:
    environment: {SOFTHSM2_PKCS11_LIB: /usr/lib/softhsm/libsofthsm2.so}
    writable_paths: [/var/lib/softhsm/tokens]
  contains:
    environment:
      description: Variables - the library of each model, and O(instances[].environment).
      returned: success
      type: dict
    writable_paths:
      description:
        - Folders that the server writes and that its unit does not allow as it is shipped - SoftHSM2's token directory, and those that
          O(settings) name for the database, the workspace and the logs.
      returned: success
      type: list
      elements: str
failure:
  description: Why it failed, by its L(failure code,https://github.com/keyfleet/keyfleet.hsm/blob/main/docs/failure_codes.md).
  returned: failure
  type: dict
  sample: {code: renumbering, details: {}}
"""

from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.kms.kms_config import converge
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.kms.request import KmsConfigRequest
from ansible_collections.keyfleet.hsm.plugins.module_utils._module import options
from ansible_collections.keyfleet.hsm.plugins.module_utils._module.guarded import GuardedModule
from ansible_collections.keyfleet.hsm.plugins.module_utils._module.run import run


def main() -> None:
    spec = options.merge(options.REGISTRY, options.KMS)
    run(GuardedModule(argument_spec=spec, supports_check_mode=True), KmsConfigRequest.parse, converge, needs=("pkcs11", "tomli_w"))


if __name__ == "__main__":
    main()
