# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""What the unit of the Eviden KMS server has to give it on this host, for what the configuration names to work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..._model.kms.config import Served
from ..._model.kms.unit import folders_of, unit_environment

# Where SoftHSM2 looks when SOFTHSM2_CONF is not set, as Debian and Fedora build it.
_SOFTHSM_FILES = ("/etc/softhsm/softhsm2.conf", "/etc/softhsm2.conf")


def unit_needs(settings: Mapping[str, Any], instances: Sequence[Served]) -> dict[str, Any]:
    """``environment`` and ``writable_paths`` of the unit. SoftHSM2 cannot even read tokens where it may not write."""
    paths = folders_of(settings)
    for instance in instances:
        if instance.spec.model == "softhsm2":
            paths += _token_folder(instance.spec.environment.get("SOFTHSM2_CONF"))
    return {"environment": unit_environment(instances), "writable_paths": sorted(set(paths))}


def _token_folder(configuration: str | None) -> list[str]:
    """The token directory that SoftHSM2's own configuration names; none where there is no such file yet, in check mode."""
    for path in [configuration] if configuration else _SOFTHSM_FILES:
        try:
            lines = Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            continue
        for line in lines:
            name, _equals, value = line.partition("=")
            if name.strip() == "directories.tokendir" and value.strip().startswith("/"):
                return [value.strip()]
    return []
