# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""On a gateway: what its health service answers, to whom, and how it is confined. Arguments: the host's name, and the clients' folder."""

from __future__ import annotations

import http.client
import re
import ssl
import subprocess
import sys

host, pki = sys.argv[1:]
MOST = 2.5


def ask(path: str, client: str | None = None) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", 4441, timeout=30)
    if client is not None:
        context = ssl.create_default_context(cafile=f"{pki}/gateways.pem")
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # these CAs leave out what Python 3.13 asks for
        context.load_cert_chain(f"{pki}/{client}.pem")
        connection = http.client.HTTPSConnection(host, 4440, timeout=30, context=context)
    connection.request("GET", path)
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


print("health", ask("/health")[0])
print("status", ask("/hsm/status")[0])
tokens = (f"one-{host}", f"many-{host}")
anybody, known = ask("/")[1], ask("/", "known")[1]
if ">Healthy<" not in re.sub(r"<span[^>]*>[^<]*</span> ", "", anybody) or any(token in anybody for token in tokens):
    print(anybody)
print("page for anybody")
if not all(f"<bdi>{token}</bdi>" in known for token in tokens) or "all healthy" not in known:
    print(known)
print("page with both tokens")
for unit in ("keyfleet-gateway.service", "keyfleet-gateway-registry.service"):
    judged = subprocess.run(["/usr/bin/systemd-analyze", "security", unit], capture_output=True, text=True, check=True).stdout
    level = float(re.findall(r"exposure level for \S+: ([0-9.]+)", judged)[0])
    print(unit, f"below {MOST}" if level < MOST else judged)
