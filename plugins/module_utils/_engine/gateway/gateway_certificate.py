# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""gateway_certificate: the PKCS#12 file of a gateway, made self-signed or taken from a given one."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from ..._model.certificates.gateway_request import KEEP as ON_MISMATCH_KEEP
from ..._model.certificates.gateway_request import REPLACE, GatewayCertificateRequest
from ..._model.certificates.scheme import EC, RSA, Scheme
from ..._model.errors import InputError, KeyfleetError, Refused
from ..._model.plan import CHANGE, CREATE, KEEP, Context, Outcome, Step, diff_of
from ..x509.building import build_self_signed, wanted_profile
from ..x509.reading import is_due, iso, profile
from .p12_file import (
    GIVEN,
    SELF_SIGNED,
    Bundle,
    Existing,
    P12Fault,
    group_id,
    is_pem,
    load,
    put,
    read_existing,
    read_source,
    serialized,
    user_id,
)
from .pem_file import load_pem

with suppress(ImportError):  # _module.runtime reports it before anything here is called
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

_VALUES = ("certificate", "fingerprint_sha256", "not_before", "not_after", "subject", "subject_alt_names", "self_signed", "renewal_due")


def converge(request: GatewayCertificateRequest, context: Context) -> Outcome:
    """gateway_certificate. Raises :class:`KeyfleetError`: nothing was written."""
    run = _Run(context, request, _given(request, context))
    plan = run.plan(read_existing(request.path))
    return run.outcome(plan, plan.after if context.check_mode else run.apply(plan))


@dataclass(frozen=True)
class Given:
    """What the task brings: a bundle, and who shall own the file, -1 for nobody in particular. None in check mode: to come."""

    bundle: Bundle | None
    uid: int
    gid: int


@dataclass(frozen=True)
class _Plan:
    """``after`` is what will be in the file; None for one that has yet to be made or seen. ``writes``: the contents change."""

    step: Step
    writes: bool
    after: Bundle | None


def _given(request: GatewayCertificateRequest, context: Context) -> Given:
    """What the task brings. Raises :class:`InputError` with every problem of the request."""
    problems = list(request.problems)
    bundle: Bundle | None = None
    if request.source is not None and request.source != request.path:
        try:
            bundle = _source(request.source, context)
        except P12Fault as fault:
            problems.append(f"source: {request.source} {fault}")
    ids = [_id_of("owner", request.owner, context, problems), _id_of("group", request.group, context, problems)]
    if problems:
        raise InputError(problems)
    return Given(bundle, *ids)


def _source(path: str, context: Context) -> Bundle | None:
    """What is in the given file, good to use; None in check mode for one that is not there yet. Raises :class:`P12Fault`."""
    try:
        raw, mode = read_source(path)
    except FileNotFoundError:
        if not context.check_mode:
            raise P12Fault("does not exist on the target: copy it there first") from None
        context.warn(f"source: {path} does not exist. In check mode it is taken for one that an earlier task of this play would make.")
        return None
    except OSError as error:
        raise P12Fault(f"cannot be read: {error.strerror}: run as its owner (become: true)") from None
    bundle = load_pem(raw, path) if is_pem(raw) else load(raw, path)
    try:
        bundle.check_time(datetime.now(timezone.utc))
    except P12Fault as fault:
        raise P12Fault(f"{fault}: give one that is valid now") from None
    if mode & 0o077:
        context.warn(
            f"source: {path} has mode {mode:04o}, so others can get at the key, which has no password. Run chmod 0600 on it, or remove it "
            "once the certificate is in place."
        )
    return bundle


def _id_of(option: str, name: str | None, context: Context, problems: list[str]) -> int:
    if name is None:
        return -1
    try:
        return user_id(name) if option == "owner" else group_id(name)
    except KeyError:
        kind = "user" if option == "owner" else "group"
        if context.check_mode:
            context.warn(f"{option}: there is no {kind} {name!r}. In check mode it is taken for one that an earlier task would make.")
        else:
            problems.append(f"{option}: there is no {kind} {name!r} on the target: create it first, or name another")
        return -1


class _Run:
    """One call."""

    def __init__(self, context: Context, request: GatewayCertificateRequest, given: Given) -> None:
        self.context = context
        self.request = request
        self.self_signs = request.certificate
        self.given = given
        self.now = datetime.now(timezone.utc)
        self.scheme = Scheme(RSA if request.key_type == RSA else EC, "sha256")

    def plan(self, existing: Existing | None) -> _Plan:
        """What becomes of the file. Nothing is made or written yet. Raises :class:`Refused`."""
        subject = f"certificate {self.request.path}"
        stays = existing is not None and self._stays(existing)
        self._warn_of_end(existing.bundle if stays and existing is not None else self.given.bundle)
        if existing is None:
            return _Plan(Step(CREATE, subject, None, {**self._wanted(), **self._attributes()}), True, self.given.bundle)
        if stays:
            was, will = self._attributes_of(existing), self._attributes()
            changed = {name for name in will if was[name] != will[name]}
            if "mode" in changed:
                self._warn_of_readers(existing)
            before, after = ({name: side[name] for name in sorted(changed)} for side in (was, will))
            return _Plan(Step(CHANGE if changed else KEEP, subject, before, after), False, existing.bundle)
        if existing.bundle is not None and self._is_given(existing.bundle):
            self._warn_of_readers(existing)
            was, will = {"written_by": "another program"}, {"written_by": "this module, without encryption"}
            step = Step(CHANGE, subject, {**was, **self._attributes_of(existing)}, {**will, **self._attributes()})
            return _Plan(step, True, self.given.bundle)
        self._warn_of_change(existing)
        before = {"contents": f"of no use: {_short(existing.fault)}"} if existing.bundle is None else existing.bundle.described()
        step = Step(CHANGE, subject, {**before, **self._attributes_of(existing)}, {**self._wanted(), **self._attributes()})
        return _Plan(step, True, self.given.bundle)

    def _wanted(self) -> dict[str, Any]:
        """For the diff: what the file will say, as far as it is known before it is made, so that check mode says the same."""
        if self.self_signs is not None:
            said = dict(wanted_profile(self.self_signs, self.scheme))
            return {**said, "issuer": said["subject"], "key": self.request.key, "valid_days": self.self_signs.valid_days}
        return {"from": self.request.source} if self.given.bundle is None else self.given.bundle.described()

    def _attributes(self) -> dict[str, str]:
        """Mode and owner as declared."""
        declared = {"mode": f"{self.request.mode:04o}", "owner": self.request.owner, "group": self.request.group}
        return {name: value for name, value in declared.items() if value is not None}

    def _attributes_of(self, existing: Existing) -> dict[str, str]:
        """The same of the file, by the names that were declared where they mean the same."""
        found = {"mode": f"{existing.mode:04o}", "owner": existing.owner, "group": existing.group}
        if self.request.owner is not None and existing.uid == self.given.uid:
            found["owner"] = self.request.owner
        if self.request.group is not None and existing.gid == self.given.gid:
            found["group"] = self.request.group
        return {name: found[name] for name in self._attributes()}

    def _stays(self, existing: Existing) -> bool:
        """Whether the contents stay. Raises :class:`Refused` where they are neither what is asked for nor ours to replace."""
        bundle = existing.bundle
        if bundle is None:
            return self._mismatch(f"{existing.fault}", "path_unusable", useful=False)
        if self.self_signs is None:
            return self._given_stays(bundle)
        if bundle.name == SELF_SIGNED and bundle.certificate.signed_itself():
            return self._says(bundle) and self._in_time(bundle)
        if bundle.name != GIVEN and bundle.certificate.signed_itself() and self._same_names(bundle):
            return self._in_time(bundle)  # made by hand, or by another program, for the same names
        origin = "which was given before" if bundle.name == GIVEN else "which this module did not make"
        return self._mismatch(f"holds {self._of(bundle)}, {origin}", "path_foreign", useful=True)

    def _is_given(self, bundle: Bundle) -> bool:
        return self.given.bundle is not None and bundle.same(self.given.bundle)

    def _given_stays(self, bundle: Bundle) -> bool:
        if self._is_given(bundle):
            return bundle.name == GIVEN  # what others wrote may be encrypted in a way that the gateway cannot read
        if bundle.name in (SELF_SIGNED, GIVEN):
            return False  # what this module has put there follows what it is told
        return self._mismatch(f"holds {self._of(bundle)}, which is not the one in source", "path_foreign", useful=True)

    def _says(self, bundle: Bundle) -> bool:
        """Whether a certificate of our own is still what the options ask for."""
        if self.self_signs is None or bundle.certificate.parsed is None or bundle.key_kind() != self.request.key:
            return False
        return profile(bundle.certificate.parsed) == wanted_profile(self.self_signs, self.scheme)

    def _same_names(self, bundle: Bundle) -> bool:
        if self.self_signs is None or bundle.certificate.parsed is None:
            return False
        said, wanted = profile(bundle.certificate.parsed), wanted_profile(self.self_signs, self.scheme)
        return all(said.get(name) == wanted.get(name) for name in ("subject", "subject_alt_names"))

    def _in_time(self, bundle: Bundle) -> bool:
        try:
            bundle.check_time(self.now)
        except P12Fault:
            return False
        return not is_due(bundle.certificate, self.now, self.request.renew_before)

    def _mismatch(self, fault: str, code: str, *, useful: bool) -> bool:
        """Decide by ``on_mismatch``: False to replace, True to keep. Raises :class:`Refused`."""
        if self.request.on_mismatch == REPLACE:
            return False
        if self.request.on_mismatch == ON_MISMATCH_KEEP and useful:
            self.context.warn(f"path: {self.request.path} {fault}. It is kept as it is (on_mismatch: keep).")
            return True
        ways = "say on_mismatch: replace to have it overwritten (its key is lost then)"
        if useful:
            own = "" if self.self_signs is None else "give it as source from another path, "
            ways = f"{own}say on_mismatch: keep to have it stay, or {ways}"
        elif self.request.on_mismatch == ON_MISMATCH_KEEP:
            ways = f"on_mismatch: keep does not help, since the gateway cannot use it; {ways}, or move it away"
        else:
            ways += ", or move it away"
        raise Refused(f"path: refused, {self.request.path} is there and {fault}. Nothing was changed. Way out: {ways}.", code=code)

    def _of(self, bundle: Bundle) -> str:
        found = bundle.certificate.described()
        by = "signed by its own key" if bundle.certificate.signed_itself() else f"issued by {found['issuer']}"
        names = ", ".join(found.get("subject_alt_names", [])) or "no alternative names"
        end = found["not_after"]
        return f"a certificate for {found['subject']} ({names}), {by}, until {end}, SHA-256 fingerprint {bundle.certificate.fingerprint}"

    def _warn_of_change(self, existing: Existing) -> None:
        self._warn_of_readers(existing)
        if existing.bundle is None:
            return
        self.context.warn(
            f"path: the certificate in {self.request.path} changes. Clients that hold the old one, SHA-256 fingerprint "
            f"{existing.bundle.certificate.fingerprint}, have to be given the new one."
        )

    def _warn_of_readers(self, existing: Existing) -> None:
        if existing.mode & 0o007:
            self.context.warn(
                f"path: {self.request.path} had mode {existing.mode:04o}, so others could read its key. Have a new certificate made if "
                "they may have."
            )

    def _warn_of_end(self, found: Bundle | None) -> None:
        """Of a certificate that is not for us to renew: a given one, or one that is kept."""
        if found is None or found.certificate.not_after is None:
            return
        try:
            found.check_time(self.now)
        except P12Fault as fault:
            self.context.warn(f"path: {self.request.path} {fault}.")
            return
        if is_due(found.certificate, self.now, self.request.renew_before):
            end = iso(found.certificate.not_after)
            self.context.warn(f"path: the certificate in {self.request.path} expires at {end}, within renew_before: have a new one issued.")

    def apply(self, plan: _Plan) -> Bundle | None:
        """Carry the plan out, and return what is in the file then. Raises :class:`KeyfleetError`."""
        if not plan.step.changes:
            return plan.after
        content: bytes | None = None
        if plan.writes:
            bundle = plan.after or self._made()
            content = serialized(bundle, GIVEN if self.self_signs is None else SELF_SIGNED)
            load(content, self.request.path)
        put(self.request.path, content, self.request.mode, self.given.uid, self.given.gid)
        there = read_existing(self.request.path)
        if there is None or there.bundle is None:
            raise KeyfleetError(
                f"path: {self.request.path} does not read back as it was written, please report it.", code="read_back_failed"
            )
        return there.bundle

    def _made(self) -> Bundle:
        """A new key with its certificate."""
        if self.self_signs is None:
            raise KeyfleetError("source: is not there.", code="unexpected")
        private: Any
        if self.request.key_type == RSA:
            private = rsa.generate_private_key(public_exponent=65537, key_size=self.request.key_size)
        else:
            private = ec.generate_private_key(ec.SECP256R1())
        return Bundle(private, build_self_signed(self.self_signs, private, self.scheme, self.now))

    def outcome(self, plan: _Plan, after: Bundle | None) -> Outcome:
        """What is returned: of what check mode would make, only what can be told beforehand. ``after`` is in the file now, or will be."""
        values: dict[str, Any] = {**dict.fromkeys(_VALUES), "path": self.request.path, "differs": plan.step.changes}
        if after is not None:
            found = after.certificate.described()
            values |= {name: found[name] for name in ("not_before", "not_after", "subject")}
            values |= {
                "certificate": after.certificate.pem,
                "fingerprint_sha256": after.certificate.fingerprint,
                "subject_alt_names": found.get("subject_alt_names", []),
                "self_signed": after.certificate.signed_itself(),
                "renewal_due": is_due(after.certificate, self.now, self.request.renew_before),
            }
        elif self.self_signs is not None:
            said = self._wanted()
            values |= {"subject": said["subject"], "subject_alt_names": said["subject_alt_names"], "self_signed": True}
        return Outcome(changed=plan.step.changes, diff=diff_of([plan.step]), values=values)


def _short(fault: P12Fault | None) -> str:
    """The fault without its way out."""
    return str(fault).partition(":")[0]
