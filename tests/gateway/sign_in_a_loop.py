# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A program that signs, written for a gateway that may fail: after an error it initializes the library anew and looks for its key again.

Arguments: the PKCS#11 library, the token's label, its PIN, a folder with rsa.pub and ec.pub, and the file for a line of JSON on each try:
when it began, how long it took, and the key and the token that signed, or what was tried and the error. Every signature is verified.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pkcs11
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils
from cryptography.hazmat.primitives.serialization import load_pem_public_key

PAUSE = 0.02  # seconds between two signatures
RETRY = 0.25  # and after an error
DATA = bytes(32)


class Signer:
    """The keys of one token, in a session of its own."""

    def __init__(self, library: str, label: str, pin: str, folder: Path) -> None:
        token = pkcs11.lib(library).get_token(token_label=label)
        self.serial = bytes(token.serial).decode().strip()
        session = token.open(user_pin=pin)
        private = pkcs11.ObjectClass.PRIVATE_KEY
        self.keys: dict[str, Any] = {name: session.get_key(label=name, object_class=private) for name in ("rsa", "ec")}
        self.public = {name: load_pem_public_key((folder / f"{name}.pub").read_bytes()) for name in self.keys}

    def sign(self, name: str) -> None:
        """Raises what the library or the verification says."""
        public = self.public[name]
        if isinstance(public, rsa.RSAPublicKey):
            made = self.keys[name].sign(DATA, mechanism=pkcs11.Mechanism.SHA256_RSA_PKCS)
            public.verify(made, DATA, padding.PKCS1v15(), hashes.SHA256())
        elif isinstance(public, ec.EllipticCurvePublicKey):
            made = self.keys[name].sign(DATA, mechanism=pkcs11.Mechanism.ECDSA)
            both = utils.encode_dss_signature(int.from_bytes(made[:32], "big"), int.from_bytes(made[32:], "big"))
            public.verify(both, DATA, ec.ECDSA(utils.Prehashed(hashes.SHA256())))


def main(library: str, label: str, pin: str, folder: str, out: str) -> None:
    signer: Signer | None = None
    with open(out, "w", buffering=1) as told:
        for name in itertools.cycle(("rsa", "ec")):
            began, clock = time.time(), time.monotonic()
            row: dict[str, Any] = {"at": began, "key": name, "doing": "connect" if signer is None else "sign"}
            try:
                signer = signer or Signer(library, label, pin, Path(folder))
                signer.sign(name)
                row["serial"] = signer.serial
            except Exception as error:
                row["error"] = type(error).__name__
                signer = None
                with suppress(Exception):
                    pkcs11.lib(library).finalize()
            row["took"] = time.monotonic() - clock
            told.write(json.dumps(row) + "\n")
            time.sleep(RETRY if "error" in row else PAUSE)


if __name__ == "__main__":
    main(*sys.argv[1:])
