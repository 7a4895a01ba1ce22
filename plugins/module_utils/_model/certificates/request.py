# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""The options of hsm_certificate as one value, checked before any library is loaded."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..durations import parse_duration
from ..keys.generations import split_label
from ..quoting import quoted
from ..tokens.connection_request import ConnectionRequest
from .alt_names import parse_alt_names
from .names import parse_subject
from .oids import is_oid
from .spec import EXTENDED_KEY_USAGES, KEY_USAGES, CertificateSpec, label_problem, parse_key_id

_OLD_USAGES = {"nonRepudiation": "contentCommitment"}  # the old name
_MAX_PATH_LENGTH = 255
_MAX_DAYS = 36_500
_DAY = 24 * 3600
_PEM = re.compile(r"-----BEGIN (?:(?:X509 |TRUSTED )?CERTIFICATE|PKCS7|CMS)-----")

# What only a request or a self-signed certificate has a place for.
_OF_A_SUBJECT = ("subject_alt_names", "key_usage", "extended_key_usage", "extended_key_usage_critical", "basic_constraints")


def _key_usage(given: Sequence[str] | None, problems: list[str]) -> tuple[str, ...]:
    if given is None:
        return ()
    if not given:
        problems.append("key_usage: is empty, and the key could be used for nothing: name usages, or leave it out")
    asked = {_OLD_USAGES.get(name, name) for name in given}
    if asked & {"encipherOnly", "decipherOnly"} and "keyAgreement" not in asked:
        problems.append("key_usage: encipherOnly and decipherOnly mean nothing without keyAgreement (RFC 5280): add it, or leave them out")
    return tuple(name for name in KEY_USAGES if name in asked)


def _subject(params: Mapping[str, Any]) -> tuple[tuple[tuple[str, str], ...], list[str]]:
    """An empty one is for a request all of whose names are alternative ones (RFC 5280, section 4.1.2.6). An issuer has a name (4.1.2.4)."""
    if params["subject"] or not params.get("subject_alt_names"):
        return parse_subject(params["subject"])
    if params.get("self_signed") is not None:
        return (), ["subject: is empty: a self-signed certificate needs the name of its issuer, which this is: give at least commonName"]
    return (), []


def _critical(params: Mapping[str, Any], oids: tuple[str, ...], problems: list[str]) -> bool:
    """As declared; by default where a standard wants it: time stamping alone (RFC 3161, section 2.3)."""
    given: bool | None = params.get("extended_key_usage_critical")
    if given is None:
        return oids == (EXTENDED_KEY_USAGES["timeStamping"],)
    if params.get("extended_key_usage") is None:
        problems.append("extended_key_usage_critical: goes with extended_key_usage: name usages there, or leave it out")
    return given


def _extended_key_usage(given: Sequence[str] | None, problems: list[str]) -> tuple[str, ...]:
    if given is None:
        return ()
    if not given:
        problems.append("extended_key_usage: is empty: name usages, or leave it out")
    oids: list[str] = []
    for index, name in enumerate(given):
        oid = EXTENDED_KEY_USAGES.get(name, name)
        if not is_oid(oid):
            known = ", ".join(EXTENDED_KEY_USAGES)
            problems.append(f"extended_key_usage[{index}]: {quoted(name)} is no usage that is known: use {known}, or a dotted OID")
        elif oid in oids:
            problems.append(f"extended_key_usage[{index}]: {quoted(name)} stands there twice: give each usage once")
        else:
            oids.append(oid)
    return tuple(oids)


def _constraint_problems(params: Mapping[str, Any]) -> list[str]:
    """RFC 5280, sections 4.2.1.3 and 4.2.1.9."""
    problems = []
    constraints = params.get("basic_constraints") or {}
    ca, length, usages = bool(constraints.get("ca")), constraints.get("path_length"), params.get("key_usage")
    certifies = "keyCertSign" in (usages or ())
    if length is not None and not 0 <= length <= _MAX_PATH_LENGTH:
        problems.append(
            f"basic_constraints.path_length: {length} is not in 0 to {_MAX_PATH_LENGTH}: give the number of CAs that may follow this one"
        )
    if length is not None and not ca:
        problems.append("basic_constraints.path_length: only a CA has one: set basic_constraints.ca to true, or leave it out")
    if certifies and not ca:
        problems.append("key_usage: keyCertSign is for a CA: set basic_constraints.ca to true, or leave it out")
    if ca and not certifies and usages:
        problems.append("key_usage: without keyCertSign no certificate that this CA signs would be valid: add it, or leave key_usage out")
    elif ca and not certifies and length is not None:
        problems.append("basic_constraints.path_length: goes with key_usage: [keyCertSign] only (RFC 5280): add that, or leave it out")
    return problems


def _source_problems(params: Mapping[str, Any]) -> list[str]:
    problems = []
    given = [name for name in ("content", "src", "self_signed") if params.get(name) is not None]
    if len(given) > 1:
        problems.append(f"{given[0]}: give one of content, src and self_signed; found {' and '.join(given)}")
    if params.get("csr_path") is not None and params.get("csr_content") is not None:
        problems.append("csr_content: give csr_path, where the request is a file on the target, or csr_content, and not both")
    content = params.get("content")
    if content is not None:
        if "PRIVATE KEY-----" in content:
            problems.append("content: holds a private key, which is a secret no longer: replace that key, and give the certificate alone")
        elif not _PEM.search(content):
            problems.append("content: holds no certificate: give PEM text with -----BEGIN CERTIFICATE-----, or a file by src")
    return problems


def _time_problems(params: Mapping[str, Any], problems: list[str]) -> tuple[int | None, int]:
    """Days of a self-signed certificate, and the seconds of ``renew_before``."""
    days, before = None, 0
    if params.get("self_signed") is not None:
        given = params["self_signed"].get("valid_days")
        days = 365 if given is None else given
        if not 1 <= days <= _MAX_DAYS:
            problems.append(f"self_signed.valid_days: {days} is out of range: give 1 to {_MAX_DAYS} days")
    if params.get("renew_before") is not None:
        try:
            before = parse_duration(params["renew_before"])
        except ValueError as error:
            problems.append(f"renew_before: {error}")
    if days is not None and days > 0 and before >= days * _DAY:
        problems.append(f"renew_before: is not less than the {days} days of self_signed, so each run would renew: give a shorter one")
    return days, before


def _current_problems(params: Mapping[str, Any]) -> list[str]:
    named = split_label(params["key_label"])[1]
    reasons = {
        f"the label names generation {named} already": named is not None,
        "key_id is that of one generation": params.get("key_id") is not None,
        "what is removed is named": params.get("state") == "absent",
    }
    return [f"generation: {reason}: leave one of them out" for reason, given in reasons.items() if given]


def parse_certificate(params: Mapping[str, Any]) -> tuple[CertificateSpec, list[str]]:
    """The spec of a task's parameters, and every problem, each naming its option, the fault and the way out.

    With ``state: absent`` only ``key_label`` and ``key_id`` count. The spec is to be used only when there is no problem.
    """
    label, state = params["key_label"], params.get("state") or "present"
    problems: list[str] = []
    key_id = parse_key_id(params.get("key_id"), "key_id", problems)
    if (label or key_id is None) and (problem := label_problem(label)):
        problems.append(f"key_label: {problem}")
    current = params.get("generation") == "current"
    problems += _current_problems(params) if current else []
    if state == "absent":
        return CertificateSpec(label, key_id, state=state), problems
    subject: tuple[tuple[str, str], ...] = ()
    alt_names: tuple[tuple[str, str], ...] = ()
    if params.get("subject") is not None:
        subject, found = _subject(params)
        problems += found
    else:
        needs = [name for name in ("csr_path", "csr_content", "self_signed", *_OF_A_SUBJECT) if params.get(name) is not None]
        if needs:
            problems.append(f"subject: is missing: {needs[0]} needs the name of the one that the certificate is for")
    if params.get("subject_alt_names") is not None:
        alt_names, found = parse_alt_names(params["subject_alt_names"])
        problems += found
    usages = _key_usage(params.get("key_usage"), problems)
    extended = _extended_key_usage(params.get("extended_key_usage"), problems)
    problems += _constraint_problems(params) + _source_problems(params)
    days, before = _time_problems(params, problems)
    constraints = params.get("basic_constraints")
    spec = CertificateSpec(
        key_label=label,
        key_id=key_id,
        current=current,
        state=state,
        subject=subject,
        alt_names=alt_names,
        key_usage=usages,
        extended_key_usage=extended,
        extended_critical=_critical(params, extended, problems),
        ca=None if constraints is None else bool(constraints.get("ca")),
        path_length=(constraints or {}).get("path_length"),
        digest=params.get("digest"),
        rsa_padding=params.get("rsa_padding") or "pkcs1",
        csr_path=params.get("csr_path"),
        csr_content=params.get("csr_content"),
        src=params.get("src"),
        content=params.get("content"),
        valid_days=days,
        renew_before=before,
        renew=bool(params.get("renew")),
    )
    return spec, problems


@dataclass(frozen=True)
class CertificateRequest:
    """``registry`` is a path on the target. ``spec`` is None where the options of the certificate are wrong.

    ``problems`` are those of all options. They are not raised here, since what is wrong with the given certificate is told in the
    same error.
    """

    registry: str
    connection: ConnectionRequest
    spec: CertificateSpec | None
    problems: tuple[str, ...]

    @classmethod
    def parse(cls, params: Mapping[str, Any]) -> CertificateRequest:
        """The request that ``params``, the module's options, make."""
        connection, problems = ConnectionRequest.parse(params)
        spec, found = parse_certificate(params)
        return cls(params["registry"], connection, None if found else spec, (*problems, *found))
