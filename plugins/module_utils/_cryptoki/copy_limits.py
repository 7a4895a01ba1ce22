# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""What keeps a key from being copied, and what a copy cannot carry."""

from __future__ import annotations

from itertools import islice
from typing import Any

from .._model.errors import Cryptoki
from .._model.keys.objects import Key, KeyObject
from .._model.keys.types import PRIVATE, PUBLIC, SECRET
from .attributes import read
from .errors import calling
from .objects import Inventory

_KEPT_BY = ("WRAP_WITH_TRUSTED", "ALWAYS_AUTHENTICATE")


def kept_in(inventory: Inventory, item: KeyObject) -> tuple[str, str] | None:
    """Why a key must not be wrapped by a key of ours, or a copy would not be protected as it is: a code and words. None: it may.

    Raises :class:`Cryptoki`.
    """
    if item.extractable is not True:
        said = "is false" if item.extractable is False else "is not reported"
        return "not_extractable", f"it may not leave its HSM (CKA_EXTRACTABLE {said})"
    raw = inventory.raw[item.handle]
    with calling(f"reading key '{item.label}'"):
        found = read(raw, _KEPT_BY, known_by=_KEPT_BY)
    if found.get("WRAP_WITH_TRUSTED"):
        return "needs_trusted", "it may be wrapped only by a key that the security officer trusts (CKA_WRAP_WITH_TRUSTED)"
    if found.get("ALWAYS_AUTHENTICATE"):
        return "always_authenticate", "it wants the PIN for each use (CKA_ALWAYS_AUTHENTICATE), which a copy could not be tested with"
    return None


# What protects a key beside what is asked of it, and the value that does, by class of object: left out, the other token's default
# counts. PKCS#11 3.1, sections 4.4, 4.8 and 4.9.
_GUARDS = {
    SECRET: {"COPYABLE": False},
    PRIVATE: {"COPYABLE": False, "SIGN_RECOVER": False},
    PUBLIC: {"COPYABLE": False, "VERIFY_RECOVER": False, "PRIVATE": True},
}


def guards(inventory: Inventory, key: Key) -> dict[str, dict[str, bool]]:
    """By class of object, what protects each half of a key and must protect its copy. Raises :class:`Cryptoki`."""
    found: dict[str, dict[str, bool]] = {}
    for item in key.objects:
        wanted = _GUARDS[item.kind]
        with calling(f"reading key '{item.label}'"):
            has = read(inventory.raw[item.handle], wanted, known_by=wanted)
        found[item.kind] = {name: value for name, value in wanted.items() if has.get(name) is value}
    return found


def not_carried(inventory: Inventory, key: Key) -> str | None:
    """What a copy of the key could not have; None where there is nothing of the kind. Raises :class:`Cryptoki`."""
    for item in key.objects:
        if item.destroyable is False and item.modifiable is False:
            return "it may be neither changed nor destroyed (CKA_MODIFIABLE, CKA_DESTROYABLE), and a copy that turns out bad must go"
        if item.untold:
            names = ", ".join(f"CKA_{operation.upper()}" for operation in item.untold)
            return f"its token does not report {names} of its {item.kind} key, and a copy would not have it"
        if any(_dated(inventory, inventory.raw[item.handle], name) for name in ("START_DATE", "END_DATE")):
            return "it has a date (CKA_START_DATE, CKA_END_DATE), which a copy would not have"
    return None


def _dated(inventory: Inventory, raw: Any, name: str) -> bool:
    """Whether the object has this date. SoftHSM 2.6.1 answers CKR_GENERAL_ERROR where there is one: where a token can answer for
    another object, that is one."""
    found = _date(raw, name)
    return found is True or (found is None and any(_date(other, name) is not None for other in islice(inventory.raw.values(), 16)))


def _date(raw: Any, name: str) -> bool | None:
    """None: the token does not say. Raises :class:`Cryptoki`."""
    try:
        with calling(f"reading a key's CKA_{name}"):
            return name in read(raw, [name])  # a date that is not set is one that cannot be decoded
    except Cryptoki as error:
        if error.rv != "CKR_GENERAL_ERROR":
            raise
        return None
