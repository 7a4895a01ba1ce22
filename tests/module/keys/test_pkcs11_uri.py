# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The URIs that hsm_key, hsm_certificate and hsm_sync return, opened by GnuTLS, OpenSSL and OpenSC."""

from __future__ import annotations

import os
import re
import subprocess
from typing import Any
from urllib.parse import unquote, unquote_to_bytes

from ansible_collections.keyfleet.hsm.plugins.module_utils._model.keys.types import CURVES
from hsm_fixture import PIN, SOFTHSM, Hsm, ok

KEYS = (
    {"label": "dek-1", "type": "AES", "generation": 1},
    {"label": "dek-1", "type": "AES", "generation": 2},
    {"label": "web-tls", "type": "EC", "curve": "P-256"},
    {"label": "code;signing/ü?&=%", "type": "RSA", "size": 2048},
    {"label": "ssh", "type": "Ed25519"},
    {"label": "odd", "type": "EC", "curve": "P-384", "id": "ff00"},
    # Another key with the same label, which only CKA_ID and type tell from the private half of web-tls.
    {"label": "shared", "type": "AES", "id": "01"},
)
# One of each type that SoftHSM makes, and of each curve.
TYPES = (
    {"label": "aes", "type": "AES"},
    {"label": "des3", "type": "DES3"},
    {"label": "des", "type": "DES", "allow_weak": True},
    {"label": "mac", "type": "GENERIC_SECRET"},
    {"label": "rsa;signing/ü?&=%", "type": "RSA", "size": 2048},
    *({"label": f"ec-{curve}", "type": "EC", "curve": curve} for curve in CURVES),
    # Last: OpenSSL's engine of Debian 12 finds no key at all on a token that has one.
    {"label": "ed", "type": "Ed25519"},
)


def p11tool(hsm: Hsm, uri: str) -> list[str]:
    """The URIs of all that GnuTLS finds by this one."""
    command = ["p11tool", "--provider", SOFTHSM, "--batch", "--login", "--list-all", "--only-urls", uri]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **hsm.environment, "GNUTLS_PIN": PIN}, check=False)
    return [line for line in done.stdout.splitlines() if line.startswith("pkcs11:")]


def openssl(hsm: Hsm, uri: str) -> str:
    """The public half of the private key that OpenSSL's engine finds by this URI."""
    # libp11 takes a newline at the end for a part of the PIN.
    pin_file = hsm.scratch / "pin"
    pin_file.write_text(PIN)
    command = ["openssl", "pkey", "-engine", "pkcs11", "-inform", "engine", "-in", f"{uri}?pin-source=file:{pin_file}", "-pubout"]
    environment = {**os.environ, **hsm.environment, "PKCS11_MODULE_PATH": SOFTHSM}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=True).stdout


def listed(hsm: Hsm) -> list[tuple[str, str, str]]:
    """Class, label and CKA_ID of each object, as OpenSC lists them. Its pkcs11-tool takes the parts of a URI, and no URI."""
    found = re.findall(
        r"^(\w+) Key Object.*\n(?:  .*\n)*?  label:      (.*)\n  ID:         (.*)$", hsm.tool("--list-objects"), re.MULTILINE
    )
    classes = {"Secret": "secret-key", "Private": "private", "Public": "public"}
    return [(classes[kind], label, key_id) for kind, label, key_id in found]


def parts(uri: str) -> tuple[str, str, str]:
    """The same of a URI."""
    of = dict(part.split("=", 1) for part in uri.removeprefix("pkcs11:").split(";"))
    return of["type"], unquote(of["object"]), unquote_to_bytes(of["id"]).hex()


def test_each_uri_means_one_object(primary: Hsm) -> None:
    planned = ok(primary.keys(*KEYS, check=True))
    made = ok(primary.keys(*KEYS))
    uris = [entry["pkcs11_uri"] for entry in made["key_results"]]
    assert [entry["pkcs11_uri"] for entry in planned["key_results"]] == uris
    # The second generation is there, and the first is not asked for any more.
    assert [entry["pkcs11_uri"] for entry in ok(primary.keys(*KEYS[1:]))["key_results"]] == uris[1:]
    for key, uri in zip(KEYS, uris, strict=True):
        [found] = p11tool(primary, uri)
        kind = "secret-key" if key["type"] == "AES" else "private"
        assert uri.endswith(f";type={kind}") and f";type={kind}" in found, found
    gone = ok(primary.keys({"label": "shared", "state": "absent", "id": "01"}))
    assert gone["key_results"][0]["pkcs11_uri"] is None and p11tool(primary, uris[-1]) == []


def test_openssl_signs_with_a_uri(primary: Hsm) -> None:
    [entry] = ok(primary.keys(KEYS[2]))["key_results"]
    subject = {"commonName": "web.example.com"}
    stored = ok(primary.run("hsm_certificate", instance="primary", key_label="web-tls", subject=subject, self_signed={}))
    assert stored["key_pkcs11_uri"] == entry["pkcs11_uri"]
    [certificate] = p11tool(primary, stored["pkcs11_uri"])
    assert ";type=cert" in certificate
    again = ok(primary.run("hsm_certificate", instance="primary", key_label="web-tls"))
    assert again["pkcs11_uri"] == stored["pkcs11_uri"]

    assert openssl(primary, entry["pkcs11_uri"]) == entry["public_key"]


def test_the_uri_of_every_type_opens_in_three_programs(primary: Hsm) -> None:
    made: list[dict[str, Any]] = []
    for keys in (TYPES[:-1], TYPES[-1:]):
        made += ok(primary.keys(*keys))["key_results"]
        for entry in made if len(made) < len(TYPES) else ():
            if entry["public_key"]:
                assert openssl(primary, entry["pkcs11_uri"]) == entry["public_key"], entry
    there = listed(primary)
    assert len(there) == sum(2 if entry["public_key"] else 1 for entry in made)
    for entry in made:
        [found] = p11tool(primary, entry["pkcs11_uri"])
        assert parts(found) == parts(entry["pkcs11_uri"]) and there.count(parts(entry["pkcs11_uri"])) == 1, (entry, found)
    # What a sync exports are the same, and a label stands for what is current.
    document = ok(primary.run("hsm_sync", instance="primary", results="all"))["document"]
    assert document["pkcs11_uris"] == {entry["uid"]: entry["pkcs11_uri"] for entry in made}
    assert document["pkcs11_uris_current"] == {entry["label"]: entry["pkcs11_uri"] for entry in made}
    [rotated] = ok(primary.keys({**TYPES[0], "generation": 2}))["key_results"]
    after = ok(primary.run("hsm_sync", instance="primary", results="all"))["document"]
    assert after["pkcs11_uris_current"] == {**document["pkcs11_uris_current"], "aes": rotated["pkcs11_uri"]}
    assert after["pkcs11_uris"] == {**document["pkcs11_uris"], rotated["uid"]: rotated["pkcs11_uri"]}
