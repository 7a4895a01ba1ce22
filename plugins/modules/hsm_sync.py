#!/usr/bin/python

# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: hsm_sync
short_description: Record the keys of an HSM in the registry, and report what differs
version_added: 0.1.0
author:
  - keyfleet.hsm contributors (@keyfleet)
description:
  - Reads all keys of an instance, or of the connection of a group that serves, and records each that the registry does
    not know as a virtual key. A virtual key points at a key in the HSM and holds no key material.
  - Only adds, unless told by name to do more. A key that has vanished from the HSM and a key that differs from its record
    are reported. O(refresh) restores what a key is called in its record, and O(prune) removes records whose key is gone.
  - Reads the other members of a group as well, and reports on which keys they disagree.
  - Returns the virtual keys as a RV(document) for Git, and writes it to a file with O(export). The entries in it are
    declarations for M(keyfleet.hsm.hsm_key).
  - Only reads the HSM, except with O(repair=wrap), which makes keys on members of a group that lack them, and with
    O(repair=layout), which relabels public halves and certificates. No private or secret key is ever changed.
extends_documentation_fragment:
  - keyfleet.hsm.attributes
  - keyfleet.hsm.attributes.pkcs11
  - keyfleet.hsm.registry
  - keyfleet.hsm.connection
  - keyfleet.hsm.in_group
  - keyfleet.hsm.pin_safety
requirements:
  - PyYAML on the target, for O(export) in YAML
attributes:
  check_mode:
    support: full
    details:
      - Logs in and compares, and works on a copy of the registry. The file of O(export) is compared and not written.
      - With O(repair=wrap) nothing is made, so RV(repaired) holds what can be known without trying. A token may still
        refuse a key in the real run.
      - When the registry, the instance, the token or the group is not registered yet, the answer is empty, with a
        warning.
  diff_mode:
    support: full
    details:
      - "The diff begins with a count such as C(1,000 keys: +950 ~3 -2 =45), and has a line for each key that is added or pruned, by its
        UID, for each record that is refreshed or moved to another member, for each key that is copied, and for each object that is
        relabelled, at most 50 of them. The entries of the exported file that differ follow, the first 50 of them."
  idempotent:
    support: full
options:
  instance:
    description:
      - Name of an instance that M(keyfleet.hsm.hsm_instance) has registered. Its keys that are in no group are recorded.
        Those that a group has recorded are known.
      - Exactly one of O(instance) and O(group) is required.
  token_label:
    description:
      - Label of the token to read.
      - At most one of O(token_label), O(token_serial) and O(slot) may be given. All tokens of the instance are read
        without one.
  pin:
    description:
      - The user PIN of the token. It is used in this task and kept nowhere.
      - Not needed for tokens that were registered with a PIN file.
      - At most one of O(pin) and O(pin_file) may be given. Both are refused when the task would read several tokens,
        because one PIN is not tried on all. Choose one with O(token_label) then.
  refresh:
    description:
      - Restore C(CKA_ID) (V(id)) or C(CKA_LABEL) (V(label)) of a record from the HSM, where they differ.
      - A record is found by one of the two when the other differs, and a key pair also by its public key alone.
      - Operations are never restored. A sync overwrites nothing that says what a virtual key may do.
    type: list
    elements: str
    choices:
      - id
      - label
    default: []
  prune:
    description:
      - Remove the records whose key is not in the HSM any more. In a group, not those whose key another member has, and
        none when a member could not be read.
      - The record of a key that M(keyfleet.hsm.hsm_key) has destroyed with C(state=destroyed) stays.
    type: bool
    default: false
  repair:
    description:
      - With V(wrap), copy the keys that a member of the group lacks from the first member that has them. Each leaves its
        HSM wrapped, is unwrapped inside the other one, and counts when it was compared and used there once.
      - A key that is not extractable is not copied. Nor is one that is compromised, a public key alone, or one whose label
        or id the other member has for another key. RV(not_repaired) has the reason for each.
      - A key that differs between members is never overwritten, and none is destroyed.
      - V(wrap) needs O(group).
      - With V(layout), give the public halves and certificates in RV(layout) the C(CKA_ID) and C(CKA_LABEL) that
        O(keyfleet.hsm.hsm_instance#module:layout=eviden) has for them. The names are written where the token permits it.
        Otherwise a new object is made from the same value before the old one is destroyed. A run that was cut off is
        finished by the next one. RV(not_relabelled) has what could not be done.
      - V(layout) needs O(instance), with that layout. Programs that find a public half or a certificate by the private
        key's C(CKA_ID), as OpenSSL's providers do, do not find it afterwards.
    type: str
    choices:
      - wrap
      - layout
  require:
    description:
      - Whether each member of the group has to have each key of it, so that any of them can serve. Needs O(group).
      - With V(covered) the task fails when a member lacks a key that could be copied to it, has another key under its name or has
        it under another name, or could not be read. What was done before stays done, O(repair=wrap) among it. A key that
        cannot be copied, since it is not extractable, is told in a warning.
      - V(reported) tells all that in a warning. V(none) leaves it to RV(members).
    type: str
    choices:
      - covered
      - reported
      - none
    default: none
  leaving:
    description:
      - Members of the group that are about to leave it, for RV(would_be_lost). Needs O(group).
      - Nothing is copied to them, and O(require) does not ask them for anything. One that is not there any more, or was exchanged for
        another token, is passed over. Any other fault of it fails the task, so that a wrong PIN costs no key.
      - Does not take them out of the group. M(keyfleet.hsm.hsm_group) does.
    type: list
    elements: dict
    default: []
    suboptions:
      instance:
        description: Name of a registered instance. All of its tokens that are members leave when none is named.
        type: str
        required: true
      token_label:
        description:
          - Label of one of its tokens.
          - At most one of O(leaving[].token_label), O(leaving[].token_serial) and O(leaving[].slot) may be given.
        type: str
      token_serial:
        description: Serial number of the token.
        type: str
      slot:
        description: Number of the slot that the token was in when it was seen last, decimal, or hexadecimal after V(0x).
        type: str
  export:
    description:
      - Absolute path of a file on the target that the RV(document) is written to. It ends in C(.yml), C(.yaml) or C(.json),
        which says how. For a file on the controller, write RV(document) with M(ansible.builtin.copy).
      - YAML has the bytes of the filter P(ansible.builtin.to_nice_yaml#filter) with its defaults.
      - The same registry and the same keys give the same bytes. A new file has the mode C(0644).
      - It is replaced when it is an export. A file that holds anything else is refused, and so is a symbolic link.
      - An instance with several tokens needs O(token_label), O(token_serial) or O(slot) with it.
    type: path
  recall:
    description:
      - A RV(document) that an earlier run has returned or exported, for a registry that was lost. Its records take from it what no
        token can tell - state, generation, and operations that a virtual key of a group does not have although the HSM allows them.
      - Only for a key whose kind, C(CKA_LABEL), C(CKA_ID) and fingerprint are those of the document, and only into a record that nobody
        has changed since it was found. RV(not_recalled) has the rest, each with the reason. V(destroyed) is never taken over, and no key
        is made, changed or destroyed.
      - A group with O(keyfleet.hsm.hsm_group#module:key_scan=own) takes the keys that its document has.
      - An instance with several tokens needs O(token_label), O(token_serial) or O(slot) with it.
    type: dict
  results:
    description:
      - How much is returned. With V(all) everything, with V(changed) all lists and no RV(document), with V(summary) empty lists and no
        RV(document).
      - By default V(all) up to 100 keys. Above, as with V(changed), and each list has 100 entries at most.
      - Where something may be left out, RV(summary) also counts the entries of each list.
    type: str
    choices:
      - all
      - changed
      - summary
notes:
  - Of a group, a key that is recorded in none so far becomes the group's, with all that is known of it. With
    O(keyfleet.hsm.hsm_group#module:key_scan=own) nothing is added, and only the group's own keys are compared.
  - All tokens of an instance are read before the first key is recorded. When one cannot be read, nothing is recorded. In a
    group, a member that does not serve and cannot be read is told in RV(unread) and in a warning.
  - The members of a group are read one after the other.
  - A key that has neither C(CKA_ID) nor C(CKA_LABEL) cannot be addressed. It is told in a warning and not recorded,
    and so are keys that share both with another.
seealso:
  - module: keyfleet.hsm.hsm_group
  - module: keyfleet.hsm.hsm_key
  - module: keyfleet.hsm.hsm_status
"""

EXAMPLES = r"""
- name: Record the keys that the registry does not know yet
  keyfleet.hsm.hsm_sync:
    instance: primary
  register: sync

- name: Read one token of an instance
  keyfleet.hsm.hsm_sync:
    instance: standby
    token_label: audit

- name: Show what would be recorded, and record nothing
  keyfleet.hsm.hsm_sync:
    instance: primary
  check_mode: true
  diff: true

- name: Stop when keys have vanished, or were changed behind our back
  ansible.builtin.assert:
    that: sync.summary.missing + sync.summary.drifted == 0
    fail_msg: "Missing: {{ sync.missing }}. Different: {{ sync.drift }}."

- name: Group two HSMs
  keyfleet.hsm.hsm_group:
    name: payments
    connections:
      - instance: primary
      - instance: standby
        token_label: payments-standby

- name: Record the keys of the group
  keyfleet.hsm.hsm_sync:
    group: payments
    results: all
  register: sync

- name: Write them to a file in the repository
  ansible.builtin.copy:
    content: "{{ sync.document | to_nice_yaml }}"
    dest: "{{ playbook_dir }}/payments.yml"
    mode: "0644"
  delegate_to: localhost
  become: false

- name: Write the same to a file on the target
  keyfleet.hsm.hsm_sync:
    group: payments
    export: /var/lib/keyfleet/payments.yml

- name: Show on which keys the members disagree
  ansible.builtin.debug:
    var: sync.members

- name: Restore the names that were edited in the registry, and remove records whose key is gone
  keyfleet.hsm.hsm_sync:
    group: payments
    refresh: [id, label]
    prune: true

- name: Give the records of a registry that was made anew the states that an export has
  keyfleet.hsm.hsm_sync:
    group: payments
    recall: "{{ sync.document }}"

- name: Give each member the keys that it lacks, as far as they may leave their HSM
  keyfleet.hsm.hsm_sync:
    group: payments
    repair: wrap
"""

RETURN = r"""
added:
  description: UIDs of the keys that were recorded by this run, or would be in check mode. Also of those that were in no
    group and became the group's.
  returned: success
  type: list
  elements: str
  sample:
    - hsm::softhsm2::1401428492::unmanaged
missing:
  description: UIDs of the records whose key is not in the HSM any more, or not on the member that serves. They stay
    recorded, except for those in RV(pruned).
  returned: success
  type: list
  elements: str
  sample:
    - hsm::softhsm2::1670330475::x
missing_keys:
  description: The keys of RV(missing), each with its C(uid), its C(label) and its C(id) in hexadecimal.
  returned: success
  type: list
  elements: dict
  sample:
    - uid: hsm::softhsm2::1670330475::x
      label: x
      id: "78"
drift:
  description:
    - What differs between a key and its record, as it was found. Nothing is corrected, except for what is in
      RV(refreshed).
    - A record is found by C(CKA_ID) and C(CKA_LABEL) together, a key pair else by its public key, and what is left by
      C(CKA_ID) or C(CKA_LABEL) alone when the other was edited. What is known to be another key is not found by one alone.
  returned: success
  type: list
  elements: dict
  contains:
    uid:
      description: UID of the record.
      returned: always
      type: str
    field:
      description:
        - What differs - V(id), V(label), V(kind), V(type), V(size), V(operations), V(allowed_mechanisms),
          V(fingerprint) or V(state).
        - V(kind) is V(secret), V(private) for a pair, or V(public) for a public half alone. V(fingerprint) tells that
          another key has the name. V(state) tells that a key which is recorded as destroyed is in the HSM.
      returned: always
      type: str
    virtual:
      description: What is recorded.
      returned: always
      type: raw
    hsm:
      description: What the HSM says.
      returned: always
      type: raw
  sample:
    - uid: hsm::softhsm2::1670330475::pair
      field: operations
      virtual: [sign, verify]
      hsm: [sign]
refreshed:
  description: What was restored in the records from the HSM, with O(refresh). The entries are like those of RV(drift).
  returned: success
  type: list
  elements: dict
  sample:
    - uid: hsm::softhsm2::976726751::dek-4
      field: id
      virtual: 64656b2d34
      hsm: "99"
pruned:
  description: UIDs of the records that were removed, with O(prune). A record stays, with a warning, while a key has its
    label, id or public key, and while a run that was cut off was at work on it.
  returned: success
  type: list
  elements: str
  sample:
    - hsm::softhsm2::976726751::dek-1
members:
  description:
    - The keys on which the members of the group disagree, as they were before a O(repair=wrap). Empty without a group, and
      when the members agree.
    - A pair is known by its public key, a secret key by its type, size, key check value and name. Two keys with the same
      label are not taken for the same key on that account.
    - Each member that was read stands in one of C(have), C(lack), C(twice), C(different) and C(unknown). Its entry has
      C(priority), C(instance), C(token_label) and C(slot).
  returned: success, and failure with the code C(not_covered)
  type: list
  elements: dict
  contains:
    label:
      description: Label of the key on the first member that has it.
      returned: always
      type: str
    id:
      description: Its C(CKA_ID) there, in hex.
      returned: always
      type: str
    kind:
      description: V(secret), V(private) for a pair, or V(public) for a public key alone.
      returned: always
      type: str
    type:
      description: Its type.
      returned: always
      type: str
    size:
      description: Its size in bits. V(null) where no member tells.
      returned: always
      type: int
    fingerprint:
      description: SHA-256 of the public key's DER, in hex, or the key check value of a secret key. V(null) where neither
        can be known.
      returned: always
      type: str
    have:
      description: Members that have the key once.
      returned: always
      type: list
      elements: dict
    lack:
      description: Members that do not have it.
      returned: always
      type: list
      elements: dict
    twice:
      description: Members that have it more than once.
      returned: always
      type: list
      elements: dict
    different:
      description: Members that have another key of this name, with the C(fingerprint) of that one.
      returned: always
      type: list
      elements: dict
    unknown:
      description: Members that have a key of this name, and whether it is the same cannot be told.
      returned: always
      type: list
      elements: dict
    public_only:
      description: Of those in C(lack) and C(different), the members that have its public half.
      returned: always
      type: list
      elements: dict
    renamed:
      description: Members that have the key under another name, with the C(label) and the C(id) that it has there.
      returned: always
      type: list
      elements: dict
  sample:
    - label: dek-5
      id: 64656b2d35
      kind: secret
      type: AES
      size: 256
      fingerprint: de66c8
      have:
        - {priority: 1, instance: primary, token_label: payments, slot: 976726751}
      lack:
        - {priority: 2, instance: standby, token_label: payments, slot: 1194714572}
      twice: []
      different: []
      unknown: []
      public_only: []
      renamed: []
unread:
  description: Members of the group that could not be read, with the C(code) and the C(error). They are in no list of
    RV(members).
  returned: success, and failure with the code C(not_covered)
  type: list
  elements: dict
  sample:
    - priority: 1
      instance: primary
      token_label: payments
      slot: 976726751
      code: library_init_failed
      error: >-
        library: /usr/lib/softhsm/libsofthsm2.so could not be initialised: CKR_GENERAL_ERROR. Check the vendor's
        configuration, and the variables in environment.
would_be_lost:
  description:
    - With O(leaving), the keys that only the members in it have. Each entry has the C(label) and the C(id) of the key, and the
      C(reason). With O(repair=wrap), those that were copied to another member, or in check mode would be, are not in it.
    - Of a member that is not there any more, the recorded keys that no other member has.
  returned: success
  type: list
  elements: dict
  sample:
    - label: dek-9
      id: 64656b2d39
      reason: "token 'payments' (slot 976726751, serial 0c4f2d3a3a3796df): it may not leave its HSM (CKA_EXTRACTABLE is false)."
repaired:
  description: What was copied, with O(repair=wrap), or would be in check mode. Each entry has the C(label) and the C(id)
    of the key, and the members C(from) and C(to).
  returned: success
  type: list
  elements: dict
  sample:
    - label: dek-5
      id: 64656b2d35
      from: {priority: 1, instance: primary, token_label: payments, slot: 976726751}
      to: {priority: 2, instance: standby, token_label: payments, slot: 1194714572}
not_repaired:
  description: What was not copied, with O(repair=wrap). The entries are like those of RV(repaired), with a C(code) and a
    C(reason). C(from) is V(null) where no copy was tried. A fault of an HSM is a failure of the run, too.
  returned: success
  type: list
  elements: dict
  sample:
    - label: dek-1
      id: 64656b2d31
      from: {priority: 1, instance: primary, token_label: payments, slot: 976726751}
      to: {priority: 2, instance: standby, token_label: payments, slot: 1194714572}
      code: not_extractable
      reason: >-
        token 'payments' (slot 976726751, serial 33fc7c95c4e00b92): it may not leave its HSM (CKA_EXTRACTABLE is false).
layout:
  description:
    - What stands beside keys and is not called as O(keyfleet.hsm.hsm_instance#module:layout=eviden) has it, as it was
      before a O(repair=layout). Empty where the instance has another layout, and with a group.
    - The Eviden server cannot use many key pairs whose halves share a C(CKA_ID), and may not be able to use a key whose
      C(CKA_ID) a certificate has.
  returned: success
  type: list
  elements: dict
  contains:
    label:
      description: Label of the key.
      returned: always
      type: str
    id:
      description: Its C(CKA_ID), in hex.
      returned: always
      type: str
    object:
      description: V(public_key) or V(certificate).
      returned: always
      type: str
    found:
      description: C(id), in hex, and C(label) of the object. V(null) for a public half that a run which was cut off has
        lost, and that O(repair=layout) makes again.
      returned: always
      type: dict
    wanted:
      description: The C(id) and C(label) that it should have.
      returned: always
      type: dict
  sample: []
relabelled:
  description: What was relabelled, with O(repair=layout), or would be in check mode. The entries are like those of
    RV(layout).
  returned: success
  type: list
  elements: dict
  sample: []
not_relabelled:
  description: What was not relabelled, with O(repair=layout). The entries are like those of RV(layout), with a C(code) and
    a C(reason). One that failed by a fault of the device or of the registry fails the module.
  returned: success
  type: list
  elements: dict
  sample: []
summary:
  description: Counts of keys. Where lists may be left out or cut off, also of the entries of each other list, by its name.
  returned: success
  type: dict
  contains:
    added:
      description: Number of keys that were recorded by this run.
      returned: always
      type: int
    known:
      description: Number of keys that were recorded before and are in the HSM.
      returned: always
      type: int
    missing:
      description: Number of records whose key is not in the HSM, those that were pruned included.
      returned: always
      type: int
    drifted:
      description: Number of keys that differed from their record, those that were refreshed included.
      returned: always
      type: int
  sample:
    added: 1
    known: 2
    missing: 0
    drifted: 0
served_by:
  description: The connection of the O(group) that served, as in RV(keyfleet.hsm.hsm_key#module:served_by). V(null) without a group.
  returned: success
  type: dict
  sample: {priority: 1, instance: primary, token_label: payments, slot: 976726751}
document:
  description:
    - The virtual keys of the group, or of the token, for Git. It holds no secret. Left out with O(results=changed) and
      O(results=summary), and by default above 100 keys, so say O(results=all) where a playbook reads it. V(null) where several
      tokens were read, and in check mode where nothing is registered yet.
    - What M(keyfleet.hsm.hsm_key) cannot declare is listed under C(others) with the reason, and so is what it would make
      anew, a key that is not in the HSM. Of a group, that is one that no member has, when all of them were read.
    - A key whose label looks like a template is listed there as well, with C(\x7b) in place of its braces. So no label is
      run as a template where the document is read as variables. One whose label begins with C(__ansible_) is listed there, too,
      since Ansible keeps such names for itself.
    - "Its fields: C(format); C(group), as M(keyfleet.hsm.hsm_group) takes it, or C(instance) and C(token_label); C(keys), entries for
      M(keyfleet.hsm.hsm_key), which changes nothing with them; C(others), keys that cannot be declared, with the C(reason); and
      C(fingerprints), by UID the SHA-256 of the public key's DER in hex, or the key check value of a secret key, a list where several
      keys have one UID; C(pkcs11_uris), by UID the PKCS#11 URI, as in RV(keyfleet.hsm.hsm_key#module:key_results[].pkcs11_uri); and
      C(pkcs11_uris_current), by label the URI of the generation that is current, so that the label stands for it through rotations.
      Jinja2 reads C(keys) as C(document['keys']), not with a dot."
  returned: success
  type: dict
  sample:
    format: keyfleet.hsm.export/1
    instance: primary
    token_label: payments
    keys:
      - {label: dek-1, type: AES, size: 256, operations: [encrypt, decrypt]}
    others: []
    fingerprints: {"hsm::softhsm2::976726751::dek-1": "7298ca"}
    pkcs11_uris:
      "hsm::softhsm2::976726751::dek-1": pkcs11:token=payments;serial=0c4f2d3a3a3796df;id=%64%65%6B%2D%31;object=dek-1;type=secret-key
    pkcs11_uris_current:
      dek-1: pkcs11:token=payments;serial=0c4f2d3a3a3796df;id=%64%65%6B%2D%31;object=dek-1;type=secret-key
weak:
  description:
    - Keys that may both wrap and decrypt, on every token that was read. Whoever may use such a key has every extractable key
      beside it in clear - it is wrapped, and what comes out is decrypted.
    - A key with C(CKA_WRAP_WITH_TRUSTED) is given away only by one with C(CKA_TRUSTED).
    - Take one of the two operations away with M(keyfleet.hsm.hsm_key), or make what is extractable anew.
  returned: success
  type: list
  elements: dict
  contains:
    token:
      description: The token.
      returned: always
      type: str
    label:
      description: Label of the key that may wrap and decrypt.
      returned: always
      type: str
    id:
      description: Its C(CKA_ID), in hex.
      returned: always
      type: str
    exposes:
      description: The extractable keys that it gives away, each with its C(label) and its C(id).
      returned: always
      type: list
      elements: dict
  sample:
    - token: token 'payments' (slot 976726751, serial 0c4f2d3a3a3796df)
      label: transport
      id: 7472616e73706f7274
      exposes:
        - {label: for-branch-office, id: 666f722d6272616e63682d6f6666696365}
recalled:
  description: What was taken from O(recall), or would be in check mode.
  returned: success
  type: list
  elements: dict
  contains:
    uid:
      description: UID of the record.
      returned: always
      type: str
    field:
      description: V(state), V(generation), V(operations), or V(size), V(curve) and V(allowed_mechanisms) where no token has reported it.
      returned: always
      type: str
    was:
      description: What a sync has recorded of the key.
      returned: always
      type: raw
    is:
      description: What the document has.
      returned: always
      type: raw
  sample:
    - {uid: "hsm::softhsm2::976726751::dek-2", field: state, was: active, is: deactivated}
not_recalled:
  description:
    - What was not taken from O(recall).
    - The C(code) is V(missing) for a key that the token does not have; V(destroyed) for one that the document has as destroyed;
      V(another_key) where the fingerprint or the type is another one; V(unproven) where one side has no fingerprint; V(ambiguous) where
      the document has several keys of this name; V(changed) where the record was changed since it was found; V(of_group) where a group
      has the key and the document is an instance's; V(differs) for what the key in the HSM says otherwise.
  returned: success
  type: list
  elements: dict
  contains:
    label:
      description: Label of the key in the document.
      returned: always
      type: str
    id:
      description: Its C(CKA_ID), in hex.
      returned: always
      type: str
    state:
      description: Its state in the document.
      returned: always
      type: str
    code:
      description: Why, in one word.
      returned: always
      type: str
    reason:
      description: Why, for people.
      returned: always
      type: str
    field:
      description: What differs. With C(recorded) and C(remembered), the values of the two sides.
      returned: where only this is left
      type: str
  sample:
    - {label: dek-1, id: 64656b2d31, state: active, code: missing, reason: the token that was read does not have this key}
not_in_recall:
  description: UIDs of the records of the group or token that the document of O(recall) does not have.
  returned: success
  type: list
  elements: str
  sample:
    - hsm::softhsm2::976726751::later
failure:
  description: Why it failed, by its L(failure code,https://github.com/keyfleet/keyfleet.hsm/blob/main/docs/failure_codes.md).
  returned: failure
  type: dict
  sample: {code: token_changed, details: {}}
"""

from ansible_collections.keyfleet.hsm.plugins.module_utils._model.plan import Context, Outcome
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.sync_request import SyncRequest
from ansible_collections.keyfleet.hsm.plugins.module_utils._module import key_options, options
from ansible_collections.keyfleet.hsm.plugins.module_utils._module.guarded import GuardedModule
from ansible_collections.keyfleet.hsm.plugins.module_utils._module.run import libraries_for_sync, run


def main() -> None:
    def engine(request: SyncRequest, context: Context) -> Outcome:
        from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.sync.hsm_sync import converge
        from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.tokens.apart import apart

        return apart(converge)(request, context)

    spec = options.merge(options.REGISTRY, options.CONNECTION, options.IN_GROUP, options.PIN_SAFETY, key_options.SYNC)
    run(GuardedModule(argument_spec=spec, supports_check_mode=True), SyncRequest.parse, engine, needs=libraries_for_sync)


if __name__ == "__main__":
    main()
