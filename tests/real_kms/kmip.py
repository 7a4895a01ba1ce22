# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""KMIP 2.1 as the server takes it at ``/kmip/2_1``: TTLV in JSON, one operation a request.

A node is ``{"tag", "type", "value"}``; bytes are hexadecimal. An operation that the server refuses raises :class:`Refused` with the
server's words.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from typing import Any

Node = dict[str, Any]
GCM = ("CryptographicParameters", [("CryptographicAlgorithm", "AES"), ("BlockCipherMode", "GCM")])
# SoftHSM2 2.6.1 knows OAEP with SHA-1 alone.
OAEP = ("CryptographicParameters", [("CryptographicAlgorithm", "RSA"), ("PaddingMethod", "OAEP"), ("HashingAlgorithm", "SHA1")])
SHA256_RSA = ("CryptographicParameters", [("DigitalSignatureAlgorithm", "SHA256WithRSAEncryption")])


class Refused(Exception):
    """The server's answer to an operation that it did not do."""


def node(tag: str, value: Any) -> Node:
    """A node of TTLV: lists are structures, bytes and whole numbers what they are, and text is an enumeration but for identifiers."""
    if isinstance(value, (list, tuple)):
        return {"tag": tag, "type": "Structure", "value": [node(*child) for child in value]}
    if isinstance(value, bytes):
        return {"tag": tag, "type": "ByteString", "value": value.hex()}
    if isinstance(value, int):
        return {"tag": tag, "type": "Integer", "value": value}
    return {"tag": tag, "type": "TextString" if tag.endswith("Identifier") else "Enumeration", "value": value}


class Client:
    """Who asks the server at ``port`` of this machine, without authentication: the server takes it for its ``default_username``."""

    def __init__(self, port: int) -> None:
        self.port = port

    def get(self, path: str) -> Any:
        return json.loads(self._ask("GET", path, None))

    def call(self, operation: str, *fields: tuple[str, Any]) -> dict[str, Any]:
        """The fields of the answer by their tag; bytes as bytes.

        :raises Refused: as the server says
        """
        answer = json.loads(self._ask("POST", "/kmip/2_1", json.dumps(node(operation, list(fields)))))
        return {child["tag"]: _value(child) for child in answer["value"]}

    def _ask(self, method: str, path: str, body: str | None) -> str:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            text = response.read().decode(errors="replace")
        finally:
            connection.close()
        if response.status >= http.client.BAD_REQUEST:
            raise Refused(f"{response.status}: {text.strip()}")
        return text

    def encrypt(self, uid: str, data: bytes, parameters: tuple[str, Any] = GCM) -> dict[str, Any]:
        return self.call("Encrypt", ("UniqueIdentifier", uid), parameters, ("Data", data))

    def decrypt(self, uid: str, sealed: Mapping[str, Any], parameters: tuple[str, Any] = GCM) -> bytes:
        kept = [(tag, sealed[tag]) for tag in ("Data", "IVCounterNonce", "AuthenticatedEncryptionTag") if tag in sealed]
        data: bytes = self.call("Decrypt", ("UniqueIdentifier", uid), parameters, *kept)["Data"]
        return data

    def sign(self, uid: str, data: bytes) -> bytes:
        signature: bytes = self.call("Sign", ("UniqueIdentifier", uid), SHA256_RSA, ("Data", data))["SignatureData"]
        return signature

    def create(self, uid: str, size: int = 256) -> str:
        """An AES key in the HSM; its UID."""
        attributes = [("CryptographicAlgorithm", "AES"), ("CryptographicLength", size), ("ObjectType", "SymmetricKey")]
        asked = [("UniqueIdentifier", uid), *attributes]
        made: str = self.call("Create", ("ObjectType", "SymmetricKey"), ("Attributes", asked))["UniqueIdentifier"]
        return made

    def create_pair(self, uid: str, size: int = 2048) -> tuple[str, str]:
        """An RSA pair in the HSM; the UIDs of its private and its public half."""
        common = [("CryptographicAlgorithm", "RSA"), ("CryptographicLength", size)]
        made = self.call(
            "CreateKeyPair",
            ("CommonAttributes", common),
            ("PrivateKeyAttributes", [("UniqueIdentifier", uid), *common, ("ObjectType", "PrivateKey")]),
        )
        return made["PrivateKeyUniqueIdentifier"], made["PublicKeyUniqueIdentifier"]

    def locate(self) -> None:
        """Have the server look at all objects."""
        self.call("Locate", ("Attributes", []))

    def rekey(self, uid: str) -> str:
        made: str = self.call("ReKey", ("UniqueIdentifier", uid))["UniqueIdentifier"]
        return made


def _value(child: Node) -> Any:
    return bytes.fromhex(child["value"]) if child["type"] == "ByteString" else child["value"]
