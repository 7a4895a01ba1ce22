# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""How a certificate or request is signed."""

from __future__ import annotations

from dataclasses import dataclass

RSA, EC, ED25519 = "RSA", "EC", "Ed25519"


PKCS1, PSS = "pkcs1", "pss"


@dataclass(frozen=True)
class Scheme:
    """How to sign. ``kind`` is RSA, EC or Ed25519.

    ``digest`` is sha256, sha384 or sha512, None for Ed25519. ``padding`` counts for RSA only; ``order_bytes``, the length of
    the curve's order, for EC only.
    """

    kind: str
    digest: str | None = None
    padding: str = PKCS1
    order_bytes: int | None = None

    @property
    def mechanisms(self) -> tuple[str, ...]:
        """Mechanisms that can make this signature, without ``CKM_``, best first (PKCS#11 3.1, sections 6.1, 6.3)."""
        digest = (self.digest or "").upper()
        if self.kind == ED25519:
            return ("EDDSA",)
        if self.kind == EC:
            return ("ECDSA", f"ECDSA_{digest}")
        return (f"{digest}_RSA_PKCS_PSS", "RSA_PKCS_PSS") if self.padding == PSS else (f"{digest}_RSA_PKCS", "RSA_PKCS")
