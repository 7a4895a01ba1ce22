# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""What a probe of one token found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import Cryptoki, KeyfleetError
from ..faults import is_device_fault


@dataclass(frozen=True)
class TokenStatus:
    """``accessible``: opened, logged in, and (unless only a login was asked for) a round trip worked just now.

    ``probe`` is what the token did in it, and ``probe_refused`` what it answered to what was tried before, return values by name.
    ``device_fault`` tells a fault of the HSM from a mistake of its caller; both make the token inaccessible.
    """

    slot_id: int | None = None
    label: str | None = None
    serial: str | None = None
    accessible: bool = False
    error: str | None = None
    code: str | None = None
    device_fault: bool = False
    pin_state: str = "unknown"
    probe: str | None = None
    probe_refused: Mapping[str, str] = field(default_factory=dict)

    def as_slot(self) -> dict[str, Any]:
        """The form of one entry of ``slots`` in hsm_status."""
        return {
            "slot_id": self.slot_id,
            "accessible": self.accessible,
            "probe": self.probe,
            "probe_refused": dict(self.probe_refused),
            "label": self.label,
            "serial": self.serial,
            "error": self.error,
            "code": self.code,
            "device_fault": self.device_fault,
            "pin_state": self.pin_state,
        }


def fault_fields(error: KeyfleetError) -> dict[str, Any]:
    """The fields that an error sets."""
    return {
        "accessible": False,
        "error": error.message,
        "code": error.code,
        "device_fault": error.device if isinstance(error, Cryptoki) else is_device_fault(error.code),
    }
