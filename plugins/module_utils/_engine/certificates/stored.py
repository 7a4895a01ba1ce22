# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""The certificates of one key that are on a token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..._cryptoki.certificates import CertificateObject
from ..._model.keys.layout import certificate_ids
from ..x509.reading import FoundCertificate, read_certificate


@dataclass(frozen=True)
class Stored:
    """A certificate on the token, and what it says."""

    item: CertificateObject
    found: FoundCertificate


def of_key(objects: Sequence[CertificateObject], label: str, key_id: bytes | None, spki: bytes | None = None) -> list[Stored]:
    """The certificates with this label and, unless it is None, the CKA_ID that those of this key have, in any layout; with ``spki`` also
    those of this public key, whatever theirs is. Others are nobody's business here.

    That of a key without a label is known by the CKA_ID alone: it may have a label.
    """
    ids = certificate_ids(key_id) if key_id is not None else ()
    found = [Stored(item, read_certificate(item.der)) for item in objects if item.label == label or (not label and item.key_id in ids)]
    return [
        one
        for one in found
        if one.item.key_id in ids or (label and key_id is None) or (label and spki is not None and one.found.spki == spki)
    ]


def by_age(stored: Sequence[Stored]) -> tuple[Stored, ...]:
    """The one that lives longest first. In the same order in each run, whatever that of the token's search is."""

    return tuple(sorted(stored, key=lambda one: age(one.found)))


def age(found: FoundCertificate) -> tuple[bool, float, str]:
    """Least for the certificate that lives longest; of equal ones the same each time."""
    end = found.not_after
    return end is None, 0.0 if end is None else -end.timestamp(), found.fingerprint
