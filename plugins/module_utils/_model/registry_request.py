# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""The options of hsm_registry as one value."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .errors import InputError
from .quoting import text_problem

REPORTED, SAVED, RESTORED, ABSENT = "reported", "saved", "restored", "absent"


@dataclass(frozen=True)
class RegistryRequest:
    """``registry``, ``path`` and ``src`` are paths on the target. ``path`` is the backup's, ``src`` another copy of it.

    ``instances`` are the names that the host declares; None where nobody said which. ``over`` lets go of a registry that holds anything.
    """

    registry: str
    state: str
    path: str | None
    src: str | None
    host: str | None
    instances: tuple[str, ...] | None
    over: bool

    @classmethod
    def parse(cls, params: Mapping[str, Any]) -> RegistryRequest:
        """The request that ``params``, the module's options, make. Raises :class:`InputError` with every problem."""
        state, instances = params["state"], params["instances"]
        needed = ("path", "host") if state in (SAVED, RESTORED) else ()
        problems = [f"{name}: is required with state: {state}" for name in needed if not params[name]]
        problems += [f"{name}: is not an absolute path" for name in ("path", "src") if params[name] and not os.path.isabs(params[name])]
        texts = {name: params[name] or "" for name in ("path", "src", "host")}
        problems += [f"{name}: {problem}" for name, text in texts.items() if (problem := text_problem(text))]
        if params["src"] and state != SAVED:
            problems.append(f"src: has no use with state: {state}")
        if problems:
            raise InputError(problems)
        names = None if instances is None else tuple(instances)
        return cls(params["registry"], state, params["path"], params["src"], params["host"], names, params["over"])
