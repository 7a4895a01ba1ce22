# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""Give a member of a group the keys that it lacks and another member has, wrapped: see ``_cryptoki.wrapping``.

Each token is worked by a child process of its own (``copy_sides``), this one passes on what crosses and keeps the registry. One
library with two environments cannot be in one process, a session must not be lost because the other token's had to be opened
anew, and a call that hangs can be ended from outside only. SoftHSM 2.6.1 works after a fork when this process has finalised it
before; where it has it open, the child gets the parent's configuration and does not find its token. So: no session and no
provider may be open here.

Both tokens' locks are held from before the first look to the end. They are taken in the order of the tokens' serial numbers and
labels, so that runs in opposite directions wait for each other and do not block each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import Any

from ..._cryptoki.wrap_mechanisms import WHOLE, needs_padding
from ..._cryptoki.wrapping import OAEP_HASHES
from ..._model.errors import Cryptoki, KeyfleetError, PinError, RegistryError, TokenError
from ..._model.keys.objects import Key, KeyName
from ..._model.records import PendingKey
from ..._model.uids import key_id_text, uid
from ..._registry import events, pending_keys
from ..._registry.database import Database
from ..tokens.child import error_of
from ..tokens.connection import Target
from ..tokens.refused_pins import note_login
from ..tokens.talk import Talk
from .copy_sides import PRESENT, UNSURE, Destination, Source, key_of_answer, serve

SECONDS = 120.0  # for one answer of a token; making an RSA pair is the slowest
COPIED, FINISHED = "copied", "finished"
_ENDED = ("exchange_timeout", "exchange_crashed")


@dataclass(frozen=True)
class Copied:
    """What became of one key. ``done``: it is on the destination, the same as on the source. ``code`` is then

    * ``copied``: this run made it (in check mode: would make it),
    * ``finished``: a run that was cut off had made it, and this one vouches for it,
    * ``present``: it was there, and nothing was done.

    Else ``reason`` says in words why not, and ``code`` is a word for programs. ``broken``: a fault of the device, of a side's process
    or of the registry; ``left``: something of the key may be on the destination.
    """

    name: KeyName
    done: bool
    reason: str | None
    code: str
    broken: bool = False
    left: bool = False


def is_broken(error: KeyfleetError) -> bool:
    """Whether a copy failed by a fault of the device, of a side's process or of the registry: there is no point in going on."""
    return error.code in _ENDED or isinstance(error, RegistryError) or (isinstance(error, Cryptoki) and error.device)


@dataclass(frozen=True)
class _Item:
    """A key that is to be copied: what the source says of it, as it is passed on, and the same as a value."""

    name: KeyName
    offer: dict[str, Any]
    key: Key
    unsure: bool = False


def _is_padded(item: _Item) -> bool:
    return needs_padding(item.key.main.type, item.key.main.size)


def copy_keys(
    source: Target,
    destination: Target,
    names: Sequence[KeyName],
    database: Database,
    *,
    check_mode: bool,
    seconds: float = SECONDS,
) -> list[Copied]:
    """Copy keys of one registered token to another, as far as both tokens can. One answer a name, in order.

    In check mode nothing is made, and the answers are what can be known without trying. ``seconds`` is what a token has for an
    answer; waiting for another run that holds a token takes as long as its ``connection_timeout`` says. Raises
    :class:`KeyfleetError` when a token cannot be opened or read. The caller has no session and no provider open.
    """
    sides = [(_place(source), source), (_place(destination), destination)]
    if source.token_id == destination.token_id:
        raise TokenError(f"source and destination are the same {_named(source)}: nothing is copied.", code="same_token")
    with ExitStack() as stack:
        giving = stack.enter_context(Talk(partial(serve, source, Source, False), _named(source)))
        taking = stack.enter_context(Talk(partial(serve, destination, Destination, not check_mode), _named(destination), [giving]))
        slots, held = {}, list[str]()
        for _name, target in sorted(sides, key=lambda side: side[0]):
            opened = _open(giving if target is source else taking, target, database, seconds, held)
            slots[id(target)], held = opened["slot"], opened["lock"]
        exchange = _Exchange(giving, taking, database, destination.token_id or 0, seconds)
        exchange.addresses = [_address(target, slots[id(target)]) for target in (source, destination)]
        return exchange.run(names, check_mode)


def _named(target: Target) -> str:
    return f"token '{target.token.named() if target.token is not None else target.selector}'"


def _place(target: Target) -> tuple[str, str, str, int]:
    """The token's place in the order of locks, without a look at the token: two runs must come to the same order. What is the same
    through every instance comes first."""
    token = target.token
    if token is None or token.id is None:
        raise TokenError(f"{target.selector} is not registered: keys are copied between registered tokens.", code="token_not_declared")
    if token.slot is None:
        raise TokenError(f"token '{token.named()}' was never seen: run hsm_instance to look at it.", code="token_never_seen")
    seen = token.identity()
    return seen.serial, seen.label, target.libraries[0], token.slot


def _address(target: Target, slot_id: int) -> tuple[str | None, int, str]:
    return target.prefix, slot_id, _named(target)


def _ask(talk: Talk, seconds: float | None, do: str, **arguments: Any) -> Any:
    """One request to a side. Raises what the side raised."""
    answer = talk.ask({"do": do, **arguments}, seconds)
    if "error" not in answer:
        return answer["ok"]
    raise error_of(answer["error"])


def _open(talk: Talk, target: Target, database: Database, seconds: float, held: Sequence[str]) -> dict[str, Any]:
    """Log in: the ``slot``, and what the token's ``lock`` goes by, which must not be ``held``. Without a ``connection_timeout`` another run
    that holds the token is waited for, however long it takes."""
    try:
        opened: dict[str, Any] = _ask(talk, 2 * target.timeout + seconds if target.timeout else None, "open", held=list(held))
    except PinError as error:
        note_login(database, target.token, target.tried, error)
        raise
    note_login(database, target.token, target.tried, None)
    return opened


class _Exchange:
    """Both tokens are open; their locks are held."""

    addresses: Sequence[tuple[str | None, int, str]]

    def __init__(self, giving: Talk, taking: Talk, database: Database, token_id: int, seconds: float) -> None:
        self.giving = giving
        self.taking = taking
        self.database = database
        self.token_id = token_id
        self.seconds = seconds
        self.notes: dict[str, PendingKey] = {}
        self.results: dict[KeyName, Copied] = {}
        self.hash_name = ""
        self.bits = 0
        self.paddings: list[tuple[str, str]] = []

    def _give(self, do: str, **arguments: Any) -> Any:
        return _ask(self.giving, self.seconds, do, **arguments)

    def _take(self, do: str, **arguments: Any) -> Any:
        return _ask(self.taking, self.seconds, do, **arguments)

    def run(self, names: Sequence[KeyName], check_mode: bool) -> list[Copied]:
        self.notes = pending_keys.of_token(self.database, self.token_id)  # the lock is held: all of them are of dead runs
        there = self._give("survey")
        here = self._take("survey", cut_off=bool(self.notes))
        self.bits = max(set(there["bits"]) & set(here["bits"]), default=0)
        # Both ends with the same number first: it is what they have in common, as a rule.
        self.paddings = sorted(product(there["padded"], here["padded"]), key=lambda pair: pair[0] != pair[1])
        work = self._look(list(dict.fromkeys(names)))
        if check_mode:
            for item in work:
                taken = Copied(item.name, False, "a key of this name is there, and only a real run can tell whether it is the same", UNSURE)
                self.results[item.name] = taken if item.unsure else Copied(item.name, True, None, COPIED)
        elif self.results or work:
            self._carry_out(work)
        return [self.results[name] for name in names]

    def _fail(self, name: KeyName, error: KeyfleetError) -> bool:
        """Note why a key is not copied. Whether there is no point in going on."""
        broken = is_broken(error)
        self.results[name] = Copied(name, False, error.message, error.code, broken)
        return broken

    def _skip(self, names: Sequence[KeyName], why: str | None) -> None:
        for name in names:
            if name not in self.results:
                self.results[name] = Copied(name, False, f"not attempted: {why}", "not_attempted")

    def _look(self, names: Sequence[KeyName]) -> list[_Item]:
        """What is to be copied. The other names have their result afterwards."""
        work: list[_Item] = []
        used: dict[str | bytes, str] = {}
        for name in names:
            try:
                offer = self._give("offer", name=name)
                state = self._take("look", offer=offer, noted=name[2] in self.notes)
                if state == PRESENT:
                    self.results[name] = Copied(name, True, None, FINISHED if name[2] in self.notes else PRESENT)
                    continue
                item = _Item(name, offer, key_of_answer(offer["key"]), state == UNSURE)
                self._check_own(item, used)
            except KeyfleetError as error:
                if self._fail(name, error):
                    self._skip(names, error.message)
                    return []
                continue
            work.append(item)
        return work

    def _check_own(self, item: _Item, used: dict[str | bytes, str]) -> None:
        """Two keys of one call may have names in common on the source; on the destination the second one is refused."""
        own = {name for part in item.key.objects for name in (part.label, part.key_id) if name}
        if taken := own & used.keys():
            raise KeyfleetError(
                f"it has a CKA_LABEL or CKA_ID in common with '{used[taken.pop()]}', which is copied first: give each its own.",
                code="name_taken",
            )
        if not self.bits:
            raise KeyfleetError("the tokens have no RSA-OAEP with keys of 2048 or 3072 bits in common.", code="mechanism_missing")
        used |= dict.fromkeys(own, item.name[2])

    def _carry_out(self, work: list[_Item]) -> None:
        names = [item.name for item in work]
        try:
            if self.notes:
                self._clear_left_overs()
            for result in [result for result in self.results.values() if result.code == FINISHED]:
                self._record(result.name, FINISHED)
            if work:
                self._prepare(work)
                self._note(work)
        except KeyfleetError as error:
            for name in names:
                self._fail(name, error)
                self.results[name] = replace(self.results[name], left=bool(error.details.get("left")))
            return
        left: set[str] = set()
        for item in work:
            try:
                self._copy(item, left)
            except KeyfleetError as error:
                if self._fail(item.name, error):
                    self._skip(names, error.message)
                    break
        for name in [item.name for item in work if item.name[2] in left and not self.results[item.name].done]:
            self.results[name] = replace(self.results[name], left=True)
        self._take_back(work, left)

    def _clear_left_overs(self) -> None:
        removed = self._take("clear", nameless=[note.nameless for note in self.notes.values()])
        if removed:
            with self.database.transaction():
                for item in removed:
                    events.record(self.database, "destroy_left_over", self.addresses[1][2], **item)

    def _prepare(self, work: Sequence[_Item]) -> None:
        """Make the way: an AES key that both tokens have, with the best hash that both take, and a padding where keys need one."""
        self._open_way()
        if any(map(_is_padded, work)):
            self.paddings = [next((pair for pair in self.paddings if self._is_proven(*pair)), ("", ""))]

    def _is_proven(self, sent: str, taken: str) -> bool:
        """Whether the mechanisms mean the same padding on both tokens, by a throw-away key. Raises :class:`KeyfleetError`."""
        try:
            blob = self._give("prove", padded=sent)
        except Cryptoki as error:
            if error.device:
                raise
            return False
        proven: bool = self._take("prove", padded=taken, blob=blob)
        return proven

    def _open_way(self) -> None:
        self._give("begin", numbers=self._take("begin", bits=self.bits))
        failure: Cryptoki | None = None
        for hash_name in OAEP_HASHES:
            try:
                self._take("open_way", sealed=self._give("seal", hash_name=hash_name), hash_name=hash_name)
            except Cryptoki as error:
                failure = error
            else:
                self.hash_name = hash_name
                return
        if failure is not None:
            raise failure

    def _note(self, work: list[_Item]) -> None:
        """Before the first object is made on the token: so the next run knows what this one, if it dies, has left."""
        nameless = int(self._take("nameless"))
        rows = [PendingKey(self.token_id, item.name[2], item.name[1], True, False, nameless) for item in work]
        with self.database.transaction(durable=True):
            pending_keys.add(self.database, rows)

    def _copy(self, item: _Item, left: set[str]) -> None:
        if _is_padded(item) and not all(self.paddings[0]):
            text = "no AES_KEY_WRAP_KWP or AES_KEY_WRAP_PAD of one token unwraps what the other wrapped. A key made for it was tried."
            raise KeyfleetError(text, code="mechanism_missing")
        blob = self._give("wrap", name=item.name)
        label = item.name[2]
        left.add(label)  # until the answer is here nobody knows what is on the token
        try:
            made = self._take("take", offer=item.offer, noted=label in self.notes, blob=blob)
        except KeyfleetError as error:
            if error.code not in _ENDED and not error.details.get("left"):
                left.discard(label)
            raise
        if not made and label not in self.notes:  # it was there, and the wrapped key told that it is the same
            left.discard(label)
            self.results[item.name] = Copied(item.name, True, None, PRESENT)
            return
        code = COPIED if made else FINISHED
        try:
            self._record(item.name, code, item.key)
        except RegistryError as error:
            error.message += "; the key is on the token, and the next run finishes it"
            raise
        self.results[item.name] = Copied(item.name, True, None, code)

    def _record(self, name: KeyName, code: str, key: Key | None = None) -> None:
        """The event, and the note taken back, in one transaction."""
        kind, key_id, label = name
        uids = [uid(prefix, slot, key_id_text(key_id, label)) if prefix else f"{token}: {label}" for prefix, slot, token in self.addresses]
        how = {} if key is None else {"wrapped": f"{self._wrapped_by(key)}, RSA-{self.bits} OAEP {self.hash_name}"}
        with self.database.transaction():
            events.record(self.database, "copy_key", uids[1], source=uids[0], kind=kind, finished=code == FINISHED, **how)
            pending_keys.remove(self.database, self.token_id, [label])

    def _wrapped_by(self, key: Key) -> str:
        names = self.paddings[0] if needs_padding(key.main.type, key.main.size) else (WHOLE,)
        return " and ".join(dict.fromkeys(names))

    def _take_back(self, work: list[_Item], left: set[str]) -> None:
        """The notes that nothing stands behind. Those of dead runs stay until their keys are done."""
        settled = {item.name[2] for item in work} - left - self.notes.keys()
        if not settled:
            return
        try:
            with self.database.transaction():
                pending_keys.remove(self.database, self.token_id, settled)
        except RegistryError:
            return  # a note too many costs the next run a look
