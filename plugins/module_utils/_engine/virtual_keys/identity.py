# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""What keys and records may know each other by. Where a record is to go, one such thing in common is enough to keep it."""

from __future__ import annotations

from collections.abc import Iterable

from ..._cryptoki.public_key import public_key_der
from ..._model.keys.objects import Key, fingerprint_of
from ..._model.keys.types import PRIVATE, PUBLIC, SECRET
from ..._model.records import VirtualKey

Fact = tuple[str, str, object]  # kind, label or id or key, value


def public_fingerprint(key: Key) -> str | None:
    """SHA-256 of the public key, also of an RSA private key alone: it says which public one is its own (PKCS#11 3.1, section 6.1.3)."""
    main = key.main
    if key.public is not None and key.public.public_key:
        return fingerprint_of(key.public.public_key)
    if main.kind != SECRET and main.modulus and main.exponent:
        public = public_key_der({"MODULUS": main.modulus, "PUBLIC_EXPONENT": main.exponent})
        return fingerprint_of(public) if public is not None else None
    return None


def facts_of_keys(keys: Iterable[Key]) -> set[Fact]:
    """What a record may know one of these keys by. A pair may also be the key of a record of its public half."""
    found: set[Fact] = set()
    for key in keys:
        kind, public = key.main.kind, public_fingerprint(key)
        found |= _named(kind, key.main.label, key.main.key_id)
        if public is not None:
            found |= {(kind, "key", public), (PUBLIC, "key", public)} if kind == PRIVATE else {(kind, "key", public)}
    return found


def facts_of_record(record: VirtualKey) -> set[Fact]:
    """The same of a record. A check value alone is no ground, it has 24 bits."""
    public = public_fingerprint_of_record(record)
    return _named(record.kind, record.label, record.key_id) | ({(record.kind, "key", public)} if public else set())


def public_fingerprint_of_record(record: VirtualKey) -> str | None:
    if record.kind == SECRET:
        return None
    return record.fingerprint or (fingerprint_of(record.public_key) if record.public_key else None)


def _named(kind: str, label: str, key_id: bytes) -> set[Fact]:
    found: set[Fact] = {(kind, "label", label)} if label else set()
    return found | ({(kind, "id", key_id)} if key_id else set())
