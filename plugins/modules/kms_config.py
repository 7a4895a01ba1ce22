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
    there. No PIN travels back.
  - A PIN is proven before it is written, by one login with exactly what the server will get, and so it is in check mode.
    The server itself logs in anew on every request as long as a PIN is wrong, which locks a token within seconds. This
    is the last that is checked - whatever else is refused costs no PIN attempt.
  - Everything is checked before anything is written, and everything that is wrong is told at once. What the server
    would merge, ignore or drop in silence is refused - flat C(hsm_*) keys beside the array, unknown or misspelt names
    at the top level, an instance without tokens, a token without a PIN, a slot that is named twice, two libraries for
    one model, two values for one environment variable, a model that the server does not know, a C(key_encryption_key)
    that no token has, or has twice, or that does not permit encrypt and decrypt. An empty O(instances) is allowed, gives
    a warning, and writes a file without HSMs.
  - Keys that the server refuses (EC, and AES of 192 bits before version 5.28), and admins that nobody can be by O(settings),
    give a warning.
  - An address that would change is refused too, whether the file that is there or the registry tells of it. See
    O(allow_renumber).
  - A token that the file serves does not leave it while a group has a connection to it, or virtual keys refer to it. Those are
    the keys whose UIDs are stored. See O(instances[].state).
  - The file gets mode V(0400), and is replaced in one step. The service is not restarted.
extends_documentation_fragment:
  - keyfleet.hsm.attributes
  - keyfleet.hsm.attributes.pkcs11
  - keyfleet.hsm.registry
  - keyfleet.hsm.instances
  - keyfleet.hsm.pin_safety
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
        what is in them. Only the names at the top level are checked. See O(server_path).
      - A value that is a secret is masked in the diff by its name, for example C(tls_p12_password), and so are the
        credentials in a URL. All values are kept out of logs.
    type: dict
    default: {}
  server_path:
    description:
      - Absolute path of the server's program. Where it is there, it is asked which names it knows at the top level
        (C(--print-default-config)). A table that it does not know is refused, though other versions may.
      - Without it, as before the first installation, the names of version 5.28 count. Give V(/dev/null) before an upgrade.
    type: path
    default: /usr/sbin/cosmian_kms
  settings_unchecked:
    description:
      - Names in O(settings) that are let through, with a warning, whether the server is known to know them or not.
    type: list
    elements: str
    default: []
  config_path:
    description:
      - Absolute path of the file. A folder that is missing is made with mode V(0700).
      - A file that is there and cannot be read or understood is never replaced.
    type: path
    default: /etc/cosmian/kms.toml
  state:
    description:
      - V(present) writes the file.
      - V(probed) writes nothing. It opens each token with the PIN that the file has for its slot, has it do something once, and
        returns RV(probed). Only a PIN that is declared for the token is tried.
    type: str
    choices: [present, probed]
    default: present
  packaged_unit:
    description:
      - Whether the server runs in the unit of its package. Then what that unit cannot do is refused - to reach paths below C(/root) and
        C(/home), to write files of SoftHSM2's tokens that are not root's or that root's group may not write, to look up a
        C(secret://) without E(KMS_SECRET_BACKEND) in O(environment).
    type: bool
    default: true
  environment:
    description:
      - Variables that the server gets beside those in RV(unit).
    type: dict
    default: {}
  proven:
    description:
      - RV(proven) of an earlier task of the same run, such as one in check mode. A token is not opened again for a PIN that was proven
        there, as long as its PIN file has not been written since.
    type: list
    elements: str
    default: []
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
probed:
  description: What the tokens answered to the PINs in the file. One entry for each prefix that the file gives.
  returned: success, with O(state=probed)
  type: list
  elements: dict
  sample:
    - prefix: "hsm::softhsm2"
      model: softhsm2
      slots: [{slot_id: 1044301586, accessible: true, login: true, label: payments, error: null, code: null}]
  contains:
    prefix:
      description: The routing prefix.
      returned: success, with O(state=probed)
      type: str
    model:
      description: The model.
      returned: success, with O(state=probed)
      type: str
    slots:
      description: The slots of the file, each as M(keyfleet.hsm.hsm_status) returns it.
      returned: success, with O(state=probed)
      type: list
      elements: dict
proven:
  description: One text for each token whose PIN was proven. It has the state of the PIN file, and nothing of the PIN.
  returned: success, with O(state=present)
  type: list
  elements: str
  sample: ["/usr/lib/softhsm/libsofthsm2.so slot 1044301586 serial 7e3efabe3e3ee252: 2049:131090:1764412800000000000:7"]
instances:
  description: What the file says of each instance, in its order. No PIN.
  returned: success, with O(state=present)
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
sharing:
  description:
    - Keys that the server may not be able to use, because a public half or a certificate has their C(CKA_ID), with the
      C(instance), the C(label) and the C(id) of the key, and the C(object). A warning tells of them, too.
    - Of the tokens that were opened, so without those that O(proven) names.
      O(keyfleet.hsm.hsm_sync#module:repair=layout) relabels what stands beside the keys.
  returned: success, with O(state=present)
  type: list
  elements: dict
  sample: []
differs:
  description: Whether the file, as this task found it, said something else or had another mode.
  returned: success, with O(state=present)
  type: bool
  sample: true
recorded:
  description: Whether the registry knew which instances the file names, as this task found it.
  returned: success, with O(state=present)
  type: bool
  sample: true
opened:
  description: The slots whose tokens were opened with what the file says, in the form of C(probed).
  returned: success, with O(state=present)
  type: list
  elements: dict
  sample: [{prefix: "hsm::utimaco", model: utimaco, slots: [{slot_id: 0, accessible: true, login: true}]}]
complete:
  description:
    - Whether everything that the file names is there. V(false) only in check mode, where a token, its library or its PIN
      file may be to come. A run would fail as long as it is not.
  returned: success, with O(state=present)
  type: bool
  sample: true
unit:
  description: What the systemd unit of the server has to give it, for this configuration to work.
  returned: success, with O(state=present)
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

from ansible_collections.keyfleet.hsm.plugins.module_utils._model.kms.request import KmsConfigRequest
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.plan import Context, Outcome
from ansible_collections.keyfleet.hsm.plugins.module_utils._module import options
from ansible_collections.keyfleet.hsm.plugins.module_utils._module.guarded import GuardedModule
from ansible_collections.keyfleet.hsm.plugins.module_utils._module.run import run


def main() -> None:
    def engine(request: KmsConfigRequest, context: Context) -> Outcome:
        from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.kms.kms_config import converge

        return converge(request, context)

    spec = options.merge(options.REGISTRY, options.PIN_SAFETY, options.KMS)
    run(GuardedModule(argument_spec=spec, supports_check_mode=True), KmsConfigRequest.parse, engine, needs=("pkcs11", "tomli_w"))


if __name__ == "__main__":
    main()
