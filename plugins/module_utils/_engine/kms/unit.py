# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""What the unit of the Eviden KMS server has to give it on this host, for what the configuration names to work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..._model.kms.config import Served
from ..._model.kms.unit import folders_of, unit_environment
from ..files.softhsm import token_directory


def unit_needs(settings: Mapping[str, Any], instances: Sequence[Served]) -> dict[str, Any]:
    """``environment`` and ``writable_paths`` of the unit. SoftHSM2 cannot even read tokens where it may not write."""
    paths = folders_of(settings)
    for instance in instances:
        if instance.spec.model == "softhsm2":
            own = instance.spec.environment.get("SOFTHSM2_CONF")
            folder = token_directory(own) if own else token_directory()
            paths += [str(folder)] if folder is not None else []
    return {"environment": unit_environment(instances), "writable_paths": sorted(set(paths))}
