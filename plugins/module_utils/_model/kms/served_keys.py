# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""The keys of a token that the Eviden KMS server serves: which of them it cannot use, and the one that wraps its database's keys."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..keys.misfits import CertificateName, Names, misfits
from ..keys.objects import KeyObject, group_keys
from ..keys.types import PUBLIC, SECRET
from ..quoting import listed, quoted
from ..uids import key_id_text
from .config import Served, prefix_by_name

KEK = "settings.key_encryption_key"
_UID = "hsm::"


@dataclass(frozen=True)
class WrappingKey:
    """The key that ``key_encryption_key`` names in an HSM. ``place``: the model's prefix and the slot."""

    place: tuple[str, int]
    key_id: str


def wrapping_key(settings: Mapping[str, Any], instances: Sequence[Served]) -> tuple[WrappingKey | None, str | None]:
    """The key, or why its UID leads to no token. Neither for a key of the server's own database, or where none is named."""
    uid = settings.get("key_encryption_key")
    if not isinstance(uid, str) or not uid.startswith(_UID):
        return None, None
    model, _colons, rest = uid.removeprefix(_UID).partition("::")
    number, _colons, key_id = rest.partition("::")
    if model.isdigit() or not number.isdigit() or not key_id:
        return None, f"{KEK}: {quoted(uid)} is not hsm::<model>::<slot>::<key>: give the key's UID, as hsm_key returns it"
    by_prefix = {prefix: name for name, prefix in prefix_by_name(instances).items()}
    prefix, slot = f"{_UID}{model}", int(number)
    if prefix not in by_prefix:
        known = listed(sorted(filter(None, by_prefix))) or "none"
        return None, f"{KEK}: no declared instance has the prefix {prefix}; there are: {known}"
    (slots,) = [instance.slots for instance in instances if instance.spec.name == by_prefix[prefix]]
    if slot not in slots and None not in slots:
        return None, f"{KEK}: {prefix} has no slot {slot}; it has {listed(sorted(map(str, slots)))}"
    return WrappingKey((prefix, slot), key_id), None


def wrapping_key_problem(key: WrappingKey, objects: Sequence[KeyObject], certified: Collection[bytes]) -> tuple[str | None, bool]:
    """Why the server could not wrap with the key, None where it can, and whether the key is there. ``certified``: the CKA_IDs of
    certificates, which answer to a UID as keys do."""
    wanted = key.key_id.encode("utf-8")
    found = [item for item in objects if item.key_id == wanted] or [item for item in objects if item.label == key.key_id]
    name = f"{KEK}: the key {quoted(key.key_id)} in slot {key.place[1]}"
    if not found:
        return f"{name} is not there. Create it with hsm_key, as AES with the operations encrypt and decrypt", False
    count = len(found) + (wanted in certified)
    if count > 1:
        return f"{name} is there {count} times, and the server takes whichever the token lists last. Leave one with this CKA_ID", True
    lacking = [name for name in ("encrypt", "decrypt") if found[0].kind == SECRET and found[0].has(name) is False]
    if lacking:
        return f"{name} does not permit {' and '.join(lacking)}: the server wraps with C_Encrypt, not with C_WrapKey", True
    return None, True


def unusable_keys(objects: Sequence[KeyObject], *, old_server: bool) -> str | None:
    """The keys that the server refuses, by their kind, in words; None without one. ``old_server``: a version before 5.28."""
    kinds: dict[str, list[str]] = {}
    for item in objects:
        kind = None
        if item.type in ("EC", "Ed25519", "EC_EDWARDS"):
            kind = "EC"
        elif old_server and (item.type, item.size) == ("AES", 192):
            kind = "AES-192"
        if kind is not None and item.kind != PUBLIC:
            kinds.setdefault(kind, []).append(key_id_text(item.key_id, item.label))
    return "; ".join(f"{kind} ({listed(sorted(names))})" for kind, names in sorted(kinds.items())) or None


def sharing_ids(objects: Sequence[KeyObject], certified: Collection[bytes]) -> list[dict[str, str]]:
    """The keys whose CKA_ID their public half or a certificate has, of which the server keeps one: ``label`` and ``id`` of the key, and
    ``object``, which is public_key or certificate. ``certified``: the CKA_IDs of certificates."""
    certificates = [CertificateName(-number, Names(key_id, ""), b"") for number, key_id in enumerate(sorted(certified), 1)]
    found = [misfit.shown() for misfit in misfits(group_keys(objects), certificates) if misfit.shares_id]
    return [{name: shown[name] for name in ("label", "id", "object")} for shown in found]
