# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What an application host has of the gateway: signatures, refusals, and its turn. Prints one line for each thing seen.

Arguments: the gateway's name, the folder with certificates, the gateway's address. Runs with the modules' Python.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

LIBRARIES = "/usr/lib/x86_64-linux-gnu"
PROXY = f"{LIBRARIES}/p11-kit-proxy.so"
# One HSM alone: the proxy connects to all, and the other one takes a single client.
CLIENT = f"{LIBRARIES}/pkcs11/p11-kit-client.so"
MANY = {"P11_KIT_SERVER_ADDRESS": "unix:path=/run/keyfleet-client/many.sock"}
PIN = "271828"  # of a token that is made for this test
SIGN = """
import sys, pkcs11
with pkcs11.lib(sys.argv[1]).get_token(token_label=sys.argv[2]).open(user_pin=sys.argv[3]) as session:
    for key, mechanism in (("rsa", pkcs11.Mechanism.SHA256_RSA_PKCS), ("ec", pkcs11.Mechanism.ECDSA)):
        private = session.get_key(label=key, object_class=pkcs11.ObjectClass.PRIVATE_KEY)
        print("python-pkcs11", key, len(private.sign(b"x" * 32, mechanism=mechanism)))
"""
HOLD = """
import sys, time, pkcs11
begun = time.monotonic()
try:
    pkcs11.lib(sys.argv[1]).get_token(token_label=sys.argv[2])
    print("in", time.monotonic() - begun, flush=True)
    sys.stdin.read()
except Exception as error:
    print("out", time.monotonic() - begun, flush=True)
"""


def run(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def sign(token: str) -> None:
    """An RSA and an EC key, with OpenSSL, which also verifies, and with python-pkcs11."""
    Path("data").write_bytes(b"x" * 32)
    for key in ("rsa", "ec"):
        uri = f"pkcs11:token={token};object={key}"
        engine = ("-engine", "pkcs11")
        run(
            "openssl",
            "pkey",
            *engine,
            "-inform",
            "engine",
            "-pubin",
            "-in",
            f"{uri};type=public?pin-value={PIN}",
            "-pubout",
            "-out",
            f"{key}.pub",
        )
        secret = f"{uri};type=private?pin-value={PIN}"
        run("openssl", "dgst", *engine, "-keyform", "engine", "-sha256", "-sign", secret, "-out", f"{key}.openssl", "data")
        print("openssl", key, run("openssl", "dgst", "-sha256", "-verify", f"{key}.pub", "-signature", f"{key}.openssl", "data").strip())
    # A process of its own: one that has initialized the library holds its place.
    print(run(sys.executable, "-c", SIGN, PROXY, token, PIN).strip())


def shows(address: str, folder: Path, name: str | None) -> None:
    """Whether the gateway keeps the connection of one who shows this certificate."""
    shown = ["-cert", str(folder / f"{name}.crt"), "-key", str(folder / f"{name}.key")] if name else []
    command = ["openssl", "s_client", "-quiet", "-connect", address, *shown]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as client:
        try:
            client.wait(2)
            print("refused", name)
        except subprocess.TimeoutExpired:
            print("let in", name)
            client.kill()


def take_turns(token: str) -> None:
    """Two hold, the third is refused after 3 seconds, the fourth gets in when one leaves."""

    def client() -> subprocess.Popen[str]:
        command = [sys.executable, "-c", HOLD, CLIENT, token]
        return subprocess.Popen(command, env=MANY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def seen(one: subprocess.Popen[str]) -> tuple[str, float]:
        word, seconds = (one.stdout or sys.stdin).readline().split()
        return word, float(seconds)

    holders = [client(), client()]
    print("two", *(seen(one)[0] for one in holders))
    word, seconds = seen(client())
    print("third", word, seconds > 2.9)
    fourth = client()
    time.sleep(1)
    holders[0].kill()
    print("fourth", seen(fourth)[0])
    for one in (*holders, fourth):
        one.kill()


def main(host: str, folder: str, address: str) -> None:
    sign(f"one-{host}")
    for name in ("known", "foreign", "revoked", "unnamed", None):
        shows(f"{address}:4442", Path(folder), name)
    take_turns(f"many-{host}")


if __name__ == "__main__":
    main(*sys.argv[1:])
