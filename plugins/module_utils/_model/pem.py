# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""PEM as it comes out of variables and environments."""

from __future__ import annotations


def with_lines(data: bytes) -> bytes:
    """PEM whose line ends were written out as two characters, backslash and n, with line ends. No PEM has a backslash."""
    return data.replace(b"\\r", b"").replace(b"\\n", b"\n") if b"-----BEGIN " in data else data
