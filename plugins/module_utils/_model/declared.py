# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""What every reader of a declaration asks of its entries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def is_absent(entry: Any) -> bool:
    """Whether an entry of hsm_instances or hsm_groups says that it shall go. What is no entry says nothing."""
    return isinstance(entry, Mapping) and entry.get("state") == "absent"
