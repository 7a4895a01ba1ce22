# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tell systemd how the service is (sd_notify(3)): a datagram to the socket that it names. Without systemd nothing is told."""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress

_SECONDS = 1.0


def notify(*states: str) -> None:
    """For example ``READY=1``. A service that cannot tell goes on."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address[:1] not in ("/", "@"):
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as connection:
        connection.settimeout(_SECONDS)  # nobody may be reading there
        connection.sendto("\n".join(states).encode("utf-8"), "\0" + address[1:] if address[0] == "@" else address)


def reloading() -> None:
    notify("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")


def watchdog_seconds() -> float | None:
    """How often systemd wants a sign of life, half of what it waits; None where it wants none."""
    microseconds, process = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID", str(os.getpid()))
    if not microseconds.isdigit() or process != str(os.getpid()):
        return None
    return int(microseconds) / 2_000_000
