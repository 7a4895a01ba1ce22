# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError

DOCUMENTATION = r"""
name: pkcs11_uri
short_description: PKCS#11 URI of a key, a certificate or a token
version_added: 0.1.0
author:
  - keyfleet.hsm contributors (@keyfleet)
description:
  - Makes the address (RFC 7512) by which OpenSSL, GnuTLS, p11-kit and others find an object on a token.
  - There is never a PIN in it. For a program that takes its PIN by the URI, append C(?pin-source=file:/path) with a file that only this
    program reads. OpenSSL's engine takes a newline at the end of the file for a part of the PIN, and every program that opens the URI
    then spends a try. Write the file without one (C(printf)).
  - M(keyfleet.hsm.hsm_key) and M(keyfleet.hsm.hsm_certificate) return the URIs of what they manage.
options:
  _input:
    description:
      - C(CKA_LABEL) of the token. May be empty where O(serial) is given.
    type: str
    required: true
  serial:
    description:
      - Serial number of the token. Leave it out where several tokens are to serve the same key, as members of a group do.
    type: str
    default: ''
  label:
    description:
      - C(CKA_LABEL) of the object.
    type: str
    default: ''
  id:
    description:
      - C(CKA_ID) of the object, in hex.
    type: str
    default: ''
  type:
    description:
      - What the object is. Left out, every object of this name is meant.
    type: str
    default: ''
    choices:
      - ''
      - secret
      - private
      - public
      - certificate
      - data
seealso:
  - plugin: keyfleet.hsm.hsm_uid
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Show the URI of a private key, here pkcs11:token=signing;object=web-tls;type=private
  ansible.builtin.debug:
    msg: "{{ 'signing' | keyfleet.hsm.pkcs11_uri(label='web-tls', type='private') }}"

- name: Show the URI of a token that is named by its serial number, too, here pkcs11:token=signing;serial=0a91
  ansible.builtin.debug:
    msg: "{{ 'signing' | keyfleet.hsm.pkcs11_uri(serial='0a91') }}"
"""

RETURN = r"""
_value:
  description: The URI, for example V(pkcs11:token=signing;object=web-tls;type=private).
  type: str
"""


def pkcs11_uri(token: Any, serial: Any = "", label: Any = "", id: Any = "", type: Any = "") -> str:
    """``pkcs11:token=…;serial=…;id=…;object=…;type=…``, without what is empty."""
    # Here and not above: to find one filter Ansible loads them all, in the process of each task.
    from ansible_collections.keyfleet.hsm.plugins.module_utils._model.pkcs11_uri import URI_TYPES
    from ansible_collections.keyfleet.hsm.plugins.module_utils._model.pkcs11_uri import pkcs11_uri as build

    given = {"the token's label": token, "serial": serial, "label": label, "id": id, "type": type}
    problems = [f"{name}: is not text: put it in quotes" for name, value in given.items() if not isinstance(value, str)]
    if not problems:
        try:
            key_id = bytes.fromhex(id)
        except ValueError:
            problems.append("id: is not hexadecimal: give CKA_ID as pairs of digits, such as 7765622d746c73")
        if type and type not in URI_TYPES:
            problems.append(f"type: is none of {', '.join(URI_TYPES)}: give one of them, or leave it out")
        if not token and not serial:
            problems.append("neither the token's label nor serial is given, so every token would be meant: give one of them")
    if problems:
        raise AnsibleFilterError(f"keyfleet.hsm.pkcs11_uri: {'; '.join(problems)}")
    return build(str(token), str(serial), str(label), key_id, str(type))


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"pkcs11_uri": pkcs11_uri}
