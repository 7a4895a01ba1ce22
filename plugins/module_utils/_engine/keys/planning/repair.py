# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""What a crash may leave of a key, and which of it may be mended.

Without being told, a run mends only what a dead run of ours set out to make and nobody has vouched for since: the registry's
note says so. With ``repair: true`` it also mends what looks like that without a note, as long as no good key can be lost by it.
A half or a key that was recorded once was whole then: it is never destroyed to make room for another.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ...._model.errors import Cryptoki
from ...._model.faults import WRONG_ANSWER
from ...._model.keys.layout import EVIDEN, public_id
from ...._model.keys.material import KeyMaterial
from ...._model.keys.objects import Key, KeyObject
from ...._model.keys.spec import KeySpec
from ...._model.keys.types import PUBLIC
from ...._model.records import VirtualKey
from .circumstances import Circumstances
from .looking import is_hollow
from .plan import REPAIR, KeyPlan, Refusal

_REPAIR = "say repair: true"


def _ours(spec: KeySpec, items: Iterable[KeyObject], circumstances: Circumstances) -> bool:
    """Whether a dead run of ours set out to make these objects, or to replace them, as its note says.

    CKA_LOCAL alone does not tell: SoftHSM sets it last, so what was cut off before that is known by being hollow.
    """
    note = circumstances.pending.get(spec.label)
    if note is None:
        return False
    if note.replaces:
        return True
    if any(item.key_id not in (note.key_id, public_id(EVIDEN, note.key_id), b"") for item in items):
        return False
    return all(note.imported or item.local is not False or is_hollow(item, circumstances.look) for item in items)


def is_unfinished(spec: KeySpec, key: Key, circumstances: Circumstances) -> bool:
    """Whether a dead run of ours has made this key where none was: it may not have come to take away what the token gave unasked."""
    note = circumstances.pending.get(spec.label)
    return note is not None and not note.replaces and _ours(spec, key.objects, circumstances)


def _may_be_remade(spec: KeySpec, key: Key, record: VirtualKey | None, circumstances: Circumstances) -> str | None:
    """Why this left-over may not be destroyed to make the key anew; None where it may."""
    note = circumstances.pending.get(spec.label)
    if record is not None and not (note is not None and note.replaces):
        return "it was whole when it was recorded, so a part of it was lost since, and no other key takes its place"
    for item in key.objects:
        if item.destroyable is False:
            return f"its {item.kind} half was made with destroyable: false"
        if item.type not in (spec.type, "unknown"):
            return f"it is of type {item.type}, asked for {spec.type}"
    if beside := circumstances.neighbours.reason(key):
        return beside
    if _ours(spec, key.objects, circumstances):
        return None
    if not circumstances.repair:
        return f"it may be what a run that was cut off has left: {_REPAIR} to destroy it and make the key anew"
    if spec.material is None and any(item.local is not True for item in key.objects):
        return "it was imported by somebody, not generated here, and is not destroyed for another"
    return None


def _blocked(spec: KeySpec, key: Key, what: str, reason: str) -> Refusal:
    way = "Otherwise restore it from a backup, or use another label."
    return Refusal(f"{spec.where}: {what} ({key.main.named()}): {reason}. Nothing was changed. {way}")


def _rest_of_replaced(spec: KeySpec, key: Key, circumstances: Circumstances) -> KeyPlan | Refusal | None:
    """What a run of ours has left of a key that it was replacing, as its note and ``on_mismatch: replace`` say; None for anything else."""
    note = circumstances.pending.get(spec.label)
    if note is None or not note.replaces or spec.on_mismatch != "replace":
        return None
    kept = next((f"its {item.kind} half was made with destroyable: false" for item in key.objects if item.destroyable is False), None)
    if kept is not None:
        return _blocked(spec, key, "a run that was to replace this key has left half of it", kept)
    return KeyPlan(spec, REPAIR, key, clear=key.objects)


def plan_half(spec: KeySpec, key: Key, record: VirtualKey | None, circumstances: Circumstances) -> KeyPlan | Refusal:
    """Half a pair on the token, and a whole one wanted: complete it where the missing half is known, else see whether it may go."""
    if (rest := _rest_of_replaced(spec, key, circumstances)) is not None:
        return rest
    if spec.type != key.main.type:
        return _blocked(spec, key, "only half of a key pair is on the token", f"it is of type {key.main.type}, asked for {spec.type}")
    if key.private is not None:
        return _public_missing(spec, key, key.private, record, circumstances)
    what = "only half of this key pair is on the token, its private key is missing"
    if record is not None and record.kind == PUBLIC:
        return _blocked(spec, key, what, "the registry has it as a public key alone, as state: public_only leaves it")
    material = spec.material
    if isinstance(material, KeyMaterial) and key.public is not None and key.public.public_key == material.public_key:
        if beside := circumstances.neighbours.reason(key):
            return _blocked(spec, key, what, beside)
        return KeyPlan(spec, REPAIR, key, virtual=record)  # the source has the other half
    reason = _may_be_remade(spec, key, record, circumstances)
    if reason is not None:
        return _blocked(spec, key, what, reason)
    return KeyPlan(spec, REPAIR, key, clear=key.objects)


def _known_public(spec: KeySpec, private: KeyObject, record: VirtualKey | None, circumstances: Circumstances) -> Mapping[str, bytes] | None:
    """The value of the missing public half: from the source, from an RSA private key itself, or from the registry."""
    if spec.material is not None and spec.material.public:
        return spec.material.public
    if private.modulus and private.exponent:
        return {"MODULUS": private.modulus, "PUBLIC_EXPONENT": private.exponent}
    if record is not None and record.public_key:
        return circumstances.look.public_value(record.public_key)
    return None


def _public_missing(
    spec: KeySpec, key: Key, private: KeyObject, record: VirtualKey | None, circumstances: Circumstances
) -> KeyPlan | Refusal:
    what = "only half of this key pair is on the token, its public key is missing"
    ours = record is None and _ours(spec, key.objects, circumstances)
    if beside := circumstances.neighbours.reason(key):
        return _blocked(spec, key, what, beside)
    public = _known_public(spec, private, record, circumstances)
    if public is not None and not (ours or circumstances.repair or spec.material is not None):
        return _blocked(spec, key, what, f"{_REPAIR} to make it again from what is known of it")
    if public is None:
        # Never vouched for, and nothing can bring its public half back: what a run that was cut off has left.
        reason = _may_be_remade(spec, key, record, circumstances) if ours else "nothing tells what its public key was"
        if reason is not None:
            return _blocked(spec, key, what, f"{reason}; give source with the key, or import its public half with the vendor's tools")
        return KeyPlan(spec, REPAIR, key, clear=key.objects)
    belongs = circumstances.look.belongs(private, public)
    if not belongs:
        known = (
            "the public key that is known does not belong to it"
            if belongs is False
            else "whether the known public key belongs to it cannot be told"
        )
        return _blocked(spec, key, what, known)
    return KeyPlan(spec, REPAIR, key, mend=public, virtual=record)


def plan_unusable(spec: KeySpec, key: Key, record: VirtualKey | None, failure: Cryptoki, circumstances: Circumstances) -> KeyPlan | Refusal:
    """A key that is there and that no run has vouched for, and a use of it failed."""
    what = f"exists, and using it once failed ({failure.rv})"
    if failure.rv == WRONG_ANSWER and key.public is not None:
        return _blocked(spec, key, what, "its two halves do not belong together")
    reason = _may_be_remade(spec, key, record, circumstances)
    if reason is None and not circumstances.look.empty(key):
        reason = "it is not certain that the key has no value: the fault may be the token's or passing, so nothing is destroyed"
    if reason is not None:
        return _blocked(spec, key, what, reason)
    return KeyPlan(spec, REPAIR, key, clear=key.objects)
