# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Prints the description of the HAProxy that serves now, as its socket tells it, or an empty line. Runs on the target.

Arguments: the socket, the description that is expected, and how many seconds to wait for it.
"""

from __future__ import annotations

import socket
import sys
import time


def description(path):
    with socket.socket(socket.AF_UNIX) as haproxy:
        haproxy.settimeout(5)
        try:
            haproxy.connect(path)
            haproxy.sendall(b"show info\n")
            with haproxy.makefile(encoding="utf-8", errors="replace") as lines:
                told = dict(line.strip().partition(": ")[::2] for line in lines)
        # HAProxy does not run, or its old process went in this moment.
        except (FileNotFoundError, ConnectionError):
            return ""
    return told.get("description", "")


def main(path, expected, seconds):
    deadline = time.monotonic() + float(seconds)
    found = description(path)
    while found != expected and time.monotonic() < deadline:
        time.sleep(0.2)
        found = description(path)
    print(found)


if __name__ == "__main__":
    main(*sys.argv[1:])
