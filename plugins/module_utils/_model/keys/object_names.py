# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""How objects beside a key are called on a token."""

from __future__ import annotations

from typing import NamedTuple


class Names(NamedTuple):
    """CKA_ID and CKA_LABEL of an object."""

    id: bytes
    label: str

    def shown(self) -> dict[str, str]:
        return {"id": self.id.hex(), "label": self.label}


class CertificateName(NamedTuple):
    """A certificate on a token. ``value`` is its DER."""

    handle: int
    names: Names
    value: bytes
