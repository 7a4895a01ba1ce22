# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""hsm_certificate: requests and certificates of one key, signed in the HSM and stored beside the key."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from functools import cached_property
from typing import Any

from ..._cryptoki import certificates as cryptoki
from ..._cryptoki.objects import Inventory, read_inventory
from ..._cryptoki.second_look import CHANGED
from ..._cryptoki.session import Session
from ..._model.certificates.request import CertificateRequest
from ..._model.certificates.scheme import Scheme
from ..._model.certificates.spec import CertificateSpec
from ..._model.errors import InputError, KeyfleetError, Refused, RegistryError
from ..._model.keys.generations import own_id, recorded_generations
from ..._model.keys.layout import EVIDEN, PKCS11, certificate_id
from ..._model.keys.states import ACTIVE
from ..._model.keys.types import PRIVATE
from ..._model.pkcs11_uri import uri_in
from ..._model.plan import Context, Outcome, Step, diff_of
from ..._model.records import VirtualKey
from ..._model.tokens.identity import TokenIdentity
from ..._model.uids import key_id_text, uid
from ..._registry import events
from ..._registry.database import Database, open_database, recording
from ..files.softhsm import hidden_objects
from ..tokens.choice import NOT_YET_REGISTERED
from ..tokens.connection import Target, open_target, target_of_request
from ..virtual_keys.scope import token_scope
from ..x509.building import build_self_signed
from ..x509.bundle import certificates_in
from ..x509.reading import FoundCertificate, is_due, iso
from .key import CertifiedKey, find_key, keys_called, later_generations, several
from .plan import CertificatePlan, plan_absent, plan_import, plan_nothing, plan_self_signed
from .request_file import RequestPlan, check_folder, plan_request, write_request
from .stored import Stored, of_key

_MAX_BYTES = 1024 * 1024
_VALUES = ("certificate", "fingerprint", "not_before", "not_after", "serial_number", "subject")


def converge(request: CertificateRequest, context: Context) -> Outcome:
    """hsm_certificate. Raises :class:`KeyfleetError`; its ``changed`` says whether something had been done before."""
    run = _Run(context, *_checked(request, context))
    if request.connection.library:
        return run.converge(target_of_request(None, request.connection), None)
    try:
        with open_database(request.registry, run=context.run, check_mode=context.check_mode, for_writing=True) as database:
            return run.converge(target_of_request(database, request.connection), database)
    except KeyfleetError as error:
        if context.check_mode and error.code in NOT_YET_REGISTERED:
            context.warn(
                f"{error.message} In check mode it is taken for one that an earlier task of this play would register, with a new key "
                "and without certificates."
            )
            request_plan, plan = run.plan(None, [], None)
            return run.outcome(request_plan, plan, None, _known(request_plan, plan))
        raise


def _checked(request: CertificateRequest, context: Context) -> tuple[CertificateSpec, tuple[FoundCertificate, ...]]:
    """What is asked for, and the given certificates. Raises :class:`InputError` with every problem of the request."""
    spec, problems = request.spec, list(request.problems)
    given: tuple[FoundCertificate, ...] = ()
    if spec is not None and spec.imports:
        try:
            given = _given(spec, context)
        except ValueError as error:
            problems.append(f"{'content' if spec.content is not None else 'src'}: {error}")
    if spec is None or problems:
        raise InputError(problems)
    return spec, given


def _given(spec: CertificateSpec, context: Context) -> tuple[FoundCertificate, ...]:
    """The certificates in ``content`` or ``src``; none in check mode for a file that is not there yet. Raises ValueError."""
    if spec.content is not None:
        return certificates_in(spec.content.encode("utf-8", "surrogateescape"))
    path = spec.src or ""
    try:
        # O_NONBLOCK: opening a FIFO that nobody writes to would wait for ever.
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ValueError(f"{path} is not a regular file: give one that holds the certificate, or give its text as content")
            return certificates_in(file.read(_MAX_BYTES))
    except FileNotFoundError:
        if not context.check_mode:
            raise ValueError(f"{path} does not exist on the target: copy it there first, or give its text as content") from None
        context.warn(f"src: {path} does not exist. In check mode it is taken for one that an earlier task of this play would make.")
        return ()
    except IsADirectoryError:
        raise ValueError(f"{path} is a directory: give the file that holds the certificate, or give its text as content") from None
    except OSError as error:
        way_out = "run as its owner (become: true)" if isinstance(error, PermissionError) else "check the path"
        raise ValueError(f"{path} cannot be read: {error.strerror}: {way_out}, or give its text as content") from None


@dataclass(frozen=True)
class _Made:
    """The request's PEM and the certificate as they are after the run; in check mode, as far as they are known. None otherwise."""

    request: str | None
    certificate: FoundCertificate | None


class _Run:
    """One call of hsm_certificate against one token."""

    def __init__(self, context: Context, spec: CertificateSpec, given: tuple[FoundCertificate, ...]) -> None:
        self.context = context
        self.spec = spec
        self.given = given
        self.now = datetime.now(timezone.utc)
        self.scheme: Scheme | None = None
        self.earlier: frozenset[bytes] = frozenset()  # public keys of the generations before the one that is meant
        self.done: list[str] = []
        self.target: Target | None = None
        self.token: TokenIdentity | None = None
        self.database: Database | None = None

    def converge(self, target: Target, database: Database | None) -> Outcome:
        self.target, self.database = target, database
        write = self.spec.writes_token and not self.context.check_mode
        with open_target(target, database, read_write=write) as session:
            self.token = session.token.identity
            inventory = cryptoki.read_certificates(session)
            key, key_id, spki = self._key(session, inventory)
            stored = of_key(inventory.objects, self.spec.key_label, key_id, spki if target.layout == EVIDEN else None)
            request, plan = self.plan(key, stored, session)
            reason = hidden_objects(session.token.model, session.token.serial) if plan.stores and not stored else None
            if reason is not None:
                text = f"key_label: a certificate of '{self.spec.key_name}' may be there already: {reason}. Nothing was changed."
                raise KeyfleetError(text, code="cannot_plan")
            made = _known(request, plan)
            if not self.context.check_mode:
                made = self._apply(session, key, request, plan, inventory, _Log(database, target, session))
        return self.outcome(request, plan, key, made)

    def _key(self, session: Session, certificates: cryptoki.CertificateInventory) -> tuple[CertifiedKey | None, bytes | None, bytes | None]:
        """The key, the CKA_ID by which its certificates are known: None where any will do; and its public key, where it is known."""
        label, named = self.spec.key_label, self.spec.key_id
        inventory = read_inventory(session)
        if self.spec.current:
            self._take_current(inventory)
            label = self.spec.key_label
        if self.spec.state == "absent":
            keys = keys_called(inventory.objects, self.spec)
            ids = {key.pair_id for key in keys}
            if len(ids) > 1:
                raise several(label, str(session.token), keys)
            known = next((half.public_key for key in keys for half in key.objects if half.public_key), None)
            return None, next(iter(ids), named), known
        try:
            key = find_key(session, inventory, self.spec, self._recorded)
        except KeyfleetError as error:
            if error.code == "no_key" and self.spec.only_looks and self._is_of_a_ca(certificates):
                self.context.warn(f"{error.message} The certificate is a CA's, and is looked at without it.")
                return None, named, None
            if not self.context.check_mode or error.code != "no_key" or error.details or not label:
                raise
            self.context.warn(f"{error.message} In check mode it is taken for one that an earlier task of this play would make.")
            return None, named or own_id(label), None
        return key, key.key_id, key.spki

    def _take_current(self, inventory: Inventory) -> None:
        """From here on the spec is about the last generation."""
        labels = [self.spec.key_label, *later_generations(inventory.objects, self.spec.key_label, self._recorded)]
        self.spec = replace(self.spec, key_label=labels.pop())
        self.earlier = frozenset(item.public_key for item in inventory.objects if item.public_key and item.label in labels)

    def _is_of_a_ca(self, certificates: cryptoki.CertificateInventory) -> bool:
        """Whether all certificates that are named are: a token has them for chains, and their keys are elsewhere."""
        found = of_key(certificates.objects, self.spec.key_label, self.spec.key_id)
        return bool(found) and all((one.found.described().get("basic_constraints") or {}).get("ca") for one in found)

    def plan(self, key: CertifiedKey | None, stored: list[Stored], session: Session | None) -> tuple[RequestPlan | None, CertificatePlan]:
        """Everything that is to be done. Nothing is signed or written yet. Raises :class:`KeyfleetError`."""
        spec = self.spec
        if spec.state == "absent":
            return None, plan_absent(spec, stored)
        if key is not None and (spec.wants_request or spec.self_signed):
            self.scheme = key.scheme(spec)
        if spec.imports:
            plan = self._plan_import(key, stored)
        elif spec.self_signed:
            plan = plan_self_signed(spec, self.scheme, key, stored, self.now, self._is_ours)
        else:
            plan = plan_nothing(spec, key, stored)
        request = plan_request(spec, key, self.scheme, self._replaces(plan, key))
        signs = (request is not None and request.to_be_made) or (plan.stores and spec.self_signed)
        if signs and key is not None and session is not None:
            key.check_signs(session, spec, state=self._state_of(key))
            if key.later:
                self.context.warn(
                    f"key_label: key '{spec.key_name}' has a later generation, '{key.later[-1]}', and this signs with the one that was "
                    "named. Name the later one to sign with it."
                )
        if request is not None and request.changes and spec.csr_path and not self.context.check_mode:
            check_folder(spec.csr_path)
        self._warn(plan, key)
        return request, plan

    def _plan_import(self, key: CertifiedKey | None, stored: list[Stored]) -> CertificatePlan:
        """Raises :class:`Refused` for a certificate of another key, unless the key is new and its request has to get out first."""
        try:
            return plan_import(self.spec, self.given, key, stored)
        except Refused as error:
            if any(one.spki in self.earlier for one in self.given):
                self.context.warn(f"the certificate that is given is of a generation before '{self.spec.key_name}', and is left as it is.")
                return plan_nothing(self.spec, key, stored)
            request = plan_request(self.spec, key, self.scheme) if self.spec.csr_content is not None else None
            if request is None or not request.to_be_made:
                raise
            self.context.warn(f"{error.message.partition(' Nothing was changed.')[0]} It is left out, and a request of this key is made.")
            return plan_nothing(self.spec, key, stored)

    def _is_ours(self, found: FoundCertificate) -> bool:
        return self.database is not None and events.has_stored(self.database, found.fingerprint)

    def _replaces(self, plan: CertificatePlan, key: CertifiedKey | None) -> str | None:
        """The fingerprint of the key's certificate that a request would be for."""
        found = plan.after
        if found is None or key is None or found.spki != key.spki or not self._due(found, fresh=plan.stores):
            return None
        return found.fingerprint

    def _due(self, found: FoundCertificate, *, fresh: bool) -> bool:
        """``fresh``: it comes in this run, so ``renew`` meant the one before."""
        return is_due(found, self.now, self.spec.renew_before) or (self.spec.renew and not fresh)

    @cached_property
    def _records(self) -> list[VirtualKey]:
        """The registry's of this token's keys, those of groups as well; without a registry there are none."""
        token_id = self.target.token_id if self.target is not None else None
        if self.database is None or token_id is None:
            return []
        scope = token_scope(self.database, token_id)
        return [*scope.records, *(record for by_group in scope.groups_of.values() for record in by_group.values())]

    def _recorded(self, base: str) -> Collection[int]:
        return recorded_generations((one.label, one.generation) for one in self._records).get(base, ())

    def _state_of(self, key: CertifiedKey) -> str:
        """What the registry says; without one, nobody says anything. Of several groups' records, one that forbids it counts."""
        states = [one.state for one in self._records if (one.label, one.key_id) == (key.private.label, key.key_id)]
        return next((state for state in states if state != ACTIVE), ACTIVE)

    def _warn(self, plan: CertificatePlan, key: CertifiedKey | None) -> None:
        label, found = self.spec.key_name, plan.after
        if self.spec.csr_content is not None and not plan.stores and (found is None or (key is not None and found.spki != key.spki)):
            self.context.warn(f"key '{label}' has no certificate yet: have its request signed.")
        if found is None or found.parsed is None:
            return
        begin, end = found.parsed.not_valid_before_utc, found.parsed.not_valid_after_utc
        if self.now >= end:
            self.context.warn(f"the certificate of key '{label}' expired at {iso(end)}.")
        elif is_due(found, self.now, self.spec.renew_before):
            self.context.warn(f"the certificate of key '{label}' expires at {iso(end)}, within renew_before: have a new one signed.")
        if self.now < begin:
            self.context.warn(f"the certificate of key '{label}' is not valid before {iso(begin)}.")

    def _apply(
        self,
        session: Session,
        key: CertifiedKey | None,
        request: RequestPlan | None,
        plan: CertificatePlan,
        inventory: cryptoki.CertificateInventory,
        log: _Log,
    ) -> _Made:
        try:
            made = self._sign(session, key, request, plan)
            if request is not None and request.changes and self.spec.csr_path and made.request:
                write_request(self.spec.csr_path, made.request)
                self.done.append(f"the request was written to {self.spec.csr_path}")
            if plan.stores and made.certificate is not None and key is not None:
                # The new one before the old one goes: a crash in between leaves both, and the next run removes the old one.
                item = cryptoki.store(session, inventory, *self._name(plan, key), made.certificate.der)
                self.done.append(f"the new certificate was stored (handle {item.handle})")
                log.add("add_certificate", item.key_id, item.label, made.certificate)
            for one in plan.remove:
                cryptoki.destroy(session, inventory, one.item)
                self.done.append(f"a certificate was removed (handle {one.item.handle})")
                log.add("remove_certificate", one.item.key_id, one.item.label, one.found)
            return made
        except KeyfleetError as error:
            touched = bool(error.details.pop(CHANGED, False))
            error.changed = touched or bool(self.done)
            if self.done:
                error.message += f". Before that: {'; '.join(self.done)}"
                error.message += "." if isinstance(error, RegistryError) else ". Run again: the next run finishes it."
            raise

    def _sign(self, session: Session, key: CertifiedKey | None, request: RequestPlan | None, plan: CertificatePlan) -> _Made:
        made = _known(request, plan)
        if key is None:
            return made
        if request is not None and request.to_be_made:
            made = replace(made, request=request.made(session, key))
        if plan.stores and self.spec.self_signed and self.scheme is not None:
            made = replace(made, certificate=build_self_signed(self.spec, key.signing(session), self.scheme, self.now))
        return made

    def _name(self, plan: CertificatePlan, key: CertifiedKey) -> tuple[str, bytes]:
        """CKA_LABEL and CKA_ID of a certificate that is stored."""
        label = self.spec.key_label or next((one.item.label for one in plan.remove), "")
        return label, certificate_id(self.target.layout if self.target is not None else PKCS11, key.key_id)

    def _uris(self, plan: CertificatePlan, key: CertifiedKey | None) -> dict[str, str | None]:
        """Of the certificate that is there in the end, and of its private key."""
        found: dict[str, str | None] = dict.fromkeys(("pkcs11_uri", "key_pkcs11_uri"))
        if self.token is None:
            return found
        if key is not None:
            found["key_pkcs11_uri"] = uri_in(self.token, key.private.label, key.private.key_id, PRIVATE)
            if plan.stores:
                found["pkcs11_uri"] = uri_in(self.token, *self._name(plan, key), "certificate")
        if plan.kept is not None:
            found["pkcs11_uri"] = uri_in(self.token, plan.kept.item.label, plan.kept.item.key_id, "certificate")
        return found

    def outcome(self, request: RequestPlan | None, plan: CertificatePlan, key: CertifiedKey | None, made: _Made) -> Outcome:
        """What is returned: of what check mode would make, only what can be told beforehand."""
        steps: list[Step] = [request.step] if request is not None and request.step is not None else []
        steps += plan.steps
        found = made.certificate
        values: dict[str, Any] = dict.fromkeys(_VALUES)
        values |= {"csr": made.request, "matches_key": None, "renewal_due": None, **self._uris(plan, key)}
        if found is not None:
            values |= found.values()
            values["renewal_due"] = self._due(found, fresh=plan.stores)
            if key is not None:
                values["matches_key"] = found.spki == key.spki
        return Outcome(changed=any(step.changes for step in steps), diff=diff_of(steps), values=values)


def _known(request: RequestPlan | None, plan: CertificatePlan) -> _Made:
    """What is known before anything is signed."""
    return _Made(request.text if request is not None else None, plan.after)


class _Log:
    """The registry's events of one run; of none where there is no registry."""

    def __init__(self, database: Database | None, target: Target, session: Session) -> None:
        self.database = database
        self.prefix = target.prefix
        self.slot = session.token.slot_id

    def add(self, action: str, key_id: bytes, label: str, found: FoundCertificate) -> None:
        """One event, with what tells the certificate from others. Raises :class:`RegistryError`."""
        with recording(self.database) as database:
            if database is not None:
                address = uid(self.prefix or "", self.slot, key_id_text(key_id, label))
                events.record(database, action, address, fingerprint=found.fingerprint, serial_number=found.values()["serial_number"])
