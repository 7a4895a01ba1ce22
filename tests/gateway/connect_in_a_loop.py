# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""TLS handshakes with a server, ten begun in a second, each in a thread of its own. A line of JSON for each: when it began, and the
certificate's fingerprint or the error. Arguments: the address, and the file."""

from __future__ import annotations

import hashlib
import json
import socket
import ssl
import sys
import threading
import time
from typing import IO


def connect(host: str, told: IO[str]) -> None:
    row: dict[str, str | float] = {"at": time.time()}
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    # The certificate is compared by who reads the file.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with socket.create_connection((host, 443), timeout=20) as plain, context.wrap_socket(plain) as made:
            row["certificate"] = hashlib.sha256(made.getpeercert(True) or b"").hexdigest()
    except OSError as error:
        row["error"] = repr(error)
    told.write(json.dumps(row) + "\n")


def main(host: str, out: str) -> None:
    with open(out, "w", buffering=1) as told:
        while True:
            threading.Thread(target=connect, args=(host, told), daemon=True).start()
            time.sleep(0.1)


if __name__ == "__main__":
    main(*sys.argv[1:])
