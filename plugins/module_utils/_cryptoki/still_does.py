# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""Whether a key does one operation, found by trying: for tokens that do not report its attribute."""

from __future__ import annotations

from functools import partial
from typing import Any

from .._model.errors import Cryptoki
from .._model.keys.objects import KeyObject
from .._model.keys.types import CURVES, KEY_TYPES, PUBLIC, SECRET
from .attributes import read_value
from .binding import mechanism, pkcs11, typed
from .errors import calling
from .objects import Inventory
from .passing import agreed_secret, for_a_moment, guest_key
from .roundtrip import DIGEST, INCONCLUSIVE, SIGNING, macs, with_one_of
from .session import Session

_BLOCKS = bytes(16)  # one block of AES, two of DES
_NOT_PERMITTED = "CKR_KEY_FUNCTION_NOT_PERMITTED"


def does(session: Session, inventory: Inventory, item: KeyObject, operation: str) -> bool | None:
    """Whether the key encrypts, signs, wraps, derives or encapsulates. What it gives is thrown away. None: this token can be asked for
    nothing that would tell. Raises :class:`Cryptoki`, and PinError where the key wants a login of its own."""
    if item.type not in KEY_TYPES or (item.always_authenticate and not session.has_own_login):
        return None
    raw = typed(inventory.raw[item.handle], KEY_TYPES[item.type].ckk)
    ways = {"encrypt": _encrypts, "sign": _signs, "wrap": _wraps, "derive": _derives, "encapsulate": _encapsulates}
    try:
        with calling(f"trying to {operation} with key '{item.label}'"):
            return ways[operation](session, raw, item)
    except Cryptoki as error:
        if error.rv == _NOT_PERMITTED:
            return False
        if error.rv in INCONCLUSIVE:
            return None
        raise


def _encrypts(session: Session, raw: Any, item: KeyObject) -> bool | None:
    name = f"{item.type}_ECB" if item.kind == SECRET else "RSA_PKCS"
    if name not in session.mechanisms():
        return None
    raw.encrypt(_BLOCKS, mechanism=mechanism(name))
    return True


def _signs(session: Session, raw: Any, item: KeyObject) -> bool | None:
    usable = macs(session, item.type) if item.kind == SECRET else [one for one in SIGNING[item.type] if one in session.mechanisms()]
    if not usable:
        return None
    what = f"trying to sign with key '{item.label}'"
    with_one_of(usable, lambda how: session.using(item, partial(raw.sign, DIGEST, mechanism=how), what))
    return True


def _wraps(session: Session, raw: Any, item: KeyObject) -> bool | None:
    """The key that is wrapped lives in this session only."""
    name = "RSA_PKCS" if item.kind == PUBLIC else "AES_KEY_WRAP"
    if item.type not in ("AES", "RSA") or not {name, "AES_KEY_GEN"} <= session.mechanisms():
        return None
    with for_a_moment(guest_key(session)) as guest:
        raw.wrap_key(guest, mechanism=mechanism(name))
    return True


def _derives(session: Session, raw: Any, item: KeyObject) -> bool | None:
    """An EC key agrees on a secret with a pair that lives in this session only."""
    if item.type != "EC" or item.curve is None or not {"ECDH1_DERIVE", "EC_KEY_PAIR_GEN"} <= session.mechanisms():
        return None
    parameters = {pkcs11.Attribute.EC_PARAMS: CURVES[item.curve].der}
    domain = session.raw.create_domain_parameters(pkcs11.KeyType.EC, parameters, local=True)
    public, private = domain.generate_keypair(store=False, capabilities=pkcs11.MechanismFlag.DERIVE)
    with for_a_moment(public), for_a_moment(private), for_a_moment(agreed_secret(raw, read_value(public, "EC_POINT"))):
        return True


def _encapsulates(session: Session, raw: Any, item: KeyObject) -> bool | None:
    """The secret lives in this session only."""
    if "ML_KEM" not in session.mechanisms():
        return None
    how = {"key_length": 256, "store": False, "capabilities": 0, "mechanism": mechanism("ML_KEM")}
    _capsule, secret = raw.encapsulate_key(pkcs11.KeyType.GENERIC_SECRET, **how)
    with for_a_moment(secret):
        return True
