# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""The two ends of a copy, each in a child process of its own: the token that has the keys and the one that is given them.

A side answers requests and knows nothing of the other or of the registry. What crosses are wrapped keys, public keys, attributes
and digests; a refusal is an error with a code.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from ..._cryptoki import comparing, copy_limits, wrapping
from ..._cryptoki.objects import Inventory, read_inventory
from ..._cryptoki.public_key import public_attributes
from ..._cryptoki.roundtrip import use_once
from ..._cryptoki.second_look import CHANGED
from ..._cryptoki.session import Session
from ..._cryptoki.wrap_mechanisms import PADDED
from ..._model.errors import Cryptoki, KeyfleetError
from ..._model.keys.layout import EVIDEN, PKCS11
from ..._model.keys.objects import Key, KeyName, KeyObject, group_keys, laid_out
from ..._model.keys.post_quantum import PARAMETER_SETS
from ..._model.keys.types import CLASS_OPERATIONS, KEY_TYPES, PRIVATE, PUBLIC
from ..keys.look import TokenLook
from ..keys.planning.looking import is_hollow
from ..tokens.child import error_fields
from ..tokens.connection import Target, open_target

# What the destination says of a name.
FREE, PRESENT, LEFT_OVER, UNSURE = "free", "present", "left_over", "unsure"


def key_of_answer(fields: dict[str, Any]) -> Key:
    """A key as the other side's token describes it. Handles mean nothing here."""
    return Key(**{kind: KeyObject(**part | _tuples(part)) for kind, part in fields.items() if part is not None})


def _tuples(part: dict[str, Any]) -> dict[str, tuple[str, ...]]:
    return {name: tuple(part[name]) for name in ("operations", "allowed_mechanisms") if part[name] is not None}


def serve(target: Target, side: type[Source] | type[Destination], read_write: bool, requests: Iterator[Any]) -> Iterator[Any]:
    """In the child: open the token when told to, and answer until there are no more requests."""
    opening = next(requests, None)
    if opening is None:
        return
    try:
        with open_target(target, None, read_write=read_write, held=opening["held"]) as session:
            working = side(session, target.layout)
            try:
                token = session.token
                yield {"ok": {"slot": token.slot_id, "lock": token.identity.lock_parts(token.model)}}
                for request in requests:
                    yield _answer(working, request)
            finally:
                working.forget()
    except KeyfleetError as error:
        yield {"error": error_fields(error)}


def _answer(side: Source | Destination, request: dict[str, Any]) -> dict[str, Any]:
    try:
        return {"ok": getattr(side, request.pop("do"))(**request)}
    except Cryptoki as error:
        error.device = side.look_at.blames_device(error)
        return {"error": error_fields(error)}
    except KeyfleetError as error:
        return {"error": error_fields(error)}


class Source:
    """The source. It is asked for what may leave it; nothing on it changes."""

    def __init__(self, session: Session, _layout: str = PKCS11) -> None:
        self.session = session
        self.inventory = Inventory()
        self.sender = wrapping.Sender(session)
        self.look_at = TokenLook(session, self.inventory, {})
        self._keys: dict[KeyName, list[Key]] = defaultdict(list)

    def forget(self) -> None:
        self.sender.forget()

    def survey(self) -> dict[str, Any]:
        """Read the token. The sizes of RSA keys that it can wrap with, and its mechanisms with padding."""
        self.inventory = read_inventory(self.session)
        for key in group_keys(self.inventory.objects):
            self._keys[key.name].append(key)
        return _surveyed(self.session)

    def _named(self, name: Sequence[Any]) -> list[Key]:
        kind, key_id, label = name
        return self._keys.get((kind, key_id, label), [])

    def offer(self, name: Sequence[Any]) -> dict[str, Any]:
        """A key's description, and what a copy is known by. Raises :class:`KeyfleetError` where it cannot be copied."""
        found = self._named(name)
        refusal = _not_one(found) or self._unfit(found[0])
        if refusal is not None:
            raise KeyfleetError(f"{self.session.token}: {refusal[1]}.", code=refusal[0])
        key, digests = found[0], {}
        use_once(self.session, self.inventory, key)
        if key.secret is not None:
            digests = wrapping.effects(self.session, self.inventory, key.secret)
            if not (digests or key.secret.check_value or comparing.comparison(self.session, key.secret)):
                text = f"{self.session.token}: it may do nothing by which a copy could be compared with it."
                raise KeyfleetError(text, code="not_comparable")
        return {"key": asdict(key), "effects": digests, "guards": copy_limits.guards(self.inventory, key)}

    def _unfit(self, key: Key) -> tuple[str, str] | None:
        main = key.main
        if main.type not in KEY_TYPES or (main.type == "EC" and main.curve is None):
            return (
                "unknown_type",
                f"its type ({main.type}{', another curve' if main.type == 'EC' else ''}) is none that this collection knows",
            )
        if main.type in PARAMETER_SETS:
            return "unknown_type", f"keys of type {main.type} are not copied"
        if main.kind == PUBLIC:
            return "public_only", "it is a public key alone, and needs no wrapping"
        if not main.label:
            return "no_label", "it has no CKA_LABEL, and without one a copy that is cut off could not be told from others"
        if main.kind == PRIVATE and (key.public is None or not key.public.public_key):
            return "half_pair", "its public half is not there: mend the pair here first"
        if kept := copy_limits.kept_in(self.inventory, main):
            return kept
        if lost := copy_limits.not_carried(self.inventory, key):
            return "not_carried", lost
        if wrapping.changed_by_wrapping(self.session, main):
            return "not_carried", "it is not known to be of whole 64-bit blocks, and this token fills up what it wraps with zeros"
        if missing := wrapping.missing_to_send(self.session, main):
            return "mechanism_missing", f"it cannot send {main.type} keys, it lacks {', '.join(missing)}"
        return None

    def begin(self, numbers: dict[str, bytes]) -> None:
        self.sender.begin(numbers)

    def seal(self, hash_name: str) -> bytes:
        return self.sender.seal(hash_name)

    def prove(self, padded: str) -> bytes:
        return self.sender.prove(padded)

    def wrap(self, name: Sequence[Any]) -> bytes:
        return self.sender.wrap(self.inventory, self._named(name)[0].main)


def _surveyed(session: Session) -> dict[str, Any]:
    return {"bits": wrapping.rsa_bits(session), "padded": [name for name in PADDED if name in session.mechanisms()]}


def _not_one(found: Sequence[Key]) -> tuple[str, str] | None:
    if not found:
        return "absent", "there is no such key on it"
    return ("several_keys", f"{len(found)} keys have this name") if len(found) > 1 else None


class Destination:
    """The destination. What it makes is called as its instance's ``layout`` has it."""

    def __init__(self, session: Session, layout: str = PKCS11) -> None:
        self.session = session
        self.layout = layout
        self.inventory = Inventory()
        self.receiver = wrapping.Receiver(session, self.inventory)
        self.look_at = TokenLook(session, self.inventory, {})
        self._named: dict[str | bytes, list[KeyObject]] = {}

    def forget(self) -> None:
        self.receiver.forget()

    def survey(self, cut_off: bool) -> dict[str, Any]:
        """Read the token. The sizes of RSA keys that it can unwrap with, and its mechanisms with padding."""
        self.inventory = self.receiver.inventory = self.look_at.inventory = read_inventory(self.session, cut_off=cut_off)
        self._index(self.inventory.objects)
        return _surveyed(self.session)

    def _index(self, objects: Iterable[KeyObject]) -> None:
        for item in objects:
            for name in (item.label, item.key_id):
                if name:
                    self._named.setdefault(name, []).append(item)

    def _drop(self, items: Sequence[KeyObject]) -> None:
        """Take what was destroyed out of what is known to be there."""
        if items:
            self.inventory.objects = [item for item in self.inventory.objects if item not in items]
            self._named = {}
            self._index(self.inventory.objects)

    def nameless(self) -> int:
        return len(self.inventory.cut_off)

    def clear(self, nameless: Sequence[int]) -> list[dict[str, str]]:
        """Destroy what dead runs have left without a name: cut off, holding nothing, and none of it there before them."""
        found = [item for item in self.inventory.cut_off if not item.label and not item.key_id and item.destroyable is not False]
        if max(nameless, default=1) > 0:
            return []
        hollow = [item for item in found if is_hollow(item, self.look_at)]
        try:
            self.receiver.remove(hollow)
        except Cryptoki as error:
            error.details["left"] = bool(error.details.get(CHANGED))
            raise
        self.inventory.cut_off = [item for item in self.inventory.cut_off if item not in hollow]
        return [{"kind": item.kind, "type": item.type} for item in hollow]

    def look(self, offer: dict[str, Any], noted: bool) -> str:
        """What is there under the names of a key: ``FREE``, ``PRESENT``, ``LEFT_OVER``, or ``UNSURE`` where only the wrapped key
        will tell. Raises :class:`KeyfleetError` where it cannot be taken. ``noted``: a dead run set out to make it."""
        model = self._model(offer)
        if missing := wrapping.missing_to_receive(self.session, model.main):
            raise self._refused(f"it cannot receive {model.main.type} keys, it lacks {', '.join(missing)}", "mechanism_missing")
        if not wrapping.can_use(self.session, model.main.type):
            raise self._refused(f"it cannot use {model.main.type} keys", "mechanism_missing")
        state = self._judge(model, offer["effects"], noted, None)[0]
        if state != PRESENT and any(item.destroyable is False for item in model.objects) and not self.receiver.can_keep():
            raise self._refused("a verified copy cannot be kept from being destroyed (CKA_DESTROYABLE)", "not_carried")
        return state

    def _model(self, offer: dict[str, Any]) -> Key:
        """The key as it is to be here. Where no layout is declared, as it is on the source."""
        key = key_of_answer(offer["key"])
        return laid_out(key) if self.layout == EVIDEN else key

    def _refused(self, text: str, code: str) -> KeyfleetError:
        return KeyfleetError(f"{self.session.token}: {text}.", code=code)

    def _judge(self, model: Key, effects: dict[str, bytes], noted: bool, blob: bytes | None) -> tuple[str, list[KeyObject]]:
        names = {name for part in model.objects for name in (part.label, part.key_id) if name}
        found = list({item.handle: item for name in names for item in self._named.get(name, ())}.values())
        if (public := laid_out(model).public) is not None:  # however it is called
            found += [item for item in self._named.get(public.key_id, ()) if item.kind == PUBLIC and item not in found]
        found.sort(key=lambda item: item.handle)
        if not found:
            return FREE, []
        key = next((key for key in group_keys(found) if key.name == model.name), None)
        if key is not None and len(key.objects) == len(found) == len(model.objects):
            told = [self._told_same(item, model, effects, blob) for item in key.objects]
            if all(told) and not (noted and (self._differs(key, model) or self._unprotected(key, model))):
                return PRESENT, []
            if told == [None] and blob is None and not effects:
                return UNSURE, []
        listed = "; ".join(f"{item.named()}, label '{item.label}'" for item in found)
        if not noted:
            raise self._refused(f"its CKA_LABEL or CKA_ID is taken there ({listed}), and nothing is overwritten", "name_taken")
        for item in found:
            if not self._may_go(item, model, effects, blob):
                text = f"a run that was cut off was making it, and what is there may be a good key ({listed}): nothing was changed"
                raise self._refused(text, "unfinished")
        return LEFT_OVER, found

    def _may_go(self, item: KeyObject, model: Key, effects: dict[str, bytes], blob: bytes | None) -> bool:
        """Whether nothing is lost with an object of a dead run: it holds nothing, or what the source holds."""
        wanted: KeyObject | None = getattr(model, item.kind)
        if wanted is None or item.label != wanted.label or item.key_id not in (wanted.key_id, b"") or item.destroyable is False:
            return False
        if item.type not in (wanted.type, "unknown"):
            return False
        if is_hollow(item, self.look_at):
            return True
        return self._told_same(item, model, effects, blob) is True

    def _told_same(self, item: KeyObject, model: Key, effects: dict[str, bytes], blob: bytes | None) -> bool | None:
        """:meth:`_same` of what a dead run may have left: a key without a value tells nothing of it. Raises :class:`Cryptoki`."""
        try:
            return self._same(item, model, effects, blob)
        except Cryptoki as error:
            if self.look_at.blames_device(error):
                raise
            return None

    def _same(self, item: KeyObject, model: Key, effects: dict[str, bytes], blob: bytes | None) -> bool | None:
        """Whether an object here has the value of the source's; None where that cannot be told. Raises :class:`Cryptoki`."""
        public = model.public.public_key if model.public is not None else None
        if item.kind == PUBLIC:
            return item.public_key is not None and item.public_key == public
        if item.kind == PRIVATE:
            return comparing.belongs(self.session, self.inventory, item, public_attributes(public)) if public else None
        return self._same_secret(item, model, effects, blob)

    def _same_secret(self, item: KeyObject, model: Key, effects: dict[str, bytes], blob: bytes | None) -> bool | None:
        if model.secret is None or item.type != model.secret.type:
            return False
        if None not in (item.size, model.secret.size) and item.size != model.secret.size:
            return False  # HMAC fills keys up with zeros, so a shorter one may do the same
        mine = wrapping.effects(self.session, self.inventory, item)
        if common := mine.keys() & effects.keys():
            return all(mine[operation] == effects[operation] for operation in common)
        if item.check_value and item.check_value == model.secret.check_value:
            return True
        return self.receiver.same_wrapping(item, model.secret, blob) if blob is not None else None

    def _differs(self, key: Key, model: Key) -> str | None:
        """What a copy has otherwise than the source's key."""
        if len(key.objects) != len(model.objects):
            return "one half is missing"
        for item, wanted in zip(key.objects, model.objects, strict=True):
            for name in ("kind", "label", "key_id", "type", "curve"):
                if getattr(item, name) != getattr(wanted, name):
                    return f"{name} of its {item.kind} object"
            # Others are none of this class: pkcs11-tool gives EC public keys CKA_DERIVE, and no public key derives.
            if set(CLASS_OPERATIONS[item.kind]) & (set(item.operations) ^ set(wanted.operations)):
                return f"operations of its {item.kind} object"
        if key.main.sensitive is not True or key.main.extractable is not True:
            return "CKA_SENSITIVE or CKA_EXTRACTABLE"
        return None

    @staticmethod
    def _unprotected(key: Key, model: Key) -> bool:
        """Whether a copy lacks what is set last: that it may not be destroyed."""
        return any(item.destroyable is not False for item in key.objects if getattr(model, item.kind).destroyable is False)

    def begin(self, bits: int) -> dict[str, bytes]:
        return self.receiver.begin(bits)

    def prove(self, padded: str, blob: bytes) -> bool:
        return self.receiver.prove(padded, blob)

    def open_way(self, sealed: bytes, hash_name: str) -> None:
        self.receiver.open(sealed, hash_name)

    def take(self, offer: dict[str, Any], noted: bool, blob: bytes) -> bool:
        """Make the key and verify it; False where it turns out to be there. What fails is destroyed again.

        Raises :class:`KeyfleetError`, with ``left`` among the details where something may have stayed on the token.
        """
        model, effects = self._model(offer), offer["effects"]
        state, found = self._judge(model, effects, noted, blob)
        if state == PRESENT:
            return False
        try:
            self.receiver.remove(found)
        except Cryptoki as error:
            error.details["left"] = True
            raise
        self._drop(found)
        before = dict(self.inventory.raw)
        try:
            key = self.receiver.unwrap(model, blob, offer["guards"])
            self._verify(key, model, offer, blob)
            self.receiver.keep(key, model)
        except KeyfleetError as error:
            self.inventory.raw = before
            self._undo(model, error)
            raise
        self.inventory.objects.extend(key.objects)
        self._index(key.objects)
        return True

    def _verify(self, key: Key, model: Key, offer: dict[str, Any], blob: bytes) -> None:
        wrong, effects = self._differs(key, model), offer["effects"]
        has = copy_limits.guards(self.inventory, key)
        lost = [name for kind, wanted in offer["guards"].items() for name in wanted if name not in has.get(kind, {})]
        if wrong is None and lost:
            wrong = ", ".join(f"CKA_{name}" for name in lost)
        if wrong is None and not all(self._same(item, model, effects, blob) for item in key.objects):
            wrong = "its value, as far as that can be told"
        if wrong is not None:
            raise self._refused(f"the copy differs from the key on the source: {wrong}; it was destroyed again", "not_verified")
        use_once(self.session, self.inventory, key)

    def _undo(self, model: Key, error: KeyfleetError) -> None:
        """Destroy what this run made under the key's names, which were free; of what has no name, only what holds nothing."""
        ids = {part.key_id for part in model.objects}
        try:
            named, nameless = self.receiver.left_of(model)
            hollow = [item for item in nameless if is_hollow(item, self.look_at)]
            self.receiver.remove([item for item in named if item.key_id in ids] + hollow)
        except Cryptoki as failure:
            error.details["left"] = True
            left = f"What was made of it may still be on the token ({failure.rv}); the next run looks after it."
            error.message = f"{error.message.rstrip('.')}. {left}"
