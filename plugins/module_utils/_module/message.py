# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""A text for people, whatever a token, a library or an inventory has put into it."""

from __future__ import annotations

from .._model.quoting import one_line

MOST = 2000  # characters of msg


def readable(text: str, whole: str = "message") -> tuple[str, str]:
    """``text`` without raw control characters, line breaks apart, and of at most :data:`MOST` characters; and the whole of it where
    it was longer, else an empty text. ``whole`` is the field of ``failure.details`` that has all of it."""
    plain = "\n".join(map(one_line, text.split("\n")))
    if len(plain) <= MOST:
        return plain, ""
    end = f"\n... {len(plain)} characters, all of them in failure.details.{whole}"
    shown = plain[: MOST - len(end)]
    return shown[: shown.rfind("\n")] + end if "\n" in shown[MOST // 2 :] else shown + end, plain
