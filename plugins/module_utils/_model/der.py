# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""A value in DER (X.690, section 8.1), made without any library."""

from __future__ import annotations

BIT_STRING, OCTET_STRING, OBJECT_IDENTIFIER, UTF8_STRING, SEQUENCE = 0x03, 0x04, 0x06, 0x0C, 0x30


def der_value(tag: int, content: bytes) -> bytes:
    """Tag, length and content. ``content`` has less than 64 KiB."""
    size = len(content)
    length = bytes([size]) if size < 0x80 else bytes([0x81, size]) if size < 0x100 else bytes([0x82]) + size.to_bytes(2, "big")
    return bytes([tag]) + length + content
