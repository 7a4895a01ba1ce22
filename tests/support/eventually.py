# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What another process is about to do."""

from __future__ import annotations

import time
from collections.abc import Callable


def eventually(seen: Callable[[], bool]) -> None:
    """Fails after half a minute."""
    until = time.monotonic() + 30
    while not seen():
        assert time.monotonic() < until
        time.sleep(0.01)
