#!/usr/bin/python

# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: gateway_certificate
short_description: Make or put in place the PKCS#12 file of an HSM gateway
version_added: 0.1.0
author:
  - keyfleet.hsm contributors (@keyfleet)
description:
  - Looks after the file that holds the TLS key of a gateway and its certificate, PKCS#12 without a password. The
    Fortanix HSM gateway reads such a file, and ends at its start when the file has a password.
  - Without O(source) it makes a key and a certificate that is signed by itself, and renews it in time, with a new key
    each time. With O(source) it checks the given file and puts its contents in place.
  - It knows the files that it has written by a name inside them, and replaces those as the options ask. What others
    have put there is not overwritten unless O(on_mismatch) says so.
  - The file is replaced in one step, and only its owner can read it from the start. The gateway is not restarted.
extends_documentation_fragment:
  - keyfleet.hsm.attributes
requirements:
  - python >= 3.10 on the target
  - cryptography >= 42 on the target
attributes:
  action_group:
    support: none
    membership: []
    description: It has no option C(registry), so that C(group/keyfleet.hsm.hsm) does not include this module.
  check_mode:
    support: full
    details:
      - No key is made. When the file at O(source), the O(owner) or the O(group) is not there yet, an earlier task of
        the same play is taken to make it. This is told in a warning.
  diff_mode:
    support: full
    details:
      - The diff shows what the old and the new certificate say, with their SHA-256 fingerprints. It is the same in
        check mode. Of a certificate that is yet to be made, it shows neither fingerprint nor times.
  idempotent:
    support: full
    details:
      - A self-signed certificate that is due is made anew, see O(renew_before).
options:
  path:
    description:
      - Absolute path of the PKCS#12 file. A folder that is missing is made with mode V(0700). A symbolic link is not
        followed.
    type: path
    required: true
  source:
    description:
      - Absolute path of a file on the target, the contents of which are put in place. It is PKCS#12, or PEM with the
        private key, its certificate and the chain above, in any order. Which of the two it is shows in its contents.
      - It is refused when it has a password, holds no private key or no certificate of that key, has expired or is not
        valid yet. No password and an empty password are the same here.
      - It is not copied byte by byte. Key, certificate and chain are written in a form that is not encrypted, since
        not every program reads every encryption with an empty password.
      - The same certificate in a file that another program wrote is written anew for that reason, whatever
        O(on_mismatch) says. Its key stays.
      - Goes without O(common_name), O(subject_alt_names) and O(key_size).
    type: path
  common_name:
    description:
      - The name in the subject of a self-signed certificate. Required without O(source).
      - A change makes a new certificate.
    type: str
  subject_alt_names:
    description:
      - The names that clients check, each behind C(DNS:), C(IP:), C(email:) or C(URI:). Their order does not count.
      - By default the O(common_name), when it is a host name or an address.
      - A change makes a new certificate.
    type: list
    elements: str
  key_type:
    description:
      - The key of a self-signed certificate. V(EC) is on the curve P-256. A change makes a new certificate.
    type: str
    choices:
      - EC
      - RSA
    default: EC
  key_size:
    description:
      - The size of an RSA key in bits, by default 3072. Only together with O(key_type=RSA).
    type: int
    choices:
      - 2048
      - 3072
      - 4096
  valid_days:
    description:
      - How many days a new self-signed certificate is valid. A change does not renew the one that is there.
    type: int
    default: 365
  renew_before:
    description:
      - How long before its end the certificate is to be renewed. A text such as V(30d), V(12w) or V(36h), with the
        units V(w), V(d), V(h), V(m) (minutes) and V(s).
      - A self-signed certificate is then made anew. A given one is reported, with a warning and with
        RV(renewal_due), and not replaced.
    type: str
    default: 30d
  on_mismatch:
    description:
      - What to do with a file that is there and that this module has not written. It holds another certificate than is
        asked for, or it is of no use, for example because it has a password.
      - The same goes for a given certificate when O(source) is left out later.
      - A certificate that signs itself, for the same names as asked for, is no mismatch. It stays until it is due.
      - V(fail) refuses, and says what is there.
      - V(replace) overwrites it. Its key is lost then.
      - V(keep) keeps it, with a warning. A file that is of no use is refused all the same.
    type: str
    choices:
      - fail
      - replace
      - keep
    default: fail
  owner:
    description:
      - User that the file shall belong to, by name or number. By default it stays as it is, and a new file belongs to
        the user who runs the module.
    type: str
  group:
    description:
      - Group that the file shall belong to, by name or number. By default it stays as it is.
    type: str
  mode:
    description:
      - Mode of the file, in quotes. The key in it has no password, so nothing wider than V(0640) is accepted.
    type: raw
    default: "0400"
notes:
  - An interpreter without the Python library is no obstacle. The module then looks for it in
    C(/opt/keyfleet/venv/bin/python), C(/usr/bin/python3) and C(/usr/local/bin/python3).
  - Clients that hold a self-signed certificate have to be given each new one. RV(certificate) is it.
seealso:
  - module: keyfleet.hsm.hsm_certificate
"""

EXAMPLES = r"""
- name: Make a self-signed certificate
  keyfleet.hsm.gateway_certificate:
    path: /etc/fortanix/pki/cert.p12
    common_name: gateway1.example.com
    subject_alt_names:
      - DNS:gateway1.example.com
      - IP:192.0.2.7
  register: gateway

- name: Show what clients have to be given
  ansible.builtin.debug:
    msg: "{{ gateway.fingerprint_sha256 }} until {{ gateway.not_after }}"

- name: Ask for an RSA key, and for more time to renew
  keyfleet.hsm.gateway_certificate:
    path: /etc/fortanix/pki/gateway2.p12
    common_name: gateway2.example.com
    key_type: RSA
    key_size: 4096
    valid_days: 730
    renew_before: 90d

- name: Put a certificate in place that a CA has issued, from a P12 or a PEM file
  keyfleet.hsm.gateway_certificate:
    path: /etc/fortanix/pki/gateway3.p12
    source: /etc/keyfleet/import/gateway3.p12
    renew_before: 8w
    group: root
    mode: "0440"
"""

RETURN = r"""
path:
  description: Path of the file.
  returned: success
  type: str
  sample: /etc/fortanix/pki/cert.p12
differs:
  description:
    - Whether the file is, or has to be, written or its mode or owner changed. The same as C(changed), for tasks that run
      in check mode with a C(changed_when) of their own.
  returned: success
  type: bool
  sample: true
certificate:
  description:
    - The certificate as PEM. It is public. V(null) in check mode for one that would be made.
  returned: success
  type: str
  sample: |
    -----BEGIN CERTIFICATE-----
    MIIBhTCCASugAwIBAgIUGbcq7VdXfvYCV5L7mjRvFh0sVw0wCgYIKoZIzj0EAwIw
    HDEaMBgGA1UEAwwRd2ViMDEuZXhhbXBsZS5jb20wHhcNMjYwMTMxMDAwMDAwWhcN
    -----END CERTIFICATE-----
fingerprint_sha256:
  description: SHA-256 of the certificate's DER, in hex. V(null) in check mode for one that would be made.
  returned: success
  type: str
  sample: 3f6e1b8d0b8a4d5c9c1c2a7f0c0c7f9be6b5d1a5c3f3d0a2a1f4f1b0e7c6d5a4
not_before:
  description: When it begins to be valid, in UTC. V(null) in check mode for one that would be made.
  returned: success
  type: str
  sample: "2026-01-31T00:00:00Z"
not_after:
  description: When it ends to be valid, in UTC. V(null) in check mode for one that would be made.
  returned: success
  type: str
  sample: "2027-01-31T00:00:00Z"
subject:
  description: Its subject, as text by RFC 4514.
  returned: success
  type: str
  sample: CN=gateway1.example.com
subject_alt_names:
  description: Its alternative names, sorted.
  returned: success
  type: list
  elements: str
  sample: ["DNS:gateway1.example.com", "IP:192.0.2.7"]
self_signed:
  description: Whether its own key has signed it.
  returned: success
  type: bool
  sample: true
renewal_due:
  description:
    - Whether it has expired, or will within O(renew_before). V(null) in check mode for one that would be made.
  returned: success
  type: bool
  sample: false
failure:
  description: Why it failed, by its L(failure code,https://github.com/keyfleet/keyfleet.hsm/blob/main/docs/failure_codes.md).
  returned: failure
  type: dict
  sample: {code: path_foreign, details: {}}
"""

from ansible_collections.keyfleet.hsm.plugins.module_utils._model.certificates.gateway_request import GatewayCertificateRequest
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.plan import Context, Outcome
from ansible_collections.keyfleet.hsm.plugins.module_utils._module import options
from ansible_collections.keyfleet.hsm.plugins.module_utils._module.guarded import GuardedModule
from ansible_collections.keyfleet.hsm.plugins.module_utils._module.run import CRYPTOGRAPHY, run


def main() -> None:
    def engine(request: GatewayCertificateRequest, context: Context) -> Outcome:
        from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.gateway.gateway_certificate import converge

        return converge(request, context)

    module = GuardedModule(argument_spec=options.GATEWAY_CERTIFICATE, supports_check_mode=True)
    run(module, GatewayCertificateRequest.parse, engine, needs=(CRYPTOGRAPHY,))


if __name__ == "__main__":
    main()
