# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""What a session shows of a token's objects, to be shown: no value of a key is read, also of one that would give it."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from .._model.errors import Cryptoki
from .._model.keys.generations import split_label
from .._model.keys.objects import fingerprint_of
from .._model.keys.types import PRIVATE, PUBLIC, SECRET, class_operations
from .attributes import read
from .binding import pkcs11
from .errors import calling
from .objects import describe, found_objects
from .session import Session

_LONGEST = 200  # characters of a text that a token gives
# Which flags each class of object has: PKCS#11 3.1, sections 4.4 (storage), 4.7 (keys) and 4.8 to 4.10.
_EVERY = ("PRIVATE", "MODIFIABLE", "COPYABLE", "DESTROYABLE", "LOCAL")
_KEPT = ("SENSITIVE", "ALWAYS_SENSITIVE", "EXTRACTABLE", "NEVER_EXTRACTABLE", "WRAP_WITH_TRUSTED")
_FLAGS = {
    SECRET: (*_EVERY, *_KEPT, "TRUSTED"),
    PRIVATE: (*_EVERY, *_KEPT, "ALWAYS_AUTHENTICATE"),
    PUBLIC: (*_EVERY, "TRUSTED"),
}


def show_objects(
    session: Session, most: int, labels: Collection[str] = (), *, generations: bool = False
) -> Iterator[dict[str, Any] | None]:
    """A line for each of the first ``most`` objects on the token that this session sees; None behind them where there are more.

    ``labels``: only objects with one of these, and with ``generations`` those of all generations of these keys, for which the label of
    every object is read. No label means all objects. What is wrong with one is its answer, also where it cannot be told whose it is.
    Raises :class:`Cryptoki` where the search itself fails.
    """
    shown = 0
    for raw in _searched(session, most, labels, generations=generations):
        try:
            with calling(f"reading an object of {session.token}", "C_GetAttributeValue"):
                if generations and not _is_of(raw, labels):
                    continue
                entry = show_object(raw) if shown < most else None
        except Cryptoki as error:
            entry = {"class": None, "code": error.code} if shown < most else None
        yield entry
        shown += 1
        if entry is None:
            return


def _searched(session: Session, most: int, labels: Collection[str], *, generations: bool) -> list[Any]:
    attribute = pkcs11.Attribute
    wanted = [{}] if generations or not labels else [{attribute.LABEL: label} for label in sorted(labels)]
    with calling(f"searching the objects of {session.token}", "C_FindObjects"):
        # The search must be over before anything else is asked.
        return [
            raw for names in wanted for raw in found_objects(session, {attribute.TOKEN: True, **names}, None if generations else most + 1)
        ]


def _is_of(raw: Any, labels: Collection[str]) -> bool:
    label = str(read(raw, ("CLASS", "LABEL"), known_by=("LABEL",)).get("LABEL", ""))
    return label in labels or split_label(label)[0] in labels


def show_object(raw: Any) -> dict[str, Any]:
    """A key's class, type, size, curve, label, CKA_ID in hex, permitted operations and flags; of another object class and label.
    ``fingerprint`` is that of a public key, None where the token does not give it.

    ``not_reported`` has the operations and flags of this class that the token does not report: they are neither true nor false.
    Raises :class:`Cryptoki`, or python-pkcs11's errors.
    """
    item = describe(raw)
    if item is None:
        other = read(raw, ("CLASS", "LABEL"))
        number = other.get("CLASS")
        name = getattr(number, "name", None if number is None else hex(number))
        return {"class": name and name.lower().lstrip("_"), "label": short(str(other.get("LABEL", ""))), "code": None}
    flags = _FLAGS[item.kind]
    operations = class_operations(item.type, item.kind)
    reported = read(raw, (*(name.upper() for name in operations), *flags))
    return {
        "class": item.kind,
        "label": short(item.label),
        "id": short(item.key_id.hex()),
        "type": item.type,
        "size": item.size,
        "curve": item.curve,
        **({"fingerprint": item.public_key and fingerprint_of(item.public_key)} if item.kind == PUBLIC else {}),
        "operations": [name for name in operations if reported.get(name.upper())],
        "flags": {name.lower(): bool(reported[name]) for name in flags if name in reported},
        "not_reported": [name.lower() for name in (*operations, *flags) if name.upper() not in reported],
        "code": None,
    }


def short(text: str) -> str:
    """A label may be of any length."""
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}... ({len(text)} characters)"
