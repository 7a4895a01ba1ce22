# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""Routing prefixes and UIDs, by the rules of the Eviden KMS server.

``hsm::<model>`` for the first instance of a model and ``hsm::<model>_<n>`` for those after it, in declared order; an
instance without slots takes no number. A UID is ``<prefix>::<slot_id>::<key_id>``, and the key id is all that follows
the slot, ``::`` included.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from .quoting import quoted

_MODEL = re.compile(r"[a-z0-9][a-z0-9_-]*\Z")
_PREFIX = re.compile(r"hsm::(?P<model>[a-z0-9][a-z0-9_-]*?)(?:_(?P<number>[1-9][0-9]*))?\Z")


def model_problem(model: str) -> str | None:
    """Why ``model`` (any case) cannot be part of a prefix, or None."""
    low = model.lower()
    if not _MODEL.match(low):
        return f"{quoted(model)} is no model name: use letters, digits, '-' and '_'"
    if low.isdigit():
        return f"{quoted(model)} is a number, which the server reads as the slot of an old flat UID"
    if re.search(r"_[0-9]+\Z", low):
        return f"{quoted(model)} ends like the number of a second instance; its prefix could not be told apart"
    return None


def prefixes(instances: Iterable[tuple[str, bool]]) -> list[str | None]:
    """The prefix of each ``(model, has_slots)``, in the given order; None for an instance without slots."""
    seen: dict[str, int] = {}
    result: list[str | None] = []
    for model, has_slots in instances:
        low = model.lower()
        if not has_slots:
            result.append(None)
            continue
        number = seen.get(low, 0)
        seen[low] = number + 1
        result.append(f"hsm::{low}_{number}" if number else f"hsm::{low}")
    return result


def is_prefix(value: object) -> bool:
    """Whether ``value`` is a text of the form ``hsm::<model>`` or ``hsm::<model>_<n>``."""
    return isinstance(value, str) and _PREFIX.match(value) is not None


def prefix_order(prefix: str | None) -> tuple[str, int]:
    """A sort key: by model, then by number, so that ``_10`` comes after ``_9``. Instances without a prefix come last."""
    match = _PREFIX.match(prefix or "")
    if not match:
        return ("\uffff", 0)
    return (match["model"], int(match["number"] or 0))


def key_id_text(key_id: bytes, label: str) -> str:
    """What stands behind the slot in a key's UID.

    The server finds a key by CKA_ID first and by CKA_LABEL second, both as text. So: the id where it is printable text,
    else the label, else the id in hex.
    """
    try:
        text = key_id.decode("utf-8")
    except UnicodeDecodeError:
        text = ""
    if text and text.isprintable():
        return text
    return label or key_id.hex()


def uid(prefix: str, slot_id: int, key_id: str) -> str:
    """Join a UID. Raises ValueError when a part cannot stand in one."""
    if not _PREFIX.match(prefix):
        raise ValueError(f"{quoted(prefix)} is no prefix of the form hsm::<model> or hsm::<model>_<n>")
    if isinstance(slot_id, bool) or not isinstance(slot_id, int) or slot_id < 0:
        raise ValueError(f"{quoted(slot_id)} is no slot number: give a decimal integer")
    if not key_id:
        raise ValueError("the key id is empty")
    return f"{prefix}::{slot_id}::{key_id}"
