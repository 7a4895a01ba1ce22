# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""What stands beside the keys of a token gets the names that layout ``eviden`` has for it. No private or secret key is touched.

Of each object a whole one is there at any time: a new one is made before the old one goes. Where names are written in place, which a
token may not survive that is cut off, the registry has a note by which the next run makes the public half again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..._cryptoki import certificates as cryptoki_certificates
from ..._cryptoki import comparing, making, objects
from ..._cryptoki.certificates import CertificateInventory
from ..._cryptoki.objects import Inventory
from ..._cryptoki.public_key import public_attributes
from ..._cryptoki.second_look import CHANGED
from ..._cryptoki.session import Session
from ..._model.errors import Cryptoki, KeyfleetError, RegistryError
from ..._model.keys.layout import EVIDEN
from ..._model.keys.misfits import ANEW, DROP, PUBLIC_KEY, RENAME, RESTORE, LayoutNote, Misfit, misfits
from ..._model.keys.object_names import Names
from ..._model.keys.objects import Key, KeyObject, group_keys
from ..._model.plan import CHANGE, CREATE, DELETE, Step
from ..._registry import events, pending_layouts
from ..._registry.database import Database


@dataclass(frozen=True)
class Relabelled:
    """``done`` and ``left`` are entries of the answer, ``steps`` what the diff shows of the first. ``broken`` are those of ``left`` that
    failed by a fault of the device or of the registry, or that may have left something; ``touched``: one of them may have."""

    done: tuple[dict[str, Any], ...] = ()
    left: tuple[dict[str, Any], ...] = ()
    steps: tuple[Step, ...] = ()
    broken: tuple[dict[str, Any], ...] = ()
    touched: bool = False


def predicted(found: Sequence[Misfit], token: str) -> Relabelled:
    """What a run would do, as far as it can be told without writing."""
    done = [misfit for misfit in found if misfit.problem is None]
    left = [_left(misfit, misfit.problem.code, misfit.problem.text) for misfit in found if misfit.problem is not None]
    return Relabelled(tuple(misfit.shown() for misfit in done), tuple(left), tuple(_step(misfit, token) for misfit in done))


def untouched(found: Sequence[Misfit], error: KeyfleetError) -> Relabelled:
    """Of a token on which nothing was done, by ``error``."""
    left = predicted(found, "").left
    broken = tuple(_left(misfit, error.code, error.message) for misfit in found if misfit.problem is None)
    return Relabelled(left=(*left, *broken), broken=broken)


def not_attempted(found: Sequence[Misfit], before: Relabelled) -> Relabelled:
    """Of a token that comes after one on which ``before`` went wrong."""
    reason = f"not attempted: {before.broken[-1]['reason']}"
    left = predicted(found, "").left
    return Relabelled(left=(*left, *(_left(misfit, "not_attempted", reason) for misfit in found if misfit.problem is None)))


def _left(misfit: Misfit, code: str, reason: str) -> dict[str, Any]:
    return {**misfit.shown(), "code": code, "reason": reason}


def _step(misfit: Misfit, token: str) -> Step:
    subject = f"{misfit.object.replace('_', ' ')} of '{misfit.key.label}' on {token}, CKA_ID {misfit.wanted.id.hex()}"
    if misfit.found is None:
        return Step(CREATE, subject, None, misfit.wanted.shown())
    if misfit.way == DROP:
        return Step(DELETE, subject, misfit.found.shown(), None)
    return Step(CHANGE, subject, misfit.found.shown(), misfit.wanted.shown())


class Relabel:
    """One token, open for writing."""

    def __init__(self, session: Session, database: Database, token_id: int) -> None:
        self.session = session
        self.database = database
        self.token_id = token_id
        self.inventory = Inventory()
        self.certificates = CertificateInventory()

    def run(self) -> Relabelled:
        """Look at the token anew, and do it. What fails is told; after a fault of the device nothing more is tried."""
        self.inventory = objects.read_inventory(self.session)
        self.certificates = cryptoki_certificates.read_certificates(self.session)
        keys = group_keys(self.inventory.objects)
        notes = pending_layouts.of_token(self.database, self.token_id)
        found = misfits(keys, self.certificates.names, notes)
        self._settle(notes, keys, found)
        planned = predicted(found, str(self.session.token))
        done: list[Misfit] = []
        left, touched, ended = list(planned.left), False, ""
        broken: list[dict[str, Any]] = []
        for misfit in (misfit for misfit in found if misfit.problem is None):
            if ended:
                left.append(_left(misfit, "not_attempted", f"not attempted: {ended}"))
                continue
            try:
                self._relabel(misfit)
                done.append(misfit)
            except KeyfleetError as error:
                left.append(_left(misfit, error.code, error.message))
                changed = bool(error.details.get(CHANGED)) or isinstance(error, RegistryError)
                ended = error.message if not isinstance(error, Cryptoki) or error.device else ""
                touched = touched or changed
                broken += [left[-1]] if ended or changed else []
        steps = tuple(_step(misfit, str(self.session.token)) for misfit in done)
        return Relabelled(tuple(misfit.shown() for misfit in done), tuple(left), steps, tuple(broken), touched)

    def _settle(self, notes: Sequence[LayoutNote], keys: Sequence[Key], found: Sequence[Misfit]) -> None:
        """Take back the notes of dead runs whose pairs are whole, and called as they should be."""
        open_ = {(misfit.key.main.key_id, misfit.key.main.label) for misfit in found if misfit.object == PUBLIC_KEY}
        whole = {(key.main.key_id, key.main.label) for key in keys if key.private is not None and key.public is not None} - open_
        settled = [note for note in notes if (note.key_id, note.label) in whole]
        if settled:
            with self.database.transaction():
                for note in settled:
                    pending_layouts.remove(self.database, note)

    def _relabel(self, misfit: Misfit) -> None:
        private = misfit.key.private
        if misfit.object != PUBLIC_KEY or private is None:
            self._certificate(misfit)
            self._record(misfit, None)
            return
        note = misfit.note
        if note is None and misfit.key.public is not None:
            note = LayoutNote.of(self.token_id, private, misfit.key.public)
            with self.database.transaction(durable=True):
                pending_layouts.add(self.database, note)
        if note is None:
            raise TypeError("a public half is there, or a note of it is")
        self._public(misfit, private, note)
        self._record(misfit, note)

    def _public(self, misfit: Misfit, private: KeyObject, note: LayoutNote) -> None:
        old, way = misfit.key.public, misfit.way
        if way == RESTORE:
            self._check_belongs(private, note)
        if way == RENAME and old is not None and self._renamed(misfit, old):
            way = ""
        if way in (RENAME, ANEW, RESTORE):
            if old is not None and old.destroyable is False:
                raise Cryptoki(
                    f"the token does not rename the public half of '{private.label}', and it was made with destroyable: false",
                    rv="CKR_ATTRIBUTE_READ_ONLY",
                    device=False,
                )
            self._make(private, note)
        if way and old is not None:
            objects.destroy(self.session, self.inventory, old)

    def _renamed(self, misfit: Misfit, old: KeyObject) -> bool:
        """Write the names that differ, the CKA_ID first: with that the pair is one, whatever its label. False where the token refuses."""
        found = misfit.found or misfit.wanted
        try:
            if found.id != misfit.wanted.id:
                objects.set_name(self.inventory, old, "ID", misfit.wanted.id)
        except Cryptoki as error:
            if error.device or error.details.get(CHANGED):
                raise
            return False
        try:
            if found.label != misfit.wanted.label:
                objects.set_name(self.inventory, old, "LABEL", misfit.wanted.label)
            after = objects.read_back(self.inventory, Key(public=old)).main
            if Names(after.key_id, after.label) != misfit.wanted:
                text = f"the token accepted the names of the public half of '{misfit.key.label}', and it did not change"
                raise Cryptoki(text, rv="CKR_FUNCTION_FAILED", device=False)
        except Cryptoki as error:
            error.details[CHANGED] = True
            raise
        return True

    def _check_belongs(self, private: KeyObject, note: LayoutNote) -> None:
        if not comparing.belongs(self.session, self.inventory, private, public_attributes(note.public_key)):
            text = f"the public half of '{private.label}' is gone, and the one that was noted cannot be shown to belong to it"
            raise Cryptoki(text, rv="CKR_KEY_HANDLE_INVALID", device=False)

    def _make(self, private: KeyObject, note: LayoutNote) -> None:
        spec = replace(
            making.spec_of(private),
            operations=note.operations,
            layout=EVIDEN,
            modifiable=False if note.modifiable is False else None,
            destroyable=False if note.destroyable is False else None,
        )
        try:
            made = making.create_public(self.session, self.inventory, spec, public_attributes(note.public_key))
            if made.public_key != note.public_key:
                text = f"the public half of '{private.label}' does not read back as it was written"
                raise Cryptoki(text, rv="CKR_FUNCTION_FAILED", device=True)
        except Cryptoki as error:
            error.details[CHANGED] = True  # something may be there all the same; the next run finds it
            raise

    def _certificate(self, misfit: Misfit) -> None:
        old = next(item for item in self.certificates.objects if item.handle == misfit.handle)
        if misfit.way != DROP:
            cryptoki_certificates.store(self.session, self.certificates, misfit.wanted.label, misfit.wanted.id, old.der)
        try:
            cryptoki_certificates.destroy(self.session, self.certificates, old)
        except Cryptoki as error:
            error.details[CHANGED] = True
            raise

    def _record(self, misfit: Misfit, note: LayoutNote | None) -> None:
        with self.database.transaction():
            shown = misfit.shown()
            names = {name: shown[name] for name in ("object", "found", "wanted")}
            events.record(self.database, "relabel", f"{self.session.token}: {misfit.key.label}", **names)
            if note is not None:
                pending_layouts.remove(self.database, note)
