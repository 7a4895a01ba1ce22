# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""The option group STATUS_INFO: what hsm_status and hsm_status_info look at."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  instances:
    description:
      - Names of the instances to probe. All that are registered by default.
    type: list
    elements: str
  probe:
    description:
      - V(login) opens a session and logs in.
      - V(roundtrip) then also has the token do something. Only this shows that it does its work. It is left out for
        tokens without a login and for security officers.
      - A key that lives only in this session encrypts and decrypts, or signs and verifies. Where the token refuses that,
        the next is tried - AES, EC, RSA, a key that is there already, random numbers. C(probe) of the slot is
        the first that worked.
    type: str
    choices:
      - login
      - roundtrip
    default: roundtrip
  timeout:
    description:
      - How many seconds the probe of one token may take, with what is expected of it. Starting its library may take as long
        once more. A gateway may take as long for each of its two answers.
      - A token that hangs costs its own time. The other tokens of its instance go on in a new process, and instances
        with other libraries go on beside it. Instances of one library are probed in turn.
      - A library that hangs before it has listed its tokens is tried once, and all its instance's tokens are reported with that.
    type: int
    default: 30
  expect:
    description:
      - Certificates and private keys that services rely on. For each, the module looks in the session of the probe whether both are there,
        whether they belong together, and whether the key signs. The signature is verified outside of the token.
      - What it finds is in RV(credentials). A certificate that has expired is a problem as well.
      - A credential with a problem does not make its token inaccessible.
      - Needs cryptography on the target.
    type: list
    elements: dict
    default: []
    suboptions:
      instance:
        description:
          - The instance that has it. Each that is probed by default.
        type: str
      token_label:
        description:
          - Label of the token that has it. Without this, O(expect[].token_serial) and O(expect[].slot), each token has it.
        type: str
      token_serial:
        description:
          - Serial number of the token that has it.
        type: str
      slot:
        description:
          - Number of the slot of the token that has it, decimal, or hexadecimal after V(0x).
        type: str
      label:
        description:
          - CKA_LABEL of the private key, and of the certificate. At least one of this and O(expect[].id) is needed.
          - The certificate is the one of this label that has the CKA_ID of the key, in any layout; failing that, any with that CKA_ID.
        type: str
      id:
        description:
          - CKA_ID of the private key, in hex.
        type: str
      certificate:
        description:
          - Whether a certificate is expected.
        type: bool
        default: true
      private_key:
        description:
          - Whether a private key is expected. V(false) is for certificates of a CA.
          - A key with CKA_ALWAYS_AUTHENTICATE gets the PIN once more for its signature. With a PIN pad that is not possible.
        type: bool
        default: true
  holdings:
    description:
      - Also tell versions, the certificates on each token, and the keys that are recorded, for a report. The certificates are read in the
        session of the probe, so that no login is added. Keys come from the registry.
      - Needs cryptography on the target.
    type: bool
    default: false
  gateway_url:
    description:
      - URL of a gateway, or of an Eviden KMS, that serves the probed tokens, for example V(https://gateway.example.com:4440).
      - C(/health) and C(/hsm/status) are asked after the probe. What they say is in RV(gateway), with the differences from the probe.
      - Prefixes and slots are compared, so the gateway's instances have to have the prefixes that they have here.
      - Redirects are not followed. C(http) with a token is refused, except to this host itself.
    type: str
  gateway_token:
    description:
      - Bearer token for C(/hsm/status).
    type: str
  gateway_token_file:
    description:
      - Path of a file on the target that holds the token alone. Others must not be able to read it.
    type: path
  gateway_client_cert:
    description:
      - Path of the client certificate in PEM on the target. It may hold the key as well.
    type: path
  gateway_client_key:
    description:
      - Path of the client certificate's private key in PEM on the target.
    type: path
  gateway_ca_path:
    description:
      - Path of the CA certificates in PEM on the target by which the gateway's certificate is verified. The system's by default.
    type: path
  gateway_validate_certs:
    description:
      - Whether the gateway's certificate is verified. Whoever answers in its place gets the token if it is not.
    type: bool
    default: true
  declared:
    description:
      - What shall be registered, by name. What else is registered is returned in RV(undeclared) and told in a warning.
    type: dict
    suboptions:
      instances:
        description:
          - The instances.
        type: list
        elements: dict
        default: []
        suboptions:
          name:
            description:
              - Name of the instance.
            type: str
            required: true
          tokens:
            description:
              - Its tokens, each by one of the three. Without the list they are not compared.
            type: list
            elements: dict
            suboptions:
              label:
                description:
                  - Label of the token.
                type: str
              serial:
                description:
                  - Serial number of the token.
                type: str
              slot:
                description:
                  - Number of the slot that the token is in, decimal, or hexadecimal after V(0x).
                type: str
      groups:
        description:
          - Names of the groups.
        type: list
        elements: str
        default: []
notes:
  - The PINs are read from the PIN files that M(keyfleet.hsm.hsm_instance) registered. A token without one is reported
    as not accessible, with V(pin_missing).
  - A token that belongs to several instances is not tried again when it has refused its PIN once in this task.
"""
