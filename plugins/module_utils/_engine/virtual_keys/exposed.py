# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""Which keys of a token can be had in clear by whoever may use another one: that wraps them, and decrypts what comes out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ..._model.keys.objects import Key
from ..._model.keys.types import EXPOSING, PUBLIC


class Exposure(NamedTuple):
    """``by`` may wrap and decrypt, and gives ``keys`` away; it is one of them where it is extractable itself."""

    by: Key
    keys: tuple[Key, ...]


def exposures(keys: Sequence[Key]) -> list[Exposure]:
    """Every key that gives others away, in the order of ``keys``. A key that only a trusted one may wrap is safe from all others
    (CKA_WRAP_WITH_TRUSTED, PKCS#11 3.1, section 4.8)."""
    leaving = [key for key in keys if key.main.kind != PUBLIC and key.main.extractable and key.main.sensitive is not False]
    found = []
    for by in keys:
        if not set(by.operations) >= EXPOSING:
            continue
        wrapping = by.public or by.main
        given = tuple(key for key in leaving if wrapping.trusted or not key.main.wrap_with_trusted)
        if given:
            found.append(Exposure(by, given))
    return found
