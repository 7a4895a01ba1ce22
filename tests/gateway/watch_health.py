# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What gateways answer to GET /health, ten times a second. A line of JSON for each change: when, the gateway, the status (0: no answer),
and how many probes it has made. Arguments: the file, and the gateways."""

from __future__ import annotations

import http.client
import json
import re
import sys
import threading
import time
from contextlib import closing
from typing import IO


def ask(host: str, path: str) -> tuple[int, str]:
    with closing(http.client.HTTPConnection(host, 4441, timeout=2)) as connection:
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except (OSError, http.client.HTTPException):
            return 0, ""


def probes(host: str) -> dict[str, float]:
    """How many probes of each instance there were."""
    found = re.findall(r'^keyfleet_probes_total\{.*?instance="([^"]+)".*?\} (\S+)$', ask(host, "/metrics")[1], re.MULTILINE)
    return {name: float(count) for name, count in found}


def watch(host: str, told: IO[str]) -> None:
    last = None
    while True:
        status, at = ask(host, "/health")[0], time.time()
        if status != last:
            told.write(json.dumps({"at": at, "host": host, "status": status, "probes": probes(host)}) + "\n")
            last = status
        time.sleep(0.1)


def main(out: str, *hosts: str) -> None:
    with open(out, "w", buffering=1) as told:
        for host in hosts:
            threading.Thread(target=watch, args=(host, told), daemon=True).start()
        threading.Event().wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
