# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""A PKCS#12 file without a password: what is in it, what is wrong with it, and writing it for its owner alone."""

from __future__ import annotations

import errno
import grp
import os
import pwd
import shlex
import stat
import warnings
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ..._model.certificates.gateway_request import key_words
from ..._model.errors import KeyfleetError
from ..files.writing import write_private
from ..x509.reading import FoundCertificate, iso, read_certificate, spki_of, unreadable

with suppress(ImportError):  # _module.runtime reports it before anything here is called
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption
    from cryptography.hazmat.primitives.serialization.pkcs12 import load_pkcs12, serialize_key_and_certificates

_MAX_BYTES = 1024 * 1024
# The friendlyName that this module gives, by which it knows a file of its own again.
SELF_SIGNED, GIVEN = "keyfleet.hsm self-signed", "keyfleet.hsm given"
_CURVES = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}


class P12Fault(ValueError):
    """Why a file is of no use to a gateway, in words that follow its name."""


@dataclass(frozen=True)
class Bundle:
    """A private key, the certificate of it, and the certificates above. ``name`` is the friendlyName, empty without one."""

    key: Any = field(repr=False)
    certificate: FoundCertificate
    chain: tuple[FoundCertificate, ...] = ()
    name: str = ""

    def same(self, other: Bundle) -> bool:
        """Whether both hold the same certificates, and so the same key. Their order in the file and its name do not count."""
        mine, others = ({one.der for one in bundle.chain} for bundle in (self, other))
        return self.certificate.der == other.certificate.der and mine == others

    def key_kind(self) -> str:
        """For example ``EC P-256`` or ``RSA 3072``."""
        curve = getattr(self.key, "curve", None)
        kind = type(self.key).__name__.removesuffix("PrivateKey").lstrip("_")
        if curve is not None:
            return key_words("EC", 0, _CURVES.get(curve.name, curve.name))
        size = getattr(self.key, "key_size", None)
        return kind if size is None else key_words(kind, size, None)

    def described(self) -> dict[str, Any]:
        """For the diff. Nothing of the key but its kind."""
        found = {**self.certificate.described(), "key": self.key_kind()}
        if self.chain:
            found["chain"] = [one.fingerprint for one in self.chain]
        return found

    def check_time(self, now: datetime) -> None:
        """Raises :class:`P12Fault` outside its time."""
        parsed = self.certificate.parsed
        if parsed is None:
            raise P12Fault("holds a certificate that cannot be read")
        if now >= parsed.not_valid_after_utc:
            raise P12Fault(f"holds a certificate that expired at {iso(parsed.not_valid_after_utc)}")
        if now < parsed.not_valid_before_utc:
            raise P12Fault(f"holds a certificate that is not valid before {iso(parsed.not_valid_before_utc)}, by the clock of this host")


def without_password(path: str) -> str:
    """The way out for a file with a password. openssl takes no key from a pipe here, so there is a file in between."""
    return (
        f"take the password off: (umask 077; openssl pkcs12 -in {shlex.quote(path)} -nodes -out key.pem && "
        "openssl pkcs12 -export -in key.pem -passout pass: -out nopass.p12; rm -f key.pem). Where openssl 3 does not read an old file, add "
        "-legacy to the first command"
    )


def load(raw: bytes, path: str) -> Bundle:
    """The key and the certificates in ``raw``, which came from ``path``. Raises :class:`P12Fault`."""
    if is_pem(raw):
        raise P12Fault(
            "is PEM and no PKCS#12: make one of the key and its certificates with openssl pkcs12 -export -inkey key.pem -in cert.pem "
            "-passout pass: -out nopass.p12"
        )
    if not _is_pfx(raw):
        raise P12Fault("is no PKCS#12 file, or a damaged one: make it anew with openssl pkcs12 -export -passout pass:")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of how old programs wrote it; what is written is written anew
            # None stands for both, no password and an empty one: programs differ in which they take the MAC of.
            found = load_pkcs12(raw, None)
    except Exception:  # the library's words may quote what it cannot read, and its types differ by version
        raise P12Fault(
            "has a password, and the gateway ends at its start on one (a damaged file looks the same): " + without_password(path)
        ) from None
    if found.key is None:
        raise P12Fault("holds no private key: make it anew with the key, by openssl pkcs12 -export -inkey key.pem -in cert.pem")
    if found.cert is None and not found.additional_certs:
        raise P12Fault("holds no certificate: make it anew with it, by openssl pkcs12 -export -inkey key.pem -in cert.pem")
    if found.cert is None or not belongs(found.key, found.cert.certificate):
        raise P12Fault("holds a private key that none of its certificates belongs to: make it anew from a key and its own certificate")
    certificates = [read_certificate(one.certificate.public_bytes(Encoding.DER)) for one in (found.cert, *found.additional_certs)]
    if any(one.parsed is None for one in certificates):
        raise P12Fault("holds a certificate that cannot be read: make it anew with openssl pkcs12 -export -passout pass:")
    name = (found.cert.friendly_name or b"").decode("utf-8", "replace")
    return Bundle(found.key, certificates[0], tuple(certificates[1:]), name)


def is_pem(raw: bytes) -> bool:
    return b"-----BEGIN" in raw and not _is_pfx(raw)


def _is_pfx(raw: bytes) -> bool:
    """Whether it is one SEQUENCE of just this length that begins with the version 3 (RFC 7292, section 4)."""
    if len(raw) < 4 or raw[0] != 0x30:
        return False
    if raw[1] == 0x80:  # BER of unknown length, which some programs write
        return raw[2:5] == b"\x02\x01\x03"
    size = raw[1] & 0x7F if raw[1] & 0x80 else 0
    length = int.from_bytes(raw[2 : 2 + size], "big") if size else raw[1]
    start = 2 + size
    return len(raw) == start + length and raw[start : start + 3] == b"\x02\x01\x03"


def belongs(key: Any, certificate: Any) -> bool:
    try:
        return spki_of(key.public_key()) == spki_of(certificate.public_key())
    except unreadable():
        return False


def serialized(bundle: Bundle, name: str) -> bytes:
    """The file: nothing in it is encrypted, and its MAC is that of no password. All readers known take this form."""
    certificate: Any = bundle.certificate.parsed
    chain: list[Any] = [one.parsed for one in bundle.chain]
    return serialize_key_and_certificates(name.encode(), bundle.key, certificate, chain or None, NoEncryption())


@dataclass(frozen=True)
class Existing:
    """The file that is there. ``bundle`` is None where ``fault`` says what is wrong with its contents."""

    mode: int
    uid: int
    gid: int
    bundle: Bundle | None
    fault: P12Fault | None

    @property
    def owner(self) -> str:
        return name_of_user(self.uid)

    @property
    def group(self) -> str:
        return name_of_group(self.gid)


def read_existing(path: str) -> Existing | None:
    """What is at ``path``; None only where there is nothing. Raises :class:`KeyfleetError` when it cannot be told."""
    try:
        raw, status = _read(path, os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno == errno.ELOOP:
            text = "is a symbolic link, and is not followed: give the path that it points to, or remove it."
        else:
            text = f"cannot be read: {error.strerror}. Run as its owner (become: true), or give another path."
        raise KeyfleetError(f"path: {path} {text} Nothing was changed.", code="path_unreadable") from None
    except P12Fault as fault:
        raise KeyfleetError(f"path: {path} {fault}. Give another path. Nothing was changed.", code="path_unreadable") from None
    mode = stat.S_IMODE(status.st_mode)
    try:
        return Existing(mode, status.st_uid, status.st_gid, load(raw, path), None)
    except P12Fault as fault:
        return Existing(mode, status.st_uid, status.st_gid, None, fault)


def read_source(path: str) -> tuple[bytes, int]:
    """The contents of a given file, and its mode. Raises FileNotFoundError, :class:`P12Fault` or another OSError."""
    raw, status = _read(path, 0)
    return raw, stat.S_IMODE(status.st_mode)


def _read(path: str, flags: int) -> tuple[bytes, os.stat_result]:
    # O_NONBLOCK: opening a FIFO that nobody writes to would wait for ever.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | flags)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise P12Fault("is not a regular file")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            raw = file.read(_MAX_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(raw) > _MAX_BYTES:
        raise P12Fault("is larger than a PKCS#12 file can be")
    return raw, status


# The greatest id (user_namespaces(7)): the next one stands for "no change" in chown(2).
_GREATEST_ID = 2**32 - 2


def user_id(name: str) -> int:
    """Raises KeyError, also for a number that no user can have."""
    return _number(name) if name.isdecimal() else pwd.getpwnam(name).pw_uid


def group_id(name: str) -> int:
    """Raises KeyError, also for a number that no group can have."""
    return _number(name) if name.isdecimal() else grp.getgrnam(name).gr_gid


def _number(name: str) -> int:
    if len(name) > len(str(_GREATEST_ID)) or int(name) > _GREATEST_ID:
        raise KeyError(name)
    return int(name)


def name_of_user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def name_of_group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def put(path: str, content: bytes | None, mode: int, uid: int, gid: int) -> None:
    """Contents, where there are new ones, and then mode and owner; -1 for one that stays. Raises :class:`KeyfleetError`.

    The owner comes last: a crash before leaves a file that fewer can read, and the next run mends it.
    """
    written = False
    try:
        if content is not None:
            write_private(path, content, mode)
            written = True
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            # The mode first, as long as the old owner has the file: chown may take rights away, and gives none.
            os.fchmod(descriptor, mode)
            status = os.fstat(descriptor)
            if uid not in (-1, status.st_uid) or gid not in (-1, status.st_gid):
                os.fchown(descriptor, uid, gid)
        finally:
            os.close(descriptor)
    except OSError as error:
        what = "was written, and its mode and owner cannot be set" if written else "cannot be written"
        failure = KeyfleetError(
            f"path: {path} {what}: {error.strerror}. Run as a user who may (become: true), or give another path.", code="path_unwritable"
        )
        failure.changed = written
        raise failure from None
