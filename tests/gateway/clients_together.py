# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Several clients of one token, each a process. Answers each line of its input with a line of JSON.

Arguments: the PKCS#11 library, the token's label, its PIN, and how many clients. Lines:

- ``open``: all log in, one after the other, and stay.
- ``rsa 2`` or ``ec 2``: all sign for two seconds with that key. The answer is how many signatures each has made.
- ``login 8``: all log in at the same moment, sign once, and finalize the library, eight times. The answer is each one's list of errors.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
import time
from multiprocessing.connection import Connection
from typing import Any

import pkcs11

MECHANISMS = {"rsa": pkcs11.Mechanism.SHA256_RSA_PKCS, "ec": pkcs11.Mechanism.ECDSA}
DATA = bytes(32)


class Client:
    def __init__(self, library: str, label: str, pin: str) -> None:
        self.library, self.label, self.pin = library, label, pin
        self.keys: dict[str, Any] = {}

    def open(self) -> None:
        session = pkcs11.lib(self.library).get_token(token_label=self.label).open(user_pin=self.pin)
        private = pkcs11.ObjectClass.PRIVATE_KEY
        self.keys = {name: session.get_key(label=name, object_class=private) for name in MECHANISMS}

    def rate(self, name: str, seconds: float) -> int:
        key, mechanism = self.keys[name], MECHANISMS[name]
        made, until = 0, time.monotonic() + seconds
        while time.monotonic() < until:
            key.sign(DATA, mechanism=mechanism)
            made += 1
        return made

    def logins(self, times: int) -> list[str]:
        errors = []
        for _time in range(times):
            try:
                self.open()
                self.keys["ec"].sign(DATA, mechanism=MECHANISMS["ec"])
            except Exception as error:
                errors.append(f"{type(error).__name__} {error}")
            try:
                pkcs11.lib(self.library).finalize()
            except Exception as error:
                errors.append(f"finalize: {type(error).__name__}")
        return errors


def serve(orders: Connection, client: Client) -> None:
    while order := orders.recv():
        word, _blank, argument = order.partition(" ")
        try:
            if word == "open":
                client.open()
                orders.send(None)
            elif word == "login":
                orders.send(client.logins(int(argument)))
            else:
                orders.send(client.rate(word, float(argument)))
        except Exception as error:
            orders.send(f"{type(error).__name__} {error}")


def main(library: str, label: str, pin: str, number: str) -> None:
    # The library is initialized in the children, each of which is a client of its own.
    context = multiprocessing.get_context("spawn")
    clients = []
    for _number in range(int(number)):
        ours, theirs = context.Pipe()
        context.Process(target=serve, args=(theirs, Client(library, label, pin)), daemon=True).start()
        clients.append(ours)
    for line in sys.stdin:
        answers = []
        for client in clients:
            client.send(line.strip())
            if line.startswith("open"):
                answers.append(client.recv())
        answers = answers or [client.recv() for client in clients]
        print(json.dumps(answers), flush=True)
    for client in clients:
        client.send("")


if __name__ == "__main__":
    main(*sys.argv[1:])
