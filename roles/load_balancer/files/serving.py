# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Prints the description of the HAProxy that serves now, as its socket tells it, or an empty line. Runs on the target.

Then a line for each gateway that HAProxy has no address of: its name in HAProxy, the name that did not resolve, and whether it
resolves now.

Arguments: the socket, the description that is expected, and how many seconds to wait for it.
"""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Iterator


def ask(path: str, command: str) -> list[str]:
    with socket.socket(socket.AF_UNIX) as haproxy:
        haproxy.settimeout(5)
        try:
            haproxy.connect(path)
            haproxy.sendall(command.encode() + b"\n")
            with haproxy.makefile(encoding="utf-8", errors="replace") as lines:
                return lines.read().splitlines()
        except PermissionError:
            sys.exit(f"{path}: this user may not ask HAProxy. Run the role as root (become: true).")
        # HAProxy does not run, does not answer, or its old process went in this moment.
        except OSError:
            return []


def description(path: str) -> str:
    told = dict(line.strip().partition(": ")[::2] for line in ask(path, "show info"))
    return told.get("description", "")


def without_address(path: str) -> Iterator[tuple[str, str]]:
    """Name and host name of each."""
    for line in ask(path, "show servers state gateways"):
        fields = line.split()
        # After the backend and the server: the address, and in the 18th place the name that the configuration has.
        if len(fields) > 17 and fields[1] == "gateways" and fields[4] == "-":
            yield fields[3], fields[17]


def resolves(name: str) -> bool:
    try:
        return bool(socket.getaddrinfo(name, None))
    except OSError:
        return False


def main(path: str, expected: str, seconds: str) -> None:
    deadline = time.monotonic() + float(seconds)
    found = description(path)
    while found != expected and time.monotonic() < deadline:
        time.sleep(0.2)
        found = description(path)
    print(found)
    for gateway, name in without_address(path):
        print(gateway, name, "resolves" if resolves(name) else "unknown")


if __name__ == "__main__":
    main(*sys.argv[1:])
