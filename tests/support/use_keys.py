# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Try every key of a token once, in a process of its own: JSON of how often each label is there, and which fail.

The input has ``environment``, ``library``, ``label`` of the token and ``pin``.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import pkcs11

_MESSAGE = bytes(32)
_SIGN = {"RSA": pkcs11.Mechanism.SHA256_RSA_PKCS, "EC": pkcs11.Mechanism.ECDSA, "EC_EDWARDS": pkcs11.Mechanism.EDDSA}
_SEAL = {"AES": pkcs11.Mechanism.AES_ECB, "DES3": pkcs11.Mechanism.DES3_ECB}


def main() -> None:
    given = json.load(sys.stdin)
    os.environ.update(given["environment"])
    token = pkcs11.lib(given["library"]).get_token(token_label=given["label"])
    count: dict[str, int] = {}
    bad: list[str] = []
    with token.open(user_pin=given["pin"]) as session:
        objects: list[Any] = list(session.get_objects())
        publics = {item.label: item for item in objects if item.object_class == pkcs11.ObjectClass.PUBLIC_KEY}
        for item in objects:
            kind = item.key_type.name
            name = f"{item.label} {item.object_class.name}"
            count[name] = count.get(name, 0) + 1
            try:
                if kind == "GENERIC_SECRET":
                    mac = item.sign(_MESSAGE, mechanism=pkcs11.Mechanism.SHA256_HMAC)
                    good = item.verify(_MESSAGE, mac, mechanism=pkcs11.Mechanism.SHA256_HMAC)
                elif item.object_class == pkcs11.ObjectClass.SECRET_KEY:
                    sealed = item.encrypt(_MESSAGE, mechanism=_SEAL[kind])
                    good = item.decrypt(sealed, mechanism=_SEAL[kind]) == _MESSAGE != sealed
                elif item.object_class == pkcs11.ObjectClass.PRIVATE_KEY:
                    signature = item.sign(_MESSAGE, mechanism=_SIGN[kind])
                    good = publics[item.label].verify(_MESSAGE, signature, mechanism=_SIGN[kind])
                else:
                    good = True
            except (pkcs11.PKCS11Error, AttributeError, KeyError):
                good = False
            if not good:
                bad.append(name)
    json.dump({"count": count, "bad": bad}, sys.stdout)
