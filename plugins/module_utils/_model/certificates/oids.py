# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""Dotted object identifiers, checked without any library."""

from __future__ import annotations

import re

_OID = re.compile(r"[0-2](?:\.(?:0|[1-9][0-9]{0,38})){1,30}\Z")
_MAX_ARC, _MAX_OID_BYTES = 2**128 - 1, 63  # what the library can write; an OID made from a UUID has 128 bits (X.667)


def is_oid(text: str) -> bool:
    """Whether it is a dotted OID that can be written (X.690, section 8.19)."""
    if not _OID.match(text):
        return False
    first, second, *rest = (int(part) for part in text.split("."))
    if first < 2 and second > 39:
        return False
    arcs = (40 * first + second, *rest)
    return max(arcs) <= _MAX_ARC and sum(max(1, (arc.bit_length() + 6) // 7) for arc in arcs) <= _MAX_OID_BYTES
