#!/usr/bin/python

# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: hsm_key
short_description: Generate, import, rotate, deactivate and destroy keys in an HSM
version_added: 0.1.0
author:
  - keyfleet.hsm contributors (@keyfleet)
description:
  - Makes the keys of one token what a list declares. One task takes any number of keys up to 10,000, and needs one
    login and one search for all of them.
  - With O(group) it is the token of the connection that serves, and the group's policy says which changes reach the
    HSM.
  - Keys are generated inside the HSM and never leave it, or imported from a O(keys[].source). New keys are sensitive,
    not extractable and private, unless declared otherwise.
  - A key is looked for by its label. It is generated only after a search that went well and found none. An error of
    the HSM never counts as an absent key, and several keys that answer to one label are an error that lists them.
  - All keys are planned before the first one is touched. A declaration that cannot be met leaves every key of the
    list as it is.
  - A new key is used once before it counts as made. Each key that is made, changed or destroyed is then recorded in
    the registry.
  - A key is rotated by a number in the declaration, O(keys[].generation). Generation 1 has the label itself, and each
    one after it C(<label>@<n>) as its C(CKA_LABEL) and C(CKA_ID).
  - In an instance with O(keyfleet.hsm.hsm_instance#module:layout=eviden) the public half of a new pair has C(_pk) behind
    its C(CKA_LABEL) and C(CKA_ID), and keys are not rotated. Elsewhere both halves have the same.
  - What is about to be made is noted in the registry first. A run that dies leaves its note, and the next run mends
    what the dead one has left of a key - half a pair, a key that cannot be used, an object without a name.
  - Key objects that are not in the list are left alone.
extends_documentation_fragment:
  - keyfleet.hsm.attributes
  - keyfleet.hsm.attributes.pkcs11
  - keyfleet.hsm.provider
  - keyfleet.hsm.registry
  - keyfleet.hsm.connection
  - keyfleet.hsm.in_group
  - keyfleet.hsm.pin_safety
attributes:
  check_mode:
    support: full
    details:
      - Logs in and compares with the keys on the token, through a session that cannot write.
      - When the registry, the instance, the token or the group is not registered yet, an earlier task of the same play
        is taken to register it, with an empty token. This is told in a warning.
  diff_mode:
    support: full
    details:
      - "The diff begins with a count such as C(1,000 keys: +950 ~3 -2 =45) and has a line for each key that changes, at most 50 of
        them, those that are destroyed first. C(-/+) is a key that is destroyed and made anew. It is the same in check mode."
  idempotent:
    support: full
options:
  instance:
    description:
      - Name of an instance that M(keyfleet.hsm.hsm_instance) has registered. Its library, its environment and its
        tokens are taken from the registry, and the keys are recorded there.
      - Exactly one of O(instance), O(group) and O(library) is required.
      - The operations of a key that a group has recorded on the token may be changed this way. To end such a key, say
        O(group).
  keys:
    description:
      - The keys, each at most once, or several times with different values of O(keys[].generation). Omitted options are
        not compared with an existing key.
    type: list
    elements: dict
    required: true
    suboptions:
      label:
        description:
          - Label of the key, its C(CKA_LABEL). Printable, and without a blank at either end.
          - A range stands for many keys with the same options - V(dek-[001:500]) for C(dek-001) to C(dek-500), as in Ansible's
            inventories, also with letters and with a step (V(dek-[0:500:10])). It has no O(keys[].source). What is done to its
            keys is one line of the diff. With O(keys[].id) the label is taken as it is.
          - A label that ends with C(@) and a number is taken as it is. It is also how one earlier generation of a key is
            named.
          - Empty, together with O(keys[].id), for a key that is there without a label. It is looked at, taken out of use and
            destroyed, one in a task. It is not made.
        type: str
        required: true
      id:
        description:
          - Its C(CKA_ID), in hex.
          - A new key gets the bytes of its O(keys[].label) by default, so that its UID can be told beforehand.
          - Where several keys have the same label, it says which is meant.
          - It is that of generation 1. Later generations have their label's bytes.
          - With other states than V(present), V(pre-active) and V(active), only a key with both this label and this id
            is meant.
        type: str
      type:
        description:
          - Type of the key. Required for O(keys[].state=present), O(keys[].state=pre-active) and
            O(keys[].state=active).
          - V(DES) is refused without O(keys[].allow_weak). V(Ed25519) needs a token that has it,
            and so do V(ML-DSA-65), V(ML-KEM-768) and their like, with PKCS#11 3.2. These are generated, not imported.
          - V(GENERIC_SECRET) (C(CKK_GENERIC_SECRET)) is a key for HMAC, as OpenBao's seal and Kubernetes' KMS plugins want
            one, or to derive others from. V(SHA256_HMAC) and its like (C(CKK_SHA256_HMAC)) are keys for one hash alone.
            Few tokens generate them; more import them.
        type: str
        choices:
          - AES
          - DES3
          - DES
          - GENERIC_SECRET
          - SHA224_HMAC
          - SHA256_HMAC
          - SHA384_HMAC
          - SHA512_HMAC
          - RSA
          - EC
          - Ed25519
          - ML-DSA-44
          - ML-DSA-65
          - ML-DSA-87
          - ML-KEM-512
          - ML-KEM-768
          - ML-KEM-1024
      size:
        description:
          - Size of the key in bits. V(128), V(192) or V(256) for AES, V(192) for DES3, V(64) for DES, V(2048), V(3072)
            or V(4096) for RSA. An imported RSA key may have another size from 2048 up.
          - A key for HMAC has whole bytes, from V(64) to V(1024). Under V(112) it is refused without
            O(keys[].allow_weak). Some tokens take no key for HMAC that is shorter than the hash.
          - A new key has V(256) by default for AES and GENERIC_SECRET, the hash's size for SHA256_HMAC and its like, and
            V(3072) for RSA. An EC key has a O(keys[].curve) in its place. Ed25519, ML-DSA and ML-KEM keys have neither.
        type: int
      curve:
        description:
          - Curve of an EC key. A new key is on V(P-256) by default.
          - Many tokens lack V(secp256k1) and the Brainpool curves. What they refuse is told when the key is made.
        type: str
        choices:
          - P-256
          - P-384
          - P-521
          - secp256k1
          - brainpoolP256r1
          - brainpoolP384r1
          - brainpoolP512r1
      operations:
        description:
          - What the key may be used for. It may be used for nothing else, and existing keys are changed to that.
          - In a group with O(keyfleet.hsm.hsm_group#module:apply_changes=false), operations are taken away on the virtual
            key only. Operations that the HSM does not allow are a mismatch there, see O(keys[].on_mismatch).
          - Of a key pair, the private key gets V(decrypt), V(sign), V(unwrap), V(derive) and V(decapsulate), and the public
            key V(encrypt), V(verify), V(wrap) and V(encapsulate).
          - AES, DES3 and DES keys take all of them, RSA keys all but V(derive), keys for HMAC and EC keys V(sign), V(verify)
            and V(derive), Ed25519 and ML-DSA keys V(sign) and V(verify), ML-KEM keys V(encapsulate) and V(decapsulate).
          - A new key gets V(encrypt) and V(decrypt) by default for AES, DES3 and DES, all that there are for ML-KEM, and
            V(sign) and V(verify) for the other types.
        type: list
        elements: str
        choices:
          - encrypt
          - decrypt
          - sign
          - verify
          - wrap
          - unwrap
          - derive
          - encapsulate
          - decapsulate
      sensitive:
        description:
          - Whether the key's value can never be read in the clear. V(true) by default for a new key.
          - An existing key can be made sensitive, which cannot be undone and gives a warning.
        type: bool
      extractable:
        description:
          - Whether the key may leave the token, wrapped by another. V(false) by default for a new key.
          - It can be taken away from an existing key, which cannot be undone and gives a warning.
        type: bool
      modifiable:
        description:
          - Whether the attributes of the key may be changed later. The token decides when it is not given, and says
            yes as a rule.
          - It cannot be changed on an existing key.
        type: bool
      destroyable:
        description:
          - Whether the key may be destroyed later. The token decides when it is not given, and says yes as a rule.
          - It cannot be changed on an existing key. A key that was made with V(false) stays for as long as its token,
            whatever a later task says.
        type: bool
      wrap_with_trusted:
        description:
          - Whether an extractable key may be wrapped only by a key that the security officer has marked as trusted
            (C(CKA_WRAP_WITH_TRUSTED) and C(CKA_TRUSTED)). For tokens that have these attributes.
          - It cannot be changed on an existing key.
        type: bool
      allowed_mechanisms:
        description:
          - The only mechanisms that the secret or private key may be used with (C(CKA_ALLOWED_MECHANISMS)), for tokens that have
            this attribute. Names of PKCS#11 without C(CKM_), for example V(SHA256_RSA_PKCS_PSS), or the number of a vendor's own in
            quotes, for example V("0x80000001"). The order does not count. One at least has to go with the type of the key.
          - It cannot be changed on an existing key. A new generation of it, and a copy for another token of its group, are
            restricted in the same way.
        type: list
        elements: str
      allow_weak:
        description:
          - Allow what is too weak for use today - DES keys, imported RSA keys of less than 2048 bits or with a public
            exponent under 65537, imported DES3 keys that have two equal parts, keys for HMAC under 112 bits, and new
            keys with both
            O(keys[].operations=wrap) and O(keys[].operations=decrypt).
          - A key that may wrap and decrypt hands out every extractable key on its token in clear. Keys that are there are
            not refused; M(keyfleet.hsm.hsm_sync) reports them, see RV(keyfleet.hsm.hsm_sync#module:weak).
        type: bool
        default: false
      source:
        description:
          - Import the key from here instead of generating it. Give O(keys[].source.src) or O(keys[].source.content).
          - An imported key is sensitive and not extractable like any other, unless declared otherwise.
          - A key that is there is compared with the source - by its public key, or for secret keys by what it computes,
            such as its key check value. The same key is left as it is, and another one is a mismatch.
          - Of an interrupted import, the half that is missing is added.
        type: dict
        suboptions:
          src:
            description:
              - Absolute path of a file on the target. It is left there.
            type: path
          content:
            description:
              - The key itself - PEM, or hex, or base64 with O(keys[].source.format=base64). Taken from a vault as a rule.
            type: str
          format:
            description:
              - How the source is written. Told from the content when it is not given. Where there are two ways to read
                it, it has to be given. A file that is hex or base64 from end to end is not taken for bare bytes, whatever
                O(keys[].size) says.
              - V(pem) and V(der) are for RSA, EC and Ed25519 keys - PKCS#8, or the traditional forms of RSA and EC.
                V(raw) is for the bare bytes of secret keys, and of wrapped keys.
            type: str
            choices:
              - pem
              - der
              - raw
              - hex
              - base64
          passphrase:
            description:
              - Opens an encrypted PEM or DER.
            type: str
          wrapping_key:
            description:
              - Label of a key on the token that may unwrap. The source is then a key wrapped with it, and is opened
                inside the HSM only. Prefer this where the token can.
              - It has to be there before the task, and not be made by the same list.
            type: str
          mechanism:
            description:
              - How the source was wrapped. With an AES O(keys[].source.wrapping_key) the default is V(AES_KEY_WRAP)
                (RFC 3394) for AES and DES3 keys. For DES keys, keys for HMAC and for private keys in PKCS#8 it is
                V(AES_KEY_WRAP_KWP) (RFC 5649), or V(AES_KEY_WRAP_PAD) on tokens that have that number only. With an RSA one it is
                V(RSA_PKCS_OAEP).
            type: str
            choices:
              - AES_KEY_WRAP
              - AES_KEY_WRAP_KWP
              - AES_KEY_WRAP_PAD
              - RSA_PKCS
              - RSA_PKCS_OAEP
          public_key:
            description:
              - The public key in PEM that belongs to a wrapped private key. Required for EC and Ed25519.
            type: str
      generation:
        description:
          - Which generation of the key is to be the current one. Raising it by one rotates the key. The new key is made
            first, then O(keys[].previous) is done to those before it.
          - By default the highest generation that is there, or V(1). A number below that is refused, since a generation
            is not taken back.
          - Those that are there are those that the registry has recorded as such, and those in an unbroken row behind
            the first.
          - With other states than O(keys[].state=present), the one generation that is meant.
        type: int
      max_age:
        description:
          - Make the next generation when the current one is older than this. For example V(90d), V(12w) or V(36h).
          - The age counts from when this module made the key, else from when the key was recorded in the registry. It
            needs an O(instance) or a O(group).
        type: str
      lead:
        description:
          - Make the next generation so long before the current one is O(keys[].max_age) old. For example V(30d).
          - Until then both are in use, so that a certificate can be issued for the next one, and services can move to it.
            O(keys[].previous) is done to a generation when it is older than O(keys[].max_age), and not as long as it has a
            certificate on the token and the current generation has none; a warning tells of it.
        type: str
      previous:
        description:
          - What becomes of the generations before the current one, once that is made and was used.
          - V(keep) leaves them as they are. V(deactivate) is O(keys[].state=deactivated) for each. V(destroy) destroys
            them, and what was protected with them can no longer be read.
        type: str
        choices:
          - keep
          - deactivate
          - destroy
        default: keep
      enforce:
        description:
          - With O(keys[].state=deactivated), O(keys[].state=compromised) or O(keys[].previous=deactivate), the key in the
            HSM also loses encrypt, sign, wrap and derive. It keeps decrypt, verify and unwrap, for what it has protected.
          - Refused in a group with O(keyfleet.hsm.hsm_group#module:apply_changes=false).
        type: bool
        default: false
      on_mismatch:
        description:
          - What to do when the key exists and differs in what cannot be changed - its type, its size, its curve, its
            id, its allowed mechanisms, its value where it has a O(keys[].source), a restriction that cannot be taken
            back, or anything when it is not modifiable. In a group also its fingerprint, when it is not the one that was recorded.
          - V(fail) changes nothing, neither this key nor any other of the list.
          - V(keep) leaves this key as it is, says so in a warning, and goes on with the others.
          - V(replace) destroys the key and makes another. What was encrypted with it can no longer be read. It is refused
            in a group with O(keyfleet.hsm.hsm_group#module:apply_changes=false).
        type: str
        choices:
          - fail
          - replace
          - keep
        default: fail
      on_vanished:
        description:
          - What to do when the registry has a record of the key and the token no longer has the key.
          - V(fail) changes nothing, neither this key nor any other of the list. Another key does not open what the lost one
            protected.
          - V(recreate) makes another key in its place. In a group the other members are asked first, see O(on_elsewhere).
        type: str
        choices:
          - fail
          - recreate
        default: fail
      unverifiable:
        description:
          - What to do when the key exists and the token does not report an attribute that is declared, as
            C(CKA_EXTRACTABLE) or C(CKA_VALUE_LEN). Only O(keys[].size), O(keys[].curve), O(keys[].operations),
            O(keys[].sensitive), O(keys[].extractable), O(keys[].modifiable), O(keys[].destroyable),
            O(keys[].wrap_with_trusted) and O(keys[].allowed_mechanisms) that are declared count, and what O(keys[].enforce) takes away.
          - What this module has set is remembered in the registry and counts as reported. O(keys[].enforce) is verified by
            use where the token allows it.
          - V(fail) changes nothing, neither this key nor any other of the list.
          - V(warn) leaves the attribute as it is, says so in a warning, and goes on.
        type: str
        choices:
          - fail
          - warn
        default: fail
      state:
        description:
          - V(present) makes the key, or changes it to what is declared. It leaves a V(pre-active) or V(suspended) key in
            its state, and refuses one that is V(deactivated), V(compromised) or V(destroyed).
          - V(absent) destroys it, both halves of a pair, and removes its record. There is no way back. A key that has
            later generations is not destroyed unless each of them is named, or O(keys[].generation) says which is meant.
            In a group with O(keyfleet.hsm.hsm_group#module:apply_changes=false) only the record is removed.
          - V(public_only) destroys the private half of a pair and keeps the public one. In a group with
            O(keyfleet.hsm.hsm_group#module:apply_changes=false) the virtual key becomes that of the public half, and the
            private half stays in the HSM.
          - The other values are the states of NIST SP 800-57 part 1 (section 7). They are kept in the registry, so they
            need an O(instance) or a O(group), and the HSM does not know them.
          - V(pre-active) and V(active) make the key like V(present), in that state. A key that is there goes from
            V(pre-active) or V(suspended) to V(active).
          - V(suspended) is for a key that is not to be used for now. V(deactivated) is for one that is no longer to
            protect anything, and V(compromised) for one whose value somebody else may know. The key in the HSM is changed
            with O(keys[].enforce) only.
          - V(deactivated) means all generations, V(suspended) and V(compromised) the latest one, or the one that
            O(keys[].generation) names.
          - V(destroyed) destroys the key and keeps its record in this state. It is refused in a group with
            O(keyfleet.hsm.hsm_group#module:apply_changes=false) while the serving token has the key.
          - A V(pre-active) key may become V(active), V(compromised) or V(destroyed). An V(active) one may become
            V(suspended), V(deactivated), V(compromised) or V(destroyed), and a V(suspended) one V(active) and the same.
            A V(deactivated) key may become V(compromised) or V(destroyed), a V(compromised) one V(destroyed). All other
            moves are refused.
        type: str
        choices:
          - present
          - absent
          - public_only
          - pre-active
          - active
          - suspended
          - deactivated
          - compromised
          - destroyed
        default: present
  in_use:
    description:
      - What the services of other hosts use, by host. A list of PKCS#11 URIs of private keys, or V(null) for a host that said nothing.
      - What O(keys[].previous) would do to a generation waits as long as a host has a URI with its label, and with the label of the token
        where there is one and O(group) is not given. It also waits for a host that said nothing. A warning tells which.
      - Services of the host that has the module are asked in any case, as C(this host), by the notes of P(keyfleet.hsm.client#role).
      - The playbook C(keyfleet.hsm.site) asks the application hosts, whose role P(keyfleet.hsm.client#role) keeps a note of it.
    type: dict
    version_added: 0.1.0
  repair:
    description:
      - Mend also what no note in the registry tells of, of the keys in the list - a missing public half is made again
        from the private key, from the source or from the registry; a left-over of a generation that was cut off is
        destroyed, and the key is made anew; objects that are on a SoftHSM2 token only in part are destroyed.
      - A key that was whole once, according to the registry, is never destroyed for another. Nor is one that was
        imported, one of another type, one that other objects on the token may belong to, or one that is not certain to
        be empty - a use that failed once proves nothing.
    type: bool
    default: false
  on_elsewhere:
    description:
      - With O(group), what to do when a key is to be generated and another member of the group has it already. Before a
        group generates a key, it asks every other member that can be reached for its label and its id.
      - V(fail) changes nothing.
      - V(adopt) records the key of that member as the group's, see RV(key_results[].state=elsewhere). The key is not changed,
        so it has to be as it is declared. M(keyfleet.hsm.hsm_sync) with O(keyfleet.hsm.hsm_sync#module:repair=wrap) then
        copies it.
    type: str
    choices:
      - fail
      - adopt
    default: fail
  on_unreachable:
    description:
      - With O(group), what to do when a key is to be generated and a member that may have it cannot be reached.
      - V(fail) changes nothing.
      - V(generate) makes the key all the same. If that member has a key of that name, the group then has two.
      - Keys that are there, and imported ones, need no other member.
    type: str
    choices:
      - fail
      - generate
    default: fail
  results:
    description:
      - Of which keys RV(key_results) has an entry. V(all), those that were V(changed), failed or were kept with a mismatch, or with
        V(summary) none.
      - By default all when O(keys) stands for up to 100 keys. Above, as with V(changed), each list has 100 entries at most, and
        RV(key_results[].pkcs11_uri) is left out.
      - Where not all keys are listed, fields that are null or an empty list are left out.
      - RV(summary) counts all keys in any case, and RV(failed_keys) has at least the first 100.
    type: str
    choices:
      - all
      - changed
      - summary
notes:
  - A failure in the middle of the list is told in full, see RV(applied), RV(failed_keys) and RV(not_attempted).
    C(changed) is true when anything was done. Run the task again once the cause is fixed; it goes on from there.
  - After an error of the device itself, such as V(CKR_DEVICE_ERROR), the rest of the list is not attempted. After an
    error that concerns one key, the others are still made.
  - Half a key pair, or a key that cannot be used, is an error unless the registry tells that a run was cut off while
    it made this key, the O(keys[].source) is given, or O(repair=true).
  - With O(group) only the connection that serves is written to. No key is made there in place of one that the group has
    recorded and that this token lacks, since it would be another key. M(keyfleet.hsm.hsm_sync) with
    O(keyfleet.hsm.hsm_sync#module:repair=wrap) copies it. With O(keys[].on_vanished=recreate) another one is made when no
    member has it.
seealso:
  - module: keyfleet.hsm.hsm_group
  - module: keyfleet.hsm.hsm_instance
  - module: keyfleet.hsm.hsm_sync
  - module: keyfleet.hsm.hsm_status
"""

EXAMPLES = r"""
- name: Have three keys in the HSM, and one no longer
  keyfleet.hsm.hsm_key:
    instance: primary
    keys:
      - {label: dek-1, type: AES, size: 256, operations: [encrypt, decrypt]}
      - {label: web-tls, type: EC, curve: P-256, operations: [sign, verify]}
      - {label: code-signing, type: RSA, size: 3072, operations: [sign, verify]}
      - {label: old, state: absent}
  register: made

- name: Show how they are addressed
  ansible.builtin.debug:
    msg: "{{ made.key_results | selectattr('state', 'equalto', 'present') | map(attribute='uid') }}"

- name: Save the public key for others to verify with
  ansible.builtin.copy:
    content: "{{ made.key_results[1].public_key }}"
    dest: /etc/keyfleet/web-tls.pem
    mode: "0644"

- name: Have a hundred data keys with one login
  keyfleet.hsm.hsm_key:
    instance: primary
    keys:
      - {label: "record-[001:100]", type: AES}

- name: Say which token is meant of an instance that has several
  keyfleet.hsm.hsm_key:
    instance: standby
    token_label: audit
    keys:
      - label: audit-log
        type: EC
        curve: P-384

- name: Have a wrapping key, and a key that may leave the HSM wrapped by it
  keyfleet.hsm.hsm_key:
    instance: primary
    keys:
      - label: transport
        type: AES
        operations: [wrap, unwrap]
        destroyable: true
      - label: for-branch-office
        type: AES
        extractable: true

- name: Accept a key of another size that somebody has made before, and be told
  keyfleet.hsm.hsm_key:
    instance: primary
    keys:
      - label: code-signing
        type: RSA
        size: 4096
        on_mismatch: keep

- name: Show what a stronger key would replace, and do nothing
  keyfleet.hsm.hsm_key:
    instance: primary
    keys:
      - label: code-signing
        type: RSA
        size: 4096
        on_mismatch: replace
  check_mode: true
  diff: true

- name: Make a key on a token that no registry knows
  keyfleet.hsm.hsm_key:
    library: /usr/lib/softhsm/libsofthsm2.so
    token_label: payments
    pin_file: /etc/keyfleet/pins/payments
    keys:
      - label: unmanaged
        id: "01a4"
        type: AES

- name: Rotate a key by raising its generation, and stop the first one from protecting anything new
  keyfleet.hsm.hsm_key:
    instance: primary
    keys:
      - label: transport
        type: AES
        operations: [wrap, unwrap]
        generation: 2
        previous: deactivate
        enforce: true

- name: Have a key that is made anew every 90 days
  keyfleet.hsm.hsm_key:
    instance: primary
    keys:
      - label: session-tickets
        type: AES
        max_age: 90d

- name: Import keys from a file on the target and from a vault
  keyfleet.hsm.hsm_key:
    instance: primary
    keys:
      - label: legacy
        type: RSA
        operations: [sign, verify]
        source:
          src: /etc/keyfleet/import/legacy.pem
          passphrase: "{{ vault_legacy_passphrase }}"
      - label: zone
        type: DES3
        source:
          content: "{{ vault_zone_key }}"

- name: Retire a key, and keep only the public half of another
  keyfleet.hsm.hsm_key:
    instance: primary
    keys:
      - label: zone
        type: DES3
        state: deactivated
      - label: legacy
        type: RSA
        state: public_only

- name: Make a key that is not to be used yet
  keyfleet.hsm.hsm_key:
    instance: primary
    keys:
      - label: from-january
        type: AES
        state: pre-active

- name: Take it into use, and another out of use for now
  keyfleet.hsm.hsm_key:
    instance: primary
    keys:
      - label: from-january
        type: AES
        state: active
      - label: code-signing
        state: suspended

- name: Tell that a key is compromised, and take its protecting operations away in the HSM
  keyfleet.hsm.hsm_key:
    instance: primary
    keys:
      - label: from-january
        state: compromised
        enforce: true

- name: Mend what a crash of another program may have left of the keys
  keyfleet.hsm.hsm_key:
    instance: primary
    repair: true
    keys:
      - label: web-tls
        type: EC

- name: Destroy keys, one of them with both its generations
  keyfleet.hsm.hsm_key:
    instance: primary
    keys:
      - label: for-branch-office
        state: absent
      - label: transport
        state: absent
      - label: transport
        generation: 2
        state: absent

- name: Destroy a key, and keep the record of it
  keyfleet.hsm.hsm_key:
    instance: primary
    keys:
      - label: from-january
        state: destroyed

- name: Group two HSMs
  keyfleet.hsm.hsm_group:
    name: payments
    connections:
      - instance: primary
      - instance: standby
        token_label: payments-standby

- name: Have a key in the HSM of the group that can be reached
  keyfleet.hsm.hsm_key:
    group: payments
    keys:
      - label: pan-1
        type: AES
        operations: [encrypt, decrypt]
        extractable: true
  register: in_group

- name: Show which HSM served
  ansible.builtin.debug:
    msg: "{{ in_group.served_by.instance }}, slot {{ in_group.served_by.slot }}"

# The group does not apply changes to the HSM, so the key there keeps both operations.
- name: Narrow what the virtual key may be used for
  keyfleet.hsm.hsm_key:
    group: payments
    keys:
      - label: pan-1
        type: AES
        operations: [decrypt]
"""

RETURN = r"""
key_results:
  description:
    - One entry for each key of O(keys), in the same order, as far as O(results) says. What exists was read from the token;
      check mode predicts what would be made.
    - What the token does not report is as this module has set it, where the registry has that.
    - The same list comes back as C(keys), for playbooks that read it by that name. They write C(result['keys']), since
      C(result.keys) is a method of every dictionary in Jinja2. C(keys) is left out where not all keys are listed.
  returned: when the keys could be planned
  type: list
  elements: dict
  contains:
    index:
      description: Place of the entry in O(keys), beginning with V(0).
      returned: always
      type: int
    label:
      description: Label of the key as it was given, without a generation unless that was given with it.
      returned: always
      type: str
    generation:
      description: Which generation of the key this is. The RV(key_results[].id) and the RV(key_results[].uid) are those of this one.
      returned: always
      type: int
    current:
      description: Whether it is the latest generation on the token.
      returned: always
      type: bool
    fingerprint:
      description:
        - SHA-256 of the public key's DER, in hex. Of a secret key its key check value. V(null) where the token gives
          neither, and for a key that check mode predicts to be generated.
      returned: always
      type: str
    other_generations:
      description: The other generations of the key that are on the token, or were before this task.
      returned: always
      type: list
      elements: dict
      contains:
        generation:
          description: Its number.
          returned: always
          type: int
        label:
          description: Its C(CKA_LABEL).
          returned: always
          type: str
        id:
          description: Its C(CKA_ID), in hex.
          returned: always
          type: str
        uid:
          description: Its address. V(null) without an instance.
          returned: always
          type: str
        state:
          description: As RV(key_results[].state). V(present) stands for V(active) where no state was asked for.
          returned: always
          type: str
    id:
      description: Its C(CKA_ID), in hex.
      returned: always
      type: str
    uid:
      description: Its address, C(<prefix>::<slot>::<key id>). V(null) without an instance.
      returned: always
      type: str
    pkcs11_uri:
      description:
        - Its address for other programs (RFC 7512), of a pair that of the private half, with the token's label and serial number. There
          is no PIN in it.
        - V(null) for a key that is not on this token.
      returned: always
      type: str
    type:
      description: Its type.
      returned: always
      type: str
    size:
      description: Its size in bits. For EC that of its curve. V(null) where it is not known.
      returned: always
      type: int
    curve:
      description: Its curve. V(null) for other types than EC.
      returned: always
      type: str
    operations:
      description: What it may be used for, of a pair what either half may be used for. In a group what the virtual key
        may be used for, which may be less than the HSM allows.
      returned: always
      type: list
      elements: str
    sensitive:
      description: Whether its value can never be read in the clear. V(null) where it is not known.
      returned: always
      type: bool
    extractable:
      description: Whether it may leave the token wrapped. V(null) where it is not known.
      returned: always
      type: bool
    local:
      description: Whether it was generated on the token.
      returned: always
      type: bool
    public_key:
      description: The public key of a pair as PEM. V(null) for a secret key, and for a pair that check mode predicts.
      returned: always
      type: str
    state:
      description:
        - V(present), V(absent), V(public_only), V(failed), or the recorded state V(pre-active), V(suspended),
          V(deactivated), V(compromised) or V(destroyed).
        - V(elsewhere) for the key of another member of the group, with O(on_elsewhere=adopt). All that is returned of it is
          from there.
        - V(active) for an entry that asks for one of these states, V(present) for one that does not.
      returned: always
      type: str
    mismatches:
      description: What differs and was left as it is, with O(keys[].on_mismatch=keep).
      returned: when something differs
      type: list
      elements: str
  sample:
    - index: 0
      label: dek-1
      generation: 2
      current: true
      fingerprint: 46ab68
      other_generations:
        - generation: 1
          label: dek-1
          id: 64656b2d31
          uid: hsm::softhsm2::1441987930::dek-1
          state: deactivated
      id: 64656b2d314032
      uid: hsm::softhsm2::1441987930::dek-1@2
      pkcs11_uri: pkcs11:token=payments;serial=3ff5c9a155f28c9a;id=%64%65%6B%2D%31%40%32;object=dek-1%402;type=secret-key
      type: AES
      size: 256
      curve: null
      operations: [encrypt, decrypt]
      sensitive: true
      extractable: false
      local: true
      public_key: null
      state: present
    - index: 1
      label: web-tls
      generation: 1
      current: true
      fingerprint: 71c7efe3a7c9ce7cd8fcbeb4a5e2a9e45a48f25075c86328b9872e3e132464b5
      other_generations: []
      id: 7765622d746c73
      uid: hsm::softhsm2::1441987930::web-tls
      pkcs11_uri: pkcs11:token=payments;serial=3ff5c9a155f28c9a;id=%77%65%62%2D%74%6C%73;object=web-tls;type=private
      type: EC
      size: 256
      curve: P-256
      operations: [sign, verify]
      sensitive: true
      extractable: false
      local: true
      public_key: |
        -----BEGIN PUBLIC KEY-----
        MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEhKSm2zRDFGbHfAbHMB/uAuSGfcLF
        3zqeWvZUsoSkegCNUT1xii73I32Dem9r+gyogDH8ZD8iSe8X2LJhnO22cg==
        -----END PUBLIC KEY-----
      state: present
    - index: 2
      label: old
      generation: 1
      current: false
      fingerprint: null
      other_generations: []
      id: 6f6c64
      uid: hsm::softhsm2::1441987930::old
      pkcs11_uri: null
      type: null
      size: null
      curve: null
      operations: []
      sensitive: null
      extractable: null
      local: null
      public_key: null
      state: absent
applied:
  description: What was done, or would be in check mode.
  returned: when the keys could be planned
  type: list
  elements: dict
  contains:
    index:
      description: Place of the entry in O(keys), beginning with V(0).
      returned: always
      type: int
    label:
      description: Label of the key. The range, for RV(applied[].count).
      returned: always
      type: str
    range:
      description: The range in O(keys[].label) that the key is of, with its generation where that is not the first.
      returned: when it is of one and all keys are listed
      type: str
    count:
      description: Number of keys of a range of which the same was done.
      returned: for ranges, when not all keys are listed
      type: int
    action:
      description:
        - V(create), V(change), V(replace) or V(delete) for the key. V(create) is also an import.
        - V(repair) when what was left of the key was completed, or removed and made anew.
        - V(deactivate) when it was deactivated, V(set_state) when it got another state, V(remove_private) when its
          private half was destroyed. What O(keys[].enforce) takes away goes with the first two.
        - V(record) when the key was there and only its record was missing or differs, V(forget) when only the record was
          left of it, or only the record was to go.
      returned: always
      type: str
  sample:
    - {index: 0, label: dek-1, action: create}
    - {index: 1, label: web-tls, action: create}
summary:
  description:
    - How many keys there are of each kind, in check mode how many there would be. Each key counts in one of the other numbers, which
      add up to RV(summary.total). The other generations that an entry concerns are keys of their own.
  returned: when the keys could be planned
  type: dict
  contains:
    total:
      description: All of them.
      returned: always
      type: int
    created:
      description: Generated or imported.
      returned: always
      type: int
    replaced:
      description: Destroyed and made anew.
      returned: always
      type: int
    changed:
      description: Changed in the HSM, on the virtual key or in the registry, and repaired.
      returned: always
      type: int
    deleted:
      description: Destroyed, or removed from the registry.
      returned: always
      type: int
    unchanged:
      description: Left as they were.
      returned: always
      type: int
    failed:
      description: Tried, and failed.
      returned: always
      type: int
    not_attempted:
      description: Left undone because the device failed before.
      returned: always
      type: int
  sample: {total: 1000, created: 950, replaced: 0, changed: 3, deleted: 2, unchanged: 45, failed: 0, not_attempted: 0}
served_by:
  description: The connection of the O(group) that served. V(null) without a group.
  returned: when the keys could be planned, but for check mode on what is not registered yet
  type: dict
  contains:
    priority:
      description: Its place in the group, from 1 on.
      returned: always
      type: int
    instance:
      description: Name of the instance.
      returned: always
      type: str
    token_label:
      description: Label of the token when it was registered or seen last.
      returned: always
      type: str
    slot:
      description: Number of the slot that the token is in.
      returned: always
      type: int
  sample:
    priority: 1
    instance: primary
    token_label: payments
    slot: 1441987930
left_overs:
  description: Objects that are on the token only in part and hold no key, as a generation that was cut off leaves them
    with SoftHSM2. Looked for after a run that died, and with O(repair=true).
  returned: when the keys could be planned
  type: list
  elements: dict
  contains:
    handle:
      description: Handle of the object in this session.
      returned: always
      type: int
    kind:
      description: V(secret), V(private), V(public) or V(unknown).
      returned: always
      type: str
    type:
      description: Type of the key, or V(unknown).
      returned: always
      type: str
    removed:
      description: Whether this task removes it.
      returned: always
      type: bool
  sample: []
failed_keys:
  description: What was tried and failed. What happened to such a key may be half done, see C(msg); the next run looks
    at it again.
  returned: when the keys could be planned
  type: list
  elements: dict
  contains:
    index:
      description: Place of the entry in O(keys), beginning with V(0).
      returned: always
      type: int
    label:
      description: Label of the key.
      returned: always
      type: str
    range:
      description: The range in O(keys[].label) that the key is of, with its generation where that is not the first.
      returned: when it is of one
      type: str
    action:
      description: What was tried, one of the words of RV(applied[].action).
      returned: always
      type: str
    code:
      description: Why it failed, as C(code) in RV(failure).
      returned: always
      type: str
    error:
      description: Why it failed, in words.
      returned: always
      type: str
  sample:
    - index: 3
      label: web-2
      action: create
      code: CKR_GENERAL_ERROR
      error: "generating key 'web-2' failed: CKR_GENERAL_ERROR"
not_attempted:
  description: What was left undone because the device failed before. The entries are like those of RV(applied).
  returned: when the keys could be planned
  type: list
  elements: dict
  sample:
    - {index: 4, label: web-3, action: create}
    - {index: 5, label: dek-3, action: create}
failure:
  description: Why it failed, by its L(failure code,https://github.com/keyfleet/keyfleet.hsm/blob/main/docs/failure_codes.md).
  returned: failure
  type: dict
  sample:
    code: cannot_plan
    details:
      problems:
        - >-
          keys[0] (a): a key with this label exists and differs: size is 256, asked for 128. Nothing was changed.
          Use another label, on_mismatch: keep to leave it, or on_mismatch: replace to destroy it and make another.
"""

from ansible_collections.keyfleet.hsm.plugins.module_utils._model.keys.request import KeyRequest
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.plan import Context, Outcome
from ansible_collections.keyfleet.hsm.plugins.module_utils._module import key_options, options
from ansible_collections.keyfleet.hsm.plugins.module_utils._module.guarded import GuardedModule
from ansible_collections.keyfleet.hsm.plugins.module_utils._module.run import libraries_for_keys, run


def main() -> None:
    def engine(request: KeyRequest, context: Context) -> Outcome:
        from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.keys.hsm_key import converge
        from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.tokens.apart import apart

        return apart(converge)(request, context)

    spec = options.merge(options.REGISTRY, options.CONNECTION, options.IN_GROUP, options.PROVIDER, options.PIN_SAFETY, key_options.KEYS)
    run(GuardedModule(argument_spec=spec, supports_check_mode=True), KeyRequest.parse, engine, needs=libraries_for_keys)


if __name__ == "__main__":
    main()
