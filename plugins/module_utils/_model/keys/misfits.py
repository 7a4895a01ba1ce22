# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""What stands beside keys and is not called as layout ``eviden`` has it, and how it can be."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from .layout import EVIDEN, certificate_id, public_id, public_label
from .object_names import CertificateName, Names
from .objects import Key, KeyObject
from .types import KEY_TYPES

PUBLIC_KEY, CERTIFICATE = "public_key", "certificate"
# How: write the names, make it anew and destroy the old one, destroy the old one, make it again from a note.
RENAME, ANEW, DROP, RESTORE = "rename", "anew", "drop", "restore"


class Problem(NamedTuple):
    """Why an object cannot get its names."""

    code: str
    text: str


@dataclass(frozen=True)
class LayoutNote:
    """The public half of a pair that a run set out to call otherwise, with all that it takes to make it again."""

    token_id: int
    key_id: bytes
    label: str
    public_key: bytes
    operations: tuple[str, ...]
    modifiable: bool | None = None
    destroyable: bool | None = None

    @classmethod
    def of(cls, token_id: int, private: KeyObject, public: KeyObject) -> LayoutNote:
        value = public.public_key or b""
        return cls(token_id, private.key_id, private.label, value, public.operations, public.modifiable, public.destroyable)


@dataclass(frozen=True)
class Misfit:
    """An object beside a ``key``. ``found`` is None where it is missing, and ``note`` has it.

    ``problem`` says why it cannot get its names; ``handle`` is the object's.
    """

    key: Key
    object: str
    found: Names | None
    wanted: Names
    handle: int = 0
    way: str = RENAME
    note: LayoutNote | None = None
    problem: Problem | None = None

    @property
    def shares_id(self) -> bool:
        """Whether it has the CKA_ID of the key, so that the server may take it for the key."""
        return self.found is not None and self.found.id == self.key.main.key_id

    def shown(self) -> dict[str, Any]:
        return {
            "label": self.key.label,
            "id": self.key.main.key_id.hex(),
            "object": self.object,
            "found": self.found.shown() if self.found is not None else None,
            "wanted": self.wanted.shown(),
        }


def misfits(keys: Sequence[Key], certificates: Iterable[CertificateName] = (), notes: Iterable[LayoutNote] = ()) -> list[Misfit]:
    """Of the keys of a token, what stands beside them and is not laid out for the Eviden server, by label.

    A key without a CKA_ID is left out: its label is all that joins it to what stands beside it.
    """
    certificates = list(certificates)
    taken = _Taken(keys, certificates)
    noted = {(note.key_id, note.label): note for note in notes}
    found = [misfit for key in keys if key.private is not None for misfit in _of_pair(key, key.private, taken, noted)]
    by_id = {key.main.key_id: key for key in reversed(keys) if key.main.key_id}
    for certificate in certificates:
        if (key := by_id.get(certificate.names.id)) is not None:
            found.append(_of_certificate(key, certificate, taken))
    return sorted(found, key=lambda misfit: (misfit.key.label, misfit.key.main.key_id, misfit.object, misfit.found or misfit.wanted))


class _Taken:
    """What has a CKA_ID on the token already."""

    def __init__(self, keys: Sequence[Key], certificates: Sequence[CertificateName]) -> None:
        self.objects: dict[bytes, list[KeyObject]] = {}
        for item in (item for key in keys for item in key.objects):
            self.objects.setdefault(item.key_id, []).append(item)
        self.certificates: dict[bytes, list[CertificateName]] = {}
        for certificate in certificates:
            self.certificates.setdefault(certificate.names.id, []).append(certificate)

    def others(self, key_id: bytes, own: Collection[int]) -> list[Any]:
        items = [item for item in self.objects.get(key_id, ()) if item.handle not in own]
        return [*items, *(one for one in self.certificates.get(key_id, ()) if one.handle not in own)]


def _of_pair(key: Key, private: KeyObject, taken: _Taken, noted: Mapping[tuple[bytes, str], LayoutNote]) -> Iterable[Misfit]:
    public = key.public
    wanted = Names(public_id(EVIDEN, private.key_id), public_label(EVIDEN, private.label))
    if not private.key_id:
        return
    if public is None:
        if (note := noted.get((private.key_id, private.label))) is not None:
            yield _judged(Misfit(key, PUBLIC_KEY, None, wanted, way=RESTORE, note=note), taken.others(wanted.id, ()))
        return
    found = Names(public.key_id, public.label)
    wanted = wanted if private.label else wanted._replace(label=found.label)
    if found == wanted:
        return
    misfit = Misfit(key, PUBLIC_KEY, found, wanted, public.handle, RENAME if public.modifiable is not False else ANEW)
    others = taken.others(wanted.id, [public.handle])
    if public.public_key is not None and [getattr(item, "public_key", None) for item in others] == [public.public_key]:
        misfit, others = replace(misfit, way=DROP), []  # a run that was cut off has made it
    if public.public_key is None or private.type not in KEY_TYPES:
        text = "the value of its public half is not known, and a write that is cut off could lose it"
        yield replace(misfit, problem=Problem(code="unknown_public_key", text=text))
    elif misfit.way != RENAME and public.destroyable is False:
        yield replace(misfit, problem=Problem(code="not_destroyable", text="its public half can be neither renamed nor destroyed"))
    else:
        yield _judged(misfit, others)


def _of_certificate(key: Key, certificate: CertificateName, taken: _Taken) -> Misfit:
    """A new one is stored before the old one goes: each of them is whole at any time."""
    wanted = certificate.names._replace(id=certificate_id(EVIDEN, certificate.names.id))
    misfit = Misfit(key, CERTIFICATE, certificate.names, wanted, certificate.handle, ANEW)
    others = taken.others(wanted.id, [certificate.handle])
    twins = [one for one in others if isinstance(one, CertificateName) and one.names == wanted and one.value == certificate.value]
    if twins:
        return replace(misfit, way=DROP)
    # Several certificates of a key have one CKA_ID in either layout.
    return _judged(misfit, [one for one in others if not isinstance(one, CertificateName)])


def _judged(misfit: Misfit, others: Sequence[Any]) -> Misfit:
    if not others:
        return misfit
    return replace(misfit, problem=Problem(code="name_taken", text=f"another object has CKA_ID {misfit.wanted.id.hex()} already"))
