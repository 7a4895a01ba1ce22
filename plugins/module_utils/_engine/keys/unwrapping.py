# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""A key that is made of a wrapped source. What turns out to be another than was asked for is destroyed again."""

from __future__ import annotations

from ..._cryptoki import making
from ..._cryptoki import objects as cryptoki
from ..._cryptoki.curves import NO_CURVE
from ..._cryptoki.objects import Inventory
from ..._cryptoki.opening import opened_object
from ..._cryptoki.rungs import NOT_AS_ASKED
from ..._cryptoki.second_look import CHANGED
from ..._cryptoki.session import Session
from ..._model.errors import Cryptoki
from ..._model.keys.material import WrappedMaterial
from ..._model.keys.objects import Key
from ..._model.keys.spec import KeySpec
from .look import NOT_ITS_WRAPPING, TokenLook, wrapping_key

NOTHING_KEPT = "nothing was kept of the import"


def unwrapped(session: Session, inventory: Inventory, look: TokenLook, spec: KeySpec, material: WrappedMaterial) -> Key:
    """Raises :class:`Cryptoki`."""
    try:
        key = making.unwrap(session, inventory, spec, material, wrapping_key(inventory, spec, material))
    except Cryptoki as error:
        error.device = look.blames_device(error)
        if not error.device and "attribute" not in error.details and error.rv != NO_CURVE:
            error.message += f"; {NOT_ITS_WRAPPING}"
        raise
    if (misfit := opened_object(key.main).misfit(spec, material.size)) is not None:
        raise _taken_back(session, inventory, key, f"{spec.where}.source: it {misfit}")
    private, public = key.private, material.public or (making.public_numbers(key.private) if key.private else {})
    if private is None or not public:
        return key
    if look.belongs(private, public) is False:
        text = f"{spec.where}.source.public_key: it does not belong to the private key in the source"
        raise _taken_back(session, inventory, key, text)
    return Key(private=private, public=making.create_public(session, inventory, spec, public))


def _taken_back(session: Session, inventory: Inventory, key: Key, text: str) -> Cryptoki:
    destroy_again(session, inventory, key, text)
    return Cryptoki(f"{text}; {NOTHING_KEPT}", rv="CKR_TEMPLATE_INCONSISTENT", device=False)


def destroy_again(session: Session, inventory: Inventory, key: Key, why: str) -> None:
    """Destroy what was just made. Raises :class:`Cryptoki` where the token may have kept it: with ``why``, and never as the key."""
    try:
        for item in key.objects:
            cryptoki.destroy(session, inventory, item)
    except Cryptoki as error:
        error.details |= {CHANGED: True, NOT_AS_ASKED: True}
        error.message = f"{why}; {error.message}"
        raise
