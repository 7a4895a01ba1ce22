# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""The request: what stands in the file at ``csr_path`` or was kept by the caller, whether it will do, and writing another."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from ..._cryptoki.session import Session
from ..._model.certificates.scheme import Scheme
from ..._model.certificates.spec import CertificateSpec
from ..._model.errors import KeyfleetError, Refused
from ..._model.plan import CHANGE, CREATE, KEEP, Step
from ..files.writing import write_private
from ..x509.building import build_request, wanted_profile
from ..x509.reading import key_fingerprint, profile, spki_of, unreadable
from .key import CertifiedKey

with suppress(ImportError):  # _module.runtime reports it before anything here is called
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

MODE = 0o644
_MAX_BYTES = 1024 * 1024
# Stands before a request that was made for a renewal. Readers of PEM skip it (RFC 7468, section 2).
_REPLACES = "Replaces the certificate with the SHA-256 fingerprint "
_PEM_KIND = re.compile(rb"-----BEGIN ([^-\r\n]*)-----")


@dataclass(frozen=True)
class RequestPlan:
    """What becomes of the request. ``step`` is None where it is returned only; ``text`` is its PEM, None where it has yet to be made."""

    spec: CertificateSpec
    scheme: Scheme | None
    step: Step | None
    text: str | None
    replaces: str | None = None  # the fingerprint of the certificate that is due

    @property
    def changes(self) -> bool:
        return self.step is not None and self.step.changes

    @property
    def to_be_made(self) -> bool:
        return self.text is None

    def made(self, session: Session, key: CertifiedKey) -> str | None:
        """Its PEM, signed in the HSM. Raises :class:`KeyfleetError`."""
        if self.scheme is None:
            return None
        request = build_request(self.spec, key.signing(session), self.scheme)
        said = f"{_REPLACES}{self.replaces}\n" if self.replaces is not None else ""
        return said + request.public_bytes(Encoding.PEM).decode("ascii")


def plan_request(spec: CertificateSpec, key: CertifiedKey | None, scheme: Scheme | None, replaces: str | None = None) -> RequestPlan | None:
    """The plan for the request; None where none is asked for. Raises :class:`KeyfleetError` for a file that cannot be read.

    ``replaces`` is the fingerprint of a certificate that is due: a request that the caller has kept will do if it was made for that.
    """
    if not spec.wants_request:
        return None
    if not spec.keeps_request:
        return RequestPlan(spec, scheme, None, None)
    wanted = {**wanted_profile(spec, scheme), "public_key": key.fingerprint if key else None}
    if spec.csr_content is not None:
        return _plan_kept(spec, scheme, wanted, replaces)
    subject = f"request {spec.csr_path}"
    raw = _read(spec.csr_path or "")
    before, text = _found(raw) if raw is not None else (None, None)
    if before is not None and text is not None and before == wanted:
        return RequestPlan(spec, scheme, Step(KEEP, subject, before, before), text)
    if raw is not None and not _may_go(raw):
        raise Refused(
            f"csr_path: {spec.csr_path} holds something other than a request, and is not overwritten. Give another path, or remove the "
            "file first. Nothing was changed.",
            code="csr_unwritable",
        )
    return RequestPlan(spec, scheme, Step(CREATE if raw is None else CHANGE, subject, before, wanted), None)


def _plan_kept(spec: CertificateSpec, scheme: Scheme | None, wanted: Mapping[str, Any], replaces: str | None) -> RequestPlan:
    """Of a request that the caller keeps. It is as it was given, with whatever stands before it."""
    subject, given = f"request of key {spec.key_name}", spec.csr_content or ""
    raw = given.encode("utf-8", "surrogateescape")
    if not _may_go(raw):
        raise Refused(
            "csr_content: holds something other than a request, which would be lost: give a request, or nothing. Nothing was changed.",
            code="csr_unwritable",
        )
    before, text = _found(raw) if given.strip() else (None, None)
    if before is not None and replaces is not None:
        made_for = re.search(f"^{_REPLACES}([0-9a-f]+)$", given.partition("-----BEGIN")[0], re.MULTILINE)
        before, wanted = {**before, "replaces": made_for[1] if made_for else None}, {**wanted, "replaces": replaces}
    if before is not None and text is not None and before == wanted:
        return RequestPlan(spec, scheme, Step(KEEP, subject, before, before), given)
    return RequestPlan(spec, scheme, Step(CREATE if before is None else CHANGE, subject, before, wanted), None, replaces)


def _read(path: str) -> bytes | None:
    """The file's contents; None only where there is none."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise KeyfleetError(f"csr_path: {path} is not a regular file: give another path.", code="csr_unreadable")
        with open(path, "rb") as file:
            return file.read(_MAX_BYTES)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise KeyfleetError(
            f"csr_path: {path} cannot be read: {error.strerror}. Run as its owner (become: true), or give another path.",
            code="csr_unreadable",
        ) from None


def _found(raw: bytes) -> tuple[Mapping[str, Any], str | None]:
    """What the file says, and its request in PEM where it is one whose signature holds (RFC 2986, section 4.2)."""
    try:
        request = x509.load_pem_x509_csr(raw)
        said = {**profile(request), "public_key": key_fingerprint(spki_of(request.public_key()))}
        good = request.is_signature_valid
    except unreadable():
        return {"content": "no request that can be read"}, None
    if not good:
        return {**said, "content": "a request whose signature does not verify"}, None
    return said, request.public_bytes(Encoding.PEM).decode("ascii")


def _may_go(raw: bytes) -> bool:
    """Whether a file that will not do may be written anew: it is empty, or holds a request, whole or damaged, and nothing beside."""
    if not raw.strip():
        return True
    if kinds := _PEM_KIND.findall(raw):
        return all(kind in (b"CERTIFICATE REQUEST", b"NEW CERTIFICATE REQUEST") for kind in kinds)
    try:
        x509.load_der_x509_csr(raw)
    except unreadable():
        return False
    return True


def check_folder(path: str) -> None:
    """Before anything is signed: a file can be made there. Raises :class:`KeyfleetError`."""
    folder = os.path.dirname(path)
    if not os.path.isdir(folder):
        raise KeyfleetError(f"csr_path: the folder {folder} does not exist: make it first, or give another path.", code="csr_unwritable")


def write_request(path: str, text: str) -> None:
    """The file, whole and readable for all: a request is no secret. Raises :class:`KeyfleetError`."""
    try:
        write_private(path, text.encode("ascii"), mode=MODE)
    except OSError as error:
        raise KeyfleetError(
            f"csr_path: {path} cannot be written: {error.strerror}. Run as a user who may (become: true), or give another path.",
            code="csr_unwritable",
        ) from None
