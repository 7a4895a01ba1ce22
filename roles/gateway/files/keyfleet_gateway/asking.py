# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Have a probe made, in a process of its own, whose imports are its own, too."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

_MOST_BYTES = 16 * 1024 * 1024


class ProbeError(Exception):
    """A probe that gave nothing about the tokens. ``code`` as the failure codes of the modules."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


async def ask(request: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    """:func:`.probe.answer`, from a process that has ``seconds`` for it.

    It is ended with all its children then. Raises :class:`ProbeError`.
    """
    isolated = ["-I"] if sys.flags.isolated else []
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, *isolated, "-m", f"{__package__}.probe"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
        limit=_MOST_BYTES,
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(json.dumps(request).encode("utf-8")), seconds)
    except asyncio.TimeoutError:
        raise ProbeError(f"the probe gave no answer within {seconds:g} seconds", "probe_timeout") from None
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
    try:
        told = json.loads(out)
    except ValueError:
        last = err.decode("utf-8", "replace").strip().rpartition("\n")[2]
        raise ProbeError(f"the probe ended with status {process.returncode}: {last or 'it said nothing'}", "probe_crashed") from None
    if "error" in told:
        raise ProbeError(told["error"], told["code"])
    answered: dict[str, Any] = told
    return answered
