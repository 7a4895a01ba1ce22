# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""What every reader of a declaration asks of its entries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Fields of a token that hold or name a secret, or that make a token anew. Its PIN file is none: who may read it is up to the host.
SECRETS = ("pin", "new_pin", "so_pin", "so_pin_file", "initialize")


def is_absent(entry: Any) -> bool:
    """Whether an entry of hsm_instances or hsm_groups says that it shall go. What is no entry says nothing."""
    return isinstance(entry, Mapping) and entry.get("state") == "absent"


def without_secrets(entry: Any) -> Any:
    """An entry of hsm_instances whose tokens have none of :data:`SECRETS`. What is no entry stays as it is."""
    if not isinstance(entry, Mapping) or not isinstance(entry.get("tokens"), (list, tuple)):
        return entry
    return {**entry, "tokens": [_without_secrets(token) for token in entry["tokens"]]}


def _without_secrets(token: Any) -> Any:
    return {name: value for name, value in token.items() if name not in SECRETS} if isinstance(token, Mapping) else token
