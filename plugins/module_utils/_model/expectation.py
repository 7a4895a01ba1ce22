# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""Credentials that a service expects in a token: a certificate, its private key, or both. What was found of one is plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from .certificates.spec import label_problem, parse_key_id
from .records import InstanceRecord, TokenRecord
from .tokens.selectors import TokenSelector
from .tokens.status import TokenStatus

_SELECTORS = ("token_label", "token_serial", "slot")


@dataclass(frozen=True)
class Expectation:
    """One entry of ``expect``. At least one of ``label`` and ``key_id`` is given. ``instance`` and ``selector`` name the tokens that are to
    have it; None names all."""

    label: str | None = None
    key_id: bytes | None = None
    certificate: bool = True
    private_key: bool = True
    instance: str | None = None
    selector: TokenSelector | None = None

    @classmethod
    def parse(cls, options: Mapping[str, Any], where: str) -> tuple[Expectation, list[str]]:
        """The entry, and what is wrong with it, in words that begin with ``where``."""
        problems: list[str] = []
        label, text, selector = options["label"], options["id"], None
        if label is None and text is None:
            problems.append(f"{where}: give label, id or both")
        if label is not None and (problem := label_problem(label)):
            problems.append(f"{where}.label: {problem}")
        key_id = parse_key_id(text, f"{where}.id", problems)
        if not (options["certificate"] or options["private_key"]):
            problems.append(f"{where}: certificate and private_key are both false, so nothing is expected")
        if any(options[name] is not None for name in _SELECTORS):
            selector, misread = TokenSelector.parse(options, where, prefix="token_")
            problems += misread
        return cls(label, key_id, options["certificate"], options["private_key"], options["instance"], selector), problems

    @property
    def name(self) -> str:
        """How texts name it."""
        return self.label or f"id {(self.key_id or b'').hex()}"

    def is_of(self, record: InstanceRecord, token: TokenRecord) -> bool:
        """Whether this token is to have it."""
        if self.instance not in (None, record.name):
            return False
        return self.selector is None or token.answers(self.selector)


@dataclass(frozen=True)
class Credential:
    """What was found of one. ``found``: all that was expected is there, once. ``match``: the public key of the private one is the
    certificate's. ``signs``: the private key signed just now, and the signature verifies. None: not known, or not asked.

    ``not_before``, ``not_after`` and ``fingerprint`` are the certificate's. ``problem`` says in words what is wrong, ``code`` in one.
    """

    name: str
    found: bool | None = None
    match: bool | None = None
    signs: bool | None = None
    not_before: str | None = None
    not_after: str | None = None
    fingerprint: str | None = None
    problem: str | None = None
    code: str | None = None

    def as_entry(self) -> dict[str, Any]:
        """The form of one entry of ``credentials`` in hsm_status."""
        return asdict(self)


def untold(wanted: Expectation, status: TokenStatus) -> dict[str, Any]:
    """The entry of one that could not be looked for, in a token with this ``status``."""
    if status.accessible:
        why, code = "the security officer sees no private keys: register the token with the user's PIN", "login_needed"
    else:
        why, code = f"not checked: {status.error}", status.code or "not_accessible"
    return Credential(wanted.name, problem=why, code=code).as_entry()
