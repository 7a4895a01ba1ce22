# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The bare loop: python-pkcs11 and nothing else. A process of its own, so that its time holds the import and the login too.

``bare.py make LIBRARY LABEL PIN NUMBER`` makes keys, ``bare.py list LIBRARY LABEL PIN`` prints how many objects there are, and
``bare.py read LIBRARY LABEL PIN CLASS,LABEL,...`` reads these attributes of each object before that.
"""

from __future__ import annotations

import sys

import pkcs11
from pkcs11 import Attribute, KeyType, MechanismFlag


def make(session: pkcs11.Session, number: int) -> None:
    """The keys that hsm_key makes of ``type: AES`` and a label, with the attributes that it sets."""
    for index in range(1, number + 1):
        label = f"key-{index}"
        session.generate_key(
            KeyType.AES,
            256,
            id=label.encode(),
            label=label,
            store=True,
            capabilities=MechanismFlag.ENCRYPT | MechanismFlag.DECRYPT,
            template={Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: False},
        )


def read(session: pkcs11.Session, names: list[str]) -> int:
    """The objects as hsm_sync reads them: one search, and one call for the attributes of each. All are kept until the end."""
    wanted = [Attribute[name] for name in names]
    objects = list(session.get_objects({Attribute.TOKEN: True}, batch_size=256))
    return len([item.get_attributes(wanted) for item in objects])


def main(action: str, library: str, label: str, pin: str, more: str = "") -> None:
    token = pkcs11.lib(library).get_token(token_label=label)
    with token.open(rw=action == "make", user_pin=pin) as session:
        if action == "make":
            make(session, int(more))
        elif action == "read":
            print(read(session, more.split(",")))
        else:
            print(len(list(session.get_objects())))


main(*sys.argv[1:])
