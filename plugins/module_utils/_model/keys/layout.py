# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""What the objects beside a key are called: its public half, and its certificate.

``pkcs11``: both have the CKA_ID of the private key, by which OpenSSL's providers and others find them (PKCS#11 3.1, section 4.7).
``eviden``: each has one of its own. The Eviden server keeps one object for each CKA_ID, the one that its HSM lists last.
"""

from __future__ import annotations

PKCS11, EVIDEN = "pkcs11", "eviden"
LAYOUTS = (PKCS11, EVIDEN)
_PUBLIC, _CERTIFICATE = "_pk", "_cert"


def public_id(layout: str, key_id: bytes) -> bytes:
    """CKA_ID of the public half of a private key with ``key_id``. A key without one gets none."""
    return key_id + _PUBLIC.encode() if layout == EVIDEN and key_id else key_id


def public_label(layout: str, label: str) -> str:
    """CKA_LABEL of the public half of a private key with ``label``."""
    return label + _PUBLIC if layout == EVIDEN else label


def certificate_id(layout: str, key_id: bytes) -> bytes:
    """CKA_ID of the certificates of a key with ``key_id``."""
    return key_id + _CERTIFICATE.encode() if layout == EVIDEN and key_id else key_id


def certificate_ids(key_id: bytes) -> tuple[bytes, ...]:
    """Each CKA_ID that a certificate of a key with ``key_id`` may have, in whichever layout it was stored."""
    return tuple(certificate_id(layout, key_id) for layout in LAYOUTS)


def pair_label(label: str) -> str:
    """CKA_LABEL of the private key whose public half is called ``label``, if it is called as ``eviden`` has it; else ``label``."""
    return label.removesuffix(_PUBLIC)


def pair_id(key_id: bytes) -> bytes:
    """The same of CKA_ID."""
    return key_id.removesuffix(_PUBLIC.encode())
