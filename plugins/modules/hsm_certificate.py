#!/usr/bin/python

# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: hsm_certificate
short_description: Request, store, renew and remove the certificate of a key in an HSM
version_added: 0.1.0
author:
  - keyfleet.hsm contributors (@keyfleet)
description:
  - Has a key in an HSM sign a certificate signing request, or a certificate of its own. The key never leaves the HSM.
  - Stores an X.509 certificate beside its key, under the same C(CKA_ID) and C(CKA_LABEL). One that does not match the
    key is refused.
  - In an instance with O(keyfleet.hsm.hsm_instance#module:layout=eviden) the C(CKA_ID) is that of the key with C(_cert)
    behind it. A certificate with the label and the public key of the key is its certificate there, whatever its
    C(CKA_ID) is.
  - Everything is planned before the first write. A certificate that replaces another is stored and read back before
    the old one is removed. A run that was cut off in between is finished by the next one.
  - Without a certificate, without O(self_signed) and without O(subject) it changes nothing, and returns the
    certificate that is there.
  - A certificate with the same C(CKA_ID) and another label is left alone.
extends_documentation_fragment:
  - keyfleet.hsm.attributes
  - keyfleet.hsm.attributes.pkcs11
  - keyfleet.hsm.provider
  - keyfleet.hsm.registry
  - keyfleet.hsm.connection
  - keyfleet.hsm.pin_safety
requirements:
  - cryptography >= 42 on the target
attributes:
  check_mode:
    support: full
    details:
      - Logs in and compares with what is on the token, through a session that cannot write. Nothing is signed.
      - When the registry, the instance, the token or the key is not there yet, an earlier task of the same play is
        taken to make it. So is a file at O(src). This is told in a warning.
  diff_mode:
    support: full
    details:
      - The diff shows what the request and the certificate say, as they were and as they will be. It is the same in
        check mode. Of a certificate that is yet to be signed, it shows neither serial number nor times.
  idempotent:
    support: full
    details:
      - A request without O(csr_path) and O(csr_content) is signed anew in each run, which changes nothing.
options:
  instance:
    description:
      - Name of an instance that M(keyfleet.hsm.hsm_instance) has registered. Its library, its environment and its
        tokens are taken from the registry. What is stored and removed is recorded there as an event.
      - Exactly one of O(instance) and O(library) is required.
  key_label:
    description:
      - Label of the key pair, its C(CKA_LABEL). M(keyfleet.hsm.hsm_key) makes it.
      - Both halves must be on the token, unless O(state=absent). RSA keys, EC keys on the curves that
        M(keyfleet.hsm.hsm_key) takes, and Ed25519 keys can be used. Others may work, and are not tested.
      - Each generation of a rotated key has certificates of its own, and is named by its own label, for example
        C(web-tls@2). The label alone is that of generation 1. A warning tells when it signs although a later one is
        there.
      - A key that is deactivated in the registry signs nothing new. What it has signed stays, and what a CA has signed
        for it is stored.
      - Empty, together with O(key_id), for a key that has no label.
    type: str
    required: true
  generation:
    description:
      - V(named) is the generation that O(key_label) names.
      - V(current) is the last one that is on the token, O(key_label) without its number. Which keys are generations of it is told as
        M(keyfleet.hsm.hsm_key) tells it, by the registry or by an unbroken row behind the first. What is given for an earlier generation is
        left out with a warning, so that a declaration stays as it is while M(keyfleet.hsm.hsm_key) makes the next generation, a
        certificate is requested for it, and services move to it.
    type: str
    choices:
      - named
      - current
    default: named
  key_id:
    description:
      - The C(CKA_ID) of the key, in hex. It tells several keys with one label apart, and names one without a label, as
        Java's keytool makes them.
      - The certificates of a key without a label are those with its C(CKA_ID), whatever their label is.
    type: str
  subject:
    description:
      - The name that the request and the self-signed certificate are for. Keys are names such as C(commonName) or
        C(CN), values are texts or lists of texts. Their order is kept.
      - Known are C(commonName) (C(CN)), C(countryName) (C(C)), C(stateOrProvinceName) (C(ST)), C(localityName)
        (C(L)), C(streetAddress) (C(street)), C(postalCode), C(organizationName) (C(O)), C(organizationalUnitName)
        (C(OU)), C(organizationIdentifier), C(businessCategory), C(serialNumber), C(surname) (C(SN)), C(givenName)
        (C(GN)), C(generationQualifier), C(title), C(pseudonym), C(dnQualifier), C(userId) (C(UID)),
        C(domainComponent) (C(DC)) and C(emailAddress). C(commonName) takes 64 bytes in UTF-8.
      - Required together with O(csr_path), O(csr_content) and O(self_signed).
      - An empty one, V({}), is for a request all of whose names are in O(subject_alt_names), which is critical then.
      - Alone, the request is made and returned in RV(csr), and nothing is changed.
    type: dict
  subject_alt_names:
    description:
      - Other names of the subject, each behind C(DNS:), C(IP:), C(email:), C(URI:), C(RID:), C(dirName:) or
        C(otherName:). Their order does not count.
      - Behind C(RID:) stands a dotted OID. Behind C(dirName:) a name in the form of RFC 4514, such as
        C(CN=web01,O=Example). Behind C(otherName:) a dotted OID, a semicolon, and C(UTF8:) with a text or the DER of
        the value in hex.
    type: list
    elements: str
  key_usage:
    description:
      - What the certificate permits the key to be used for, in the words of RFC 5280. V(nonRepudiation) is the old name
        of V(contentCommitment). The extension is critical.
      - V(keyCertSign) goes with O(basic_constraints.ca) and, where there are usages, the other way round.
    type: list
    elements: str
    choices:
      - digitalSignature
      - contentCommitment
      - nonRepudiation
      - keyEncipherment
      - dataEncipherment
      - keyAgreement
      - keyCertSign
      - cRLSign
      - encipherOnly
      - decipherOnly
  extended_key_usage:
    description:
      - The purposes that the certificate is for. V(serverAuth), V(clientAuth), V(codeSigning), V(emailProtection),
        V(timeStamping), V(OCSPSigning), or a dotted OID.
    type: list
    elements: str
  extended_key_usage_critical:
    description:
      - Whether O(extended_key_usage) is critical, so that a program that does not know it refuses the certificate.
      - By default only where it is V(timeStamping) alone, as RFC 3161 wants it.
    type: bool
  basic_constraints:
    description:
      - Whether the certificate is that of a CA. Left out, the extension is left out. It is critical.
    type: dict
    suboptions:
      ca:
        description:
          - Whether the key may sign certificates.
        type: bool
        default: false
      path_length:
        description:
          - How many CAs at most may stand between this one and a server's certificate, V(0) to V(255). For a CA only,
            and only together with V(keyCertSign) in O(key_usage).
        type: int
  digest:
    description:
      - The digest that is signed. By default V(sha256) for RSA and EC keys of 256 bits, V(sha384) for those of 384 bits,
        V(sha512) for longer ones.
      - Refused for Ed25519, which has one of its own.
    type: str
    choices:
      - sha256
      - sha384
      - sha512
  rsa_padding:
    description:
      - How an RSA key signs. V(pkcs1) is RSASSA-PKCS1-v1_5. V(pss) is RSASSA-PSS, with a salt as long as the digest.
    type: str
    choices:
      - pkcs1
      - pss
    default: pkcs1
  csr_path:
    description:
      - Absolute path of a file on the target that the request is written to, with mode V(0644). Its folder must exist.
      - It stays as it is for as long as it holds a request of this key whose signature verifies, with the same
        subject, extensions, digest and padding.
      - A file that is neither empty nor a request, or that holds more than requests, is not overwritten. The task then
        fails with the code V(csr_unwritable).
    type: path
  csr_content:
    description:
      - The request as RV(csr) returned it, kept by whoever calls. Empty when there is none yet. In the place of O(csr_path).
      - It is returned as it is under the conditions of O(csr_path). When the certificate is to be renewed, it also has to be made
        for that, which a line before it tells.
      - The task has changed something when another request is returned. A key without a certificate is told in a warning.
      - A certificate of another key in O(content) or O(src) is not an error in the run that makes the first request of this key.
    type: str
  src:
    description:
      - Absolute path of a file on the target with the certificate to store, in PEM, DER or PKCS#7 (C(.p7b)). Of several,
        the one of this key. Of several of this key, the one that ends last.
      - At most one of O(src), O(content) and O(self_signed) may be given.
    type: path
  content:
    description:
      - The certificate to store, as PEM or as PKCS#7 in PEM. A chain may stand around it, in any order, as in O(src).
      - One that has expired, or is not valid yet, is stored with a warning.
    type: str
  self_signed:
    description:
      - Has the key sign its own certificate, and stores it.
      - The one that is stored stays for as long as it is of this key, says what the options say, is signed by the key
        itself and need not be renewed. A certificate that the key has not signed itself, or that cannot be read, is not
        replaced. The task then fails with the code V(certificate_issued).
      - One that another key signed itself is replaced only if the registry knows that this module stored it. Then the key
        was replaced since.
    type: dict
    suboptions:
      valid_days:
        description:
          - How many days a new certificate is valid. A change does not renew the one that is there.
        type: int
        default: 365
  renew_before:
    description:
      - How long before its end the certificate is to be renewed. A text such as V(30d), V(12w) or V(36h), with the
        units V(w), V(d), V(h), V(m) (minutes) and V(s).
      - With O(self_signed), a new certificate is then signed and stored. Any other is reported, with a warning and with
        RV(renewal_due), and not replaced.
      - By default at its end. An expired self-signed certificate is always renewed.
    type: str
  renew:
    description:
      - Whether the certificate is to be renewed now, whatever its end is. With O(self_signed) each run signs another one.
      - A certificate that is stored in the same run is not meant.
    type: bool
    default: false
  state:
    description:
      - V(present) makes the request and the certificate what the other options declare.
      - V(absent) removes the certificates with the label O(key_label) and, where the key is there, its C(CKA_ID), with
        or without C(_cert). The key stays, and so does the file at O(csr_path). No other option counts.
    type: str
    choices:
      - present
      - absent
    default: present
notes:
  - A certificate is public, and is stored so that it can be read without a login.
  - The signature of a stored certificate, and the chain that it belongs to, are not checked.
  - Removing a key with M(keyfleet.hsm.hsm_key) leaves its certificate. O(state=absent) works when the key is gone.
seealso:
  - module: keyfleet.hsm.hsm_key
  - module: keyfleet.hsm.hsm_instance
"""

EXAMPLES = r"""
- name: Have a key for a web server, and one for a signing service
  keyfleet.hsm.hsm_key:
    instance: primary
    keys:
      - {label: web-tls, type: EC, curve: P-256, operations: [sign, verify]}
      - {label: signing-ca, type: RSA, size: 3072, operations: [sign, verify]}

- name: Write a request for a CA to sign
  keyfleet.hsm.hsm_certificate:
    instance: primary
    key_label: web-tls
    subject:
      countryName: DE
      organizationName: Example
      commonName: web01.example.com
    subject_alt_names:
      - DNS:web01.example.com
      - IP:192.0.2.7
    key_usage: [digitalSignature]
    extended_key_usage: [serverAuth]
    csr_path: /etc/keyfleet/web01.csr

- name: Have the key sign a certificate for itself until the CA has answered
  keyfleet.hsm.hsm_certificate:
    instance: primary
    key_label: web-tls
    subject: {CN: web01.example.com}
    subject_alt_names: ["DNS:web01.example.com"]
    self_signed:
      valid_days: 90
    renew_before: 10d
  register: web

- name: Store the certificate that was issued
  keyfleet.hsm.hsm_certificate:
    instance: primary
    key_label: web-tls
    content: "{{ web.certificate }}"  # or what the CA has sent, as PEM
    renew_before: 30d
  register: web

- name: Give the certificate to the web server
  ansible.builtin.copy:
    content: "{{ web.certificate }}"
    dest: /etc/keyfleet/web01.pem
    mode: "0644"

- name: Store it from a file on the target
  keyfleet.hsm.hsm_certificate:
    instance: primary
    key_label: web-tls
    src: /etc/keyfleet/web01.pem

- name: Have a CA of one's own, whose certificates are signed with RSASSA-PSS
  keyfleet.hsm.hsm_certificate:
    instance: primary
    key_label: signing-ca
    subject: {O: Example, CN: Example signing CA}
    basic_constraints: {ca: true, path_length: 0}
    key_usage: [keyCertSign, cRLSign]
    digest: sha384
    rsa_padding: pss
    self_signed:
      valid_days: 3650

- name: Look at the certificate of a key
  keyfleet.hsm.hsm_certificate:
    instance: primary
    key_label: web-tls
  register: found

- name: Show when it ends, and whether it still belongs to its key
  ansible.builtin.debug:
    msg: "{{ found.subject }} until {{ found.not_after }}, matches: {{ found.matches_key }}"

- name: Make a request and write no file
  keyfleet.hsm.hsm_certificate:
    instance: primary
    key_label: web-tls
    subject: {CN: web01.example.com}
  register: request

- name: Show the request
  ansible.builtin.debug:
    var: request.csr

- name: Reach a token that no registry knows
  keyfleet.hsm.hsm_certificate:
    library: /usr/lib/softhsm/libsofthsm2.so
    token_label: payments
    pin_file: /etc/keyfleet/pins/payments
    key_label: web-tls

- name: Remove the certificate, and keep the key
  keyfleet.hsm.hsm_certificate:
    instance: primary
    key_label: web-tls
    state: absent
"""

RETURN = r"""
csr:
  description:
    - The request as PEM. What stands in O(csr_path) or O(csr_content), or what was signed now.
    - V(null) when no request was asked for, and in check mode for one that would be signed.
  returned: success
  type: str
  sample: |
    -----BEGIN CERTIFICATE REQUEST-----
    MIHmMIGOAgEAMCwxDTALBgNVBAoMBERlbW8xGzAZBgNVBAMMEndlYjAxLmV4YW1w
    bGUuY29tMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEhKSm2zRDFGbHfAbHMB/u
    -----END CERTIFICATE REQUEST-----
certificate:
  description:
    - The certificate of the key as PEM. V(null) when there is none, and in check mode for one that would be signed.
    - Where several are there, because a run was cut off or another program stored them, the one that matches the key
      and lives longest.
  returned: success
  type: str
  sample: |
    -----BEGIN CERTIFICATE-----
    MIIBhTCCASugAwIBAgIUGbcq7VdXfvYCV5L7mjRvFh0sVw0wCgYIKoZIzj0EAwIw
    HDEaMBgGA1UEAwwRd2ViMDEuZXhhbXBsZS5jb20wHhcNMjYwMTMxMDAwMDAwWhcN
    -----END CERTIFICATE-----
pkcs11_uri:
  description:
    - Address of the certificate for other programs (RFC 7512), with the token's label and serial number. There is no PIN in it.
    - V(null) when there is none, and in check mode for a key that is to come.
  returned: success
  type: str
  sample: pkcs11:token=payments;serial=3ff5c9a155f28c9a;id=%77%65%62%2D%74%6C%73;object=web-tls;type=cert
key_pkcs11_uri:
  description: The same of its private key, for programs that sign with it. V(null) in check mode for a key that is to come.
  returned: success
  type: str
  sample: pkcs11:token=payments;serial=3ff5c9a155f28c9a;id=%77%65%62%2D%74%6C%73;object=web-tls;type=private
fingerprint:
  description: SHA-256 of the certificate's DER, in hex.
  returned: success
  type: str
  sample: 3f6e1b8d0b8a4d5c9c1c2a7f0c0c7f9be6b5d1a5c3f3d0a2a1f4f1b0e7c6d5a4
not_before:
  description: When it begins to be valid, in UTC.
  returned: success
  type: str
  sample: "2026-01-31T00:00:00Z"
not_after:
  description: When it ends to be valid, in UTC.
  returned: success
  type: str
  sample: "2027-01-31T00:00:00Z"
serial_number:
  description: Its serial number, in hex.
  returned: success
  type: str
  sample: 19b72aed57577ef6025792fb9a346f161d2c570d
subject:
  description: Its subject, as text by RFC 4514, which begins with the last part.
  returned: success
  type: str
  sample: CN=web01.example.com,O=Example,C=DE
matches_key:
  description:
    - Whether its public key is that of the key. V(false) when the key was replaced and the certificate was not.
    - V(null) without a certificate or without a key, and in check mode where one of them is not there yet.
  returned: success
  type: bool
  sample: true
renewal_due:
  description:
    - Whether the certificate has expired, will within O(renew_before), or is to be renewed by O(renew).
    - V(null) without a certificate, and in check mode for one that would be signed.
  returned: success
  type: bool
  sample: false
failure:
  description: Why it failed, by its L(failure code,https://github.com/keyfleet/keyfleet.hsm/blob/main/docs/failure_codes.md).
  returned: failure
  type: dict
  sample:
    code: certificate_mismatch
    details:
      certificate_key: 5d41f1dc8d6a4ba6ad0f5fd3a3f2ab3b8f0a6c49ef9a4d3c1f0b2e9d7c8a6b5f
      key: 0c9a4f7d2b1e6a8c3d5f7091b2a4c6e8f0d1b3a5978c6e4d2f0a1b3c5d7e9f01
"""

from ansible_collections.keyfleet.hsm.plugins.module_utils._model.certificates.request import CertificateRequest
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.plan import Context, Outcome
from ansible_collections.keyfleet.hsm.plugins.module_utils._module import options
from ansible_collections.keyfleet.hsm.plugins.module_utils._module.guarded import GuardedModule
from ansible_collections.keyfleet.hsm.plugins.module_utils._module.run import run

# The second name is a part of cryptography that came with release 42, the first that can do what is needed here.
NEEDS = ("pkcs11", "cryptography.x509.verification")


def main() -> None:
    def engine(request: CertificateRequest, context: Context) -> Outcome:
        from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.certificates.hsm_certificate import converge
        from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.tokens.apart import apart

        return apart(converge)(request, context)

    spec = options.merge(options.REGISTRY, options.CONNECTION, options.PROVIDER, options.PIN_SAFETY, options.CERTIFICATE)
    run(GuardedModule(argument_spec=spec, supports_check_mode=True), CertificateRequest.parse, engine, needs=NEEDS)


if __name__ == "__main__":
    main()
