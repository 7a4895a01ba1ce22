# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""Which certificates of a key stay, which one is stored and which are removed, before any write."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ..._model.certificates.scheme import Scheme
from ..._model.certificates.spec import CertificateSpec
from ..._model.errors import Refused
from ..._model.plan import CHANGE, CREATE, DELETE, KEEP, Step
from ..x509.building import wanted_profile
from ..x509.reading import FoundCertificate, is_due, key_fingerprint
from .key import CertifiedKey
from .stored import Stored, age, by_age


@dataclass(frozen=True)
class CertificatePlan:
    """What becomes of the certificates of one key.

    ``stores`` says that one is written: ``after`` is it, None where it has yet to be made (self-signed) or to be seen.
    Otherwise ``after`` is the one that stays.
    """

    stores: bool = False
    after: FoundCertificate | None = None
    kept: Stored | None = None
    remove: tuple[Stored, ...] = ()
    steps: tuple[Step, ...] = ()

    @property
    def changes(self) -> bool:
        return self.stores or bool(self.remove)


def _steps(spec: CertificateSpec, after: dict[str, Any] | None, kept: Stored | None, remove: Sequence[Stored]) -> tuple[Step, ...]:
    """One line of the diff for the certificate, and one for each that is left over from a run that was cut off."""
    subject = f"certificate {spec.key_name}"
    left = list(remove)
    steps = []
    if after is not None:
        first = left.pop(0) if left else None
        steps.append(Step(CHANGE if first else CREATE, subject, first.found.described() if first else None, after))
    elif kept is not None:
        steps.append(Step(KEEP, subject, kept.found.described(), kept.found.described()))
    elif left:
        steps.append(Step(DELETE, subject, left.pop(0).found.described(), None))
    steps += [Step(DELETE, f"{subject}, left over {number}", one.found.described(), None) for number, one in enumerate(left, 1)]
    return tuple(steps)


def _replace(spec: CertificateSpec, after: FoundCertificate | None, described: dict[str, Any], stored: Sequence[Stored]) -> CertificatePlan:
    remove = by_age(stored)
    return CertificatePlan(True, after, None, remove, _steps(spec, described, None, remove))


def _keep(spec: CertificateSpec, kept: Stored, stored: Sequence[Stored]) -> CertificatePlan:
    remove = tuple(one for one in by_age(stored) if one is not kept)
    return CertificatePlan(False, kept.found, kept, remove, _steps(spec, None, kept, remove))


def plan_import(
    spec: CertificateSpec, given: Sequence[FoundCertificate], key: CertifiedKey | None, stored: Sequence[Stored]
) -> CertificatePlan:
    """The given certificate of the key beside it, and no other. Nothing is given by a file that an earlier task will have made.

    Of several certificates of this key, the one that ends last. Raises :class:`Refused` with the code ``certificate_mismatch`` when none
    is of this key.
    """
    if not given:
        return _replace(spec, None, {"from": spec.src}, stored)
    chosen = given[0]
    if key is not None:
        mine = [one for one in given if one.spki == key.spki]
        if not mine:
            raise _mismatch(spec, given, key)
        chosen = min(mine, key=age)
    for one in stored:
        if one.item.der == chosen.der:
            return _keep(spec, one, stored)
    return _replace(spec, chosen, chosen.described(), stored)


def _mismatch(spec: CertificateSpec, given: Sequence[FoundCertificate], key: CertifiedKey) -> Refused:
    theirs = [key_fingerprint(one.spki) if one.spki else None for one in given]
    option = "content" if spec.content is not None else "src"
    which = "the certificate belongs to another key: its public key has"
    if len(given) > 1:
        which = f"none of its {len(given)} certificates belongs to this key: their public keys have"
    return Refused(
        f"{option}: {which} the SHA-256 fingerprint {', '.join(one or '(unknown)' for one in theirs)}, key "
        f"'{spec.key_name}' on the token has {key.fingerprint}. Nothing was changed. Have a request of this key signed, "
        "or name the key that it belongs to.",
        code="certificate_mismatch",
        details={"certificate_key": theirs[0], "certificate_keys": theirs, "key": key.fingerprint},
    )


def plan_self_signed(
    spec: CertificateSpec,
    scheme: Scheme | None,
    key: CertifiedKey | None,
    stored: Sequence[Stored],
    now: datetime,
    is_ours: Callable[[FoundCertificate], bool],
) -> CertificatePlan:
    """A certificate that the key has signed itself, says what is asked for, and is not due.

    Raises :class:`Refused` with the code ``certificate_issued`` when one would have to go for it that a CA has issued, that another key
    has signed itself, as a root CA's, or that cannot be read. ``is_ours``: an earlier run stored it, for a key that was replaced since.
    """
    for one in stored:
        others = key is not None and one.found.spki != key.spki
        if not one.found.signed_itself() or (others and not is_ours(one.found)):
            raise _issued(spec, one.found)
    wanted = dict(wanted_profile(spec, scheme))
    for one in by_age(stored):
        if _is_wanted(one.found, wanted, key) and not (spec.renew or is_due(one.found, now, spec.renew_before)):
            return _keep(spec, one, stored)
    described = {**wanted, "issuer": wanted["subject"], "public_key": key.fingerprint if key else None, "valid_days": spec.valid_days}
    return _replace(spec, None, described, stored)


def _is_wanted(found: FoundCertificate, wanted: dict[str, Any], key: CertifiedKey | None) -> bool:
    if key is None or found.spki != key.spki:
        return False
    said = found.described()
    names = set(wanted) | {"critical", "other_extensions", "subject_alt_names", "key_usage", "extended_key_usage", "basic_constraints"}
    return all(said.get(name) == wanted.get(name) for name in names)


def _issued(spec: CertificateSpec, found: FoundCertificate) -> Refused:
    said = found.described()
    which = f"that cannot be read (SHA-256 fingerprint {found.fingerprint}), and may be a CA's"
    if found.parsed is not None:
        which = f"that {said['issuer']} has issued (serial number {said['serial_number']}, until {said['not_after']})"
    if found.signed_itself():
        which = f"of another key, which signed it itself ({said['subject']}, serial number {said['serial_number']})"
    return Refused(
        f"self_signed: key '{spec.key_name}' has a certificate {which}. Nothing was changed. Make it absent first (state: absent), or "
        "leave self_signed out.",
        code="certificate_issued",
        details={"issuer": said.get("issuer"), "fingerprint": found.fingerprint},
    )


def plan_nothing(spec: CertificateSpec, key: CertifiedKey | None, stored: Sequence[Stored]) -> CertificatePlan:
    """Nothing is declared about the certificate: the one in force is returned, the key's own before any other."""
    ordered = by_age(stored)
    mine = [one for one in ordered if key is not None and one.found.spki == key.spki] or ordered
    return CertificatePlan(after=mine[0].found, kept=mine[0]) if mine else CertificatePlan()


def plan_absent(spec: CertificateSpec, stored: Sequence[Stored]) -> CertificatePlan:
    """None of them stays."""
    remove = by_age(stored)
    return CertificatePlan(remove=remove, steps=_steps(spec, None, None, remove))
