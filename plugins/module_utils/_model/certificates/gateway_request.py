# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""The options of gateway_certificate as one value, checked before any library is loaded."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..durations import parse_duration
from ..quoting import quoted
from .alt_names import parse_alt_names
from .names import parse_subject
from .scheme import EC, RSA
from .spec import EXTENDED_KEY_USAGES, CertificateSpec

EC_CURVE = "P-256"
RSA_SIZE = 3072  # NIST SP 800-57 part 1, table 2: the strength of P-256

FAIL, REPLACE, KEEP = "fail", "replace", "keep"

# All that a private key without a password may have: read and write for its owner, read for one group.
_WIDEST_MODE = 0o640
_MAX_DAYS = 36_500
_DAY = 24 * 3600


@dataclass(frozen=True)
class GatewayCertificateRequest:
    """``certificate`` is what a self-signed certificate says, and None with a ``source``. ``key_size`` counts for RSA only.

    ``renew_before`` is in seconds. ``owner`` and ``group`` are None where they stay as they are.
    ``problems`` are those of all options. They are not raised here, since what is wrong with the given file and the owner is told
    in the same error.
    """

    path: str
    source: str | None
    certificate: CertificateSpec | None
    key_type: str
    key_size: int
    renew_before: int
    on_mismatch: str
    owner: str | None
    group: str | None
    mode: int
    problems: tuple[str, ...]

    @property
    def key(self) -> str:
        """The key of a self-signed certificate in words."""
        return key_words(self.key_type, self.key_size, EC_CURVE if self.key_type == EC else None)

    @classmethod
    def parse(cls, params: Mapping[str, Any]) -> GatewayCertificateRequest:
        """The request that ``params``, the module's options, make."""
        problems: list[str] = []
        certificate = _self_signed(params, problems) if params["source"] is None else None
        if certificate is None:
            problems += _source_problems(params)
        before, mode = 0, 0o400
        try:
            before = parse_duration(params["renew_before"])
        except ValueError as error:
            problems.append(f"renew_before: {error}")
        if certificate is not None and before >= (days := params["valid_days"]) * _DAY > 0:
            problems.append(f"renew_before: is not less than the {days} days of valid_days, so each run would renew: give a shorter one")
        try:
            mode = mode_of(params["mode"])
        except ValueError as error:
            problems.append(f"mode: {error}")
        return cls(
            **{name: params[name] for name in ("path", "source", "key_type", "on_mismatch", "owner", "group")},
            certificate=certificate,
            key_size=params["key_size"] or RSA_SIZE,
            renew_before=before,
            mode=mode,
            problems=tuple(problems),
        )


def key_words(kind: str, size: int, curve: str | None) -> str:
    return f"{kind} {curve}" if curve else f"{kind} {size}"


def mode_of(value: Any) -> int:
    """A mode as people and YAML write it: a text in octal, or the number that YAML makes of one. Raises ValueError."""
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise ValueError("is no mode: give it in quotes, for example '0400'")
    try:
        mode = value if isinstance(value, int) else int(value, 8)
    except ValueError:
        raise ValueError(f"{quoted(str(value))} is no mode: give it in octal and in quotes, for example '0400'") from None
    if mode < 0 or not mode & 0o400 or mode & ~_WIDEST_MODE:
        raise ValueError(
            f"{mode:04o} does not suit a private key that has no password: let its owner read it, at most one group beside, and nobody "
            "else, with '0400', '0440', '0600' or '0640', in quotes"
        )
    return mode


def _names(params: Mapping[str, Any], problems: list[str]) -> tuple[tuple[tuple[str, str], ...], tuple[tuple[str, str], ...]]:
    """The subject and the alternative names of a self-signed certificate."""
    name, alt = params["common_name"], params["subject_alt_names"]
    if name is None:
        problems.append("common_name: is missing: give the name that clients reach this host by, or a P12 file of your own as source")
        return (), ()
    subject, found = parse_subject({"commonName": name})
    problems += [problem.replace("subject.commonName", "common_name", 1) for problem in found]
    if alt is not None:
        alt_names, found = parse_alt_names(alt)
        problems += found
        return subject, alt_names
    # Clients look at the alternative names, and at no others (RFC 9525, section 2).
    try:
        kind = f"IP:{ipaddress.ip_address(name)}"
    except ValueError:
        kind = f"DNS:{name}"
    alt_names, faults = parse_alt_names([kind])
    if faults and not found:
        problems.append(
            f"subject_alt_names: is missing, and common_name {quoted(name)} is no host name and no address that could stand for it: give "
            "the names that clients reach this host by, each behind DNS: or IP:"
        )
    return subject, alt_names


def _self_signed(params: Mapping[str, Any], problems: list[str]) -> CertificateSpec:
    subject, alt_names = _names(params, problems)
    days = params["valid_days"]
    if not 1 <= days <= _MAX_DAYS:
        problems.append(f"valid_days: {days} is out of range: give 1 to {_MAX_DAYS} days")
    if params["key_size"] is not None and params["key_type"] != RSA:
        problems.append(f"key_size: only an RSA key has a choice, an EC key is on {EC_CURVE}: set key_type to RSA, or leave it out")
    # RFC 8446 signs only; the encipherment is for clients that still exchange keys by RSA (RFC 5246).
    usages: Sequence[str] = ("digitalSignature", "keyEncipherment") if params["key_type"] == RSA else ("digitalSignature",)
    return CertificateSpec(
        key_label="",
        subject=subject,
        alt_names=alt_names,
        key_usage=tuple(usages),
        extended_key_usage=(EXTENDED_KEY_USAGES["serverAuth"],),
        ca=False,
        valid_days=days,
    )


def _source_problems(params: Mapping[str, Any]) -> list[str]:
    problems = []
    if params["source"] == params["path"]:
        problems.append(
            "source: is the same file as path: give another one, or leave source out and say on_mismatch: keep, and the file stays"
        )
    beside = [name for name in ("common_name", "subject_alt_names", "key_size") if params[name] is not None]
    if beside:
        problems.append(f"source: goes without {' and '.join(beside)}: a given certificate has names of its own, leave one out")
    return problems
