# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What an application host has of the gateway: signatures, refusals, and its turn. Prints one line for each thing seen.

Arguments: the gateway's name, and the folder with certificates and the gateway's address; without these two it signs only. Runs with the
modules' Python.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

LIBRARIES = "/usr/lib/x86_64-linux-gnu"
PROXY = f"{LIBRARIES}/p11-kit-proxy.so"
# One HSM alone: the proxy connects to all, and the other one takes a single client.
CLIENT = f"{LIBRARIES}/pkcs11/p11-kit-client.so"
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


def socket_of(name: str) -> dict[str, str]:
    return {"P11_KIT_SERVER_ADDRESS": f"unix:path=/run/keyfleet-client/{name}.sock"}


def run(*command: str, **environment: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | environment).stdout


def sign(token: str) -> None:
    """An RSA and an EC key, with OpenSSL, which also verifies, pkcs11-tool and python-pkcs11."""
    Path("data").write_bytes(b"x" * 32)
    Path("digest").write_bytes(hashlib.sha256(b"x" * 32).digest())
    print("seen", run("pkcs11-tool", "--module", PROXY, "--list-slots").count(f" {token}\n"))
    # Each program waits some seconds for those that it does not reach: one that did is enough.
    for name in ("wrong", "rogue"):
        Path(f"/etc/pkcs11/modules/keyfleet-{name}.module").unlink(missing_ok=True)
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
        mechanism, file = ("SHA256-RSA-PKCS", "data") if key == "rsa" else ("ECDSA", "digest")
        signing = ("--sign", "--id", key.encode().hex(), "--mechanism", mechanism, "--signature-format", "openssl")
        files = ("--input-file", file, "--output-file", f"{key}.pkcs11-tool")
        run("pkcs11-tool", "--module", PROXY, "--token-label", token, "--login", "--pin", "env:PIN", *signing, *files, PIN=PIN)
        for program in ("openssl", "pkcs11-tool"):
            said = run("openssl", "dgst", "-sha256", "-verify", f"{key}.pub", "-signature", f"{key}.{program}", "data")
            print(program, key, said.strip())
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


def client(name: str, token: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", HOLD, CLIENT, token]
    return subprocess.Popen(command, env=socket_of(name), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def seen(one: subprocess.Popen[str]) -> tuple[str, float]:
    word, seconds = (one.stdout or sys.stdin).readline().split()
    return word, float(seconds)


def trusts(token: str, folder: Path) -> None:
    """Which servers the client takes: the gateway; the same under a name that it does not have; one whose certificate is of another CA."""
    shown = ["-cert", str(folder / "rogue.crt"), "-key", str(folder / "rogue.key")]
    command = ["openssl", "s_server", "-accept", "127.0.0.1:4450", *shown]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as rogue:
        for name in ("one", "wrong", "rogue"):
            asked = client(name, token)
            word = seen(asked)[0]
            asked.kill()
            asked.wait()
            if name == "rogue":
                rogue.terminate()
            why = " unknown ca" if name == "rogue" and "alert unknown ca" in (rogue.stdout or sys.stdin).read() else ""
            print("server", name, word + why)


def take_turns(token: str) -> None:
    """Two hold, the third is refused after 3 seconds, the fourth gets in when one leaves."""
    holders = [client("many", token), client("many", token)]
    print("two", *(seen(one)[0] for one in holders))
    word, seconds = seen(client("many", token))
    print("third", word, seconds > 2.9)
    fourth = client("many", token)
    time.sleep(1)
    holders[0].kill()
    print("fourth", seen(fourth)[0])
    for one in (*holders, fourth):
        one.kill()


def main(host: str, folder: str = "", address: str = "") -> None:
    sign(f"one-{host}")
    if not folder:
        return
    for name in ("known", "named", "foreign", "revoked", "unnamed", None):
        shows(f"{address}:4442", Path(folder), name)
    trusts(f"one-{host}", Path(folder))
    take_turns(f"many-{host}")


if __name__ == "__main__":
    main(*sys.argv[1:])
