# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""What is asked of the token while a plan is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from ...._model.errors import Cryptoki
from ...._model.keys.objects import Key, KeyObject
from ...._model.keys.spec import KeySpec
from ...._model.keys.types import KEY_TYPES, PUBLIC

Untold = Sequence[tuple[str, str]]  # what is declared and nobody says: the option, and the attribute without ``CKA_``


class Look(Protocol):
    """The questions. Nothing here writes."""

    def use(self, key: Key) -> Cryptoki | None:
        """Why the key cannot be used; None where it can, or where no use can be tried."""

    def does(self, item: KeyObject, operation: str) -> bool | None:
        """Whether the key does an operation of those that protect, found by trying; None where nothing can be tried."""

    def same(self, spec: KeySpec, key: Key) -> bool | None:
        """Whether the key is the one that ``source`` holds; None where the token does not let it be told."""

    def belongs(self, private: KeyObject, public: Mapping[str, bytes]) -> bool | None:
        """Whether a public key, as attributes, belongs to this private key; None where it cannot be told."""

    def public_value(self, public_key: bytes) -> Mapping[str, bytes]:
        """The attributes (names without ``CKA_``) of a public key's DER."""

    def empty(self, key: Key) -> bool:
        """Whether the key holds no usable value, for certain: used twice, it fails as such a key does, it is not restricted to
        mechanisms that were not tried, and a fresh key of its type does the same thing well."""

    def openable(self, spec: KeySpec) -> str | None:
        """Why the wrapped key in ``source`` cannot be opened here, as a problem of the entry; None where nothing speaks against it."""

    def unwraps(self, spec: KeySpec) -> tuple[str | None, Untold]:
        """Why the wrapped key in ``source``, opened for a look, is not as declared, as a problem of the entry, None where nothing speaks
        against it; and what is declared of it that nothing tells. Raises :class:`Cryptoki` where the device is at fault."""

    def importable(self, spec: KeySpec) -> Cryptoki | None:
        """Why the token does not take the key in ``source``, or has not the curve of one that is to be generated; None where nothing
        speaks against it."""

    def fingerprint(self, key: Key) -> str | None:
        """The key's fingerprint as the token gives it, or as it can be computed with it; None where neither goes."""

    def healthy(self) -> bool:
        """Whether a round trip with a fresh key of this session works."""


def is_hollow(item: KeyObject, look: Look) -> bool:
    """Whether a key object of a type that we make holds nothing usable, for certain. What cannot be told is not hollow."""
    if item.type == "unknown":
        return True
    if item.type not in KEY_TYPES:
        return False
    if item.kind == PUBLIC:
        return item.public_key is None
    return item.empty or look.empty(Key(**{item.kind: item}))
