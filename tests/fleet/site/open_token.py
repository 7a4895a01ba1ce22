# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run on a host as root: can a token be used from inside a service's sandbox, as the service would use it?

Goes into the service's control group and its mount namespace, becomes its user, takes its environment, and there logs in, makes a
key, uses it and destroys it. The library is the one that the service's own variable names. Prints the token's serial number, or
why it does not go.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

# The PIN comes through stdin: arguments and environment can be read by others.
INSIDE = """
import os, sys
import pkcs11
token = pkcs11.lib(os.environ[sys.argv[1]]).get_token(token_label=sys.argv[2])
with token.open(rw=True, user_pin=sys.stdin.readline().rstrip("\\n")) as session:
    key = session.generate_key(pkcs11.KeyType.AES, 256, label="of a test", store=True)
    vector = session.generate_random(128)
    assert key.decrypt(key.encrypt(b"here I am", mechanism_param=vector), mechanism_param=vector) == b"here I am"
    key.destroy()
print(token.serial.decode())
"""


def main() -> int:
    unit, variable, label, pin_file = sys.argv[1:]
    shown = subprocess.run(["systemctl", "show", "--property=MainPID,ControlGroup", unit], capture_output=True, text=True, check=True)
    properties = dict(line.split("=", 1) for line in shown.stdout.splitlines())
    process = Path("/proc") / properties["MainPID"]
    environment = dict(entry.split("=", 1) for entry in (process / "environ").read_text().split("\0") if entry)
    status = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines() if ":" in line)
    ids = {name: status[name].split()[1] for name in ("Uid", "Gid")}
    groups = ",".join(status["Groups"].split()) or ids["Gid"]
    Path(f"/sys/fs/cgroup{properties['ControlGroup']}/cgroup.procs").write_text(str(os.getpid()))
    enter = ["nsenter", f"--target={properties['MainPID']}", "--mount"]
    user = ["setpriv", f"--reuid={ids['Uid']}", f"--regid={ids['Gid']}", f"--groups={groups}"]
    python = ["/opt/keyfleet/venv/bin/python", "-c", INSIDE, variable, label]
    return subprocess.run([*enter, *user, *python], input=Path(pin_file).read_text(), text=True, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
