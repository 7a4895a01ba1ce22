# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The URIs that hsm_key and hsm_certificate return, opened by GnuTLS and by OpenSSL."""

from __future__ import annotations

import os
import subprocess

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


def p11tool(hsm: Hsm, uri: str) -> list[str]:
    """The URIs of all that GnuTLS finds by this one."""
    command = ["p11tool", "--provider", SOFTHSM, "--batch", "--login", "--list-all", "--only-urls", uri]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **hsm.environment, "GNUTLS_PIN": PIN}, check=False)
    return [line for line in done.stdout.splitlines() if line.startswith("pkcs11:")]


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

    # libp11 takes a newline at the end for a part of the PIN.
    pin_file = primary.scratch / "pin"
    pin_file.write_text(PIN)
    uri = f"{entry['pkcs11_uri']}?pin-source=file:{pin_file}"
    command = ["openssl", "pkey", "-engine", "pkcs11", "-inform", "engine", "-in", uri, "-pubout"]
    environment = {**os.environ, **primary.environment, "PKCS11_MODULE_PATH": SOFTHSM}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.stdout == entry["public_key"], done.stderr
