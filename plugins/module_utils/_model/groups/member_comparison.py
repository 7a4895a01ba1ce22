# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""On which keys the members of a group disagree. A key is known by its value, not by its label.

A pair is the same where its public key is. A secret key is known by its type, size and key check value, which has 24 bits only
(PKCS#11 3.1, section 4.10.2): of 10,000 keys some pairs share one by chance. So names are matched first, and the check value
alone decides only where it leaves one way to match.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from ..keys.types import PRIVATE, PUBLIC, SECRET


@dataclass(frozen=True)
class MemberKey:
    """One key on a member. ``kind`` is secret, private (a pair, or its private half) or public (only the public half).

    ``fingerprint``: hex of the public key's SHA-256, of a secret key its key check value; None where neither can be known.
    ``exact``: of a secret key a check of all its bits, where one was made. It is for comparing, and never shown.
    """

    kind: str
    key_id: bytes
    label: str
    type: str
    size: int | None
    fingerprint: str | None
    exact: str | None = field(default=None, repr=False)

    @property
    def name(self) -> tuple[str, bytes]:
        return (self.label, self.key_id)

    @property
    def short_name(self) -> str | bytes:
        """What people call it: its label, else its id."""
        return self.label or self.key_id


@dataclass
class Disagreement:
    """A key that not every member has exactly once, under one name. The key is that of the first member that has it.

    Each member stands in one of the five lists. ``twice``: it has the key more than once. ``different``: it has another key of
    that name, whose fingerprint is in ``other``. ``unknown``: it has a key of that name, and whether it is this one cannot be
    told. ``public_only``: of those that have not the key, who has its public half. ``renamed``: the other name under which a
    member has the key, once or twice.
    """

    label: str
    key_id: bytes
    kind: str
    type: str
    size: int | None
    fingerprint: str | None
    have: list[int] = field(default_factory=list)
    lack: list[int] = field(default_factory=list)
    twice: list[int] = field(default_factory=list)
    different: list[int] = field(default_factory=list)
    unknown: list[int] = field(default_factory=list)
    public_only: list[int] = field(default_factory=list)
    other: dict[int, str | None] = field(default_factory=dict)
    renamed: dict[int, tuple[str, bytes]] = field(default_factory=dict)


@dataclass(eq=False)
class _Object:
    """A key on a member. ``rank`` is its place among all, by member and then by value."""

    rank: int
    member: int
    held: MemberKey
    size: int | None

    @property
    def identity(self) -> Hashable | None:
        """What the key is known by; None: nothing but its name."""
        if self.held.fingerprint is None or self.held.kind != SECRET:
            return self.held.fingerprint
        return (self.held.type, self.size, self.held.fingerprint)


@dataclass(eq=False)
class _Key:
    """The objects that are one key. ``halves``: members with its public half only. ``sure``: False for a key known by name alone."""

    objects: list[_Object]
    exact: str | None = None
    halves: frozenset[int] = frozenset()
    sure: bool = True

    @property
    def members(self) -> set[int]:
        return {item.member for item in self.objects}

    def reference(self) -> _Object:
        """Of the first member's objects, the one whose name most members use."""
        first = min(item.member for item in self.objects)
        users = Counter(item.held.name for item in self.objects)
        return min((item for item in self.objects if item.member == first), key=lambda item: (-users[item.held.name], item.rank))

    def agreed(self, count: int) -> bool:
        """Whether each of ``count`` members has it once, all under one name."""
        return len(self.objects) == len(self.members) == count and len({item.held.name for item in self.objects}) == 1


@dataclass(eq=False)
class _Namesakes:
    """What one member has under a name. ``told``: a row says that it cannot be told whether the key is among them."""

    objects: list[_Object] = field(default_factory=list)
    nameless: bool = False
    exacts: dict[Hashable, set[str | None]] = field(default_factory=lambda: defaultdict(set))
    told: bool = False

    def add(self, item: _Object) -> None:
        self.objects.append(item)
        if item.identity is None:
            self.nameless = True
        else:
            self.exacts[item.identity].add(item.held.exact)

    def may_be(self, identity: Hashable | None, exact: str | None) -> bool:
        """Whether one of them may be the key, for all that is known."""
        if identity is None or self.nameless:
            return True
        found = self.exacts.get(identity, set())
        return bool(found) and (exact is None or exact in found or None in found)


class _Names:
    """Keys by name, of each member and kind. Only keys that are not agreed on: a name that is used up explains nothing."""

    def __init__(self, objects: Iterable[_Object]) -> None:
        self._found: dict[Hashable, _Namesakes] = defaultdict(_Namesakes)
        for item in objects:
            for name in (item.held.name, item.held.short_name):
                self._found[item.member, item.held.kind, name].add(item)

    def of(self, item: _Object) -> list[_Namesakes]:
        return [self._found[item.member, item.held.kind, name] for name in (item.held.name, item.held.short_name)]

    def on(self, member: int, item: _Object) -> _Namesakes | None:
        """What ``member`` has under the name of ``item``: label and id, else the label where it is that of one key on both sides."""
        full = self._found.get((member, item.held.kind, item.held.name))
        if full is not None:
            return full
        short = self._found.get((member, item.held.kind, item.held.short_name))
        return short if short is not None and len(short.objects) == len(self.of(item)[1].objects) == 1 else None


def compare_members(members: Sequence[Iterable[MemberKey]]) -> list[Disagreement]:
    """The keys on which ``members``, in priority order, do not agree, by name. Members that could not be read are left out.

    The order of a member's keys does not matter. Takes time in proportion to the number of keys.
    """
    ordered = ((number, held) for number, member in enumerate(members) for held in sorted(member, key=_order))
    objects = [_Object(rank, number, held, held.size) for rank, (number, held) in enumerate(ordered)]
    known = [item for item in objects if item.held.fingerprint is not None]
    keys, undecided = _secret_keys([item for item in known if item.held.kind == SECRET], len(members))
    keys += _pairs(item for item in known if item.held.kind != SECRET)
    loose, halves = _by_name_alone([*undecided, *(item for item in objects if item.held.fingerprint is None)])
    return sorted(_rows(keys, loose, halves, len(members)), key=_order)


def _order(item: MemberKey | Disagreement) -> tuple[str, bytes, str, str, int, str, str]:
    exact = item.exact or "" if isinstance(item, MemberKey) else ""
    return (item.label, item.key_id, item.kind, item.type, item.size or 0, item.fingerprint or "", exact)


def _grouped(objects: Iterable[_Object], by: Callable[[_Object], Hashable]) -> Iterator[list[_Object]]:
    groups: dict[Hashable, list[_Object]] = defaultdict(list)
    for item in objects:
        groups[by(item)].append(item)
    yield from groups.values()


def _pairs(objects: Iterable[_Object]) -> Iterator[_Key]:
    """One key for each public key. Where a member has the private half, nobody's public half is a key of its own."""
    for group in _grouped(objects, lambda item: item.held.fingerprint):
        private = _Key([item for item in group if item.held.kind == PRIVATE])
        private.halves = frozenset(item.member for item in group) - private.members
        yield private if private.objects else _Key(group)


def _secret_keys(objects: list[_Object], count: int) -> tuple[list[_Key], list[_Object]]:
    """Secret keys, and objects of which it cannot be told which key they are: two share the check value and the name."""
    _fill_sizes(objects)
    keys: list[_Key] = []
    undecided: list[_Object] = []
    for group in _grouped(objects, lambda item: (item.identity, item.held.name)):
        by_exact: dict[str | None, _Key] = {}
        for item in group:
            by_exact.setdefault(item.held.exact, _Key([], item.held.exact)).objects.append(item)
        unchecked = by_exact.pop(None, None)
        if unchecked is not None and len(by_exact) == 1:
            next(iter(by_exact.values())).objects += unchecked.objects
        elif unchecked is not None and by_exact:
            undecided += unchecked.objects
        elif unchecked is not None:
            keys.append(unchecked)
        keys += by_exact.values()

    keys = _joined(keys, lambda key: (key.objects[0].identity, key.exact) if key.exact else None, lambda _group: True)
    keys = _joined(keys, lambda key: _unmatched(key, count, key.objects[0].held.short_name), _one_way)
    keys = _joined(keys, lambda key: _unmatched(key, count), _one_way)
    return keys, undecided


def _fill_sizes(objects: list[_Object]) -> None:
    """Some tokens give no CKA_VALUE_LEN: a size that is missing is that of the same name and check value, or of the check value."""
    parts: tuple[Callable[[MemberKey], Hashable], ...] = (
        lambda held: (held.type, held.fingerprint, held.name),
        lambda held: (held.type, held.fingerprint),
    )
    for part in parts:
        sizes: dict[Hashable, set[int]] = defaultdict(set)
        for item in objects:
            if item.size is not None:
                sizes[part(item.held)].add(item.size)
        for item in objects:
            if item.size is None and len(sizes[part(item.held)]) == 1:
                (item.size,) = sizes[part(item.held)]


def _unmatched(key: _Key, count: int, *more: Hashable) -> Hashable | None:
    return (key.objects[0].identity, *more) if len(key.members) < count else None


def _one_way(group: list[_Key]) -> bool:
    """Whether there is one way to see these keys as one: no member has two of them, and no check of all bits contradicts."""
    members = [member for key in group for member in key.members]
    return len(members) == len(set(members)) and len({key.exact for key in group if key.exact}) <= 1


def _joined(keys: list[_Key], by: Callable[[_Key], Hashable | None], may: Callable[[list[_Key]], bool]) -> list[_Key]:
    """Keys that agree in ``by`` made one where ``may`` allows it; None in ``by``: the key stays as it is."""
    groups: dict[Hashable, list[_Key]] = defaultdict(list)
    for key in keys:
        part = by(key)
        groups[key if part is None else part].append(key)
    joined: list[_Key] = []
    for group in groups.values():
        if len(group) > 1 and may(group):
            exact = next((key.exact for key in group if key.exact), None)
            joined.append(_Key([item for key in group for item in key.objects], exact))
        else:
            joined += group
    return joined


def _by_name_alone(objects: list[_Object]) -> tuple[list[_Key], dict[str | bytes, set[int]]]:
    """Keys that are known by their name only, one for each member; and who has just a public half of that name."""
    pairs = {item.held.short_name for item in objects if item.held.kind == PRIVATE}
    halves: dict[str | bytes, set[int]] = defaultdict(set)
    rest: list[_Object] = []
    for item in objects:
        if item.held.kind == PUBLIC and item.held.short_name in pairs:
            halves[item.held.short_name].add(item.member)
        else:
            rest.append(item)
    groups = _grouped(rest, lambda item: (item.member, item.held.kind, item.held.name, item.identity))
    return [_Key(group, sure=False) for group in groups], halves


def _rows(keys: list[_Key], loose: list[_Key], halves: dict[str | bytes, set[int]], count: int) -> Iterator[Disagreement]:
    disputed = [(key.reference(), key) for key in (*keys, *loose) if not key.agreed(count)]
    names = _Names(item for _reference, key in disputed for item in key.objects)
    key_of = {item: key for _reference, key in disputed for item in key.objects}
    explained: set[_Key] = set()
    # What is known by name alone comes last: it has a row of its own only where no other row speaks of it.
    for reference, key in sorted(disputed, key=lambda pair: (not pair[1].sure, pair[0].rank)):
        if key in explained or (not key.sure and any(group.told for group in names.of(reference))):
            continue
        row, others = _row(reference, key, names, count)
        missing = {*row.lack, *row.different}
        by_name = halves.get(reference.held.short_name, set()) if reference.held.kind == PRIVATE else set()
        row.public_only = sorted(missing & (key.halves | by_name))
        if not key.halves:
            counted = Counter(key_of[item] for item in others)
            explained.update(other for other, number in counted.items() if number == len(other.objects) and not other.halves)
        yield row


def _row(reference: _Object, key: _Key, names: _Names, count: int) -> tuple[Disagreement, list[_Object]]:
    """A key's row, and the other keys of its name, one to a member, which it explains as well."""
    held = reference.held
    row = Disagreement(held.label, held.key_id, held.kind, held.type, reference.size, held.fingerprint)
    mine: dict[int, list[_Object]] = defaultdict(list)
    for item in sorted(key.objects, key=lambda item: item.rank):
        mine[item.member].append(item)
    only_one = all(len(group.objects) == 1 for group in names.of(reference)[:1])
    others: list[_Object] = []
    for member in range(count):
        if member in mine:
            many = row.twice if key.sure else row.unknown
            (row.have if len(mine[member]) == 1 else many).append(member)
            elsewhere = [item.held.name for item in mine[member] if item.held.name != held.name]
            if elsewhere:
                row.renamed[member] = elsewhere[0]
            continue
        namesakes = names.on(member, reference)
        if namesakes is None:
            row.lack.append(member)
        elif namesakes.may_be(reference.identity, key.exact):
            row.unknown.append(member)
            namesakes.told = True
        else:
            row.different.append(member)
            row.other[member] = namesakes.objects[0].held.fingerprint
            if only_one and len(namesakes.objects) == 1:
                others.append(namesakes.objects[0])
    return row, others
