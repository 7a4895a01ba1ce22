# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""What the unit of the Eviden KMS server has to give it on this host, and what it cannot give, for what the configuration names to work."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..._model.kms.config import Declared, Served
from ..._model.kms.request import KmsConfigRequest
from ..._model.kms.unit import (
    folders_of,
    is_hidden,
    machine_problems,
    paths_of,
    reference_problems,
    root_may_write,
    unit_environment,
)
from ..files.softhsm import token_directory


def unit_needs(settings: Mapping[str, Any], instances: Sequence[Served]) -> dict[str, Any]:
    """``environment`` and ``writable_paths`` of the unit. SoftHSM2 cannot even read tokens where it may not write."""
    paths = folders_of(settings) + [str(folder) for instance in instances if (folder := _tokens_of(instance)) is not None]
    return {"environment": unit_environment(instances), "writable_paths": sorted(set(paths))}


def _tokens_of(instance: Declared) -> Path | None:
    if instance.spec.model != "softhsm2":
        return None
    own = instance.spec.environment.get("SOFTHSM2_CONF")
    return token_directory(own) if own else token_directory()


def unit_problems(request: KmsConfigRequest) -> list[str]:
    """What the server could not do on this host, in the unit of its package where it runs in that. Asks no HSM."""
    problems = machine_problems(request.instances, os.uname().machine)
    if not request.packaged_unit:
        return problems
    paths = list(paths_of(request.settings, request.instances))
    paths += [
        (f"{instance.where}: its tokens are in {folder}, which", str(folder))
        for instance in request.instances
        if (folder := _tokens_of(instance)) is not None
    ]
    for place, path in paths:
        if is_hidden(path) or is_hidden(os.path.realpath(path)):
            text = place if place.endswith("which") else f"{place}: {path}"
            problems.append(f"{text} is below /root or /home, where the server's unit reaches nothing (ProtectHome): move it elsewhere")
    return problems + reference_problems(request.settings, request.instances, request.environment)


def unwritable_tokens(instances: Sequence[Served]) -> list[str]:
    """Tokens of SoftHSM2 that the unit's process, root without CAP_DAC_OVERRIDE, cannot write: keys are not made in them, and AES fails."""
    problems = []
    for instance in instances:
        folder = _tokens_of(instance)
        for token, seen in zip(instance.spec.tokens, instance.seen, strict=True):
            if folder is None or seen is None or not seen.serial:
                continue
            try:
                closed = [path for home in _homes(folder, seen.serial) for path in (home, *sorted(home.iterdir())) if not _is_open(path)]
            except OSError as error:
                problems.append(f"{instance.where}.{token.where}: its files in {folder} cannot be looked at: {error.strerror}")
                continue
            if closed:
                first, status = closed[0], closed[0].stat()
                whose = f"owner {status.st_uid}, group {status.st_gid}, mode {stat.S_IMODE(status.st_mode):04o}"
                more = f" and {len(closed) - 1} more" if len(closed) > 1 else ""
                problems.append(
                    f"{instance.where}.{token.where}: the server's unit is root without CAP_DAC_OVERRIDE and cannot write {first} ({whose})"
                    f"{more}. Give them to root: chown -R root {first if first.is_dir() else first.parent}"
                )
    return problems


def _homes(folder: Path, serial: str) -> Iterator[Path]:
    """A token's folder is named by a UUID that ends with its serial number."""
    return (path for path in folder.iterdir() if path.name.replace("-", "").endswith(serial) and path.is_dir())


def _is_open(path: Path) -> bool:
    try:
        status = path.stat()
    except FileNotFoundError:
        return True  # removed meanwhile
    return root_may_write(status.st_uid, status.st_gid, status.st_mode)
