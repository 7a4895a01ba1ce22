# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""Certificate objects of a token: one search, one bulk read each, and the calls that store and destroy them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .._model.errors import Cryptoki
from .._model.keys.object_names import CertificateName, Names
from .attributes import read
from .binding import pkcs11
from .destroying import destroying
from .errors import calling
from .second_look import CHANGED, cannot_tell
from .session import Session

_READ = ("CERTIFICATE_TYPE", "LABEL", "ID", "VALUE")
_SEARCH_BATCH = 64  # handles per C_FindObjects


@dataclass(frozen=True)
class CertificateObject:
    """One X.509 certificate on the token. ``der`` is its CKA_VALUE."""

    handle: int
    label: str
    key_id: bytes
    der: bytes

    def named(self) -> str:
        """Short words for errors."""
        return f"certificate, handle {self.handle}, CKA_ID {self.key_id.hex() or '(none)'}"


@dataclass
class CertificateInventory:
    """What one search found: certificates, and the raw object behind each handle, those included that hold no X.509 value."""

    objects: list[CertificateObject] = field(default_factory=list)
    raw: dict[int, Any] = field(default_factory=dict)

    @property
    def names(self) -> list[CertificateName]:
        return [CertificateName(item.handle, Names(item.key_id, item.label), item.der) for item in self.objects]


def _describe(raw: Any) -> CertificateObject | None:
    """The certificate behind a handle; None for one that is not X.509, or whose value is kept elsewhere (CKA_URL)."""
    found = read(raw, _READ, known_by=_READ)  # missing for a fault's sake, the certificate would be stored again
    if "CERTIFICATE_TYPE" not in found:
        raise Cryptoki(f"the certificate with handle {raw.handle} cannot be read", rv="CKR_FUNCTION_FAILED", device=True)
    if found["CERTIFICATE_TYPE"] != pkcs11.CertificateType.X_509 or not found.get("VALUE"):
        return None
    return CertificateObject(int(raw.handle), found.get("LABEL", ""), found.get("ID", b""), bytes(found["VALUE"]))


def read_certificates(session: Session) -> CertificateInventory:
    """All X.509 certificates on the token, in one search. Raises :class:`Cryptoki`; an error is never an empty answer."""
    inventory = CertificateInventory()
    wanted = {pkcs11.Attribute.CLASS: pkcs11.ObjectClass.CERTIFICATE, pkcs11.Attribute.TOKEN: True}
    with calling(f"searching the certificates of {session.token}"):
        for raw in list(session.raw.get_objects(wanted, batch_size=_SEARCH_BATCH)):
            inventory.raw[int(raw.handle)] = raw
            item = _describe(raw)
            if item is not None:
                inventory.objects.append(item)
    return inventory


def _template(label: str, key_id: bytes, der: bytes) -> dict[Any, Any]:
    """The attributes of a certificate (PKCS#11 3.1, section 4.6.3) and no others: providers refuse templates with extras."""
    from asn1crypto.x509 import Certificate

    attribute, fields = pkcs11.Attribute, Certificate.load(der)["tbs_certificate"]
    return {
        attribute.CLASS: pkcs11.ObjectClass.CERTIFICATE,
        attribute.CERTIFICATE_TYPE: pkcs11.CertificateType.X_509,
        attribute.TOKEN: True,
        attribute.PRIVATE: False,
        attribute.LABEL: label,
        attribute.ID: key_id,
        attribute.SUBJECT: bytes(fields["subject"].dump()),
        attribute.ISSUER: bytes(fields["issuer"].dump()),
        attribute.SERIAL_NUMBER: bytes(fields["serial_number"].dump()),
        attribute.VALUE: der,
    }


def store(session: Session, inventory: CertificateInventory, label: str, key_id: bytes, der: bytes) -> CertificateObject:
    """Write a certificate to the token and read it back.

    After an error the token is searched again, since the object may be there all the same. Raises :class:`Cryptoki`; in its
    details ``changed_hsm`` says that something was left on the token.
    """
    what = f"storing the certificate of key '{label}'"
    known = set(inventory.raw)
    try:
        with calling(what, "C_CreateObject", writes=True):
            raw = session.raw.create_object(_template(label, key_id, der))
            inventory.raw[int(raw.handle)] = raw
            item = _describe(raw)
    except Cryptoki as error:
        item = _stored_all_the_same(session, inventory, known, (label, key_id, der), error)
    if item is None or (item.label, item.key_id, item.der) != (label, key_id, der):
        raise Cryptoki(f"{what}: it does not read back as it was written", rv="CKR_FUNCTION_FAILED", device=True, details={CHANGED: True})
    return item


def _stored_all_the_same(
    session: Session, inventory: CertificateInventory, known: set[int], wanted: tuple[str, bytes, bytes], error: Cryptoki
) -> CertificateObject:
    """What a failed create left, if it is whole. ``known`` are the handles from before it. Raises ``error`` otherwise."""
    try:
        after = read_certificates(session)
    except Cryptoki as failure:
        cannot_tell(error, failure)
        raise error from None
    for item in after.objects:
        if item.handle not in known and (item.label, item.key_id, item.der) == wanted:
            inventory.raw[item.handle] = after.raw[item.handle]
            return item
    left = sorted(set(after.raw) - known)
    if left:
        error.details[CHANGED] = True
        error.message += f". Left over on the token: certificate objects with the handles {', '.join(map(str, left))}"
    raise error


def destroy(session: Session, inventory: CertificateInventory, item: CertificateObject) -> None:
    """Destroy one certificate on the token; its key stays. Raises :class:`Cryptoki`."""
    what = f"removing the certificate of key '{item.label}' (handle {item.handle})"
    with destroying(session, item.handle, what):
        inventory.raw[item.handle].destroy()
    del inventory.raw[item.handle]
