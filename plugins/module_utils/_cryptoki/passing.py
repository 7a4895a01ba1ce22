# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""Objects that are made for one look and stay in the session."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from .binding import pkcs11


@contextmanager
def for_a_moment(raw: Any) -> Iterator[Any]:
    """A session object, destroyed at the end. One that cannot be goes with the session; what it was made for counts all the same."""
    try:
        yield raw
    finally:
        with suppress(pkcs11.PKCS11Error):
            raw.destroy()
