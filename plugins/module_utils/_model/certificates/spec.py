# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""What a certificate or a request shall say."""

from __future__ import annotations

from dataclasses import dataclass

from ..quoting import quoted

# RFC 5280, section 4.2.1.3, in the order of its bits.
KEY_USAGES = (
    "digitalSignature",
    "contentCommitment",
    "keyEncipherment",
    "dataEncipherment",
    "keyAgreement",
    "keyCertSign",
    "cRLSign",
    "encipherOnly",
    "decipherOnly",
)

# RFC 5280, section 4.2.1.12.
EXTENDED_KEY_USAGES = {
    "serverAuth": "1.3.6.1.5.5.7.3.1",
    "clientAuth": "1.3.6.1.5.5.7.3.2",
    "codeSigning": "1.3.6.1.5.5.7.3.3",
    "emailProtection": "1.3.6.1.5.5.7.3.4",
    "timeStamping": "1.3.6.1.5.5.7.3.8",
    "OCSPSigning": "1.3.6.1.5.5.7.3.9",
}


@dataclass(frozen=True)
class CertificateSpec:
    """What a certificate or a request shall say, and where it comes from or goes to.

    ``subject`` holds pairs of a dotted OID and a text, ``alt_names`` pairs of a kind and a text, as :func:`.parse_alt_names` gives them.
    ``key_usage`` is in canonical order; ``extended_key_usage`` holds dotted OIDs. ``valid_days`` is given for a self-signed
    certificate only. ``renew_before`` is in seconds. ``csr_content`` is the request that the caller has kept, empty where there is
    none yet. ``key_label`` is empty for a key without a label, which ``key_id`` names. With ``current`` it stands for the key's last
    generation.
    """

    key_label: str
    key_id: bytes | None = None
    current: bool = False
    state: str = "present"
    subject: tuple[tuple[str, str], ...] = ()
    alt_names: tuple[tuple[str, str], ...] = ()
    key_usage: tuple[str, ...] = ()
    extended_key_usage: tuple[str, ...] = ()
    extended_critical: bool = False
    ca: bool | None = None
    path_length: int | None = None
    digest: str | None = None
    rsa_padding: str = "pkcs1"
    csr_path: str | None = None
    csr_content: str | None = None
    src: str | None = None
    content: str | None = None
    valid_days: int | None = None
    renew_before: int = 0
    renew: bool = False

    @property
    def key_name(self) -> str:
        """How texts name the key."""
        return self.key_label or f"id {(self.key_id or b'').hex()}"

    @property
    def imports(self) -> bool:
        """Whether a certificate is given."""
        return self.src is not None or self.content is not None

    @property
    def self_signed(self) -> bool:
        return self.valid_days is not None

    @property
    def writes_token(self) -> bool:
        """Whether it may need a session that can write."""
        return self.state == "absent" or self.imports or self.self_signed

    @property
    def keeps_request(self) -> bool:
        """Whether one that was made before may do."""
        return self.csr_path is not None or self.csr_content is not None

    @property
    def wants_request(self) -> bool:
        """Whether a certificate signing request is asked for: in a file, kept by the caller, or in the answer alone."""
        named = bool(self.subject or self.alt_names)
        return self.keeps_request or (named and not self.imports and not self.self_signed)

    @property
    def only_looks(self) -> bool:
        """Whether nothing is declared."""
        return self.state != "absent" and not (self.imports or self.self_signed or self.wants_request)


def label_problem(label: str) -> str | None:
    """Why ``label`` is no key's label, or None."""
    if not label.strip():
        return "is empty: name the key by its label, or one without a label by key_id"
    if not label.isprintable():
        return f"{quoted(label)} contains a character that cannot be printed"
    if label != label.strip():
        return f"{quoted(label)} begins or ends with a blank"
    return None


def parse_key_id(text: str | None, option: str, problems: list[str]) -> bytes | None:
    """The CKA_ID that an option gives. Empty where it is none, which ``problems`` then say."""
    if text is None:
        return None
    try:
        key_id = bytes.fromhex(text)
    except ValueError:
        key_id = b""
    if not key_id:
        problems.append(f"{option}: {quoted(text)} is not hex: give CKA_ID as pairs of hex digits, for example 0a1b")
    return key_id
